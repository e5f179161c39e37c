/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * IPv6 extension headers of received packets (RFC 8200 4). Options are skipped
 * or refused by the two high bits of their type; routing headers with
 * segments left are refused (RFC 5095); fragments go to reassembly.
 */
#include "net/icmp.h"
#include "net/ip.h"
#include "net/reass.h"

#define MAX_HEADERS 8u

/* 0: go on; 1: drop silently; 2: drop, tell; 3: tell unless multicast. */
static uint32_t check_options(const uint8_t *p, uint32_t n, uint32_t *bad)
{
    uint32_t at = 2;

    while (at < n) {
        if (p[at] == 0) { /* Pad1 */
            at++;
            continue;
        }
        if (at + 2 > n || at + 2 + p[at + 1] > n)
            return 1;
        /* PadN, router alert, and what may be skipped. */
        if (p[at] != 1 && p[at] != 5 && p[at] >> 6) {
            *bad = at;
            return p[at] >> 6;
        }
        at += 2u + p[at + 1];
    }
    return 0;
}

static int refuse(struct netstack *net, struct frame *f, enum ip_error e,
                  const uint8_t *where)
{
    icmp_error(net, f, e, (uint32_t)(where - f->l3));
    frame_put(f);
    return 1;
}

/* One header of the kinds with a length in units of 8 bytes. */
static int walk_one(struct netstack *net, struct frame *f)
{
    uint8_t *p = f->data;
    uint32_t n, action, bad = 0;

    if (f->len < 8)
        goto drop;
    n = 8 + (uint32_t)p[1] * 8;
    if (n > f->len)
        goto drop;
    if (f->proto == IP_PROTO_ROUTING) {
        if (p[3] != 0)
            return refuse(net, f, IP_ERR_HEADER, p + 2);
    } else {
        action = check_options(p, n, &bad);
        if (action == 2 || (action == 3 && !addr_is_multicast(&f->dst)))
            return refuse(net, f, IP_ERR_OPTION, p + bad);
        if (action)
            goto drop;
    }
    f->proto = p[0];
    f->proto_at = (uint16_t)(p - f->l3);
    frame_trim_head(f, n);
    return 0;
drop:
    net_count(net, NET_BAD_FRAME);
    frame_put(f);
    return 1;
}

static int walk_fragment(struct netstack *net, struct frame *f)
{
    uint8_t *p = f->data;

    if (f->len < 8) {
        net_count(net, NET_BAD_FRAME);
        frame_put(f);
        return 1;
    }
    f->proto = p[0];
    f->proto_at = (uint16_t)(p - f->l3);
    frame_trim_head(f, 8);
    if ((wire_get16(p + 2) & 0xfff9) == 0) { /* atomic (RFC 6946) */
        f->flags |= FRAME_REASSEMBLED;
        return 0;
    }
    if ((wire_get16(p + 2) & 1) && frame_total(f) % 8)
        return refuse(net, f, IP_ERR_HEADER, f->l3 + 4);
    f = reass_add_v6(net, f, p);
    if (f && ip6_walk_headers(net, f) == 0)
        ip_deliver(net, f);
    return 1;
}

int ip6_walk_headers(struct netstack *net, struct frame *f)
{
    for (uint32_t i = 0; i < MAX_HEADERS; i++) {
        int done;

        switch (f->proto) {
        case IP_PROTO_HOPOPTS:
            if (i)
                return refuse(net, f, IP_ERR_PROTO, f->l3 + f->proto_at);
            /* fall through */
        case IP_PROTO_DSTOPTS:
        case IP_PROTO_ROUTING:
            done = walk_one(net, f);
            break;
        case IP_PROTO_FRAGMENT:
            if (f->flags & FRAME_REASSEMBLED)
                goto drop;
            done = walk_fragment(net, f);
            break;
        case IP_PROTO_NONE:
            goto drop;
        default:
            return 0;
        }
        if (done)
            return 1;
    }
drop:
    net_count(net, NET_BAD_FRAME);
    frame_put(f);
    return 1;
}
