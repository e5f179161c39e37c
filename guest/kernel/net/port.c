/* SPDX-License-Identifier: BSD-2-Clause */
/* The table of bound sockets. See port.h. */
#include "net/port.h"

#include "lib/errno.h"
#include "lib/string.h"
#include "mm/heap.h"

#define BUCKETS 256u

struct port_bucket {
    struct spinlock lock; /* irq-safe */
    struct net_sock *first;
};

struct net_ports {
    struct port_bucket buckets[PORT_PROTOS][BUCKETS];
};

int ports_init(struct netstack *net)
{
    net->ports = kzalloc(sizeof(*net->ports));
    return net->ports ? 0 : -ENOMEM;
}

void ports_destroy(struct netstack *net)
{
    kfree(net->ports);
}

static struct port_bucket *bucket_of(struct netstack *net,
                                     enum port_proto proto, uint32_t port)
{
    return &net->ports->buckets[proto][port % BUCKETS];
}

static enum port_proto proto_of(const struct net_sock *s)
{
    return s->proto == IP_PROTO_TCP   ? PORT_TCP
           : s->proto == IP_PROTO_UDP ? PORT_UDP
                                      : PORT_PING;
}

/* Does a socket bound to `any` of this kind take packets to that address? */
static bool any_covers(const struct net_sock *s, bool is_v4)
{
    return is_v4 ? s->family == 4 || !s->is_v6only : s->family == 6;
}

/* May one packet be for both? */
static bool overlaps(const struct net_sock *s, const struct net_addr *addr,
                     const struct net_sock *o)
{
    bool s_any = addr_is_any(addr), o_any = addr_is_any(&o->local.addr);

    if (s->bound_nif && o->bound_nif && s->bound_nif != o->bound_nif)
        return false;
    if (s_any && o_any)
        return (any_covers(s, true) && any_covers(o, true)) ||
               (any_covers(s, false) && any_covers(o, false));
    if (s_any)
        return any_covers(s, addr_is_v4(&o->local.addr));
    if (o_any)
        return any_covers(o, addr_is_v4(addr));
    return addr_equal(addr, &o->local.addr);
}

static bool may_share(const struct net_sock *s, const struct net_sock *o)
{
    if (s->reuse_port && o->reuse_port)
        return true;
    return s->reuse_addr && o->reuse_addr && !o->is_listening &&
           !s->is_listening;
}

static bool conflicts_locked(struct port_bucket *b, const struct net_sock *s,
                             const struct net_endpoint *local, bool is_picked)
{
    for (const struct net_sock *o = b->first; o; o = o->port_next)
        if (o != s && o->local.port == local->port &&
            overlaps(s, &local->addr, o) && (is_picked || !may_share(s, o)))
            return true;
    return false;
}

static bool try_bind(struct net_sock *s, enum port_proto proto,
                     const struct net_endpoint *local, bool is_picked)
{
    struct port_bucket *b = bucket_of(s->net, proto, local->port);
    bool was_on = spin_lock_irqsave(&b->lock);
    bool is_free = !conflicts_locked(b, s, local, is_picked);

    if (is_free) {
        s->local = *local;
        s->port_next = b->first;
        s->port_link = &b->first;
        if (b->first)
            b->first->port_link = &s->port_next;
        b->first = s;
    }
    spin_unlock_irqrestore(&b->lock, was_on);
    return is_free;
}

int port_bind(struct net_sock *s, enum port_proto proto,
              const struct net_endpoint *local)
{
    struct net_endpoint at = *local;
    uint32_t range = PORT_LAST - PORT_FIRST + 1, start;

    if (s->port_link)
        return -EINVAL;
    if (at.port)
        return try_bind(s, proto, &at, false) ? 0 : -EADDRINUSE;
    start = net_random32(s->net) % range;
    for (uint32_t i = 0; i < range; i++) {
        at.port = (uint16_t)(PORT_FIRST + (start + i) % range);
        if (try_bind(s, proto, &at, true))
            return 0;
    }
    return -EADDRINUSE;
}

int port_listen(struct net_sock *s)
{
    struct port_bucket *b = bucket_of(s->net, PORT_TCP, s->local.port);
    bool was_on = spin_lock_irqsave(&b->lock);
    int err = 0;

    for (const struct net_sock *o = b->first; o; o = o->port_next)
        if (o != s && o->is_listening && o->local.port == s->local.port &&
            overlaps(s, &s->local.addr, o) &&
            !(s->reuse_port && o->reuse_port))
            err = -EADDRINUSE;
    if (!err)
        s->is_listening = true;
    spin_unlock_irqrestore(&b->lock, was_on);
    return err;
}

void port_unlisten(struct net_sock *s)
{
    struct port_bucket *b = bucket_of(s->net, PORT_TCP, s->local.port);
    bool was_on = spin_lock_irqsave(&b->lock);

    s->is_listening = false;
    spin_unlock_irqrestore(&b->lock, was_on);
}

void port_connect(struct net_sock *s, const struct net_addr *local,
                  const struct net_endpoint *remote)
{
    struct port_bucket *b = bucket_of(s->net, proto_of(s), s->local.port);
    bool was_on = spin_lock_irqsave(&b->lock);

    s->local.addr = *local;
    s->remote = *remote;
    spin_unlock_irqrestore(&b->lock, was_on);
}

void port_unbind(struct net_sock *s)
{
    struct port_bucket *b;
    bool was_on;

    if (!s->port_link)
        return;
    b = bucket_of(s->net, proto_of(s), s->local.port);
    was_on = spin_lock_irqsave(&b->lock);
    *s->port_link = s->port_next;
    if (s->port_next)
        s->port_next->port_link = s->port_link;
    s->port_link = NULL;
    s->port_next = NULL;
    s->is_listening = false;
    spin_unlock_irqrestore(&b->lock, was_on);
}

bool port_is_bound(struct netstack *net, enum port_proto proto, uint32_t port)
{
    struct port_bucket *b = bucket_of(net, proto, port);
    bool was_on = spin_lock_irqsave(&b->lock), found = false;

    for (struct net_sock *o = b->first; o && !found; o = o->port_next)
        found = o->local.port == port;
    spin_unlock_irqrestore(&b->lock, was_on);
    return found;
}

/* How well the socket fits the frame; 0: not at all. */
static uint32_t score(const struct net_sock *s, enum port_proto proto,
                      const struct frame *f)
{
    bool is_v4 = addr_is_v4(&f->dst);
    uint32_t points = 1;

    if (s->local.port != f->dport ||
        (proto == PORT_TCP && !s->is_listening) ||
        (s->bound_nif && f->nif && s->bound_nif != f->nif->index))
        return 0;
    if (addr_is_any(&s->local.addr)) {
        if (!any_covers(s, is_v4))
            return 0;
    } else if (!addr_equal(&s->local.addr, &f->dst)) {
        return 0;
    } else {
        points += 4;
    }
    if (s->remote.port) {
        if (s->remote.port != f->sport ||
            !addr_equal(&s->remote.addr, &f->src))
            return 0;
        points += 8;
    }
    return points + (s->bound_nif ? 2 : 0) + (is_v4 == (s->family == 4));
}

struct net_sock *port_find(struct netstack *net, enum port_proto proto,
                           const struct frame *f, uint32_t spread)
{
    struct port_bucket *b = bucket_of(net, proto, f->dport);
    bool was_on = spin_lock_irqsave(&b->lock);
    struct net_sock *best = NULL;
    uint32_t top = 0, equals = 0, nth;

    for (struct net_sock *s = b->first; s; s = s->port_next) {
        uint32_t points = score(s, proto, f);
        if (points > top) {
            top = points;
            best = s;
            equals = 0;
        }
        equals += points && points == top;
    }
    nth = best && best->reuse_port ? spread % equals : 0;
    for (struct net_sock *s = best; nth && s; s = s->port_next)
        if (s != best && score(s, proto, f) == top && --nth == 0)
            best = s;
    if (best)
        sock_get(best);
    spin_unlock_irqrestore(&b->lock, was_on);
    return best;
}

uint32_t port_find_all(struct netstack *net, enum port_proto proto,
                       const struct frame *f, struct net_sock **out,
                       uint32_t max)
{
    struct port_bucket *b = bucket_of(net, proto, f->dport);
    struct frame any = *f;
    uint32_t n = 0;
    bool was_on = spin_lock_irqsave(&b->lock);

    for (struct net_sock *s = b->first; s && n < max; s = s->port_next) {
        /* A socket bound to an address of ours hears broadcasts as well. */
        any.dst = addr_is_any(&s->local.addr) ? f->dst : s->local.addr;
        if (addr_is_v4(&any.dst) != addr_is_v4(&f->dst) ||
            (addr_is_multicast(&s->local.addr) &&
             !addr_equal(&s->local.addr, &f->dst)))
            continue;
        if (score(s, proto, &any)) {
            sock_get(s);
            out[n++] = s;
        }
    }
    spin_unlock_irqrestore(&b->lock, was_on);
    return n;
}
