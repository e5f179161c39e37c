/* SPDX-License-Identifier: BSD-2-Clause */
/* The addresses and multicast groups of interfaces. See route.h. */
#include "net/route.h"

#include "lib/errno.h"
#include "lib/string.h"

static struct netif_addr *find_addr(struct netif *nif,
                                    const struct net_addr *a)
{
    for (uint32_t i = 0; i < NETIF_MAX_ADDRS; i++)
        if (nif->addrs[i].state != ADDR_FREE &&
            addr_equal(&nif->addrs[i].addr, a))
            return &nif->addrs[i];
    return NULL;
}

static int insert_addr(struct netif *nif, const struct netif_addr *a)
{
    struct route_table *rt = nif->net->routes;
    struct netif_addr *slot;

    spin_lock(&rt->conf_lock);
    slot = find_addr(nif, &a->addr);
    for (uint32_t i = 0; !slot && i < NETIF_MAX_ADDRS; i++)
        if (nif->addrs[i].state == ADDR_FREE)
            slot = &nif->addrs[i];
    if (slot)
        *slot = *a;
    spin_unlock(&rt->conf_lock);
    route_changed(nif->net);
    return slot ? 0 : -ENOSPC;
}

static int add_prefix_route(struct netif *nif, const struct net_addr *addr,
                            uint32_t prefix)
{
    struct net_addr net_part = *addr;

    for (uint32_t i = 0; i < 128; i++)
        if (i >= prefix)
            net_part.b[i / 8] &= (uint8_t)~(0x80u >> i % 8);
    return route_add(nif, &net_part, prefix, NULL);
}

int route_add_addr(struct netif *nif, const struct net_addr *addr,
                   uint32_t prefix)
{
    struct netif_addr a = {.addr = *addr, .prefix = (uint8_t)prefix,
                           .state = ADDR_GOOD,
                           .preferred_until = NET_NO_DEADLINE,
                           .valid_until = NET_NO_DEADLINE};
    int err;

    if (prefix > 128 || (addr_is_v4(addr) && prefix < 96))
        return -EINVAL;
    err = insert_addr(nif, &a);
    return err ? err : add_prefix_route(nif, addr, prefix);
}

int netif_add_tentative(struct netif *nif, const struct netif_addr *a)
{
    return insert_addr(nif, a);
}

void netif_del_addr(struct netif *nif, const struct net_addr *addr)
{
    struct route_table *rt = nif->net->routes;
    struct netif_addr *a;

    spin_lock(&rt->conf_lock);
    a = find_addr(nif, addr);
    if (a)
        a->state = ADDR_FREE;
    spin_unlock(&rt->conf_lock);
    route_changed(nif->net);
}

struct netif *netif_of_addr(struct netstack *net, const struct net_addr *a,
                            enum addr_state state)
{
    uint32_t n = atomic_load_acquire(&net->nr_nifs);
    struct netif *found = NULL;

    if (addr_is_v4(a) && addr_is_loopback(a))
        return net->nifs[0];
    spin_lock(&net->routes->conf_lock);
    for (uint32_t i = 0; i < n && !found; i++) {
        const struct netif_addr *e = find_addr(net->nifs[i], a);
        if (e && (state == ADDR_FREE ? e->state == ADDR_GOOD
                                     : e->state == state))
            found = net->nifs[i];
    }
    spin_unlock(&net->routes->conf_lock);
    return found;
}

bool netif_is_broadcast(struct netif *nif, const struct net_addr *a)
{
    uint32_t v4;

    if (!addr_is_v4(a))
        return false;
    v4 = addr_v4(a);
    if (v4 == 0xffffffffu)
        return true;
    for (uint32_t i = 0; i < NETIF_MAX_ADDRS; i++) {
        const struct netif_addr *e = &nif->addrs[i];
        uint32_t bits = e->prefix - 96u;

        if (e->state != ADDR_GOOD || !addr_is_v4(&e->addr) || bits > 30)
            continue;
        uint32_t host = 0xffffffffu >> bits;
        if ((v4 | host) == (addr_v4(&e->addr) | host) && (v4 & host) == host)
            return true;
    }
    return false;
}

enum netif_dst netif_accepts(struct netif *nif, const struct net_addr *dst)
{
    struct netstack *net = nif->net;
    bool is_group;

    if (addr_is_multicast(dst))
        return netif_has_group(nif, dst) ? DST_GROUP : DST_NONE;
    if (addr_is_loopback(dst))
        return nif->caps & NETIF_LOOPBACK ? DST_OURS : DST_NONE;
    if (netif_of_addr(net, dst, ADDR_FREE))
        return DST_OURS;
    spin_lock(&net->routes->conf_lock);
    is_group = netif_is_broadcast(nif, dst);
    spin_unlock(&net->routes->conf_lock);
    return is_group ? DST_GROUP : DST_NONE;
}

static uint32_t common_bits(const struct net_addr *a,
                            const struct net_addr *b)
{
    for (uint32_t i = 0; i < 16; i++)
        if (a->b[i] != b->b[i])
            return i * 8 +
                   (uint32_t)__builtin_clz((uint32_t)(a->b[i] ^ b->b[i])) - 24;
    return 128;
}

/* RFC 6724 as far as it matters here: same family, scope, not deprecated,
 * longest common prefix. */
bool netif_pick_source(struct netif *nif, const struct net_addr *dst,
                       struct net_addr *out)
{
    bool is_v4 = addr_is_v4(dst);
    bool is_local = addr_is_link_local(dst) ||
                    (dst->b[0] == 0xff && (dst->b[1] & 0xf) <= 2);
    uint32_t best = 0;
    nsec_t now = net_now(nif->net);

    for (uint32_t i = 0; i < NETIF_MAX_ADDRS; i++) {
        const struct netif_addr *e = &nif->addrs[i];
        uint32_t score;

        if (e->state != ADDR_GOOD || addr_is_v4(&e->addr) != is_v4 ||
            e->valid_until < now)
            continue;
        score = 1 + common_bits(&e->addr, dst);
        if (e->preferred_until > now)
            score += 256;
        if (is_v4 || addr_is_link_local(&e->addr) == is_local)
            score += 512;
        if (score > best) {
            best = score;
            *out = e->addr;
        }
    }
    return best != 0;
}

struct net_addr netif_first_addr(struct netif *nif, bool is_v4)
{
    struct net_addr a = {.q = {0, 0}};

    spin_lock(&nif->net->routes->conf_lock);
    for (uint32_t i = 0; i < NETIF_MAX_ADDRS; i++)
        if (nif->addrs[i].state == ADDR_GOOD &&
            addr_is_v4(&nif->addrs[i].addr) == is_v4) {
            a = nif->addrs[i].addr;
            break;
        }
    spin_unlock(&nif->net->routes->conf_lock);
    return a;
}

bool netif_has_global6(struct netif *nif)
{
    bool found = false;

    spin_lock(&nif->net->routes->conf_lock);
    for (uint32_t i = 0; i < NETIF_MAX_ADDRS; i++)
        found |= nif->addrs[i].state == ADDR_GOOD &&
                 !addr_is_v4(&nif->addrs[i].addr) &&
                 !addr_is_link_local(&nif->addrs[i].addr);
    spin_unlock(&nif->net->routes->conf_lock);
    return found;
}

int netif_join(struct netif *nif, const struct net_addr *group)
{
    struct spinlock *lock = &nif->net->routes->conf_lock;
    uint32_t slot = NETIF_MAX_GROUPS;

    spin_lock(lock);
    for (uint32_t i = 0; i < NETIF_MAX_GROUPS; i++) {
        if (nif->groups[i].users && addr_equal(&nif->groups[i].addr, group)) {
            slot = i;
            break;
        }
        if (!nif->groups[i].users && slot == NETIF_MAX_GROUPS)
            slot = i;
    }
    if (slot < NETIF_MAX_GROUPS) {
        nif->groups[slot].addr = *group;
        nif->groups[slot].users++;
    }
    spin_unlock(lock);
    return slot < NETIF_MAX_GROUPS ? 0 : -ENOSPC;
}

int netif_leave(struct netif *nif, const struct net_addr *group)
{
    struct spinlock *lock = &nif->net->routes->conf_lock;
    int err = -EADDRNOTAVAIL;

    spin_lock(lock);
    for (uint32_t i = 0; i < NETIF_MAX_GROUPS; i++)
        if (nif->groups[i].users && addr_equal(&nif->groups[i].addr, group)) {
            nif->groups[i].users--;
            err = 0;
            break;
        }
    spin_unlock(lock);
    return err;
}

/* A group that neighbour solicitations for one of our addresses go to
 * (RFC 4291 2.7.1)? */
static bool is_solicited_group(const struct netif *nif,
                               const struct net_addr *group)
{
    static const struct net_addr base = {.b = {0xff, 2, [11] = 1, [12] = 0xff}};

    if (!addr_in_prefix(group, &base, 104))
        return false;
    for (uint32_t i = 0; i < NETIF_MAX_ADDRS; i++)
        if (nif->addrs[i].state != ADDR_FREE &&
            !addr_is_v4(&nif->addrs[i].addr) &&
            memcmp(nif->addrs[i].addr.b + 13, group->b + 13, 3) == 0)
            return true;
    return false;
}

bool netif_has_group(struct netif *nif, const struct net_addr *group)
{
    struct spinlock *lock = &nif->net->routes->conf_lock;
    bool has = false;

    /* All hosts: 224.0.0.1 (RFC 1112), ff02::1 and ff01::1 (RFC 4291). */
    struct net_addr all = {.b = {0xff, group->b[1], [15] = 1}};
    if (addr_is_v4(group) ? addr_v4(group) == 0xe0000001u
                          : group->b[1] <= 2 && addr_equal(group, &all))
        return true;
    spin_lock(lock);
    has = is_solicited_group(nif, group);
    for (uint32_t i = 0; i < NETIF_MAX_GROUPS; i++)
        has |= nif->groups[i].users &&
               addr_equal(&nif->groups[i].addr, group);
    spin_unlock(lock);
    return has;
}
