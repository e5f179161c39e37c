/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Segments that belong to no connection: resets, SYN-ACKs of half-open
 * connections, acknowledgements of TIME_WAIT.
 */
#include "net/tcp_internal.h"

#define RESETS_PER_SECOND 1000u

static uint32_t put_timestamps(const struct tcp_reply *r, uint8_t *to)
{
    to[0] = to[1] = 1;
    to[2] = 8;
    to[3] = 10;
    wire_put32(to + 4, r->ts_val);
    wire_put32(to + 8, r->ts_ecr);
    return 12;
}

void tcp_reply_send(struct netstack *net, const struct tcp_reply *r)
{
    struct net_route route;
    struct frame *f;
    uint32_t options = 0;
    uint8_t *p;

    if (route_find(net, &r->remote.addr, &r->local.addr, r->remote.scope,
                   &route)) {
        net_count(net, NET_NO_ROUTE);
        return;
    }
    f = frame_alloc(net, FRAME_SMALL, FRAME_HEADROOM, FRAME_FOR_CONTROL);
    if (!f)
        return;
    p = frame_append(f, TCP_HEADER + TCP_MAX_OPTIONS);
    if (r->syn)
        options = tcp_put_syn_options(r->syn, p + TCP_HEADER);
    else if (r->has_ts)
        options = put_timestamps(r, p + TCP_HEADER);
    f->len = TCP_HEADER + options;
    wire_put16(p, r->local.port);
    wire_put16(p + 2, r->remote.port);
    wire_put32(p + 4, r->seq);
    wire_put32(p + 8, r->ack);
    p[12] = (uint8_t)((TCP_HEADER + options) / 4 << 4);
    p[13] = r->flags;
    wire_put16(p + 14, r->wnd);
    wire_put32(p + 16, 0);
    f->src = r->local.addr;
    f->dst = r->remote.addr;
    f->sport = r->local.port;
    f->dport = r->remote.port;
    f->proto = IP_PROTO_TCP;
    f->ttl = 0;
    f->tos = r->tos;
    ip_partial_checksum(f, 16);
    net_count(net, NET_TCP_OUT);
    (void)!ip_output(&route, f, IP_DONT_FRAGMENT);
}

void tcp_reply_reset(struct netstack *net, const struct frame *f,
                     const struct tcp_in *in)
{
    struct tcp_reply r = {.flags = TCP_RST};

    if ((in->flags & TCP_RST) ||
        !net_rate_allows(net, &net->rst_rate, RESETS_PER_SECOND))
        return;
    r.local.addr = f->dst;
    r.local.port = f->dport;
    r.remote.addr = f->src;
    r.remote.port = f->sport;
    r.remote.scope = addr_is_link_local(&f->src) ? f->nif->index : 0;
    if (in->flags & TCP_ACK) {
        r.seq = in->ack;
    } else {
        r.flags |= TCP_ACK;
        r.ack = in->seq + in->len + !!(in->flags & TCP_SYN) +
                !!(in->flags & TCP_FIN);
    }
    net_count(net, NET_TCP_RST_OUT);
    tcp_reply_send(net, &r);
}
