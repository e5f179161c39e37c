/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Selective acknowledgements received (RFC 2018, 2883): which of our records
 * arrived. A block is believed only inside of what is in flight.
 */
#include "net/tcp_internal.h"

static void mark_one(struct tcp_conn *c, struct tcp_seg *seg,
                     struct tcp_acked *a)
{
    uint32_t n = seg->end - seg->seq;

    if (!(seg->flags & (SEG_RETRANS | SEG_LOST | SEG_FORGOTTEN)))
        a->sack_rtt_us = MAX(tcp_now_us(c->s.net) - seg->sent_us, 1u);
    tcp_rack_delivered(c, seg);
    if (seg->flags & SEG_LOST)
        c->lost -= n;
    seg->flags = (uint8_t)((seg->flags & ~SEG_LOST) | SEG_SACKED);
    c->sacked += n;
    a->sacked += n;
}

/* Marks [start, end); cuts records at its borders. */
static void mark_block(struct tcp_conn *c, uint32_t start, uint32_t end,
                       struct tcp_acked *a)
{
    for (struct tcp_seg *seg = c->segs; seg; seg = seg->next) {
        if (seq_le(end, seg->seq))
            break;
        if (seq_le(seg->end, start) || (seg->flags & SEG_SACKED))
            continue;
        if (seq_lt(seg->seq, start)) {
            if (!tcp_seg_split(c, seg, start))
                break;
            continue;
        }
        if (seq_lt(end, seg->end) && !tcp_seg_split(c, seg, end))
            break;
        mark_one(c, seg, a);
    }
}

/* Neighbours that both arrived become one record. */
static void merge_sacked(struct tcp_conn *c)
{
    struct tcp_seg *seg = c->segs;

    while (seg && seg->next) {
        struct tcp_seg *next = seg->next;

        if (!(seg->flags & next->flags & SEG_SACKED)) {
            seg = next;
            continue;
        }
        seg->end = next->end;
        seg->flags |= next->flags;
        seg->next = next->next;
        if (c->segs_last == next)
            c->segs_last = seg;
        tcp_seg_free(c, next);
    }
}

static bool is_dsack(const struct tcp_conn *c, const struct tcp_in *in)
{
    uint32_t start = in->sacks[0].start, end = in->sacks[0].end;

    if (seq_le(end, in->ack))
        return true;
    (void)c;
    return in->nr_sacks > 1 && seq_le(in->sacks[1].start, start) &&
           seq_le(end, in->sacks[1].end);
}

void tcp_mark_sacked(struct tcp_conn *c, const struct tcp_in *in,
                     struct tcp_acked *a)
{
    uint32_t first = 0, before = a->sacked;

    if (is_dsack(c, in)) {
        first = 1;
        a->has_dsack = true;
    }
    for (uint32_t i = first; i < in->nr_sacks; i++) {
        uint32_t start = in->sacks[i].start, end = in->sacks[i].end;

        if (!seq_lt(start, end) || seq_lt(c->snd_nxt, end) ||
            seq_le(end, c->snd_una))
            continue;
        mark_block(c, seq_max(start, c->snd_una), end, a);
    }
    if (a->sacked != before)
        merge_sacked(c);
}

/* The receiver may have thrown away what it had not acknowledged: after a
 * time-out everything counts as lost (RFC 2018 8). */
void tcp_forget_sacks(struct tcp_conn *c)
{
    for (struct tcp_seg *seg = c->segs; seg; seg = seg->next)
        if (seg->flags & SEG_SACKED)
            seg->flags = (uint8_t)((seg->flags & ~SEG_SACKED) | SEG_FORGOTTEN);
    c->sacked = 0;
}
