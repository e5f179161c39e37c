/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A DHCPv4 client (RFC 2131, 2132, 3442): address, routes, name servers and
 * MTU of one interface.
 *
 * - dhcp_start sends the first message; everything after that comes from
 *   packets and one timer. `changed` is called, with no lock held, when the
 *   configuration became another one (also when it was lost).
 * - A lease that ends takes its address and its routes away.
 * - Not done: probing an offered address for duplicates.
 *
 * Locks: dhcp.lock, outside of everything but the socket's.
 */
#pragma once

#include "net/udp.h"

#define DHCP_SERVER_PORT 67u
#define DHCP_CLIENT_PORT 68u
#define DHCP_MAX_ROUTES 4u

enum dhcp_state {
    DHCP_OFF, DHCP_SELECTING, DHCP_REQUESTING, DHCP_BOUND, DHCP_RENEWING,
    DHCP_REBINDING,
};

/* What a server said. */
struct dhcp_lease {
    uint32_t addr, server, mask; /* IPv4, host order; 0 = not said */
    uint32_t lease_s, renew_s, rebind_s, mtu;
    uint32_t dns[3], nr_dns;
    struct {
        uint32_t prefix, bits, gateway;
    } routes[DHCP_MAX_ROUTES];
    uint32_t nr_routes;
    uint8_t type; /* of the message */
    uint8_t domain_len;
    uint8_t domain[255];
};

struct dhcp {
    /* --- set once --- */
    struct netif *nif;
    struct udp_sock *sock;
    void (*changed)(struct dhcp *d);
    void *owner;
    char hostname[64];
    struct spinlock lock;
    /* --- protected by lock --- */
    enum dhcp_state state;
    uint32_t xid, tries;
    nsec_t started, granted; /* granted: when the lease began */
    struct dhcp_lease offer, lease;
    bool timer_pending;
    struct net_timer timer;
};

/* dhcp.c */

/* Returns owned. hostname and changed may be NULL. 0, -ENOMEM, -EADDRINUSE. */
int dhcp_start(struct netif *nif, const char *hostname,
               void (*changed)(struct dhcp *d), void *owner,
               struct dhcp **out) __must_check;
void dhcp_stop(struct dhcp *d); /* keeps the address; frees d */
/* dhcp_message.c */

/* Writes a message of this type; returns its length (at most 548). */
uint32_t dhcp_build(const struct dhcp *d, uint32_t type, uint8_t *to);
/* 0 or -EINVAL: not an answer to xid for this interface. */
int dhcp_parse(const uint8_t *p, uint32_t n, uint32_t xid, const uint8_t *mac,
               struct dhcp_lease *out) __must_check;
#define DHCP_MESSAGE_MAX 548u
#define DHCP_DISCOVER 1u
#define DHCP_OFFER 2u
#define DHCP_REQUEST 3u
#define DHCP_ACK 5u
#define DHCP_NAK 6u
