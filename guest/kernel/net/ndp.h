/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * IPv6 neighbour discovery (RFC 4861), duplicate address detection and
 * stateless addresses (RFC 4862), name servers from routers (RFC 8106).
 *
 * - ndp_start gives an interface its link-local address and asks for routers;
 *   everything after that is driven by packets and one timer per interface.
 * - An address is used when nobody has claimed it for a second. Host parts
 *   are made from the link address (EUI-64).
 *
 * Locks: addresses by conf_lock; ndp_state.lock (outside conf_lock).
 */
#pragma once

#include "net/route.h"

#define NDP_RS 133
#define NDP_RA 134
#define NDP_NS 135
#define NDP_NA 136
#define NDP_REDIRECT 137

#define NDP_OPT_SOURCE_MAC 1u
#define NDP_OPT_TARGET_MAC 2u
#define NDP_OPT_PREFIX 3u
#define NDP_OPT_MTU 5u
#define NDP_OPT_RDNSS 25u

struct ndp_state {
    struct netif *nif; /* set once */
    struct spinlock lock;
    /* --- protected by lock --- */
    struct net_timer timer;
    bool timer_pending;
    uint8_t solicits_left;
    nsec_t solicit_at;
};

/* ndp.c */
void ndp_input(struct netif *nif, struct frame *f); /* borrows f */
/* Asks for addr; mac NULL: its group. */
void ndp_solicit(struct netif *nif, const struct net_addr *addr,
                 const uint8_t *mac);
/* The solicitation of duplicate detection: from nobody. */
void ndp_solicit_duplicate(struct netif *nif, const struct net_addr *addr);
/* The next option of type `type` from *at on; NULL: none. n: its bytes. */
const uint8_t *ndp_option(const struct frame *f, uint32_t *at, uint32_t type,
                          uint32_t *n);
/* Are all options well formed from `at` on? */
bool ndp_options_ok(const struct frame *f, uint32_t at);
/* Builds a message of n bytes, zeroed, ICMPv6 type set. Returns owned. */
struct frame *ndp_make(struct netif *nif, uint32_t type, uint32_t n);
void ndp_send(struct netif *nif, struct frame *f, const uint8_t *mac);

/* ndp_addr.c */
int ndp_start(struct netif *nif) __must_check;
void ndp_stop(struct netif *nif); /* for tests */
/* Somebody else has or wants this address. */
void ndp_duplicate(struct netif *nif, const struct net_addr *addr);
/* A router advertisement: l4 at the ICMP header, checked. */
void ndp_router(struct netif *nif, struct frame *f);
