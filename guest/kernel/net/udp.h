/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * UDP sockets (RFC 768). Layer below: ip, ports. Above: the socket glue.
 *
 * - Rules for hooks, readers and writers: sock.h. Addresses come as the
 *   program gave them, IPv4 mapped; the glue has checked their family.
 * - A send copies once and is handed to the interface at the next flush; it
 *   never waits. A datagram longer than the path's MTU is fragmented.
 * - Received datagrams are bounded by rcvbuf (memory, not payload).
 */
#pragma once

#include "net/ip.h"
#include "net/sock.h"

#define UDP_RCVBUF 212992u
#define UDP_MAX_PAYLOAD 65507u

struct udp_sock {
    struct net_sock s; /* first member */
    /* --- protected by s.lock --- */
    struct net_route route; /* to s.remote, or to where was sent last */
    struct net_addr route_dst;
    struct frame_list queue; /* checked datagrams */
    uint32_t queued;         /* bytes of memory in queue */
    uint32_t rcvbuf;
    /* From whom and for whom was found right, as long as gen is the routes':
     * the next datagram is likely to be the same. */
    struct net_addr ok_src, ok_dst;
    uint32_t ok_nif, ok_gen;
    bool takes_all; /* DHCP: servers may answer to an address not yet ours */
    bool may_broadcast, must_not_fragment, multicast_loop;
    bool is_read_shut, is_write_shut;
    uint8_t multicast_ttl;
    uint32_t multicast_nif;
    uint32_t max_packet6; /* IPv6: fragments of this size; 0: the path's */
};

/* What recvmsg tells about a datagram. */
struct udp_info {
    struct net_endpoint from;
    struct net_addr to;
    uint32_t nif_index;
    uint32_t len; /* of the datagram; more than was copied: truncated */
    uint8_t ttl, tos;
};

/* What one datagram has of its own. */
struct udp_wish {
    struct net_addr src; /* any: as the socket */
    uint32_t nif_index;  /* 0: not said */
    int32_t hops, tos;   /* -1: as the socket */
};

struct udp_send {
    struct net_iter *from;
    uint32_t len;
    const struct net_endpoint *to; /* NULL: the connected peer */
    const struct udp_wish *wish;   /* NULL: none */
};

#define UDP_RECV_PEEK 1u

/* udp.c */
struct udp_sock *udp_create(struct netstack *net, uint32_t family);
/* The glue's reference is gone afterwards. */
void udp_close(struct udp_sock *u);
int udp_bind(struct udp_sock *u, const struct net_endpoint *local)
    __must_check;
/* NULL: disconnect. 0, -ENETUNREACH, -EADDRNOTAVAIL, -EACCES. */
int udp_connect(struct udp_sock *u, const struct net_endpoint *remote)
    __must_check;
int udp_shutdown(struct udp_sock *u, bool read, bool write) __must_check;
uint32_t udp_poll(struct udp_sock *u); /* NET_EV_* that are true now */
/* Bytes in the first datagram (FIONREAD), 0 = none. */
uint32_t udp_next_len(struct udp_sock *u);
/* udp_io.c */
ssize_t udp_send(struct udp_sock *u, const struct udp_send *m);
ssize_t udp_recv(struct udp_sock *u, struct net_iter *to, uint32_t flags,
                 struct udp_info *info);
/* The way to dst from where `wish` says. -EINVAL, IPv4 -ENETUNREACH: not an
 * address of ours, or of the other family. REQUIRES(s.lock) */
int udp_wish_route(struct udp_sock *u, const struct net_endpoint *dst,
                   const struct udp_wish *wish, struct net_route *out)
    __must_check;
static inline bool udp_wishes_route(const struct udp_wish *wish)
{
    return wish && (wish->nif_index || !addr_is_any(&wish->src));
}
/* Moves up to `max` datagrams to the end of `to`, as they came, without their
 * headers. 0; -EAGAIN; the socket's error. */
int udp_take(struct udp_sock *u, struct frame_list *to, uint32_t max);
/* For the stack */
void udp_work(struct net_sock *s);
bool udp_classify(struct netstack *net, struct frame *f); /* true: took it */
void udp_stack_input(struct netstack *net, struct frame *f); /* takes f */
void udp_icmp(struct netstack *net, const struct frame *quoted, int error,
              uint32_t mtu);
