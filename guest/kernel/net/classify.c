/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The driver's side of the channels: finds out whose frame this is, and
 * nothing more. Runs in any context, interrupts included; takes only hash
 * buckets' locks. Every length is checked here, so that later code may read
 * the headers it was promised; checksums are left to whoever processes the
 * frame.
 */
#include "lib/string.h"
#include "net/ip.h"
#include "net/tcp_stack.h"
#include "net/udp.h"

#define IPV4_FRAG_MASK 0x3fffu

enum verdict { DROP, TO_STACK, TAKEN };

/* Loopback addresses stay on loopback (RFC 1122 3.2.1.3); nobody speaks from
 * a group, and who has no address yet speaks to many. */
static bool is_martian(const struct netif *nif, const struct frame *f)
{
    if (addr_is_multicast(&f->src) || addr_is_broadcast(&f->src))
        return true;
    if (addr_is_any(&f->src) && !(f->flags & FRAME_BROADCAST) &&
        !addr_is_multicast(&f->dst))
        return true;
    return !(nif->caps & NETIF_LOOPBACK) &&
           (addr_is_loopback(&f->src) || addr_is_loopback(&f->dst));
}

static bool parse_tcp(struct frame *f)
{
    uint32_t header;

    if (f->len < TCP_HEADER)
        return false;
    header = (uint32_t)(f->data[12] >> 4) * 4;
    if (header < TCP_HEADER || header > f->len)
        return false;
    f->payload_off = (uint16_t)header;
    /* RFC 9293 3.9.2.3 */
    return !(f->flags & FRAME_BROADCAST) && !addr_is_multicast(&f->dst);
}

static bool parse_udp(struct frame *f)
{
    uint32_t len;

    if (f->len < UDP_HEADER)
        return false;
    len = wire_get16(f->data + 4);
    if (len < UDP_HEADER || len > frame_total(f))
        return false;
    frame_trim_to(f, len);
    return true;
}

bool ip_parse_transport(struct frame *f)
{
    if (f->proto != IP_PROTO_TCP && f->proto != IP_PROTO_UDP)
        return true;
    if (!(f->proto == IP_PROTO_TCP ? parse_tcp(f) : parse_udp(f)))
        return false;
    f->sport = wire_get16(f->data);
    f->dport = wire_get16(f->data + 2);
    f->flags |= FRAME_PARSED;
    return true;
}

static enum verdict classify_transport(struct netstack *net, struct frame *f)
{
    f->l4 = f->data;
    if (f->proto != IP_PROTO_TCP && f->proto != IP_PROTO_UDP)
        return TO_STACK;
    if (!ip_parse_transport(f))
        return DROP;
    if (f->proto == IP_PROTO_TCP)
        return tcp_classify(net, f) ? TAKEN : TO_STACK;
    if ((f->flags & FRAME_BROADCAST) || addr_is_multicast(&f->dst))
        return TO_STACK;
    return udp_classify(net, f) ? TAKEN : TO_STACK;
}

static enum verdict classify_v4(struct netif *nif, struct frame *f)
{
    const uint8_t *p = f->data;
    uint32_t header, total;

    if (f->len < IPV4_HEADER || p[0] >> 4 != 4)
        return DROP;
    header = (p[0] & 0xfu) * 4;
    total = wire_get16(p + 2);
    if (header < IPV4_HEADER || header > f->len || total < header ||
        total > frame_total(f))
        return DROP;
    frame_trim_to(f, total);
    f->l3 = f->data;
    f->tos = p[1];
    f->ttl = p[8];
    f->proto = p[9];
    f->src = addr_from_wire4(p + 12);
    f->dst = addr_from_wire4(p + 16);
    if (is_martian(nif, f))
        return DROP;
    frame_trim_head(f, header);
    if (wire_get16(p + 6) & IPV4_FRAG_MASK)
        return TO_STACK;
    return classify_transport(nif->net, f);
}

static enum verdict classify_v6(struct netif *nif, struct frame *f)
{
    const uint8_t *p = f->data;
    uint32_t payload;

    if (f->len < IPV6_HEADER || p[0] >> 4 != 6)
        return DROP;
    payload = wire_get16(p + 4);
    if (payload > frame_total(f) - IPV6_HEADER)
        return DROP;
    frame_trim_to(f, IPV6_HEADER + payload);
    f->l3 = f->data;
    f->tos = (uint8_t)(wire_get16(p) >> 4);
    f->proto = p[6];
    f->proto_at = 6;
    f->ttl = p[7];
    f->src = addr_from_wire6(p + 8);
    f->dst = addr_from_wire6(p + 24);
    /* A mapped address is no address on the wire (RFC 4291 2.5.5.2). */
    if (addr_is_v4(&f->src) || addr_is_v4(&f->dst) || is_martian(nif, f))
        return DROP;
    frame_trim_head(f, IPV6_HEADER);
    return classify_transport(nif->net, f);
}

static enum verdict classify(struct netif *nif, struct frame *f)
{
    const uint8_t *eth = f->data;
    uint32_t type;

    if (f->len < ETH_HEADER)
        return DROP;
    type = wire_get16(eth + 2 * ETH_ADDR);
    if (eth[0] & 1)
        f->flags |= FRAME_BROADCAST;
    else if (!(nif->caps & NETIF_LOOPBACK) &&
             memcmp(eth, nif->mac, ETH_ADDR) != 0)
        return DROP;
    f->eth_type = (uint16_t)type;
    frame_trim_head(f, ETH_HEADER);
    switch (type) {
    case ETH_TYPE_IPV4:
        return classify_v4(nif, f);
    case ETH_TYPE_IPV6:
        return classify_v6(nif, f);
    case ETH_TYPE_ARP:
        return TO_STACK;
    default:
        return DROP;
    }
}

void net_classify(struct netif *nif, struct frame *f)
{
    f->nif = nif;
    atomic_store_relaxed(&nif->frames_in,
                         atomic_load_relaxed(&nif->frames_in) + 1);
    atomic_store_relaxed(&nif->bytes_in, atomic_load_relaxed(&nif->bytes_in) +
                                             frame_total(f));
    switch (classify(nif, f)) {
    case TO_STACK:
        net_input_queue(nif->net, f);
        break;
    case DROP:
        net_count(nif->net, NET_BAD_FRAME);
        frame_put(f);
        break;
    case TAKEN:
        break;
    }
}
