/* SPDX-License-Identifier: BSD-2-Clause */
/* UDP sockets: life, names, state. See udp.h. */
#include "net/udp.h"

#include "lib/errno.h"
#include "lib/string.h"
#include "mm/heap.h"
#include "net/icmp.h"
#include "net/port.h"

static void udp_destroy(struct net_sock *s)
{
    struct udp_sock *u = (struct udp_sock *)s;

    frame_list_free(&u->queue);
    kfree(u);
}

static void udp_sock_icmp(struct net_sock *s, const struct frame *quoted,
                          int error, uint32_t mtu)
{
    sock_lock(s);
    /* Only a connected socket has somebody the error can be about. */
    if (s->remote.port && !mtu) {
        sock_set_error(s, error);
        sock_note(s, NET_EV_ERR | NET_EV_IN | NET_EV_OUT);
    } else if (mtu && s->remote.port &&
               ((struct udp_sock *)s)->must_not_fragment) {
        sock_set_error(s, EMSGSIZE);
        sock_note(s, NET_EV_ERR | NET_EV_IN | NET_EV_OUT);
    }
    sock_unlock(s);
}

static const struct sock_ops udp_ops = {
    .work = udp_work,
    .icmp = udp_sock_icmp,
    .destroy = udp_destroy,
};

struct udp_sock *udp_create(struct netstack *net, uint32_t family)
{
    struct udp_sock *u = kzalloc(sizeof(*u));

    if (!u)
        return NULL;
    sock_init(&u->s, net, &udp_ops, IP_PROTO_UDP, family);
    u->rcvbuf = UDP_RCVBUF;
    u->multicast_ttl = 1;
    u->multicast_loop = true;
    return u;
}

void udp_close(struct udp_sock *u)
{
    sock_lock(&u->s);
    port_unbind(&u->s);
    u->is_read_shut = u->is_write_shut = true;
    frame_list_free(&u->queue);
    u->queued = 0;
    sock_unlock(&u->s);
    sock_put(&u->s);
}

int udp_bind(struct udp_sock *u, const struct net_endpoint *local)
{
    int err = 0;

    if (!addr_is_any(&local->addr) && !addr_is_multicast(&local->addr) &&
        !netif_of_addr(u->s.net, &local->addr, ADDR_FREE) &&
        !addr_is_broadcast(&local->addr))
        return -EADDRNOTAVAIL;
    sock_lock(&u->s);
    err = port_bind(&u->s, PORT_UDP, local);
    if (!err)
        u->s.is_bound = !addr_is_any(&local->addr);
    sock_unlock(&u->s);
    return err;
}

/* A socket that sends or connects before bind gets a port. */
static int autobind_locked(struct udp_sock *u)
{
    struct net_endpoint any = {.addr = u->s.local.addr};

    return u->s.port_link ? 0 : port_bind(&u->s, PORT_UDP, &any);
}

static int connect_locked(struct udp_sock *u,
                          const struct net_endpoint *remote)
{
    struct net_endpoint none = {.addr = u->s.remote.addr};
    struct net_addr any = u->s.family == 4 ? addr_from_v4(0)
                                           : (struct net_addr){.q = {0}};
    int err;

    if (!remote) {
        none.addr = any;
        port_connect(&u->s, u->s.is_bound ? &u->s.local.addr : &any, &none);
        return 0;
    }
    err = autobind_locked(u);
    if (!err)
        err = route_find(u->s.net, &remote->addr,
                         u->s.is_bound ? &u->s.local.addr : NULL,
                         remote->scope ? remote->scope : u->s.bound_nif,
                         &u->route);
    if (err)
        return err;
    if (u->route.is_broadcast && !u->may_broadcast)
        return -EACCES;
    u->route_dst = remote->addr;
    port_connect(&u->s, &u->route.src, remote);
    return 0;
}

int udp_connect(struct udp_sock *u, const struct net_endpoint *remote)
{
    int err;

    sock_lock(&u->s);
    err = connect_locked(u, remote);
    sock_unlock(&u->s);
    return err;
}

int udp_shutdown(struct udp_sock *u, bool read, bool write)
{
    int err = 0;

    sock_lock(&u->s);
    if (!u->s.remote.port)
        err = -ENOTCONN;
    u->is_read_shut |= read;
    u->is_write_shut |= write;
    if (read)
        sock_note(&u->s, NET_EV_IN | NET_EV_RDHUP);
    sock_unlock(&u->s);
    return err;
}

uint32_t udp_poll(struct udp_sock *u)
{
    uint32_t bits = NET_EV_OUT;

    if (sock_channel_has(&u->s))
        u->s.ops->work(&u->s);
    sock_lock(&u->s);
    if (u->queue.head)
        bits |= NET_EV_IN;
    if (u->is_read_shut)
        bits |= NET_EV_IN | NET_EV_RDHUP;
    if (u->is_read_shut && u->is_write_shut)
        bits |= NET_EV_HUP;
    if (atomic_load_relaxed(&u->s.error))
        bits |= NET_EV_ERR;
    sock_unlock(&u->s);
    return bits;
}

uint32_t udp_next_len(struct udp_sock *u)
{
    uint32_t n;

    if (sock_channel_has(&u->s))
        u->s.ops->work(&u->s);
    sock_lock(&u->s);
    n = u->queue.head ? frame_total(u->queue.head) : 0;
    sock_unlock(&u->s);
    return n;
}

bool udp_classify(struct netstack *net, struct frame *f)
{
    struct net_sock *s = port_find(net, PORT_UDP, f, f->sport ^ f->src.b[15]);

    if (!s)
        return false;
    /* Memory is counted when the frame is looked at; this bounds a flood. */
    sock_channel_push(s, f, 1024);
    sock_put(s);
    return true;
}

static void deliver_to_all(struct netstack *net, struct frame *f)
{
    struct net_sock *found[16];
    uint32_t n = port_find_all(net, PORT_UDP, f, found, ARRAY_SIZE(found));

    for (uint32_t i = 0; i < n; i++) {
        struct frame *copy = f;

        if (i + 1 < n) {
            frame_get(f); /* frame_linearize puts it */
            copy = frame_linearize(f, FRAME_HEADROOM);
        }
        if (copy)
            sock_channel_push(found[i], copy, 1024);
        sock_put(found[i]);
    }
    if (!n)
        frame_put(f);
}

void udp_stack_input(struct netstack *net, struct frame *f)
{
    if ((f->flags & FRAME_BROADCAST) || addr_is_multicast(&f->dst)) {
        deliver_to_all(net, f);
        return;
    }
    if (udp_classify(net, f))
        return;
    net_count(net, NET_UDP_NO_PORT);
    if (ip_check(net, f))
        icmp_error(net, f, IP_ERR_PORT, 0);
    frame_put(f);
}

void udp_icmp(struct netstack *net, const struct frame *quoted, int error,
              uint32_t mtu)
{
    struct frame like = *quoted;
    struct net_sock *s;

    like.src = quoted->dst;
    like.dst = quoted->src;
    like.sport = quoted->dport;
    like.dport = quoted->sport;
    like.nif = NULL;
    /* Only who sent something can have an answer (RFC 5927 4.1). */
    s = port_find(net, PORT_UDP, &like, 0);
    if (!s)
        return;
    if (!mtu || route_learn_pmtu(net, &quoted->dst, mtu))
        s->ops->icmp(s, quoted, error, mtu);
    sock_put(s);
}
