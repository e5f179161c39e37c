/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Network interfaces, as the stack sees them.
 *
 * - A driver embeds `struct netif`, fills the part "set by the driver" and
 *   calls netif_add. It gives received frames to net_classify and gets a list
 *   of frames from `transmit`, which takes all of them: what does not fit its
 *   queue it keeps or drops. One call per batch: the driver kicks once.
 * - A frame to send has its Ethernet header at `data`. With
 *   FRAME_CSUM_PARTIAL the device completes the checksum (csum_start,
 *   csum_offset), with `gso` it cuts the segment. The stack uses either only
 *   if `caps` has it. The driver puts the frame when it was sent; until then
 *   the bytes stay as they are.
 * - transmit is called on the CPU that built the frames, sometimes with a
 *   socket's lock held; several CPUs may call at once. It may call
 *   net_classify and frame_put, nothing else of the stack.
 * - Interfaces stay for good.
 *
 * Locks: conf_lock of the stack's route table protects addresses and groups.
 */
#pragma once

#include "net/frame.h"

#define NETIF_CSUM 0x1u /* completes transport checksums */
#define NETIF_TSO4 0x2u
#define NETIF_TSO6 0x4u
#define NETIF_LOOPBACK 0x8u
#define NETIF_NO_ARP 0x10u /* no link addresses to resolve */

#define NETIF_MAX_ADDRS 16u
#define NETIF_MAX_GROUPS 32u

struct netif_ops {
    void (*transmit)(struct netif *nif, struct frame_list *frames);
};

enum addr_state { ADDR_FREE, ADDR_TENTATIVE, ADDR_GOOD, ADDR_DUPLICATE };

struct netif_addr {
    struct net_addr addr;
    uint8_t prefix; /* bits of the IPv6 form: IPv4 has 96 more */
    uint8_t state;
    bool is_auto;              /* made by SLAAC */
    uint8_t dad_left;          /* solicitations still to send */
    nsec_t preferred_until, valid_until; /* NET_NO_DEADLINE = for ever */
    nsec_t dad_at;             /* next solicitation or the end of waiting */
};

struct netif {
    /* --- set by the driver before netif_add --- */
    const struct netif_ops *ops;
    char name[16];
    uint8_t mac[ETH_ADDR];
    uint32_t caps, max_mtu;
    uint32_t max_gso; /* bytes of one segment's payload to the device */
    /* --- set once by netif_add --- */
    struct ndp_state *ndp; /* by ndp_start; NULL: no IPv6 configuration */
    struct netstack *net;
    uint32_t index; /* from 1, as programs see it */
    /* --- atomic --- */
    bool is_down; /* the driver says so: no link */
    uint32_t mtu;
    uint32_t hop_limit; /* IPv6, from router advertisements */
    uint64_t bytes_in, bytes_out, frames_in, frames_out;
    /* --- protected by conf_lock --- */
    struct netif_addr addrs[NETIF_MAX_ADDRS];
    struct {
        struct net_addr addr;
        uint32_t users; /* 0 = free */
    } groups[NETIF_MAX_GROUPS];
};

/* netif.c */

/* Borrows nif for good. 0, -ENOSPC, -EINVAL. */
int netif_add(struct netstack *net, struct netif *nif) __must_check;
/* Takes f, a link-level frame: waits in this CPU's batch. */
void netif_queue(struct netif *nif, struct frame *f);
/* Gives this CPU's batch to the devices. */
void netif_flush(struct netstack *net);
struct netif *netif_by_index(struct netstack *net, uint32_t index);
/* Takes f, data at the IP header; puts an Ethernet header in front. */
void netif_queue_eth(struct netif *nif, const uint8_t *dst_mac,
                     uint32_t type, struct frame *f);
/* loopback.c: makes interface 1. */
int loopback_create(struct netstack *net) __must_check;
void loopback_destroy(struct netstack *net);
