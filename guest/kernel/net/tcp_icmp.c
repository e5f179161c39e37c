/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * ICMP errors about TCP segments (RFC 5927): believed only when they quote a
 * sequence number that is in flight. While connecting they end the attempt,
 * later they are remembered and told when time is up.
 */
#include "net/tcp_internal.h"

static void too_big(struct tcp_conn *c)
{
    uint32_t before = c->mss;

    if (!tcp_is_synced(c) || !tcp_check_route(c) || c->mss >= before)
        return;
    /* Not congestion: the same again, in smaller pieces. */
    for (struct tcp_seg *seg = c->segs; seg; seg = seg->next)
        tcp_seg_lost(c, seg);
    sock_queue_work(&c->s);
}

static bool is_in_flight(const struct tcp_conn *c, uint32_t seq)
{
    return seq_le(c->snd_una, seq) && seq_le(seq, c->snd_nxt);
}

void tcp_icmp(struct netstack *net, const struct frame *quoted, int error,
              uint32_t mtu)
{
    struct frame like = *quoted;
    struct tcp_conn *c;

    if (quoted->len < 8)
        return;
    like.src = quoted->dst;
    like.dst = quoted->src;
    like.sport = quoted->dport;
    like.dport = quoted->sport;
    c = tcp_hash_find(net, &like);
    if (!c)
        return;
    sock_lock(&c->s);
    if (is_in_flight(c, wire_get32(quoted->data + 4))) {
        if (mtu) {
            if (route_learn_pmtu(net, &quoted->dst, mtu))
                too_big(c);
        } else if (c->state == TCP_SYN_SENT) {
            tcp_done(c, error);
        } else {
            c->soft_error = (uint8_t)error;
        }
    }
    sock_unlock(&c->s);
    sock_put(&c->s);
}
