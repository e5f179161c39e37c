/* SPDX-License-Identifier: BSD-2-Clause */
/* Packets out: headers, fragments, checksums in software. See ip.h. */
#include "lib/errno.h"
#include "lib/string.h"
#include "net/ip.h"
#include "net/neigh.h"

#define FRAG_HEADER6 8u

void ip_partial_checksum(struct frame *f, uint32_t field_offset)
{
    uint64_t sum = csum_pseudo(&f->src, &f->dst, f->proto, frame_total(f));
    uint16_t v = (uint16_t)~csum_fold(sum);

    memcpy(f->data + field_offset, &v, sizeof(v));
    f->csum_start = 0;
    f->csum_offset = (uint16_t)field_offset;
    f->flags |= FRAME_CSUM_PARTIAL;
}

/* Does what the device would have done. */
static void complete_checksum(struct frame *f)
{
    uint64_t sum =
        csum_add_frame(0, f, f->csum_start, frame_total(f) - f->csum_start);
    uint8_t *field = f->data + f->csum_start + f->csum_offset;

    csum_store(field, sum);
    if (f->proto == IP_PROTO_UDP && field[0] == 0 && field[1] == 0)
        field[0] = field[1] = 0xff; /* 0 would mean: none (RFC 768) */
    f->flags &= (uint8_t)~FRAME_CSUM_PARTIAL;
}

static void push_v4(struct frame *f, uint32_t id, uint32_t frag_word)
{
    uint32_t payload = frame_total(f);
    uint8_t *p = frame_push(f, IPV4_HEADER);

    p[0] = 0x45;
    p[1] = f->tos;
    wire_put16(p + 2, IPV4_HEADER + payload);
    wire_put16(p + 4, id);
    wire_put16(p + 6, frag_word);
    p[8] = f->ttl;
    p[9] = f->proto;
    p[10] = p[11] = 0;
    memcpy(p + 12, f->src.b + 12, 4);
    memcpy(p + 16, f->dst.b + 12, 4);
    csum_store(p + 10, csum_add(0, p, IPV4_HEADER));
    f->csum_start += IPV4_HEADER;
    f->l3 = p;
}

static void push_v6(struct frame *f, uint32_t next_header)
{
    uint32_t payload = frame_total(f);
    uint8_t *p = frame_push(f, IPV6_HEADER);

    wire_put32(p, 6u << 28 | (uint32_t)f->tos << 20);
    wire_put16(p + 4, payload);
    p[6] = (uint8_t)next_header;
    p[7] = f->ttl;
    memcpy(p + 8, f->src.b, 16);
    memcpy(p + 24, f->dst.b, 16);
    f->csum_start += IPV6_HEADER;
    f->l3 = p;
}

static struct frame *make_fragment(struct frame *f, uint32_t off, uint32_t n)
{
    struct frame *g = frame_alloc(f->net, FRAME_SMALL, FRAME_HEADROOM,
                                  FRAME_FOR_CONTROL);

    if (!g)
        return NULL;
    g->src = f->src;
    g->dst = f->dst;
    g->proto = f->proto;
    g->tos = f->tos;
    g->ttl = f->ttl;
    if (!frame_share(g, f, off, n)) {
        frame_put(g);
        return NULL;
    }
    return g;
}

static int fragment(const struct net_route *r, struct frame *f)
{
    struct netstack *net = r->nif->net;
    bool is_v4 = addr_is_v4(&f->dst);
    uint32_t total = frame_total(f);
    uint32_t head = is_v4 ? IPV4_HEADER : IPV6_HEADER + FRAG_HEADER6;
    uint32_t step = (r->mtu - head) & ~7u;
    uint32_t id = is_v4 ? atomic_add(&net->ip_id, 1u) : net_random32(net);
    int err = 0;

    for (uint32_t off = 0; off < total && !err; off += step) {
        uint32_t n = MIN(step, total - off);
        uint32_t more = off + n < total;
        struct frame *g = make_fragment(f, off, n);

        if (!g) {
            err = -ENOBUFS;
        } else if (is_v4) {
            push_v4(g, id, more << 13 | off / 8);
            neigh_output(r, ETH_TYPE_IPV4, g);
        } else {
            uint8_t *p = frame_push(g, FRAG_HEADER6);
            p[0] = f->proto;
            p[1] = 0;
            wire_put16(p + 2, off | more);
            wire_put32(p + 4, id);
            push_v6(g, IP_PROTO_FRAGMENT);
            neigh_output(r, ETH_TYPE_IPV6, g);
        }
    }
    frame_put(f);
    return err;
}

/* Members of the group on this machine hear it too. Borrows f. */
static void loop_copy(const struct net_route *r, struct frame *f)
{
    static const uint8_t group_mac[ETH_ADDR] = {1};
    bool is_v4 = addr_is_v4(&f->dst);
    struct frame *g;
    uint8_t *eth;

    frame_get(f); /* put by frame_linearize */
    g = frame_linearize(f, FRAME_HEADROOM);
    if (!g)
        return;
    if (is_v4)
        push_v4(g, 0, 0);
    else
        push_v6(g, g->proto);
    eth = frame_push(g, ETH_HEADER);
    memset(eth, 0, ETH_HEADER);
    memcpy(eth, group_mac, ETH_ADDR);
    wire_put16(eth + 2 * ETH_ADDR, is_v4 ? ETH_TYPE_IPV4 : ETH_TYPE_IPV6);
    g->flags = FRAME_LOOPED | FRAME_CSUM_OK;
    net_classify(r->nif, g);
}

static bool must_loop(const struct net_route *r, const struct frame *f,
                      uint32_t flags)
{
    if (f->proto != IP_PROTO_UDP || (flags & IP_NO_LOOP) ||
        (r->nif->caps & NETIF_LOOPBACK))
        return false;
    return r->is_broadcast || (addr_is_multicast(&f->dst) &&
                               netif_has_group(r->nif, &f->dst));
}

int ip_output(const struct net_route *r, struct frame *f, uint32_t flags)
{
    struct netif *nif = r->nif;
    bool is_v4 = addr_is_v4(&f->dst);
    bool is_long =
        !f->gso && frame_total(f) + ip_header_bytes(&f->dst) > r->mtu;

    if (is_long && (flags & IP_DONT_FRAGMENT)) {
        frame_put(f);
        return -EMSGSIZE;
    }
    if (!f->ttl)
        f->ttl = (uint8_t)(addr_is_multicast(&f->dst) ? 1
                           : is_v4 ? IP_DEFAULT_TTL
                                   : atomic_load_relaxed(&nif->hop_limit));
    if (must_loop(r, f, flags))
        loop_copy(r, f);
    if ((f->flags & FRAME_CSUM_PARTIAL) &&
        (is_long || !(nif->caps & NETIF_CSUM)))
        complete_checksum(f);
    if (is_long)
        return fragment(r, f);
    if (is_v4) {
        /* An unfragmentable packet needs no identity (RFC 6864), but some
         * middle boxes count on one. */
        push_v4(f, atomic_add(&f->net->ip_id, f->gso ? 64u : 1u),
                (flags & IP_DONT_FRAGMENT) && !r->may_fragment ? 0x4000u : 0);
        neigh_output(r, ETH_TYPE_IPV4, f);
    } else {
        push_v6(f, f->proto);
        neigh_output(r, ETH_TYPE_IPV6, f);
    }
    return 0;
}
