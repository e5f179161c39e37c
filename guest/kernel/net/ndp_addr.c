/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Addresses by themselves: link-local, duplicate detection, prefixes and
 * routers from advertisements (RFC 4861 6.3, RFC 4862). See ndp.h.
 */
#include "lib/errno.h"
#include "lib/string.h"
#include "mm/heap.h"
#include "net/ndp.h"
#include "net/neigh.h"
#include "net/resolv.h"

#define SOLICIT_INTERVAL_NS (4 * NSEC_PER_SEC)
#define SOLICIT_COUNT 3u
#define DAD_PROBES 1u
#define DAD_WAIT_NS NSEC_PER_SEC
#define TWO_HOURS_NS (7200 * NSEC_PER_SEC)
#define FOREVER 0xffffffffu
#define RA_BYTES 16u

static const struct net_addr all_routers = {.b = {0xff, 2, [15] = 2}};
static const struct net_addr any;

static void ndp_timer(struct net_timer *timer);

static nsec_t until_of(nsec_t now, uint32_t seconds)
{
    return seconds == FOREVER ? NET_NO_DEADLINE
                              : now + (nsec_t)seconds * NSEC_PER_SEC;
}

/* The host part: modified EUI-64 (RFC 4291, appendix A). */
static struct net_addr with_host_part(struct netif *nif,
                                      const struct net_addr *prefix)
{
    struct net_addr a = *prefix;

    memcpy(a.b + 8, nif->mac, 3);
    a.b[8] ^= 2;
    a.b[11] = 0xff;
    a.b[12] = 0xfe;
    memcpy(a.b + 13, nif->mac + 3, 3);
    return a;
}

static void arm_locked(struct ndp_state *s, nsec_t at)
{
    if (s->timer_pending) {
        if (s->timer.deadline <= at || !net_timer_cancel(&s->timer))
            return;
    }
    s->timer_pending = true;
    net_arm(s->nif->net, &s->timer, at);
}

static void wake_at(struct netif *nif, nsec_t at)
{
    if (!nif->ndp || at == NET_NO_DEADLINE)
        return;
    spin_lock(&nif->ndp->lock);
    arm_locked(nif->ndp, at);
    spin_unlock(&nif->ndp->lock);
}

/* Adds an address that has still to prove itself. */
static int add_tentative(struct netif *nif, struct netif_addr *a)
{
    int err;

    a->state = ADDR_TENTATIVE;
    a->is_auto = true;
    a->dad_left = DAD_PROBES;
    a->dad_at = net_now(nif->net);
    err = netif_add_tentative(nif, a);
    if (!err)
        wake_at(nif, a->dad_at);
    return err;
}

int ndp_start(struct netif *nif)
{
    struct netif_addr a = {.addr = {.b = {0xfe, 0x80}}, .prefix = 64,
                           .preferred_until = NET_NO_DEADLINE,
                           .valid_until = NET_NO_DEADLINE};
    struct ndp_state *s = kzalloc(sizeof(*s));

    if (!s)
        return -ENOMEM;
    s->nif = nif;
    spin_init(&s->lock);
    net_timer_init(&s->timer, ndp_timer);
    s->solicits_left = SOLICIT_COUNT;
    s->solicit_at = net_now(nif->net) + DAD_WAIT_NS + DAD_WAIT_NS / 4;
    nif->ndp = s;
    a.addr = with_host_part(nif, &a.addr);
    return add_tentative(nif, &a);
}

void ndp_stop(struct netif *nif)
{
    if (!nif->ndp)
        return;
    net_timer_cancel(&nif->ndp->timer);
    kfree(nif->ndp);
    nif->ndp = NULL;
}

void ndp_duplicate(struct netif *nif, const struct net_addr *addr)
{
    spin_lock(&nif->net->routes->conf_lock);
    for (uint32_t i = 0; i < NETIF_MAX_ADDRS; i++)
        if (nif->addrs[i].state == ADDR_TENTATIVE &&
            addr_equal(&nif->addrs[i].addr, addr))
            nif->addrs[i].state = ADDR_DUPLICATE;
    spin_unlock(&nif->net->routes->conf_lock);
}

static void ask_for_routers(struct netif *nif)
{
    struct frame *f = ndp_make(nif, NDP_RS, 16);

    if (!f)
        return;
    f->dst = all_routers;
    f->src = any;
    spin_lock(&nif->net->routes->conf_lock);
    bool has = netif_pick_source(nif, &all_routers, &f->src);
    spin_unlock(&nif->net->routes->conf_lock);
    if (has && addr_is_link_local(&f->src)) {
        f->data[8] = NDP_OPT_SOURCE_MAC;
        f->data[9] = 1;
        memcpy(f->data + 10, nif->mac, ETH_ADDR);
    } else {
        f->src = any;
        f->len = 8;
    }
    ndp_send(nif, f, NULL);
}

/* What is due for one address; when it wants to be looked at again. */
static nsec_t tick_addr(struct netif *nif, struct netif_addr *a, nsec_t now,
                        bool *must_probe)
{
    if (a->valid_until <= now) {
        a->state = ADDR_FREE;
        return NET_NO_DEADLINE;
    }
    if (a->state == ADDR_TENTATIVE && a->dad_at <= now) {
        if (a->dad_left) {
            a->dad_left--;
            a->dad_at = now + DAD_WAIT_NS;
            *must_probe = true;
        } else {
            a->state = ADDR_GOOD;
            route_changed(nif->net);
        }
    }
    return a->state == ADDR_TENTATIVE ? a->dad_at : a->valid_until;
}

static nsec_t tick_addrs(struct netif *nif, nsec_t now)
{
    struct net_addr probe[NETIF_MAX_ADDRS];
    uint32_t nr_probes = 0;
    nsec_t next = NET_NO_DEADLINE;

    spin_lock(&nif->net->routes->conf_lock);
    for (uint32_t i = 0; i < NETIF_MAX_ADDRS; i++) {
        struct netif_addr *a = &nif->addrs[i];
        bool must_probe = false;

        if (a->state == ADDR_FREE || !a->is_auto)
            continue;
        next = MIN(next, tick_addr(nif, a, now, &must_probe));
        if (must_probe)
            probe[nr_probes++] = a->addr;
    }
    spin_unlock(&nif->net->routes->conf_lock);
    for (uint32_t i = 0; i < nr_probes; i++)
        ndp_solicit_duplicate(nif, &probe[i]);
    return next;
}

static void ndp_timer(struct net_timer *timer)
{
    struct ndp_state *s = container_of(timer, struct ndp_state, timer);
    nsec_t now = net_now(s->nif->net), next;
    bool must_ask = false;

    /* First, so that an address added meanwhile arms the timer by itself. */
    spin_lock(&s->lock);
    s->timer_pending = false;
    spin_unlock(&s->lock);
    next = tick_addrs(s->nif, now);
    spin_lock(&s->lock);
    if (s->solicits_left && s->solicit_at <= now) {
        s->solicits_left--;
        s->solicit_at = now + SOLICIT_INTERVAL_NS;
        must_ask = true;
    }
    if (s->solicits_left)
        next = MIN(next, s->solicit_at);
    if (next != NET_NO_DEADLINE)
        arm_locked(s, MAX(next, now + 1));
    spin_unlock(&s->lock);
    if (must_ask)
        ask_for_routers(s->nif);
}

/* RFC 4862 5.5.3 e: a stranger must not end an address at once. */
static bool refresh_addr(struct netif *nif, const struct netif_addr *fresh,
                         nsec_t now)
{
    bool is_known = false;

    spin_lock(&nif->net->routes->conf_lock);
    for (uint32_t i = 0; i < NETIF_MAX_ADDRS; i++) {
        struct netif_addr *a = &nif->addrs[i];

        if (a->state == ADDR_FREE || !addr_equal(&a->addr, &fresh->addr))
            continue;
        is_known = true;
        if (!a->is_auto)
            continue; /* given by hand: no router's business */
        a->preferred_until = fresh->preferred_until;
        if (fresh->valid_until > now + TWO_HOURS_NS ||
            fresh->valid_until > a->valid_until)
            a->valid_until = fresh->valid_until;
        else if (a->valid_until > now + TWO_HOURS_NS)
            a->valid_until = now + TWO_HOURS_NS;
    }
    spin_unlock(&nif->net->routes->conf_lock);
    return is_known;
}

static void input_prefix(struct netif *nif, const uint8_t *p, nsec_t now)
{
    uint32_t valid = wire_get32(p + 4), preferred = wire_get32(p + 8);
    struct net_addr prefix = addr_from_wire6(p + 16);

    if (addr_is_link_local(&prefix) || addr_is_multicast(&prefix) ||
        p[2] > 128)
        return;
    if (p[3] & 0x80) { /* on-link */
        struct route_entry e = {.prefix = prefix, .nif = nif, .bits = p[2],
                                .is_auto = true,
                                .valid_until = until_of(now, valid)};
        if (valid)
            (void)!route_add_until(nif, &e);
        else
            route_del(nif, &prefix, p[2], NULL);
    }
    if (!(p[3] & 0x40) || p[2] != 64 || preferred > valid || !valid)
        return;
    struct netif_addr a = {.prefix = 64,
                           .preferred_until = until_of(now, preferred),
                           .valid_until = until_of(now, valid)};
    a.addr = with_host_part(nif, &prefix);
    if (!refresh_addr(nif, &a, now))
        (void)!add_tentative(nif, &a);
}

static void input_router_life(struct netif *nif, const struct frame *f,
                              nsec_t now)
{
    uint32_t life = wire_get16(f->data + 6);
    struct route_entry e = {.gateway = f->src, .nif = nif, .is_auto = true,
                            .valid_until = until_of(now, life)};

    if (life)
        (void)!route_add_until(nif, &e);
    else
        route_del(nif, &any, 0, &f->src);
}

static void input_servers(struct netif *nif, const uint8_t *p, uint32_t n)
{
    for (uint32_t at = 8; at + 16 <= n; at += 16) {
        struct net_addr server = addr_from_wire6(p + at);
        dns_add_server(nif->net, &server);
    }
}

void ndp_router(struct netif *nif, struct frame *f)
{
    struct neigh_news news = {.may_create = true, .is_override = true,
                              .is_router = true};
    nsec_t now = net_now(nif->net);
    uint32_t at = RA_BYTES, n;
    const uint8_t *p;

    if (f->data[4])
        atomic_store_relaxed(&nif->hop_limit, (uint32_t)f->data[4]);
    input_router_life(nif, f, now);
    p = ndp_option(f, &at, NDP_OPT_SOURCE_MAC, &n);
    if (p && n == 8 && !(p[2] & 1)) {
        news.mac = p + 2;
        neigh_learn(nif, &f->src, &news);
    }
    at = RA_BYTES;
    p = ndp_option(f, &at, NDP_OPT_MTU, &n);
    if (p && n == 8 && wire_get32(p + 4) >= IPV6_MIN_MTU &&
        wire_get32(p + 4) <= nif->max_mtu) {
        atomic_store_relaxed(&nif->mtu, wire_get32(p + 4));
        route_changed(nif->net);
    }
    for (at = RA_BYTES; (p = ndp_option(f, &at, NDP_OPT_PREFIX, &n));)
        if (n == 32)
            input_prefix(nif, p, now);
    for (at = RA_BYTES; (p = ndp_option(f, &at, NDP_OPT_RDNSS, &n));)
        if (n >= 24)
            input_servers(nif, p, n);
    if (nif->ndp) {
        spin_lock(&nif->ndp->lock);
        nif->ndp->solicits_left = 0;
        spin_unlock(&nif->ndp->lock);
    }
}
