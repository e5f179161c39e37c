/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Internet addresses and the numbers of the wire: what every file of the
 * network stack shares. No state, no locks.
 *
 * - One address type for both families: 16 bytes, IPv4 mapped into
 *   ::ffff:0:0/96 (RFC 4291 2.5.5.2). Ports are in host order everywhere but
 *   on the wire.
 * - Bytes on the wire are read and written with wire_* and lib/le.h only.
 */
#pragma once

#include "lib/le.h"
#include "lib/types.h"

#define ETH_HEADER 14u
#define ETH_ADDR 6u
#define ETH_TYPE_IPV4 0x0800u
#define ETH_TYPE_ARP 0x0806u
#define ETH_TYPE_IPV6 0x86ddu

#define IPV4_HEADER 20u
#define IPV4_MIN_MTU 68u /* RFC 791 */
#define IPV6_HEADER 40u
#define IPV6_MIN_MTU 1280u /* RFC 8200, 5 */
#define IP_PROTO_HOPOPTS 0u
#define IP_PROTO_ICMP 1u
#define IP_PROTO_TCP 6u
#define IP_PROTO_UDP 17u
#define IP_PROTO_ROUTING 43u
#define IP_PROTO_FRAGMENT 44u
#define IP_PROTO_ICMPV6 58u
#define IP_PROTO_NONE 59u
#define IP_PROTO_DSTOPTS 60u

#define IP_DEFAULT_TTL 64u
#define UDP_HEADER 8u
#define TCP_HEADER 20u
#define ICMP_HEADER 8u

/* What happened to a socket; the numbers are poll's (EPOLL*). */
#define NET_EV_IN 0x001u
#define NET_EV_PRI 0x002u
#define NET_EV_OUT 0x004u
#define NET_EV_ERR 0x008u
#define NET_EV_HUP 0x010u
#define NET_EV_RDHUP 0x2000u

struct net_addr {
    union {
        uint8_t b[16];
        uint32_t w[4]; /* wire order */
        uint64_t q[2];
    };
};

struct net_endpoint {
    struct net_addr addr;
    uint16_t port;
    uint32_t scope; /* interface of a link-local address, 0 = not said */
};

static inline uint16_t wire_get16(const void *p)
{
    return get_be16(p);
}

static inline void wire_put16(void *p, uint32_t v)
{
    uint16_t w = __builtin_bswap16((uint16_t)v);
    __builtin_memcpy(p, &w, sizeof(w));
}

static inline uint32_t wire_get32(const void *p)
{
    return get_be32(p);
}

static inline void wire_put32(void *p, uint32_t v)
{
    put_be32(p, v);
}

static inline bool addr_equal(const struct net_addr *a,
                              const struct net_addr *b)
{
    return a->q[0] == b->q[0] && a->q[1] == b->q[1];
}

static inline bool addr_is_v4(const struct net_addr *a)
{
    return a->q[0] == 0 && a->w[2] == __builtin_bswap32(0xffffu);
}

/* The IPv4 address of a mapped one, host order. */
static inline uint32_t addr_v4(const struct net_addr *a)
{
    return __builtin_bswap32(a->w[3]);
}

static inline struct net_addr addr_from_v4(uint32_t v4)
{
    struct net_addr a = {.q = {0, 0}};

    a.w[2] = __builtin_bswap32(0xffffu);
    a.w[3] = __builtin_bswap32(v4);
    return a;
}

static inline struct net_addr addr_from_wire4(const void *p)
{
    return addr_from_v4(get_be32(p));
}

static inline struct net_addr addr_from_wire6(const void *p)
{
    struct net_addr a;

    __builtin_memcpy(a.b, p, sizeof(a.b));
    return a;
}

/* :: or 0.0.0.0 */
static inline bool addr_is_any(const struct net_addr *a)
{
    return a->q[0] == 0 && a->w[3] == 0 &&
           (a->w[2] == 0 || a->w[2] == __builtin_bswap32(0xffffu));
}

static inline bool addr_is_v4_multicast(const struct net_addr *a)
{
    return addr_is_v4(a) && (addr_v4(a) >> 28) == 0xe;
}

static inline bool addr_is_multicast(const struct net_addr *a)
{
    return a->b[0] == 0xff || addr_is_v4_multicast(a);
}

static inline bool addr_is_loopback(const struct net_addr *a)
{
    return addr_is_v4(a) ? (addr_v4(a) >> 24) == 127
                         : a->q[0] == 0 && a->w[2] == 0 &&
                               a->w[3] == __builtin_bswap32(1u);
}

static inline bool addr_is_link_local(const struct net_addr *a)
{
    return a->b[0] == 0xfe && (a->b[1] & 0xc0) == 0x80;
}

static inline bool addr_is_broadcast(const struct net_addr *a)
{
    return addr_is_v4(a) && addr_v4(a) == 0xffffffffu;
}

/* inet.c */

/* Do the first `bits` bits agree? */
bool addr_in_prefix(const struct net_addr *a, const struct net_addr *prefix,
                    uint32_t bits);
/* The address as text, always terminated; returns buf. */
#define NET_ADDR_TEXT 48u
const char *addr_to_text(const struct net_addr *a, char *buf);
/* 0 or -EINVAL: not an IPv4 or IPv6 address. */
int addr_from_text(const char *text, struct net_addr *out) __must_check;
