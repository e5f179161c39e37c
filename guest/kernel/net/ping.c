/* SPDX-License-Identifier: BSD-2-Clause */
/* Echo sockets. See ping.h. */
#include "net/ping.h"

#include "lib/errno.h"
#include "lib/string.h"
#include "mm/heap.h"
#include "net/icmp.h"
#include "net/port.h"

#define ECHO_REQUEST4 8u
#define ECHO_REQUEST6 128u
#define PING_MAX 1472u

static void ping_work(struct net_sock *s)
{
    struct udp_sock *u = (struct udp_sock *)s;
    struct frame *f;

    sock_lock(s);
    f = sock_channel_take(s);
    while (f) {
        struct frame *next = f->next;
        uint32_t mem = frame_class_bytes(f->frame_class) + f->frag_len;

        f->next = NULL;
        if (u->queued + mem > u->rcvbuf || net_is_full(s->net, !u->queued)) {
            frame_put(f);
        } else {
            u->queued += mem;
            frame_list_add(&u->queue, f);
            sock_note(s, NET_EV_IN);
        }
        f = next;
    }
    sock_unlock(s);
}

static void ping_sock_icmp(struct net_sock *s, const struct frame *quoted,
                           int error, uint32_t mtu)
{
    sock_lock(s);
    if (!mtu) {
        sock_set_error(s, error);
        sock_note(s, NET_EV_ERR | NET_EV_IN | NET_EV_OUT);
    }
    sock_unlock(s);
}

static void ping_destroy(struct net_sock *s)
{
    frame_list_free(&((struct udp_sock *)s)->queue);
    kfree(s);
}

static const struct sock_ops ping_ops = {
    .work = ping_work,
    .icmp = ping_sock_icmp,
    .destroy = ping_destroy,
};

struct udp_sock *ping_create(struct netstack *net, uint32_t family)
{
    struct udp_sock *u = kzalloc(sizeof(*u));

    if (!u)
        return NULL;
    sock_init(&u->s, net, &ping_ops,
              family == 4 ? IP_PROTO_ICMP : IP_PROTO_ICMPV6, family);
    u->s.is_v6only = true;
    u->rcvbuf = UDP_RCVBUF;
    return u;
}

int ping_bind(struct udp_sock *u, const struct net_endpoint *local)
{
    int err;

    sock_lock(&u->s);
    err = port_bind(&u->s, PORT_PING, local);
    if (!err)
        u->s.is_bound = !addr_is_any(&local->addr);
    sock_unlock(&u->s);
    return err;
}

int ping_connect(struct udp_sock *u, const struct net_endpoint *remote)
{
    struct net_endpoint any = {.addr = u->s.local.addr}, to = {.port = 0};
    struct net_route r = {.src = u->s.local.addr};
    int err = 0;

    sock_lock(&u->s);
    if (remote) {
        to.addr = remote->addr;
        err = u->s.port_link ? 0 : port_bind(&u->s, PORT_PING, &any);
        if (!err)
            err = route_find(u->s.net, &to.addr,
                             u->s.is_bound ? &u->s.local.addr : NULL,
                             u->s.bound_nif, &r);
    }
    if (!err && u->s.port_link)
        port_connect(&u->s, &r.src, &to);
    sock_unlock(&u->s);
    return err;
}

static int output_locked(struct udp_sock *u, struct frame *f,
                         const struct net_endpoint *dst,
                         const struct udp_wish *w)
{
    struct net_route r;
    uint8_t *p = f->data;
    bool is_v4 = u->s.family == 4;
    int err;

    if (p[0] != (is_v4 ? ECHO_REQUEST4 : ECHO_REQUEST6) || p[1])
        err = -EINVAL;
    else if (udp_wishes_route(w))
        err = udp_wish_route(u, dst, w, &r);
    else
        err = route_find(u->s.net, &dst->addr,
                         u->s.is_bound ? &u->s.local.addr : NULL,
                         dst->scope ? dst->scope : u->s.bound_nif, &r);
    if (err) {
        frame_put(f);
        return err;
    }
    f->src = r.src;
    f->dst = dst->addr;
    f->ttl = w && w->hops > 0 ? (uint8_t)w->hops : u->s.ttl;
    f->tos = w && w->tos >= 0 ? (uint8_t)w->tos : u->s.tos;
    wire_put16(p + 4, u->s.local.port);
    net_defer(u->s.net);
    if (!is_v4) {
        icmp6_output(&r, f);
        return 0;
    }
    f->proto = IP_PROTO_ICMP;
    p[2] = p[3] = 0;
    csum_store(p + 2, csum_add(0, p, f->len));
    net_count(u->s.net, NET_ICMP_OUT);
    return ip_output(&r, f, 0);
}

ssize_t ping_send(struct udp_sock *u, const struct udp_send *m)
{
    struct net_endpoint dst, any;
    struct frame *f;
    int err = 0;

    if (m->len > PING_MAX)
        return -EMSGSIZE;
    if (m->len < ICMP_HEADER)
        return -EINVAL;
    f = frame_alloc(u->s.net, FRAME_SMALL, FRAME_HEADROOM, FRAME_FOR_DATA);
    if (!f)
        return -ENOBUFS;
    if (m->from->copy(m->from, frame_append(f, m->len), m->len) < m->len) {
        frame_put(f);
        return -EFAULT;
    }
    sock_lock(&u->s);
    dst = m->to ? *m->to : u->s.remote;
    any = (struct net_endpoint){.addr = u->s.local.addr};
    if (!m->to && addr_is_any(&dst.addr))
        err = -EDESTADDRREQ;
    else if (!u->s.port_link)
        err = port_bind(&u->s, PORT_PING, &any);
    if (err)
        frame_put(f);
    else
        err = output_locked(u, f, &dst, m->wish);
    sock_unlock(&u->s);
    return err ? err : (ssize_t)m->len;
}

static struct net_sock *ping_find(struct netstack *net, struct frame *f,
                                  uint32_t id)
{
    f->dport = (uint16_t)id;
    f->sport = 0;
    return port_find(net, PORT_PING, f, 0);
}

void ping_input(struct netstack *net, struct frame *f)
{
    struct net_sock *s = ping_find(net, f, wire_get16(f->data + 4));

    if (!s) {
        frame_put(f);
        return;
    }
    sock_channel_push(s, f, 256);
    sock_put(s);
}

void ping_icmp(struct netstack *net, const struct frame *quoted, int error,
               uint32_t mtu)
{
    struct frame like = *quoted;
    struct net_sock *s;

    if (quoted->len < ICMP_HEADER ||
        quoted->data[0] != (addr_is_v4(&quoted->dst) ? ECHO_REQUEST4
                                                     : ECHO_REQUEST6))
        return;
    like.src = quoted->dst;
    like.dst = quoted->src;
    like.nif = NULL;
    s = ping_find(net, &like, wire_get16(quoted->data + 4));
    if (!s)
        return;
    if (mtu)
        (void)route_learn_pmtu(net, &quoted->dst, mtu);
    s->ops->icmp(s, quoted, error, mtu);
    sock_put(s);
}
