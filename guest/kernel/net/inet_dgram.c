/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * UDP and echo sockets: datagrams with what is told about them (man 7 udp,
 * man 7 ip, man 7 icmp). The stack serialises; no locks here.
 */
#include "net/inet_sock.h"

#include "net/kernel.h"

#define SOL_SOCKET 1
#define IP_TOS 1
#define IP_TTL 2
#define IP_PKTINFO 8
#define IPV6_PKTINFO 50
#define IPV6_HOPLIMIT 52
#define IPV6_TCLASS 67
#define SO_TIMESTAMP 29
#define SO_TIMESTAMPNS 35

int inet_dgram_connect(struct socket *s, const struct socket_addr *addr,
                       bool nonblock)
{
    struct inet_sock *i = to_inet(s);
    struct net_endpoint remote;
    int err;

    if (addr->len < sizeof(addr->family))
        return -EINVAL;
    if (addr->family == AF_UNSPEC)
        return i->kind == INET_UDP ? udp_connect(i->udp, NULL)
                                   : ping_connect(i->udp, NULL);
    err = inet_addr_get(i, addr, INET_FOR_CONNECT, &remote);
    if (err)
        return err;
    return i->kind == INET_UDP ? udp_connect(i->udp, &remote)
                               : ping_connect(i->udp, &remote);
}

/* ---- sending ---- */

/* What the program asks for with one datagram (IP_PKTINFO and others). */
static int parse_cmsg(const struct socket_cmsg *c, struct udp_wish *w)
{
    bool is_v4 = c->level == IPPROTO_IP, is_v6 = c->level == IPPROTO_IPV6;
    int32_t v = c->len ? c->data[0] : 0;

    if (c->len >= 4)
        memcpy(&v, c->data, 4);
    if (is_v4 && c->type == IP_PKTINFO && c->len == 12) {
        memcpy(&w->nif_index, c->data, 4);
        w->src = addr_from_wire4(c->data + 4);
    } else if (is_v6 && c->type == IPV6_PKTINFO && c->len == 20) {
        w->src = addr_from_wire6(c->data);
        memcpy(&w->nif_index, c->data + 16, 4);
    } else if ((is_v4 && c->type == IP_TTL && c->len == 4) ||
               (is_v6 && c->type == IPV6_HOPLIMIT && c->len == 4)) {
        w->hops = v;
        return v < -1 || v > 255 || (is_v4 && v < 1) ? -EINVAL
               : v == 0                              ? -ENOTSUP
                                                     : 0;
    } else if ((is_v4 && c->type == IP_TOS && c->len) ||
               (is_v6 && c->type == IPV6_TCLASS && c->len == 4)) {
        w->tos = v;
        return v < -1 || v > 255 ? -EINVAL : 0;
    } else {
        return -EINVAL;
    }
    return 0;
}

static int parse_control(const struct socket_control *c, struct udp_wish *w)
{
    int err = 0;

    for (uint32_t k = 0; k < c->nr && !err; k++)
        err = parse_cmsg(&c->cmsgs[k], w);
    return err;
}

/* The destination: 0 with *has_to, or an error. */
static int get_target(struct inet_sock *i, const struct socket_addr *a,
                      struct net_endpoint *to, bool *has_to)
{
    bool is_none = !a || !a->len ||
                   (inet_is_v6(i) && a->len >= sizeof(a->family) &&
                    a->family == AF_UNSPEC);
    int err = is_none ? 0 : inet_addr_get(i, a, INET_FOR_SEND, to);

    *has_to = !is_none;
    if (!err && !is_none && !to->port && i->kind == INET_UDP)
        err = -EINVAL;
    return err;
}

ssize_t inet_dgram_send(struct socket *s, struct socket_msg *m,
                        uint32_t flags)
{
    struct inet_sock *i = to_inet(s);
    struct net_endpoint to;
    struct inet_iter from;
    struct udp_wish wish = {.hops = -1, .tos = -1};
    struct udp_send send = {.from = &from.it};
    bool has_to;
    int err;

    /* Linux looks at these two in another order for IPv6. */
    if ((flags & MSG_MORE) || ((flags & MSG_OOB) && !inet_is_v6(i)))
        return -ENOTSUP;
    if (m->iter->count > UDP_MAX_PAYLOAD && !inet_is_v6(i))
        return -EMSGSIZE;
    err = get_target(i, m->addr, &to, &has_to);
    if (!err && m->control && m->control->nr) {
        err = parse_control(m->control, &wish);
        send.wish = &wish;
    }
    if (err)
        return err;
    if (m->iter->count > UDP_MAX_PAYLOAD)
        return -EMSGSIZE;
    inet_iter_from(&from, m->iter);
    send.len = (uint32_t)m->iter->count;
    send.to = has_to ? &to : NULL;
    return i->kind == INET_UDP ? udp_send(i->udp, &send)
                               : ping_send(i->udp, &send);
}

/* ---- receiving ---- */

static void add_cmsg(struct socket_control *c, int32_t level, int32_t type,
                     const void *data, uint32_t len)
{
    struct socket_cmsg *m = &c->cmsgs[c->nr];

    if (c->nr == SOCKET_CMSGS || len > sizeof(m->data))
        return;
    c->nr++;
    m->level = level;
    m->type = type;
    m->len = len;
    memcpy(m->data, data, len);
}

static void add_pktinfo(struct socket_control *c, const struct udp_info *info,
                        uint32_t flags)
{
    uint8_t data[20] = {0};

    if ((flags & INET_WANT_PKTINFO) && addr_is_v4(&info->to)) {
        memcpy(data, &info->nif_index, 4);
        wire_put32(data + 4, addr_v4(&info->to));
        wire_put32(data + 8, addr_v4(&info->to));
        add_cmsg(c, IPPROTO_IP, IP_PKTINFO, data, 12);
    }
    if (flags & INET_WANT_PKTINFO6) {
        memcpy(data, info->to.b, 16);
        memcpy(data + 16, &info->nif_index, 4);
        add_cmsg(c, IPPROTO_IPV6, IPV6_PKTINFO, data, 20);
    }
}

/* The time is that of the call, not of the arrival. */
static void add_stamp(struct inet_sock *i, struct socket_control *c,
                      uint32_t flags)
{
    nsec_t now = i->last_stamp;
    int64_t t[2] = {now / NSEC_PER_SEC, now % NSEC_PER_SEC};

    if (flags & INET_WANT_STAMP_NS) {
        add_cmsg(c, SOL_SOCKET, SO_TIMESTAMPNS, t, sizeof(t));
    } else {
        t[1] /= 1000;
        add_cmsg(c, SOL_SOCKET, SO_TIMESTAMP, t, sizeof(t));
    }
}

static void tell_control(struct inet_sock *i, const struct udp_info *info,
                         struct socket_control *c)
{
    uint32_t flags = atomic_load_relaxed(&i->flags);
    bool is_v4 = addr_is_v4(&info->from.addr);
    int32_t hops = info->ttl, tos = info->tos;

    c->nr = 0;
    if (flags & (INET_WANT_STAMP | INET_WANT_STAMP_NS))
        add_stamp(i, c, flags);
    add_pktinfo(c, info, flags);
    if (is_v4 && (flags & INET_WANT_TTL))
        add_cmsg(c, IPPROTO_IP, IP_TTL, &hops, 4);
    if (is_v4 && (flags & INET_WANT_TOS))
        add_cmsg(c, IPPROTO_IP, IP_TOS, &info->tos, 1);
    if (!is_v4 && (flags & INET_WANT_HOPS6))
        add_cmsg(c, IPPROTO_IPV6, IPV6_HOPLIMIT, &hops, 4);
    if (!is_v4 && (flags & INET_WANT_TCLASS6))
        add_cmsg(c, IPPROTO_IPV6, IPV6_TCLASS, &tos, 4);
}

#define WANT_ANY                                                          \
    (INET_WANT_PKTINFO | INET_WANT_TTL | INET_WANT_TOS |                  \
     INET_WANT_PKTINFO6 | INET_WANT_HOPS6 | INET_WANT_TCLASS6 |           \
     INET_WANT_STAMP | INET_WANT_STAMP_NS)

/* Waits for a datagram: bytes copied, or an error. */
static ssize_t recv_one(struct inet_sock *i, struct inet_iter *to,
                        uint32_t flags, struct udp_info *info)
{
    nsec_t deadline = 0;
    bool has_deadline = false;
    ssize_t n;
    int err;

    for (;;) {
        n = udp_recv(i->udp, &to->it,
                     flags & MSG_PEEK ? UDP_RECV_PEEK : 0, info);
        if (n == -EAGAIN && (flags & MSG_DONTWAIT) && net_kernel_look())
            continue;
        if (n != -EAGAIN || (flags & MSG_DONTWAIT))
            return n;
        if (!has_deadline)
            deadline = socket_deadline(i->s.rcvtimeo);
        has_deadline = true;
        err = inet_wait(i, &i->read_wait, NET_EV_IN | NET_EV_RDHUP, deadline,
                        i->s.rcvtimeo);
        if (err)
            return err;
    }
}

ssize_t inet_dgram_recv(struct socket *s, struct socket_msg *m,
                        uint32_t flags)
{
    struct inet_sock *i = to_inet(s);
    struct udp_info info = {.nif_index = 0};
    struct inet_iter to;
    ssize_t n;

    if (flags & MSG_OOB)
        return -ENOTSUP;
    if (flags & MSG_ERRQUEUE)
        return -EAGAIN; /* errors are told by the calls themselves */
    if (m->addr)
        m->addr->len = 0;
    inet_iter_to(&to, m->iter);
    n = recv_one(i, &to, flags, &info);
    if (n < 0 || !info.nif_index) /* 0: shut down */
        return n;
    if (info.len > (size_t)n) {
        m->flags_out |= MSG_TRUNC;
        if (flags & MSG_TRUNC)
            n = info.len;
    }
    if (m->addr)
        inet_addr_put(i, &info.from, m->addr);
    if (atomic_load_relaxed(&i->flags) & WANT_ANY) {
        i->last_stamp = clock_realtime();
        if (m->control)
            tell_control(i, &info, m->control);
    }
    return n;
}
