/* SPDX-License-Identifier: BSD-2-Clause */
/* Routes and path MTUs. See route.h. */
#include "net/route.h"

#include "lib/errno.h"
#include "lib/string.h"
#include "mm/heap.h"

int routes_init(struct netstack *net)
{
    net->routes = kzalloc(sizeof(*net->routes));
    if (!net->routes)
        return -ENOMEM;
    spin_init(&net->routes->conf_lock);
    net->routes->gen = 1;
    return 0;
}

void routes_destroy(struct netstack *net)
{
    if (net->routes)
        kfree(net->routes->pmtu);
    kfree(net->routes);
}

void route_changed(struct netstack *net)
{
    atomic_add(&net->routes->gen, 1u); /* pairs with route_is_current */
}

static bool same_route(const struct route_entry *a,
                       const struct route_entry *b)
{
    return a->nif == b->nif && a->bits == b->bits &&
           addr_equal(&a->prefix, &b->prefix) &&
           (b->bits != 0 || addr_equal(&a->gateway, &b->gateway));
}

int route_add_until(struct netif *nif, const struct route_entry *entry)
{
    struct route_table *rt = nif->net->routes;
    struct route_entry *slot = NULL;
    nsec_t now = net_now(nif->net);

    spin_lock(&rt->conf_lock);
    for (uint32_t i = 0; i < ROUTE_MAX; i++) {
        struct route_entry *e = &rt->entries[i];
        if (e->nif && same_route(e, entry)) {
            slot = e;
            break;
        }
        if (!slot && (!e->nif || e->valid_until < now))
            slot = e;
    }
    if (slot)
        *slot = *entry;
    spin_unlock(&rt->conf_lock);
    route_changed(nif->net);
    return slot ? 0 : -ENOSPC;
}

int route_add(struct netif *nif, const struct net_addr *prefix, uint32_t bits,
              const struct net_addr *gateway)
{
    struct route_entry e = {.prefix = *prefix, .nif = nif,
                            .bits = (uint8_t)bits,
                            .valid_until = NET_NO_DEADLINE};

    if (gateway)
        e.gateway = *gateway;
    return route_add_until(nif, &e);
}

void route_del(struct netif *nif, const struct net_addr *prefix,
               uint32_t bits, const struct net_addr *gateway)
{
    struct route_table *rt = nif->net->routes;
    struct route_entry like = {.prefix = *prefix, .nif = nif,
                               .bits = (uint8_t)bits};

    if (gateway)
        like.gateway = *gateway;
    spin_lock(&rt->conf_lock);
    for (uint32_t i = 0; i < ROUTE_MAX; i++)
        if (rt->entries[i].nif && same_route(&rt->entries[i], &like))
            rt->entries[i].nif = NULL;
    spin_unlock(&rt->conf_lock);
    route_changed(nif->net);
}

static uint32_t pmtu_slot(const struct net_addr *dst)
{
    uint64_t h = (dst->q[0] ^ dst->q[1] * 0x9e3779b97f4a7c15ull);

    h *= 0x9e3779b97f4a7c15ull;
    return (uint32_t)(h >> 56) % ROUTE_PMTU_SLOTS;
}

bool route_learn_pmtu(struct netstack *net, const struct net_addr *dst,
                      uint32_t mtu)
{
    struct route_table *rt = net->routes;
    struct route_pmtu *fresh = NULL, *p;
    bool is_news = false, is_small = addr_is_v4(dst) && mtu < PMTU_MIN_V4;
    nsec_t now = net_now(net);

    if (is_small)
        mtu = PMTU_MIN_V4;
    if (!rt->pmtu)
        fresh = kzalloc(ROUTE_PMTU_SLOTS * sizeof(*fresh));
    spin_lock(&rt->conf_lock);
    if (!rt->pmtu) {
        rt->pmtu = fresh;
        fresh = NULL;
    }
    if (rt->pmtu) {
        p = &rt->pmtu[pmtu_slot(dst)];
        is_news = !p->mtu || p->until < now || !addr_equal(&p->dst, dst) ||
                  mtu < p->mtu || (is_small && !p->may_fragment);
        if (is_news)
            *p = (struct route_pmtu){*dst, mtu, is_small,
                                     now + PMTU_LIFETIME_NS};
    }
    spin_unlock(&rt->conf_lock);
    kfree(fresh);
    if (is_news)
        route_changed(net);
    return is_news;
}

/* What is known of the path. REQUIRES(conf_lock) */
static void apply_pmtu(struct netstack *net, const struct net_addr *dst,
                       struct net_route *r)
{
    struct route_pmtu *p;

    r->mtu = atomic_load_relaxed(&r->nif->mtu);
    if (!net->routes->pmtu)
        return;
    p = &net->routes->pmtu[pmtu_slot(dst)];
    if (!p->mtu || !addr_equal(&p->dst, dst) || net_now(net) > p->until)
        return;
    r->mtu = MIN(r->mtu, p->mtu);
    r->may_fragment = p->may_fragment;
}

static const struct route_entry *best_entry(struct netstack *net,
                                            const struct net_addr *dst,
                                            uint32_t nif_index)
{
    const struct route_entry *best = NULL;
    nsec_t now = 0;

    for (uint32_t i = 0; i < ROUTE_MAX; i++) {
        const struct route_entry *e = &net->routes->entries[i];
        if (!e->nif || (nif_index && e->nif->index != nif_index) ||
            (best && best->bits >= e->bits) ||
            addr_is_v4(dst) != addr_is_v4(&e->prefix) ||
            !addr_in_prefix(dst, &e->prefix, e->bits))
            continue;
        if (e->valid_until != NET_NO_DEADLINE) {
            now = now ? now : net_now(net);
            if (e->valid_until < now)
                continue;
        }
        best = e;
    }
    return best;
}

/* Multicast, limited broadcast and link-local: the interface that was named,
 * or the first that is not loopback. */
static struct netif *link_nif(struct netstack *net, uint32_t nif_index)
{
    uint32_t n = atomic_load_acquire(&net->nr_nifs);

    if (nif_index)
        return netif_by_index(net, nif_index);
    return n > 1 ? net->nifs[1] : net->nifs[0];
}

static int choose(struct netstack *net, const struct net_addr *dst,
                  uint32_t nif_index, struct net_route *out)
{
    const struct route_entry *e;

    out->next_hop = *dst;
    out->is_broadcast = addr_is_broadcast(dst);
    if (addr_is_multicast(dst) || out->is_broadcast ||
        addr_is_link_local(dst)) {
        out->nif = link_nif(net, nif_index);
        return out->nif ? 0 : -ENETUNREACH;
    }
    e = best_entry(net, dst, nif_index);
    if (!e)
        return -ENETUNREACH;
    out->nif = e->nif;
    if (!addr_is_any(&e->gateway))
        out->next_hop = e->gateway;
    else
        out->is_broadcast = netif_is_broadcast(e->nif, dst);
    return 0;
}

int route_find(struct netstack *net, const struct net_addr *dst,
               const struct net_addr *src, uint32_t nif_index,
               struct net_route *out)
{
    struct route_table *rt = net->routes;
    uint32_t gen = atomic_load_acquire(&rt->gen);
    struct netif *own = netif_of_addr(net, dst, ADDR_FREE);
    bool is_any = !src || addr_is_any(src);
    int err = 0;

    memset(out, 0, sizeof(*out));
    out->gen = gen;
    if (own) {
        out->nif = net->nifs[0];
        out->next_hop = *dst;
        out->src = !is_any ? *src : *dst;
        if (is_any && addr_is_v4(dst) && addr_is_loopback(dst))
            out->src = addr_from_v4(0x7f000001); /* for all of 127/8 */
        out->mtu = out->nif->mtu;
        return 0;
    }
    spin_lock(&rt->conf_lock);
    err = choose(net, dst, nif_index, out);
    if (!err) {
        apply_pmtu(net, dst, out);
        if (!is_any)
            out->src = *src;
        else if (!netif_pick_source(out->nif, dst, &out->src))
            err = -EADDRNOTAVAIL;
    }
    spin_unlock(&rt->conf_lock);
    return err;
}
