/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Internet sockets as programs see them: the glue between the socket layer
 * (net/socket.h) and the stack (net/tcp.h, net/udp.h, net/ping.h), which never
 * waits. Here is what waits, what is Linux' view of addresses and options,
 * and what has to be remembered between calls.
 *
 * Layer below: the stack, sched, fs. Above: linux/socket.c through
 * `struct socket_ops`.
 *
 * - The stack's hook (`event`) says what became true; it wakes pollers with
 *   that as key, blocked readers and blocked writers, each on a queue of
 *   their own: a thread that waits for room is not woken by data.
 * - One reader and one writer of a connection at a time: read_lock and
 *   write_lock, given up while waiting. Datagram sockets need neither.
 * - Lifetime: the file owns the socket until release(); the stack's reference
 *   count then decides (sock_hooks.release frees the structure), since a
 *   connection goes on closing after its file is gone.
 *
 * Locks: write_lock -> read_lock (mutexes, outermost) -> the stack's socket lock
 * -> wait queues. list_lock (irq-safe, alone): the list of all sockets.
 */
#pragma once

#include "lib/errno.h"
#include "lib/list.h"
#include "lib/string.h"
#include "net/ping.h"
#include "net/socket.h"
#include "net/tcp.h"
#include "net/udp.h"

#define AF_INET 2
#define AF_INET6 10
#define IPPROTO_IP 0
#define IPPROTO_IPV6 41
#define SOCKADDR_IN_BYTES 16u
#define SOCKADDR_IN6_BYTES 28u
#define SOCKADDR_IN6_MIN 24u /* without the scope (RFC 2133) */
#define INET_MAX_GROUPS 20u  /* /proc/sys/net/ipv4/igmp_max_memberships */

enum inet_kind { INET_TCP, INET_UDP, INET_PING };

/* inet_sock.flags: what is told with each datagram */
#define INET_WANT_PKTINFO 0x01u
#define INET_WANT_TTL 0x02u
#define INET_WANT_TOS 0x04u
#define INET_WANT_PKTINFO6 0x08u
#define INET_WANT_HOPS6 0x10u
#define INET_WANT_TCLASS6 0x20u
#define INET_WANT_STAMP 0x40u    /* SO_TIMESTAMP */
#define INET_WANT_STAMP_NS 0x80u /* SO_TIMESTAMPNS */
/* kept for getsockopt */
#define INET_RECVERR 0x100u
#define INET_RECVERR6 0x200u
/* IP_BIND_ADDRESS_NO_PORT: connect picks the port, by all four numbers */
#define INET_LATE_PORT 0x400u

enum inet_state { INET_UNCONNECTED, INET_CONNECTING, INET_CONNECTED };

struct inet_group {
    struct net_addr addr;
    uint32_t nif_index; /* 0 = free */
};

struct inet_sock {
    struct socket s; /* first member */
    /* --- set once --- */
    union {
        struct net_sock *ns;
        struct tcp_conn *tcp;
        struct udp_sock *udp; /* ping too */
    };
    uint8_t kind; /* enum inet_kind */
    /* --- own locks --- */
    struct waitq poll_wait, read_wait, write_wait;
    struct mutex read_lock, write_lock; /* TCP */
    /* --- atomic --- */
    uint32_t flags; /* INET_* */
    uint8_t state;  /* enum inet_state: TCP connect; write_lock changes it */
    uint8_t mtu_discover, mtu_discover6;
    int16_t linger2;         /* as it was set, seconds; 0: default */
    uint32_t defer_accept;   /* seconds, kept only */
    nsec_t last_stamp;       /* SIOCGSTAMP: realtime, 0 = none */
    /* --- protected by list_lock --- */
    struct list link;
    struct inet_group *groups; /* INET_MAX_GROUPS, NULL: none joined */
};

static inline struct inet_sock *to_inet(struct socket *s)
{
    return (struct inet_sock *)s;
}

static inline bool inet_is_v6(const struct inet_sock *i)
{
    return i->s.family == AF_INET6;
}

/* Program memory as the stack wants it. */
struct inet_iter {
    struct net_iter it; /* first member */
    struct iov_iter *iov;
};

/* inet_sock.c */
extern const struct socket_family inet_family, inet6_family;
/* The glue around a connection made by the stack. Takes tcp. */
int inet_adopt(struct inet_sock *listener, struct tcp_conn *tcp,
               struct socket **out) __must_check;
uint32_t inet_events(struct inet_sock *i); /* NET_EV_* that are true now */
void inet_iter_to(struct inet_iter *it, struct iov_iter *iov);
void inet_iter_from(struct inet_iter *it, struct iov_iter *iov);
/* Waits until one of `events` is true. 0 or what the call returns. */
int inet_wait(struct inet_sock *i, struct waitq *q, uint32_t events,
              nsec_t deadline, nsec_t timeout) __must_check;
/* Calls visit for each socket, with a reference and no lock. 0, -ENOMEM. */
int inet_for_each(void (*visit)(struct inet_sock *i, void *arg), void *arg)
    __must_check;

/* inet_addr.c: struct sockaddr_in and sockaddr_in6 */
enum inet_addr_use { INET_FOR_BIND, INET_FOR_CONNECT, INET_FOR_SEND };
/* -EINVAL (too short), -EAFNOSUPPORT, -ENETUNREACH (other family). */
int inet_addr_get(struct inet_sock *i, const struct socket_addr *a,
                  enum inet_addr_use use, struct net_endpoint *out)
    __must_check;
void inet_addr_put(struct inet_sock *i, const struct net_endpoint *e,
                   struct socket_addr *out);
int inet_bind(struct socket *s, const struct socket_addr *addr);
int inet_getname(struct socket *s, bool peer, struct socket_addr *out);

/* inet_stream.c: TCP */
int inet_stream_connect(struct socket *s, const struct socket_addr *addr,
                        bool nonblock);
int inet_stream_listen(struct socket *s, int backlog);
int inet_stream_accept(struct socket *s, bool nonblock, struct socket **out);
ssize_t inet_stream_send(struct socket *s, struct socket_msg *m,
                         uint32_t flags);
ssize_t inet_stream_recv(struct socket *s, struct socket_msg *m,
                         uint32_t flags);
/* Closes as SO_LINGER says; may wait. */
void inet_stream_close(struct inet_sock *i);

/* inet_dgram.c: UDP and ping */
int inet_dgram_connect(struct socket *s, const struct socket_addr *addr,
                       bool nonblock);
ssize_t inet_dgram_send(struct socket *s, struct socket_msg *m,
                        uint32_t flags);
ssize_t inet_dgram_recv(struct socket *s, struct socket_msg *m,
                        uint32_t flags);

/* inet_opt.c, inet_opt_ip.c, inet_opt_tcp.c, inet_group.c */
int inet_set_option(struct socket *s, int level, int name, const void *value,
                    uint32_t len);
int inet_get_option(struct socket *s, int level, int name, void *value,
                    uint32_t *len);
void inet_option_changed(struct socket *s, int name);
int inet_set_ip(struct inet_sock *i, int name, const void *value,
                uint32_t len);
int inet_get_ip(struct inet_sock *i, int name, void *value, uint32_t *len);
int inet_set_ipv6(struct inet_sock *i, int name, const void *value,
                  uint32_t len);
int inet_get_ipv6(struct inet_sock *i, int name, void *value, uint32_t *len);
int inet_set_tcp(struct inet_sock *i, int name, const void *value,
                 uint32_t len);
int inet_get_tcp(struct inet_sock *i, int name, void *value, uint32_t *len);
/* An int option; Linux takes one byte as well. */
int inet_option_int(const void *value, uint32_t len, int32_t *out)
    __must_check;
int inet_option_put(void *value, uint32_t *len, const void *from, uint32_t n);
int inet_join(struct inet_sock *i, const struct net_addr *group,
              struct netif *nif) __must_check;
int inet_leave(struct inet_sock *i, const struct net_addr *group,
               struct netif *nif) __must_check;
void inet_leave_all(struct inet_sock *i);

/* inet_ioctl.c */
int64_t inet_ioctl(struct socket *s, uint32_t cmd, uint64_t arg);
/* SIOCGIF*, on any socket; -ENOTTY: another ioctl. */
int64_t netif_ioctl(uint32_t cmd, uint64_t arg);
/* IFF_* of an interface (man 7 netdevice). */
uint32_t netif_flags(const struct netif *nif);
