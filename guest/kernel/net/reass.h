/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Fragments of IPv4 and IPv6 packets (RFC 815 in spirit, 5722 for overlaps).
 *
 * - Bounded: a number of packets and of bytes, of all and of one packet; the
 *   oldest packet gives way.
 * - Fragments that overlap with different borders spoil their packet.
 * - A whole packet is copied into one frame: this is not the fast path.
 *
 * Locks: reass_table.lock; no socket's lock is taken under it.
 */
#pragma once

#include "net/ip.h"

#define REASS_MAX_PACKETS 64u
#define REASS_MAX_BYTES (4u << 20)
#define REASS_PACKET_BYTES (1u << 20) /* of frames: some 500 pieces */
#define REASS_TIMEOUT_NS (30 * NSEC_PER_SEC)

struct reass_packet {
    bool is_used;
    uint8_t proto;
    uint32_t id;
    struct net_addr src, dst;
    uint32_t total; /* known from the last fragment, 0 = not yet */
    uint32_t have;  /* bytes in parts */
    uint32_t mem;   /* bytes of frames */
    nsec_t until;
    struct frame *parts; /* by offset */
};

struct reass_table {
    struct netstack *net; /* set once */
    struct spinlock lock;
    /* --- protected by lock --- */
    struct reass_packet packets[REASS_MAX_PACKETS];
    uint32_t mem;
    bool timer_pending;
    struct net_timer timer;
};

/* reass.c */
int reass_init(struct netstack *net) __must_check;
void reass_destroy(struct netstack *net);
/* Take f, data behind the IP (fragment) header. The whole packet, data at the
 * transport header, or NULL while parts are missing. */
struct frame *reass_add_v4(struct netstack *net, struct frame *f);
struct frame *reass_add_v6(struct netstack *net, struct frame *f,
                           const uint8_t *fragment_header);
