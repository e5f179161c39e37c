/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Neighbours: the link addresses of next hops, for ARP and NDP alike (the
 * states of RFC 4861 7.3).
 *
 * - neigh_output takes a packet with its IP header and sends it, now or when
 *   the address is known; a few wait, older ones give way.
 * - Who hears that a neighbour answers (TCP, when data is acknowledged) may
 *   call neigh_confirm and save the probe.
 * - Nothing is learnt from strangers: an entry is made by our own output or
 *   by a request that asks for us.
 *
 * Locks: a bucket's lock. The timer of an entry is armed only under it.
 */
#pragma once

#include "net/route.h"

#define NEIGH_BUCKETS 64u
#define NEIGH_PER_BUCKET 32u /* a flood of strangers costs no more */
#define NEIGH_MAX (NEIGH_BUCKETS * NEIGH_PER_BUCKET)
#define NEIGH_WAITING_MAX 64u /* frames that wait for one address */

enum neigh_state {
    NEIGH_NEW, NEIGH_INCOMPLETE, NEIGH_REACHABLE, NEIGH_STALE, NEIGH_DELAY,
    NEIGH_PROBE,
};

struct neigh {
    struct neigh *next;
    struct netif *nif; /* set once, like addr */
    struct net_addr addr;
    uint8_t mac[ETH_ADDR];
    uint8_t state, probes;
    bool is_router;
    bool timer_pending; /* armed, or its callback waits for the lock */
    nsec_t confirmed;   /* when it was last known to answer */
    struct frame_list waiting;
    struct net_timer timer;
};

struct neigh_table {
    struct {
        struct spinlock lock;
        struct neigh *first; /* entries: protected by lock */
        uint32_t nr;
    } buckets[NEIGH_BUCKETS];
};

/* What an advertisement or reply says. */
struct neigh_news {
    const uint8_t *mac; /* NULL: no link address in it */
    bool is_solicited, is_override, is_router;
    bool may_create;
};

/* neigh.c */
int neighs_init(struct netstack *net) __must_check;
void neighs_destroy(struct netstack *net);
/* Takes f, data at the IP header. */
void neigh_output(const struct net_route *r, uint32_t eth_type,
                  struct frame *f);
void neigh_learn(struct netif *nif, const struct net_addr *addr,
                 const struct neigh_news *news);
void neigh_confirm(struct netif *nif, const struct net_addr *addr);
/* The state as enum, -1 = unknown (tests, /proc/net/arp). */
int neigh_state_of(struct netif *nif, const struct net_addr *addr,
                   uint8_t *mac);

/* What is known about one neighbour, for those who list them. */
struct neigh_info {
    struct netif *nif;
    struct net_addr addr;
    uint8_t mac[ETH_ADDR];
    uint8_t state;
};
/* Up to `max` of them; how many. */
uint32_t neigh_list(struct netstack *net, struct neigh_info *out,
                    uint32_t max);

/* arp.c */
void arp_input(struct netif *nif, struct frame *f);
/* Asks for addr; mac NULL: everybody. */
void arp_request(struct netif *nif, const struct net_addr *addr,
                 const uint8_t *mac);
/* Tells everybody that addr is ours. */
void arp_announce(struct netif *nif, const struct net_addr *addr);
