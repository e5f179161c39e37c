/* SPDX-License-Identifier: BSD-2-Clause */
/* TCP headers and options, in and out (RFC 9293 3.2, 7323, 2018). */
#include "net/tcp_internal.h"

#define OPT_END 0u
#define OPT_NOP 1u
#define OPT_MSS 2u
#define OPT_WSCALE 3u
#define OPT_SACK_OK 4u
#define OPT_SACK 5u
#define OPT_TS 8u
#define TS_BYTES 12u /* with two NOPs */

static void parse_sacks(const uint8_t *p, uint32_t n, struct tcp_in *in)
{
    uint32_t nr = (n - 2) / 8;

    if ((n - 2) % 8 || !nr)
        return;
    in->nr_sacks = (uint8_t)MIN(nr, TCP_MAX_SACKS);
    for (uint32_t i = 0; i < in->nr_sacks; i++) {
        in->sacks[i].start = wire_get32(p + 2 + 8 * i);
        in->sacks[i].end = wire_get32(p + 6 + 8 * i);
    }
}

static void parse_option(const uint8_t *p, uint32_t n, struct tcp_in *in)
{
    switch (p[0]) {
    case OPT_MSS:
        if (n == 4 && (in->flags & TCP_SYN))
            in->mss = wire_get16(p + 2);
        break;
    case OPT_WSCALE:
        if (n == 3 && (in->flags & TCP_SYN))
            in->wscale = MIN(p[2], 14); /* RFC 7323 2.3 */
        break;
    case OPT_SACK_OK:
        if (n == 2 && (in->flags & TCP_SYN))
            in->sack_ok = true;
        break;
    case OPT_SACK:
        parse_sacks(p, n, in);
        break;
    case OPT_TS:
        if (n == 10) {
            in->has_ts = true;
            in->ts_val = wire_get32(p + 2);
            in->ts_ecr = wire_get32(p + 6);
        }
        break;
    default:
        break;
    }
}

void tcp_parse(const struct frame *f, struct tcp_in *in)
{
    const uint8_t *p = f->l4, *at = p + TCP_HEADER, *end = p + f->payload_off;

    memset(in, 0, sizeof(*in));
    in->wscale = 0xff;
    in->seq = wire_get32(p + 4);
    in->ack = wire_get32(p + 8);
    in->flags = p[13];
    in->wnd = wire_get16(p + 14);
    in->len = frame_total(f) - f->payload_off;
    while (at < end && *at != OPT_END) {
        if (*at == OPT_NOP) {
            at++;
            continue;
        }
        if (end - at < 2 || at[1] < 2 || at[1] > end - at)
            break; /* what was understood so far counts */
        parse_option(at, at[1], in);
        at += at[1];
    }
}

/* What an outgoing segment of this connection carries. */
uint32_t tcp_option_bytes(const struct tcp_conn *c)
{
    uint32_t n = c->has_ts ? TS_BYTES : 0, blocks[TCP_MAX_SACKS][2], nr;

    if (!c->has_sack || (!c->ooo && c->dsack_start == c->dsack_end))
        return n;
    nr = tcp_fill_sacks(c, blocks, c->has_ts ? 3 : 4);
    return nr ? n + 4 + 8 * nr : n;
}

void tcp_put_options(struct tcp_conn *c, uint8_t *to, uint32_t n)
{
    uint32_t blocks[TCP_MAX_SACKS][2], nr;

    if (c->has_ts) {
        to[0] = to[1] = OPT_NOP;
        to[2] = OPT_TS;
        to[3] = 10;
        wire_put32(to + 4, tcp_ts_now(c));
        wire_put32(to + 8, c->ts_recent);
        to += TS_BYTES;
        n -= TS_BYTES;
    }
    if (!n)
        return;
    nr = tcp_fill_sacks(c, blocks, (n - 4) / 8);
    to[0] = to[1] = OPT_NOP;
    to[2] = OPT_SACK;
    to[3] = (uint8_t)(2 + 8 * nr);
    for (uint32_t i = 0; i < nr; i++) {
        wire_put32(to + 4 + 8 * i, blocks[i][0]);
        wire_put32(to + 8 + 8 * i, blocks[i][1]);
    }
    c->dsack_start = c->dsack_end = 0; /* said once */
}

uint32_t tcp_put_syn_options(const struct tcp_syn_options *o, uint8_t *to)
{
    uint8_t *at = to;

    *at++ = OPT_MSS;
    *at++ = 4;
    wire_put16(at, o->mss);
    at += 2;
    if (o->has_ts) {
        *at++ = o->has_sack ? OPT_SACK_OK : OPT_NOP;
        *at++ = o->has_sack ? 2 : OPT_NOP;
        *at++ = OPT_TS;
        *at++ = 10;
        wire_put32(at, o->ts_val);
        wire_put32(at + 4, o->ts_ecr);
        at += 8;
    } else if (o->has_sack) {
        *at++ = OPT_NOP;
        *at++ = OPT_NOP;
        *at++ = OPT_SACK_OK;
        *at++ = 2;
    }
    if (o->wscale != 0xff) {
        *at++ = OPT_NOP;
        *at++ = OPT_WSCALE;
        *at++ = 3;
        *at++ = o->wscale;
    }
    return (uint32_t)(at - to);
}
