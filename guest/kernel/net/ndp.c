/* SPDX-License-Identifier: BSD-2-Clause */
/* Neighbour solicitations and advertisements, redirects. See ndp.h. */
#include "net/ndp.h"

#include "lib/string.h"
#include "net/icmp.h"
#include "net/neigh.h"

#define NS_BYTES 24u /* without options; NA the same */
#define REDIRECT_BYTES 40u
#define MAC_OPTION 8u
#define FLAG_ROUTER 0x80u
#define FLAG_SOLICITED 0x40u
#define FLAG_OVERRIDE 0x20u

static const struct net_addr all_nodes = {.b = {0xff, 2, [15] = 1}};

bool ndp_options_ok(const struct frame *f, uint32_t at)
{
    while (at < f->len) {
        uint32_t n = at + 1 < f->len ? f->data[at + 1] * 8u : 0;

        if (!n || at + n > f->len)
            return false;
        at += n;
    }
    return at == f->len;
}

const uint8_t *ndp_option(const struct frame *f, uint32_t *at, uint32_t type,
                          uint32_t *n)
{
    while (*at + 2 <= f->len) {
        const uint8_t *p = f->data + *at;

        *n = p[1] * 8u;
        if (!*n || *at + *n > f->len)
            return NULL;
        *at += *n;
        if (p[0] == type)
            return p;
    }
    return NULL;
}

static const uint8_t *mac_option(const struct frame *f, uint32_t at,
                                 uint32_t type)
{
    uint32_t n;
    const uint8_t *p = ndp_option(f, &at, type, &n);

    return p && n == MAC_OPTION && !(p[2] & 1) ? p + 2 : NULL;
}

struct frame *ndp_make(struct netif *nif, uint32_t type, uint32_t n)
{
    struct frame *f = frame_alloc(nif->net, FRAME_SMALL, FRAME_HEADROOM,
                                  FRAME_FOR_CONTROL);

    if (!f)
        return NULL;
    memset(frame_append(f, n), 0, n);
    f->data[0] = (uint8_t)type;
    f->ttl = 255;
    return f;
}

/* Sends to f->dst directly on the link; mac NULL: by multicast mapping or
 * the neighbour cache. */
void ndp_send(struct netif *nif, struct frame *f, const uint8_t *mac)
{
    struct net_route r = {.nif = nif, .next_hop = f->dst,
                          .mtu = atomic_load_relaxed(&nif->mtu)};

    if (mac) {
        uint64_t sum = csum_pseudo(&f->src, &f->dst, IP_PROTO_ICMPV6, f->len);
        uint8_t *p;

        csum_store(f->data + 2, csum_add(sum, f->data, f->len));
        uint32_t payload = f->len;
        p = frame_push(f, IPV6_HEADER);
        wire_put32(p, 6u << 28);
        wire_put16(p + 4, payload);
        p[6] = IP_PROTO_ICMPV6;
        p[7] = f->ttl;
        memcpy(p + 8, f->src.b, 16);
        memcpy(p + 24, f->dst.b, 16);
        netif_queue_eth(nif, mac, ETH_TYPE_IPV6, f);
        return;
    }
    icmp6_output(&r, f);
}

static struct net_addr solicited_group(const struct net_addr *addr)
{
    struct net_addr g = {.b = {0xff, 2, [11] = 1, [12] = 0xff}};

    memcpy(g.b + 13, addr->b + 13, 3);
    return g;
}

static void put_mac_option(struct frame *f, uint32_t at, uint32_t type,
                           const uint8_t *mac)
{
    f->data[at] = (uint8_t)type;
    f->data[at + 1] = 1;
    memcpy(f->data + at + 2, mac, ETH_ADDR);
}

void ndp_solicit(struct netif *nif, const struct net_addr *addr,
                 const uint8_t *mac)
{
    struct frame *f = ndp_make(nif, NDP_NS, NS_BYTES + MAC_OPTION);
    bool has_source;

    if (!f)
        return;
    spin_lock(&nif->net->routes->conf_lock);
    has_source = netif_pick_source(nif, addr, &f->src);
    spin_unlock(&nif->net->routes->conf_lock);
    if (!has_source) {
        frame_put(f);
        return;
    }
    f->dst = mac ? *addr : solicited_group(addr);
    memcpy(f->data + 8, addr->b, 16);
    put_mac_option(f, NS_BYTES, NDP_OPT_SOURCE_MAC, nif->mac);
    ndp_send(nif, f, mac);
}

void ndp_solicit_duplicate(struct netif *nif, const struct net_addr *addr)
{
    struct frame *f = ndp_make(nif, NDP_NS, NS_BYTES);

    if (!f)
        return;
    memset(&f->src, 0, sizeof(f->src));
    f->dst = solicited_group(addr);
    memcpy(f->data + 8, addr->b, 16);
    ndp_send(nif, f, NULL);
}

static void advertise(struct netif *nif, const struct net_addr *target,
                      const struct net_addr *to, bool is_solicited)
{
    struct frame *f = ndp_make(nif, NDP_NA, NS_BYTES + MAC_OPTION);

    if (!f)
        return;
    f->src = *target;
    f->dst = *to;
    f->data[4] = FLAG_OVERRIDE | (is_solicited ? FLAG_SOLICITED : 0);
    memcpy(f->data + 8, target->b, 16);
    put_mac_option(f, NS_BYTES, NDP_OPT_TARGET_MAC, nif->mac);
    ndp_send(nif, f, NULL);
}

static void input_solicitation(struct netif *nif, struct frame *f)
{
    struct net_addr target = addr_from_wire6(f->data + 8);
    bool is_probe = addr_is_any(&f->src);
    struct neigh_news news = {.may_create = true, .is_override = true};

    news.mac = mac_option(f, NS_BYTES, NDP_OPT_SOURCE_MAC);
    if (netif_of_addr(nif->net, &target, ADDR_TENTATIVE) == nif) {
        if (is_probe && !(f->flags & FRAME_LOOPED))
            ndp_duplicate(nif, &target);
        return;
    }
    if (netif_of_addr(nif->net, &target, ADDR_FREE) != nif ||
        (is_probe && news.mac))
        return;
    if (is_probe) {
        advertise(nif, &target, &all_nodes, false);
        return;
    }
    if (news.mac)
        neigh_learn(nif, &f->src, &news);
    advertise(nif, &target, &f->src, true);
}

static void input_advertisement(struct netif *nif, struct frame *f)
{
    struct net_addr target = addr_from_wire6(f->data + 8);
    uint8_t flags = f->data[4];
    struct neigh_news news = {
        .mac = mac_option(f, NS_BYTES, NDP_OPT_TARGET_MAC),
        .is_solicited = (flags & FLAG_SOLICITED) != 0,
        .is_override = (flags & FLAG_OVERRIDE) != 0,
        .is_router = (flags & FLAG_ROUTER) != 0,
    };

    if (news.is_solicited && addr_is_multicast(&f->dst))
        return;
    if (netif_of_addr(nif->net, &target, ADDR_TENTATIVE) == nif) {
        ndp_duplicate(nif, &target);
        return;
    }
    neigh_learn(nif, &target, &news);
}

/* A router knows a better first hop. Only on the link's own say-so. */
static void input_redirect(struct netif *nif, struct frame *f)
{
    struct net_addr target, dst;
    struct net_route r;

    if (f->len < REDIRECT_BYTES || !addr_is_link_local(&f->src))
        return;
    target = addr_from_wire6(f->data + 8);
    dst = addr_from_wire6(f->data + 24);
    if (addr_is_multicast(&dst) || addr_is_link_local(&dst) ||
        route_find(nif->net, &dst, NULL, 0, &r) || r.nif != nif ||
        !addr_equal(&r.next_hop, &f->src))
        return;
    if (addr_equal(&target, &dst))
        (void)!route_add(nif, &dst, 128, NULL);
    else if (addr_is_link_local(&target))
        (void)!route_add(nif, &dst, 128, &target);
}

void ndp_input(struct netif *nif, struct frame *f)
{
    uint32_t type = f->data[0];
    uint32_t head = type == NDP_RA ? 16 : type == NDP_RS ? 8 : NS_BYTES;

    if (type == NDP_REDIRECT)
        head = REDIRECT_BYTES;
    /* Everything in one piece: what is longer than a buffer is not for us. */
    if (f->ttl != 255 || f->data[1] != 0 || f->frag_len || f->len < head ||
        (f->flags & FRAME_REASSEMBLED) || /* RFC 6980 5 */
        !ndp_options_ok(f, head)) {
        net_count(nif->net, NET_BAD_FRAME);
        return;
    }
    switch (type) {
    case NDP_NS:
        if (!addr_is_multicast(&(struct net_addr){.b = {f->data[8]}}))
            input_solicitation(nif, f);
        break;
    case NDP_NA:
        input_advertisement(nif, f);
        break;
    case NDP_RA:
        if (addr_is_link_local(&f->src))
            ndp_router(nif, f);
        break;
    case NDP_REDIRECT:
        input_redirect(nif, f);
        break;
    default:
        break;
    }
}
