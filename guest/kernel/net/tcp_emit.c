/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Building one segment: header and options in a small frame, the payload by
 * reference. What is short is copied behind the header: one descriptor of the
 * device less is worth more than the copy.
 */
#include "net/tcp_internal.h"

#define COPY_MAX 192u
#define MAX_TSO 65535u

uint32_t tcp_emit_max(struct tcp_conn *c, uint32_t *eff_mss)
{
    uint32_t options = tcp_option_bytes(c), limit = *eff_mss =
                                                c->mss - options;
    const struct netif *nif = c->route.nif;
    bool is_v4 = addr_is_v4(&c->s.remote.addr);

    if (nif->caps & (is_v4 ? NETIF_TSO4 : NETIF_TSO6)) {
        uint32_t headers =
            ip_header_bytes(&c->s.remote.addr) + TCP_HEADER + options;

        limit = MIN(nif->max_gso, MAX_TSO - headers);
        limit = MAX(limit - limit % *eff_mss, *eff_mss);
    }
    return limit;
}

uint32_t tcp_window_field(struct tcp_conn *c)
{
    uint32_t wnd = tcp_receive_window(c), shift = c->rcv_wscale, field;
    uint32_t old = seq_lt(c->rcv_nxt, c->rcv_adv) ? c->rcv_adv - c->rcv_nxt : 0;

    wnd = MAX(wnd, old); /* a window once offered stays (RFC 9293 3.8.6) */
    field = wnd >> shift;
    if (field << shift < old)
        field++;
    field = MIN(field, 65535u);
    c->rcv_adv = c->rcv_nxt + (field << shift);
    return field;
}

/* Appends up to len bytes from the queue; returns how many fitted. */
static uint32_t add_payload(struct frame *f, const struct tcp_emit *e)
{
    struct frame *chunk = e->chunk;
    uint32_t off = e->chunk_off, left = e->len;

    while (left && chunk) {
        uint32_t n = off < chunk->len ? MIN(left, chunk->len - off) : 0;

        if (n && e->len <= COPY_MAX)
            memcpy(frame_append(f, n), chunk->data + off, n);
        else if (n && !frame_add_frag(f, chunk, chunk->data + off, n))
            break;
        left -= n;
        off = 0;
        chunk = chunk->next;
    }
    return e->len - left;
}

static void put_header(struct tcp_conn *c, uint8_t *p,
                       const struct tcp_emit *e, uint32_t options)
{
    uint32_t header = TCP_HEADER + options;

    wire_put16(p, c->s.local.port);
    wire_put16(p + 2, c->s.remote.port);
    wire_put32(p + 4, e->seq);
    wire_put32(p + 8, e->flags & TCP_ACK ? c->rcv_nxt : 0);
    p[12] = (uint8_t)(header / 4 << 4);
    p[13] = e->flags;
    wire_put16(p + 14, tcp_window_field(c));
    wire_put32(p + 16, 0);
    tcp_put_options(c, p + TCP_HEADER, options);
}

/* What was to be acknowledged is. */
static void note_acknowledged(struct tcp_conn *c)
{
    c->last_ack_sent = c->rcv_nxt;
    c->rcv_unacked = 0;
    c->ack_now = false;
    c->delack_at = 0;
}

static int finish(struct tcp_conn *c, struct frame *f, uint32_t sent,
                  uint32_t mss)
{
    bool is_v4 = addr_is_v4(&c->s.remote.addr);

    f->src = c->s.local.addr;
    f->dst = c->s.remote.addr;
    f->sport = c->s.local.port;
    f->dport = c->s.remote.port;
    f->proto = IP_PROTO_TCP;
    f->tos = c->s.tos;
    f->ttl = c->s.ttl;
    if (sent > mss) {
        f->gso = is_v4 ? FRAME_GSO_TCP4 : FRAME_GSO_TCP6;
        f->gso_size = (uint16_t)mss;
    }
    ip_partial_checksum(f, 16);
    net_count(c->s.net, NET_TCP_OUT);
    return ip_output(&c->route, f, IP_DONT_FRAGMENT);
}

int tcp_emit(struct tcp_conn *c, const struct tcp_emit *e)
{
    uint32_t options = tcp_option_bytes(c), mss = c->mss - options, sent;
    struct frame *f = frame_alloc(c->s.net, FRAME_SMALL, FRAME_HEADROOM,
                                  FRAME_FOR_CONTROL);
    uint8_t *p;

    if (!f)
        return -ENOBUFS;
    p = frame_append(f, TCP_HEADER + options);
    sent = add_payload(f, e);
    if (sent < e->len) {
        /* More pieces than a frame has room for: whole segments only. */
        uint32_t keep = sent > mss ? sent - sent % mss : sent;

        frame_trim_to(f, TCP_HEADER + options + keep);
        sent = keep;
    }
    put_header(c, p, e, options);
    if (sent < e->len)
        p[13] &= (uint8_t)~(TCP_FIN | TCP_PSH);
    (void)!finish(c, f, sent, mss);
    note_acknowledged(c);
    return (int)sent;
}
