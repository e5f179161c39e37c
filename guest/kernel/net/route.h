/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Addresses of interfaces, routes, and what is known of paths (PMTU).
 *
 * - route_find answers with a value: interface, next hop, source, MTU. It may
 *   be kept as long as route_is_current says so (one load).
 * - What goes to one of our own addresses goes through loopback.
 * - IPv4 prefixes count the 96 bits of the mapped form.
 *
 * Locks: conf_lock (innermost but wheel and pool) for everything here.
 */
#pragma once

#include "net/netstack.h"

#define ROUTE_MAX 32u
#define ROUTE_PMTU_SLOTS 256u
#define PMTU_LIFETIME_NS (600 * NSEC_PER_SEC) /* RFC 1191 6.3 */
/* Whoever can forge a router's message must not make us send crumbs: on IPv4
 * paths below this (as on Linux) routers may fragment instead. */
#define PMTU_MIN_V4 552u
#define IPV4_PREFIX(bits) (96u + (bits))

struct net_route {
    struct netif *nif;
    struct net_addr next_hop, src;
    uint32_t mtu, gen;
    bool is_broadcast;
    bool may_fragment; /* the path is too small for us to insist */
};

struct route_entry {
    struct net_addr prefix, gateway; /* gateway any: on the link */
    struct netif *nif;               /* NULL = free */
    uint8_t bits;
    bool is_auto; /* from router advertisements */
    nsec_t valid_until;
};

struct route_pmtu {
    struct net_addr dst;
    uint32_t mtu; /* 0 = free */
    bool may_fragment;
    nsec_t until;
};

struct route_table {
    struct spinlock conf_lock;
    /* --- atomic --- */
    uint32_t gen; /* changes with everything below */
    /* --- protected by conf_lock --- */
    struct route_entry entries[ROUTE_MAX];
    struct route_pmtu *pmtu; /* ROUTE_PMTU_SLOTS, made on first use */
};

/* route.c */
int routes_init(struct netstack *net) __must_check;
void routes_destroy(struct netstack *net);
/* Adds a route; replaces one with the same prefix and interface.
 * 0 or -ENOSPC. gateway NULL: on the link. */
int route_add(struct netif *nif, const struct net_addr *prefix, uint32_t bits,
              const struct net_addr *gateway) __must_check;
int route_add_until(struct netif *nif, const struct route_entry *entry)
    __must_check;
void route_del(struct netif *nif, const struct net_addr *prefix,
               uint32_t bits, const struct net_addr *gateway);
/* The way to dst. src any: choose one; nif_index 0: any interface.
 * 0, -ENETUNREACH, -EADDRNOTAVAIL. */
int route_find(struct netstack *net, const struct net_addr *dst,
               const struct net_addr *src, uint32_t nif_index,
               struct net_route *out) __must_check;
static inline bool route_is_current(struct netstack *net,
                                    const struct net_route *r)
{
    return r->nif && atomic_load_acquire(&net->routes->gen) == r->gen;
}
/* A router said: packets to dst may have `mtu` bytes. True: that was news. */
bool route_learn_pmtu(struct netstack *net, const struct net_addr *dst,
                      uint32_t mtu);
void route_changed(struct netstack *net);

/* netif_addr.c */

/* Adds an address that is good at once, and the route to its prefix. */
int route_add_addr(struct netif *nif, const struct net_addr *addr,
                   uint32_t prefix) __must_check;
/* With duplicate address detection (ndp_dad.c). */
int netif_add_tentative(struct netif *nif, const struct netif_addr *a)
    __must_check;
void netif_del_addr(struct netif *nif, const struct net_addr *addr);
/* Whose address is it? NULL: not ours. `state`: ADDR_* or 0 for any. */
struct netif *netif_of_addr(struct netstack *net, const struct net_addr *a,
                            enum addr_state state);
/* What is dst for a packet received on nif: nothing of ours, one of our
 * addresses, or a group or broadcast address we listen to? */
enum netif_dst { DST_NONE, DST_OURS, DST_GROUP };
enum netif_dst netif_accepts(struct netif *nif, const struct net_addr *dst);
/* A subnet's broadcast address of nif? */
bool netif_is_broadcast(struct netif *nif, const struct net_addr *a);
/* A source address on nif for packets to dst; false: none.
 * REQUIRES(conf_lock) */
bool netif_pick_source(struct netif *nif, const struct net_addr *dst,
                       struct net_addr *out);
/* The first good address of a family, or any (0). */
struct net_addr netif_first_addr(struct netif *nif, bool is_v4);
bool netif_has_global6(struct netif *nif); /* not link-local, and usable */
/* Multicast groups: counted. 0, -ENOSPC; -EADDRNOTAVAIL: not joined. */
int netif_join(struct netif *nif, const struct net_addr *group) __must_check;
int netif_leave(struct netif *nif, const struct net_addr *group);
bool netif_has_group(struct netif *nif, const struct net_addr *group);
