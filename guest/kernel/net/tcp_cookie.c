/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * SYN cookies: a handshake without memory. Our initial number holds five bits
 * of time, three of segment size and 24 of a keyed hash; scaling and SACK ride
 * in the low bits of our timestamp, when the peer uses timestamps.
 */
#include "net/tcp_listen.h"

#define COOKIE_SALT 0x434f4f4b4945ull
#define SLOT_SECONDS 64
#define TS_BITS 6u
#define TS_MASK ((1u << TS_BITS) - 1)
#define TS_NO_WSCALE 15u
#define TS_SACK 16u

static const uint16_t sizes[8] = {TCP_DEFAULT_MSS, 966, 1220, 1300,
                                  1400, 1440, 1460, 8960};

static uint32_t slot_now(struct netstack *net)
{
    return (uint32_t)(net_now(net) / NSEC_PER_SEC / SLOT_SECONDS);
}

static uint32_t mac_of(struct netstack *net, const struct tcp_birth *b,
                       uint32_t slot, uint32_t size)
{
    uint64_t extra = COOKIE_SALT ^ ((uint64_t)b->irs << 32 |
                                    (uint64_t)slot << 3 | size);

    return (uint32_t)siphash_tuple(&net->secret, &b->local, &b->remote,
                                   extra) & 0xffffffu;
}

void tcp_cookie_make(struct netstack *net, struct tcp_birth *b, uint32_t *ts)
{
    uint32_t slot = slot_now(net), size = 0, bits;

    while (size < 7 && sizes[size + 1] <= b->peer.mss)
        size++;
    b->iss = (slot & 31) << 27 | size << 24 | mac_of(net, b, slot, size);
    if (!b->peer.has_ts) {
        b->peer.has_sack = false; /* could not be remembered */
        b->peer.wscale = 0xff;
        return;
    }
    bits = b->peer.wscale == 0xff ? TS_NO_WSCALE : MIN(b->peer.wscale, 14);
    if (b->peer.has_sack)
        bits |= TS_SACK;
    bits |= *ts & ~TS_MASK;
    *ts = seq_lt(*ts, bits) ? bits - TS_MASK - 1 : bits;
}

bool tcp_cookie_check(struct netstack *net, const struct frame *f,
                      const struct tcp_in *in, struct tcp_birth *b)
{
    uint32_t cookie = in->ack - 1, size = cookie >> 24 & 7, bits;
    uint32_t now = slot_now(net), age = (now - (cookie >> 27)) & 31;

    if (age > 1)
        return false;
    memset(b, 0, sizeof(*b));
    b->local = (struct net_endpoint){.addr = f->dst, .port = f->dport};
    b->remote = (struct net_endpoint){.addr = f->src, .port = f->sport};
    if (addr_is_link_local(&f->src))
        b->remote.scope = f->nif->index;
    b->irs = in->seq - 1;
    if ((cookie & 0xffffffu) != mac_of(net, b, now - age, size))
        return false;
    b->iss = cookie;
    b->wscale = TCP_RCV_WSCALE;
    b->peer.mss = sizes[size];
    b->peer.wscale = 0xff;
    if (in->has_ts) {
        bits = in->ts_ecr & TS_MASK;
        b->peer.has_ts = true;
        b->peer.has_sack = (bits & TS_SACK) != 0;
        if ((bits & 15u) != TS_NO_WSCALE)
            b->peer.wscale = bits & 15u;
        b->ts_recent = in->ts_val;
    }
    return true;
}
