/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What NETLINK_ROUTE says about links, addresses, routes and neighbours. Formats: man 7
 * rtnetlink, linux/if_link.h, if_addr.h, rtnetlink.h. A table of questions;
 * everything else is -EOPNOTSUPP, changes are -EPERM.
 *
 * Locks: conf_lock, while one entry is copied.
 */
#include "mm/heap.h"
#include "net/inet_sock.h"
#include "net/neigh.h"
#include "net/netlink.h"

enum { RTM_NEWLINK = 16, RTM_GETLINK = 18, RTM_NEWADDR = 20, RTM_GETADDR = 22,
       RTM_NEWROUTE = 24, RTM_GETROUTE = 26, RTM_NEWNEIGH = 28,
       RTM_GETNEIGH = 30,
       RTM_GETRULE = 34 };
enum { IFLA_ADDRESS = 1, IFLA_BROADCAST, IFLA_IFNAME, IFLA_MTU,
       IFLA_STATS = 7, IFLA_TXQLEN = 13, IFLA_OPERSTATE = 16, IFLA_STATS64 = 23,
       IFLA_NUM_TX_QUEUES = 31, IFLA_NUM_RX_QUEUES, IFLA_CARRIER };
enum { IFA_ADDRESS = 1, IFA_LOCAL, IFA_LABEL, IFA_BROADCAST, IFA_CACHEINFO = 6,
       IFA_FLAGS = 8 };
enum { NDA_DST = 1, NDA_LLADDR };
enum { RTA_DST = 1, RTA_OIF = 4, RTA_GATEWAY, RTA_PREFSRC = 7, RTA_TABLE = 15 };

#define IFF_LOWER_UP 0x10000u
#define IFF_BROADCAST 0x2u
#define IFA_F_TENTATIVE 0x40u
#define IFA_F_DADFAILED 0x08u
#define IFA_F_PERMANENT 0x80u
#define SCOPE_GLOBAL 0u
#define SCOPE_LINK 253u
#define SCOPE_HOST 254u
#define RT_TABLE_MAIN 254u
#define RTPROT_BOOT 3u
#define RTPROT_RA 9u
#define RTN_UNICAST 1u
#define RTN_LOCAL 2u

struct ifinfomsg_abi {
    uint8_t family, pad;
    uint16_t type;
    int32_t index;
    uint32_t flags, change;
};

struct ifaddrmsg_abi {
    uint8_t family, prefix, flags, scope;
    uint32_t index;
};

struct rtmsg_abi {
    uint8_t family, dst_len, src_len, tos, table, protocol, scope, type;
    uint32_t flags;
};

struct ndmsg_abi {
    uint8_t family, pad[3];
    int32_t index;
    uint16_t state;
    uint8_t flags, type;
};

/* The attribute of a request, its bytes in *n; NULL: not there. */
static const uint8_t *find_attr(const uint8_t *p, uint32_t len, uint32_t type,
                                uint32_t *n)
{
    while (len >= 4) {
        uint16_t head[2];

        memcpy(head, p, sizeof(head));
        if (head[0] < 4 || head[0] > len)
            return NULL;
        if ((head[1] & 0x3fffu) == type) {
            *n = head[0] - 4u;
            return p + 4;
        }
        uint32_t step = MIN(ALIGN_UP((uint32_t)head[0], 4u), len);
        p += step;
        len -= step;
    }
    return NULL;
}

static bool is_dump(const struct netlink_out *o)
{
    return (o->request->flags & NLM_F_DUMP) == NLM_F_DUMP;
}

static uint32_t multi(const struct netlink_out *o)
{
    return is_dump(o) ? NLM_F_MULTI : 0;
}

/* ---- links ---- */

static void put_stats(struct netlink_out *o, struct netif *nif)
{
    uint64_t wide[24] = {
        atomic_load_relaxed(&nif->frames_in),
        atomic_load_relaxed(&nif->frames_out),
        atomic_load_relaxed(&nif->bytes_in),
        atomic_load_relaxed(&nif->bytes_out),
    };
    uint32_t narrow[24];

    for (uint32_t k = 0; k < ARRAY_SIZE(narrow); k++)
        narrow[k] = (uint32_t)wide[k];
    netlink_attr(o, IFLA_STATS64, wide, sizeof(wide));
    netlink_attr(o, IFLA_STATS, narrow, sizeof(narrow));
}

static void put_link(struct netlink_out *o, struct netif *nif)
{
    static const uint8_t all_ones[ETH_ADDR] = {255, 255, 255, 255, 255, 255};
    static const uint8_t none[ETH_ADDR];
    bool is_lo = nif->caps & NETIF_LOOPBACK;
    struct ifinfomsg_abi *m =
        netlink_begin(o, RTM_NEWLINK, multi(o), sizeof(*m));
    uint8_t operstate = is_lo ? 0 : 6; /* RFC 2863: unknown, up */
    uint8_t carrier = 1;

    if (!m)
        return;
    m->type = is_lo ? 772 : 1; /* ARPHRD_* */
    m->index = (int32_t)nif->index;
    m->flags = netif_flags(nif) | IFF_LOWER_UP;
    netlink_attr(o, IFLA_IFNAME, nif->name,
                 (uint32_t)strlen(nif->name) + 1);
    netlink_attr32(o, IFLA_TXQLEN, 1000);
    netlink_attr(o, IFLA_OPERSTATE, &operstate, 1);
    netlink_attr32(o, IFLA_MTU, atomic_load_relaxed(&nif->mtu));
    netlink_attr32(o, IFLA_NUM_TX_QUEUES, 1);
    netlink_attr32(o, IFLA_NUM_RX_QUEUES, 1);
    netlink_attr(o, IFLA_CARRIER, &carrier, 1);
    netlink_attr(o, IFLA_ADDRESS, nif->mac, ETH_ADDR);
    netlink_attr(o, IFLA_BROADCAST, is_lo ? none : all_ones, ETH_ADDR);
    put_stats(o, nif);
    netlink_end(o);
}

static int get_link(struct netstack *net, struct netlink_out *o,
                    const uint8_t *body, uint32_t len)
{
    uint32_t n = atomic_load_acquire(&net->nr_nifs), name_len = 0;
    const struct ifinfomsg_abi *m = (const void *)body;
    const uint8_t *name = NULL;
    bool found = false;

    if (len >= sizeof(*m))
        name = find_attr(body + sizeof(*m), len - (uint32_t)sizeof(*m),
                         IFLA_IFNAME, &name_len);
    if (!is_dump(o) && len < sizeof(*m))
        return -EINVAL;
    for (uint32_t k = 0; k < n; k++) {
        struct netif *nif = net->nifs[k];
        size_t own = strlen(nif->name);

        if (!is_dump(o) && m->index > 0 && m->index != (int32_t)nif->index)
            continue;
        if (!is_dump(o) && m->index <= 0 &&
            !(name && name_len >= own && !memcmp(name, nif->name, own) &&
              (name_len == own || !name[own])))
            continue;
        put_link(o, nif);
        found = true;
    }
    return found ? 0 : -ENODEV;
}

/* ---- addresses ---- */

static uint32_t scope_of(const struct net_addr *a)
{
    return addr_is_loopback(a)     ? SCOPE_HOST
           : addr_is_link_local(a) ? SCOPE_LINK
                                   : SCOPE_GLOBAL;
}

static uint32_t seconds_left(nsec_t until, nsec_t now)
{
    if (until == NET_NO_DEADLINE)
        return ~0u;
    return until > now ? (uint32_t)((until - now) / NSEC_PER_SEC) : 0;
}

static void put_addr(struct netlink_out *o, struct netif *nif,
                     const struct netif_addr *a)
{
    bool is_v4 = addr_is_v4(&a->addr);
    nsec_t now = net_now(nif->net);
    uint32_t n = is_v4 ? 4 : 16, flags = 0;
    const uint8_t *bytes = is_v4 ? a->addr.b + 12 : a->addr.b;
    uint32_t times[4] = {seconds_left(a->preferred_until, now),
                         seconds_left(a->valid_until, now), 0, 0};
    struct ifaddrmsg_abi *m =
        netlink_begin(o, RTM_NEWADDR, multi(o), sizeof(*m));
    uint8_t broadcast[4];

    if (!m)
        return;
    if (a->valid_until == NET_NO_DEADLINE)
        flags |= IFA_F_PERMANENT;
    if (a->state == ADDR_TENTATIVE)
        flags |= IFA_F_TENTATIVE;
    if (a->state == ADDR_DUPLICATE)
        flags |= IFA_F_DADFAILED;
    m->family = is_v4 ? AF_INET : AF_INET6;
    m->prefix = (uint8_t)(is_v4 ? a->prefix - 96 : a->prefix);
    m->flags = (uint8_t)flags;
    m->scope = (uint8_t)scope_of(&a->addr);
    m->index = nif->index;
    netlink_attr(o, IFA_ADDRESS, bytes, n);
    if (is_v4) {
        netlink_attr(o, IFA_LOCAL, bytes, n);
        if (netif_flags(nif) & IFF_BROADCAST && a->prefix < 127) {
            wire_put32(broadcast, addr_v4(&a->addr) |
                                      0xffffffffu >> (a->prefix - 96));
            netlink_attr(o, IFA_BROADCAST, broadcast, 4);
        }
        netlink_attr(o, IFA_LABEL, nif->name,
                     (uint32_t)strlen(nif->name) + 1);
    }
    netlink_attr32(o, IFA_FLAGS, flags);
    netlink_attr(o, IFA_CACHEINFO, times, sizeof(times));
    netlink_end(o);
}

static int get_addr(struct netstack *net, struct netlink_out *o,
                    const uint8_t *body, uint32_t len)
{
    uint32_t n = atomic_load_acquire(&net->nr_nifs);
    uint8_t family = len ? body[0] : 0;

    if (!is_dump(o))
        return -ENOTSUP;
    for (uint32_t k = 0; k < n * 2 * NETIF_MAX_ADDRS; k++) {
        /* All IPv4 addresses come before all IPv6 ones. */
        bool want_v4 = k < n * NETIF_MAX_ADDRS;
        struct netif *nif = net->nifs[k / NETIF_MAX_ADDRS % n];
        struct netif_addr a;

        if ((family == AF_INET && !want_v4) || (family == AF_INET6 && want_v4))
            continue;
        spin_lock(&net->routes->conf_lock);
        a = nif->addrs[k % NETIF_MAX_ADDRS];
        spin_unlock(&net->routes->conf_lock);
        if (a.state != ADDR_FREE && addr_is_v4(&a.addr) == want_v4)
            put_addr(o, nif, &a);
    }
    return 0;
}

/* ---- routes ---- */

static void put_route(struct netlink_out *o, const struct route_entry *e,
                      const struct net_addr *src, uint32_t type)
{
    bool is_v4 = addr_is_v4(&e->prefix), is_direct = addr_is_any(&e->gateway);
    uint32_t n = is_v4 ? 4 : 16, off = is_v4 ? 12 : 0;
    struct rtmsg_abi *m = netlink_begin(o, RTM_NEWROUTE, multi(o), sizeof(*m));

    if (!m)
        return;
    m->family = is_v4 ? AF_INET : AF_INET6;
    m->dst_len = (uint8_t)(is_v4 ? e->bits - 96 : e->bits);
    m->table = RT_TABLE_MAIN;
    m->protocol = e->is_auto ? RTPROT_RA : RTPROT_BOOT;
    m->scope = is_v4 && is_direct ? SCOPE_LINK : SCOPE_GLOBAL;
    m->type = (uint8_t)type;
    netlink_attr32(o, RTA_TABLE, RT_TABLE_MAIN);
    if (m->dst_len)
        netlink_attr(o, RTA_DST, e->prefix.b + off, n);
    if (!is_direct)
        netlink_attr(o, RTA_GATEWAY, e->gateway.b + off, n);
    netlink_attr32(o, RTA_OIF, e->nif->index);
    if (src)
        netlink_attr(o, RTA_PREFSRC, src->b + off, n);
    netlink_end(o);
}

/* `ip route get ADDRESS` */
static int get_one_route(struct netstack *net, struct netlink_out *o,
                         const uint8_t *body, uint32_t len)
{
    struct rtmsg_abi m;
    struct route_entry e = {.bits = 128};
    struct net_route r;
    const uint8_t *dst;
    uint32_t n = 0;
    int err;

    if (len < sizeof(m))
        return -EINVAL;
    memcpy(&m, body, sizeof(m));
    dst = find_attr(body + sizeof(m), len - (uint32_t)sizeof(m), RTA_DST, &n);
    if (!dst || (m.family == AF_INET ? n < 4 : n < 16))
        return -EINVAL;
    e.prefix = m.family == AF_INET ? addr_from_wire4(dst)
                                   : addr_from_wire6(dst);
    err = route_find(net, &e.prefix, NULL, 0, &r);
    if (err)
        return err;
    e.nif = r.nif;
    if (!addr_equal(&r.next_hop, &e.prefix))
        e.gateway = r.next_hop;
    put_route(o, &e, &r.src,
              r.nif->caps & NETIF_LOOPBACK ? RTN_LOCAL : RTN_UNICAST);
    return 0;
}

static int get_route(struct netstack *net, struct netlink_out *o,
                     const uint8_t *body, uint32_t len)
{
    uint8_t family = len ? body[0] : 0;
    nsec_t now = net_now(net);

    if (!is_dump(o))
        return get_one_route(net, o, body, len);
    for (uint32_t k = 0; k < ROUTE_MAX; k++) {
        struct route_entry e;
        struct net_addr src;
        bool is_v4;

        spin_lock(&net->routes->conf_lock);
        e = net->routes->entries[k];
        spin_unlock(&net->routes->conf_lock);
        is_v4 = addr_is_v4(&e.prefix);
        if (!e.nif || e.valid_until < now ||
            (family && family != (is_v4 ? AF_INET : AF_INET6)) ||
            (is_v4 && (e.nif->caps & NETIF_LOOPBACK)))
            continue; /* Linux has those in another table */
        src = netif_first_addr(e.nif, true);
        put_route(o, &e, is_v4 && addr_is_any(&e.gateway) ? &src : NULL,
                  RTN_UNICAST);
    }
    return 0;
}

/* ---- neighbours ---- */

static void put_neigh(struct netlink_out *o, const struct neigh_info *n)
{
    static const uint16_t states[] = { /* NUD_* (man 7 rtnetlink) */
        [NEIGH_NEW] = 0x00, [NEIGH_INCOMPLETE] = 0x01,
        [NEIGH_REACHABLE] = 0x02, [NEIGH_STALE] = 0x04,
        [NEIGH_DELAY] = 0x08, [NEIGH_PROBE] = 0x10,
    };
    bool is_v4 = addr_is_v4(&n->addr);
    struct ndmsg_abi *m =
        netlink_begin(o, RTM_NEWNEIGH, NLM_F_MULTI, sizeof(*m));

    if (!m)
        return;
    m->family = is_v4 ? AF_INET : AF_INET6;
    m->index = (int32_t)n->nif->index;
    m->state = states[n->state];
    m->type = RTN_UNICAST;
    netlink_attr(o, NDA_DST, is_v4 ? n->addr.b + 12 : n->addr.b,
                 is_v4 ? 4 : 16);
    if (n->state > NEIGH_INCOMPLETE)
        netlink_attr(o, NDA_LLADDR, n->mac, ETH_ADDR);
    netlink_end(o);
}

static int get_neigh(struct netstack *net, struct netlink_out *o,
                     const uint8_t *body, uint32_t len)
{
    uint8_t family = len ? body[0] : 0;
    struct neigh_info *all;
    uint32_t n;

    if (!is_dump(o))
        return -ENOTSUP;
    all = kmalloc(NEIGH_MAX * sizeof(*all));
    if (!all)
        return -ENOBUFS;
    n = neigh_list(net, all, NEIGH_MAX);
    for (uint32_t k = 0; k < n; k++)
        if (!family ||
            family == (addr_is_v4(&all[k].addr) ? AF_INET : AF_INET6))
            put_neigh(o, &all[k]);
    kfree(all);
    return 0;
}

/* Known questions with nothing to tell. */
static int get_nothing(struct netstack *net, struct netlink_out *o,
                       const uint8_t *body, uint32_t len)
{
    return is_dump(o) ? 0 : -ENOTSUP;
}

int netlink_route(struct netstack *net, struct netlink_out *o,
                  const void *body, uint32_t len)
{
    static const struct {
        uint32_t type;
        int (*answer)(struct netstack *net, struct netlink_out *o,
                      const uint8_t *body, uint32_t len);
    } questions[] = {
        {RTM_GETLINK, get_link},
        {RTM_GETADDR, get_addr},
        {RTM_GETROUTE, get_route},
        {RTM_GETNEIGH, get_neigh},
        {RTM_GETRULE, get_nothing},
    };
    uint32_t type = o->request->type;

    for (size_t k = 0; k < ARRAY_SIZE(questions); k++)
        if (questions[k].type == type)
            return questions[k].answer(net, o, body, len);
    return (type & 3) == 2 || type > RTM_GETRULE ? -ENOTSUP : -EPERM;
}
