/* SPDX-License-Identifier: BSD-2-Clause */
/* UDP sockets: datagrams in and out. See udp.h. */
#include "lib/errno.h"
#include "lib/string.h"
#include "net/port.h"
#include "net/udp.h"

/* The port was all that led the frame here. REQUIRES(s.lock) */
static bool may_come(struct udp_sock *u, struct frame *f)
{
    uint32_t gen = atomic_load_acquire(&u->s.net->routes->gen);

    if (u->takes_all || (f->flags & FRAME_LOOPED))
        return true;
    if (u->ok_gen == gen && u->ok_nif == f->nif->index &&
        addr_equal(&u->ok_src, &f->src) && addr_equal(&u->ok_dst, &f->dst))
        return true;
    if (!ip_accepts(f))
        return false;
    u->ok_gen = gen;
    u->ok_nif = f->nif->index;
    u->ok_src = f->src;
    u->ok_dst = f->dst;
    return true;
}

/* Looks at what the channel holds and queues what is good.
 * REQUIRES(s.lock) */
static void udp_drain(struct udp_sock *u)
{
    struct netstack *net = u->s.net;
    struct frame *f = sock_channel_take(&u->s);

    while (f) {
        struct frame *next = f->next;
        uint32_t mem = frame_class_bytes(f->frame_class) + f->frag_len;
        bool has_sum = f->data[6] || f->data[7] || !addr_is_v4(&f->dst);

        f->next = NULL;
        if (!has_sum) /* RFC 768: the sender made none */
            f->flags |= FRAME_CSUM_OK;
        if (!ip_check(net, f) || !may_come(u, f) || u->is_read_shut) {
            frame_put(f);
        } else if (u->queued + mem > u->rcvbuf ||
                   net_is_full(net, !u->queued)) {
            net_count(net, NET_UDP_FULL);
            frame_put(f);
        } else {
            net_count(net, NET_UDP_IN);
            frame_trim_head(f, UDP_HEADER);
            u->queued += mem;
            frame_list_add(&u->queue, f);
            sock_note(&u->s, NET_EV_IN);
        }
        f = next;
    }
}

void udp_work(struct net_sock *s)
{
    sock_lock(s);
    udp_drain((struct udp_sock *)s);
    sock_unlock(s);
}

static void fill_info(const struct frame *f, struct udp_info *info)
{
    info->from.addr = f->src;
    info->from.port = f->sport;
    info->from.scope = addr_is_link_local(&f->src) ? f->nif->index : 0;
    info->to = f->dst;
    info->nif_index = f->nif->index;
    info->len = frame_total(f);
    info->ttl = f->ttl;
    info->tos = f->tos;
}

/* Copies what fits; -EFAULT when nothing of something could be copied. */
static ssize_t copy_to_program(struct frame *f, struct net_iter *to)
{
    uint32_t want = (uint32_t)MIN(frame_total(f), to->left), done = 0;

    while (done < want) {
        uint8_t *data;
        uint32_t k = MIN(frame_piece(f, done, &data), want - done);
        size_t moved = to->copy(to, data, k);

        done += (uint32_t)moved;
        if (moved < k)
            return -EFAULT;
    }
    return (ssize_t)done;
}

ssize_t udp_recv(struct udp_sock *u, struct net_iter *to, uint32_t flags,
                 struct udp_info *info)
{
    struct frame *f;
    ssize_t n;
    int err;

    if (sock_channel_has(&u->s))
        u->s.ops->work(&u->s);
    sock_lock(&u->s);
    f = u->queue.head;
    if (f && (flags & UDP_RECV_PEEK)) {
        frame_get(f);
    } else if (f) {
        f = frame_list_take(&u->queue);
        u->queued -= frame_class_bytes(f->frame_class) + f->frag_len;
    }
    err = f ? 0 : sock_take_error(&u->s);
    if (!f && !err && u->is_read_shut) {
        sock_unlock(&u->s);
        return 0;
    }
    sock_unlock(&u->s);
    if (!f)
        return err ? -err : -EAGAIN;
    fill_info(f, info);
    n = copy_to_program(f, to);
    frame_put(f);
    return n;
}

int udp_take(struct udp_sock *u, struct frame_list *to, uint32_t max)
{
    int err = -EAGAIN;

    if (sock_channel_has(&u->s))
        u->s.ops->work(&u->s);
    sock_lock(&u->s);
    for (; u->queue.head && max; max--) {
        struct frame *f = frame_list_take(&u->queue);

        u->queued -= frame_class_bytes(f->frame_class) + f->frag_len;
        frame_list_add(to, f);
        err = 0;
    }
    sock_unlock(&u->s);
    if (err) {
        int told = sock_take_error(&u->s);

        err = told ? -told : err;
    }
    return err;
}

/* The datagram in one frame: header and bytes. */
static int copy_from_program(struct netstack *net, const struct udp_send *m,
                             struct frame **out)
{
    struct frame *f = frame_alloc(net, FRAME_SMALL, FRAME_HEADROOM,
                                  FRAME_FOR_DATA), *more;
    uint32_t left = m->len;
    int err = -ENOBUFS;

    if (!f)
        return -ENOBUFS;
    frame_append(f, UDP_HEADER);
    if (left <= frame_room(FRAME_SMALL, FRAME_HEADROOM + UDP_HEADER)) {
        if (left && m->from->copy(m->from, frame_append(f, left), left) < left)
            goto err_fault;
        *out = f;
        return 0;
    }
    while (left) {
        uint32_t n = MIN(left, frame_room(FRAME_LARGE, 0));

        more = frame_alloc(net, FRAME_LARGE, 0, FRAME_FOR_DATA);
        if (!more)
            goto err;
        if (m->from->copy(m->from, more->data, n) < n) {
            frame_put(more);
            goto err_fault;
        }
        frame_add_frag(f, more, more->data, n);
        frame_put(more);
        left -= n;
    }
    *out = f;
    return 0;
err_fault:
    err = -EFAULT;
err:
    frame_put(f);
    return err;
}

/* Fills u->route for a datagram to dst. REQUIRES(s.lock) */
static int find_route(struct udp_sock *u, const struct net_endpoint *dst)
{
    uint32_t nif = dst->scope ? dst->scope : u->s.bound_nif;
    int err = 0;

    if (addr_is_multicast(&dst->addr) && !nif)
        nif = u->multicast_nif;
    if (!route_is_current(u->s.net, &u->route) ||
        !addr_equal(&u->route_dst, &dst->addr) ||
        (nif && u->route.nif->index != nif)) {
        const struct net_addr *src = u->s.is_bound || u->s.remote.port
                                         ? &u->s.local.addr
                                         : NULL;
        if (src && addr_is_multicast(src))
            src = NULL;
        err = route_find(u->s.net, &dst->addr, src, nif, &u->route);
        u->route_dst = dst->addr;
        if (err)
            u->route.nif = NULL;
    }
    if (!err && u->route.is_broadcast && !u->may_broadcast)
        err = -EACCES;
    return err;
}

int udp_wish_route(struct udp_sock *u, const struct net_endpoint *dst,
                   const struct udp_wish *w, struct net_route *out)
{
    const struct net_addr *src = u->s.is_bound ? &u->s.local.addr : NULL;
    uint32_t nif = w->nif_index ? w->nif_index
                   : dst->scope ? dst->scope
                                : u->s.bound_nif;
    int err;

    if (!addr_is_any(&w->src)) {
        src = &w->src;
        if (addr_is_v4(src) != addr_is_v4(&dst->addr) ||
            !netif_of_addr(u->s.net, src, ADDR_FREE))
            return addr_is_v4(src) ? -ENETUNREACH : -EINVAL;
    }
    err = route_find(u->s.net, &dst->addr, src, nif, out);
    if (!err && out->is_broadcast && !u->may_broadcast)
        err = -EACCES;
    return err;
}

static int output_locked(struct udp_sock *u, struct frame *f,
                         const struct net_endpoint *dst,
                         const struct net_route *r, const struct udp_wish *w)
{
    uint32_t len = frame_total(f);
    bool is_group = addr_is_multicast(&dst->addr);
    struct net_route route = *r;

    if (u->max_packet6 && !addr_is_v4(&dst->addr))
        route.mtu = MIN(route.mtu, u->max_packet6);
    f->src = r->src;
    f->dst = dst->addr;
    f->sport = u->s.local.port;
    f->dport = dst->port;
    f->proto = IP_PROTO_UDP;
    f->tos = u->s.tos;
    f->ttl = is_group ? u->multicast_ttl : u->s.ttl;
    if (w && w->tos >= 0)
        f->tos = (uint8_t)w->tos;
    if (w && w->hops > 0)
        f->ttl = (uint8_t)w->hops;
    wire_put16(f->data, f->sport);
    wire_put16(f->data + 2, f->dport);
    wire_put16(f->data + 4, len);
    ip_partial_checksum(f, 6);
    net_count(u->s.net, NET_UDP_OUT);
    net_defer(u->s.net);
    return ip_output(&route, f,
                     (u->must_not_fragment ? IP_DONT_FRAGMENT : 0) |
                         (u->multicast_loop ? 0 : IP_NO_LOOP));
}

ssize_t udp_send(struct udp_sock *u, const struct udp_send *m)
{
    bool has_own = udp_wishes_route(m->wish);
    struct net_endpoint dst, any;
    struct net_route own;
    struct frame *f;
    int err;

    if (m->len > UDP_MAX_PAYLOAD)
        return -EMSGSIZE;
    err = sock_take_error(&u->s);
    if (err)
        return -err;
    err = copy_from_program(u->s.net, m, &f);
    if (err)
        return err;
    sock_lock(&u->s);
    dst = m->to ? *m->to : u->s.remote;
    any = (struct net_endpoint){.addr = u->s.local.addr};
    if (u->is_write_shut)
        err = -EPIPE;
    else if (!dst.port)
        err = m->to ? -EINVAL : -EDESTADDRREQ;
    else if (!u->s.port_link)
        err = port_bind(&u->s, PORT_UDP, &any);
    if (!err)
        err = has_own ? udp_wish_route(u, &dst, m->wish, &own)
                      : find_route(u, &dst);
    if (err)
        frame_put(f);
    else
        err = output_locked(u, f, &dst, has_own ? &own : &u->route, m->wish);
    sock_unlock(&u->s);
    return err ? err : (ssize_t)m->len;
}
