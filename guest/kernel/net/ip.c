/* SPDX-License-Identifier: BSD-2-Clause */
/* Packets for the stack itself: checks, reassembly, dispatch. See ip.h. */
#include "net/ip.h"

#include "net/icmp.h"
#include "net/neigh.h"
#include "net/ping.h"
#include "net/reass.h"
#include "net/tcp_stack.h"
#include "net/udp.h"

#define IPV4_FRAG_MASK 0x3fffu /* more-fragments bit and offset */

static void drop(struct netstack *net, struct frame *f, enum net_counter why)
{
    net_count(net, why);
    frame_put(f);
}

static bool header_checksum_ok(const struct frame *f)
{
    return !addr_is_v4(&f->dst) ||
           csum_fold(csum_add(0, f->l3, (f->l3[0] & 0xfu) * 4)) == 0;
}

bool ip_check(struct netstack *net, struct frame *f)
{
    if (header_checksum_ok(f) && csum_check_transport(f))
        return true;
    net_count(net, NET_BAD_CHECKSUM);
    return false;
}

void ip_deliver(struct netstack *net, struct frame *f)
{
    f->l4 = f->data;
    if (!(f->flags & FRAME_PARSED) && !ip_parse_transport(f)) {
        drop(net, f, NET_BAD_FRAME);
        return;
    }
    switch (f->proto) {
    case IP_PROTO_TCP:
        if (f->flags & FRAME_BROADCAST) { /* RFC 9293 3.9.2.3 */
            drop(net, f, NET_BAD_FRAME);
            return;
        }
        tcp_stack_input(net, f);
        return;
    case IP_PROTO_UDP:
        udp_stack_input(net, f);
        return;
    case IP_PROTO_ICMP:
        if (addr_is_v4(&f->dst)) {
            icmp_input(net, f);
            return;
        }
        break;
    case IP_PROTO_ICMPV6:
        if (!addr_is_v4(&f->dst)) {
            icmp6_input(net, f);
            return;
        }
        break;
    default:
        break;
    }
    icmp_error(net, f, IP_ERR_PROTO, f->proto_at);
    frame_put(f);
}

bool ip_accepts(struct frame *f)
{
    struct netstack *net = f->nif->net;
    enum netif_dst d = netif_accepts(f->nif, &f->dst);

    if (d == DST_GROUP) /* perhaps in a frame that was for us alone */
        f->flags |= FRAME_BROADCAST;
    if (d != DST_NONE && ((f->flags & FRAME_LOOPED) ||
                          !netif_of_addr(net, &f->src, ADDR_FREE)))
        return true;
    net_count(net, NET_NOT_FOR_US);
    return false;
}

static void input_v4(struct netstack *net, struct frame *f)
{
    uint32_t frag = wire_get16(f->l3 + 6) & IPV4_FRAG_MASK;
    bool was_whole = f->flags & FRAME_REASSEMBLED;

    if (!was_whole && !header_checksum_ok(f)) {
        drop(net, f, NET_BAD_CHECKSUM);
        return;
    }
    if (!ip_accepts(f)) {
        frame_put(f);
        return;
    }
    if (frag && !was_whole) {
        f = reass_add_v4(net, f);
        if (!f)
            return;
    }
    ip_deliver(net, f);
}

static void input_v6(struct netstack *net, struct frame *f)
{
    if (!ip_accepts(f)) {
        frame_put(f);
        return;
    }
    if (ip6_walk_headers(net, f) == 0)
        ip_deliver(net, f);
}

void ip_input(struct netstack *net, struct frame *f)
{
    switch (f->eth_type) {
    case ETH_TYPE_ARP:
        arp_input(f->nif, f);
        frame_put(f);
        return;
    case ETH_TYPE_IPV4:
        input_v4(net, f);
        return;
    case ETH_TYPE_IPV6:
        input_v6(net, f);
        return;
    default:
        drop(net, f, NET_BAD_FRAME);
    }
}
