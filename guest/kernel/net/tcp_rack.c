/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Finding losses by time (RACK, RFC 8985 6) and what follows from them.
 *
 * A record is lost when one that was sent later has arrived and more than the
 * reordering window has passed since. Without SACK, three duplicate ACKs and
 * partial ACKs mark the first record instead (RFC 6582); tcp_ack.c does that.
 */
#include "net/tcp_internal.h"

#define DUP_THRESHOLD 3u

static bool sent_after(uint32_t us1, uint32_t end1, uint32_t us2, uint32_t end2)
{
    return seq_lt(us2, us1) || (us1 == us2 && seq_lt(end2, end1));
}

void tcp_rack_delivered(struct tcp_conn *c, const struct tcp_seg *seg)
{
    uint32_t rtt = tcp_now_us(c->s.net) - seg->sent_us;

    /* The ACK of the first transmission may come after a second one. */
    if ((seg->flags & SEG_RETRANS) && c->min_rtt_us && rtt < c->min_rtt_us)
        return;
    if (!c->rack_rtt_us ||
        sent_after(seg->sent_us, seg->end, c->rack_us, c->rack_end)) {
        c->rack_us = seg->sent_us;
        c->rack_end = seg->end;
    } else if (!(seg->flags & SEG_RETRANS) &&
               seq_lt(seg->end, c->rack_end)) {
        c->rack_reorder_seen = true;
    }
    c->rack_rtt_us = MAX(rtt, 1u);
}

static uint32_t reorder_window_us(const struct tcp_conn *c)
{
    uint32_t w;

    if (!c->rack_reorder_seen &&
        (c->recovery != TCP_OPEN || c->sacked >= DUP_THRESHOLD * c->mss))
        return 0;
    w = c->min_rtt_us / 4 * MAX(c->rack_mult, 1u);
    return MIN(w, tcp_srtt_us(c));
}

void tcp_seg_lost(struct tcp_conn *c, struct tcp_seg *seg)
{
    if (seg->flags & (SEG_LOST | SEG_SACKED))
        return;
    seg->flags |= SEG_LOST;
    c->lost += seg->end - seg->seq;
    if (!c->has_sack) /* a guess: it gives way to what is known */
        c->sacked = MIN(c->sacked, c->snd_nxt - c->snd_una - c->lost);
}

void tcp_all_lost(struct tcp_conn *c)
{
    tcp_forget_sacks(c);
    c->lost = 0;
    for (struct tcp_seg *seg = c->segs; seg; seg = seg->next) {
        seg->flags &= (uint8_t)~SEG_LOST;
        tcp_seg_lost(c, seg);
    }
}

bool tcp_rack_detect(struct tcp_conn *c)
{
    uint32_t now = tcp_now_us(c->s.net), wait = 0;
    uint32_t limit = c->rack_rtt_us + reorder_window_us(c);
    bool found = false;

    if (!c->has_sack || !c->rack_rtt_us)
        return false;
    for (struct tcp_seg *seg = c->segs; seg; seg = seg->next) {
        int32_t left;

        if ((seg->flags & (SEG_SACKED | SEG_LOST)) ||
            !sent_after(c->rack_us, c->rack_end, seg->sent_us, seg->end))
            continue;
        left = (int32_t)(seg->sent_us + limit - now);
        if (left <= 0) {
            tcp_seg_lost(c, seg);
            found = true;
        } else {
            wait = MAX(wait, (uint32_t)left);
        }
    }
    if (wait) {
        c->rexmit_kind = REXMIT_REORDER;
        c->rexmit_at = net_now(c->s.net) + (nsec_t)wait * 1000;
    }
    return found;
}

void tcp_enter_recovery(struct tcp_conn *c)
{
    if (c->recovery != TCP_OPEN)
        return;
    net_count(c->s.net, NET_TCP_RECOVERY);
    c->recovery = TCP_RECOVERY;
    c->recover = c->snd_nxt;
    c->ssthresh = tcp_cc_reduce(c);
    tcp_prr_begin(c);
}

/* A time-out: everything counts as lost, one segment goes out (RFC 5681). */
void tcp_enter_loss(struct tcp_conn *c)
{
    if (c->recovery != TCP_LOSS || c->snd_una == c->recover)
        c->ssthresh = tcp_cc_reduce(c);
    c->recovery = TCP_LOSS;
    c->recover = c->snd_nxt;
    c->cwnd = c->mss;
    c->dup_acks = 0;
    c->tlp_out = false;
    tcp_all_lost(c);
}
