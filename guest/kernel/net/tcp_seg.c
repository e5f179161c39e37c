/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Records of what is in flight, one per transmission, in order of sequence;
 * and the send queue, whose frames go when they are acknowledged.
 *
 * A record points to the frame and offset where its first byte lies; its bytes
 * may go on in the frames behind. Neighbours that were both SACKed are merged.
 */
#include "mm/heap.h"
#include "net/tcp_internal.h"

struct tcp_seg *tcp_seg_new(struct tcp_conn *c, uint32_t seq, uint32_t end)
{
    struct tcp_seg *seg = c->seg_spare;

    if (seg)
        c->seg_spare = NULL;
    else
        seg = kmalloc(sizeof(*seg));
    if (!seg)
        return NULL;
    memset(seg, 0, sizeof(*seg));
    seg->seq = seq;
    seg->end = end;
    return seg;
}

void tcp_seg_free(struct tcp_conn *c, struct tcp_seg *seg)
{
    if (c->seg_spare)
        kfree(seg);
    else
        c->seg_spare = seg;
}

/* Moves (chunk, off) n bytes on. */
static void advance(struct frame **chunk, uint32_t *off, uint32_t n)
{
    *off += n;
    while (*chunk && *off >= (*chunk)->len && (*chunk)->next) {
        *off -= (*chunk)->len;
        *chunk = (*chunk)->next;
    }
}

bool tcp_seg_split(struct tcp_conn *c, struct tcp_seg *seg, uint32_t seq)
{
    struct tcp_seg *rest = tcp_seg_new(c, seq, seg->end);

    if (!rest)
        return false;
    rest->sent_us = seg->sent_us;
    rest->flags = seg->flags;
    rest->chunk = seg->chunk;
    rest->chunk_off = seg->chunk_off;
    advance(&rest->chunk, &rest->chunk_off, seq - seg->seq);
    seg->flags &= (uint8_t)~SEG_FIN;
    seg->end = seq;
    rest->next = seg->next;
    seg->next = rest;
    if (c->segs_last == seg)
        c->segs_last = rest;
    return true;
}

void tcp_segs_free(struct tcp_conn *c)
{
    while (c->segs) {
        struct tcp_seg *seg = c->segs;
        c->segs = seg->next;
        kfree(seg);
    }
    c->segs_last = NULL;
    kfree(c->seg_spare);
    c->seg_spare = NULL;
    c->sacked = c->lost = 0;
}

static void drop_counts(struct tcp_conn *c, const struct tcp_seg *seg,
                        uint32_t bytes)
{
    if (!c->has_sack) {
        if (seg->flags & SEG_LOST)
            c->lost -= bytes;
        return; /* sacked is a guess from duplicate ACKs: tcp_ack.c */
    }
    if (seg->flags & SEG_SACKED)
        c->sacked -= bytes;
    else if (seg->flags & SEG_LOST)
        c->lost -= bytes;
}

/* What one acknowledged record tells about time. */
static void note_acked(struct tcp_conn *c, const struct tcp_seg *seg,
                       struct tcp_acked *a, uint32_t now_us)
{
    if (seg->flags & SEG_SACKED)
        return;
    /* Behind a hole that was filled, or after a time-out, nobody knows when
     * it arrived (Karn). */
    if (seg->flags & SEG_AGAIN)
        a->was_again = true;
    if (seg->flags & (SEG_RETRANS | SEG_LOST | SEG_FORGOTTEN))
        a->was_retrans = true;
    else
        a->rtt_us = MAX(now_us - seg->sent_us, 1u);
    tcp_rack_delivered(c, seg);
}

static void free_queue_until(struct tcp_conn *c, uint32_t una)
{
    while (c->sndq && seq_le(c->sndq->seq + c->sndq->len, una)) {
        struct frame *f = c->sndq;

        c->sndq = f->next;
        if (!c->sndq)
            c->sndq_last = NULL;
        if (c->snd_chunk == f) {
            c->snd_chunk = c->sndq;
            c->snd_chunk_off = 0;
        }
        f->next = NULL;
        frame_put(f);
    }
}

void tcp_segs_acked(struct tcp_conn *c, uint32_t una, struct tcp_acked *a)
{
    uint32_t now_us = tcp_now_us(c->s.net);

    while (c->segs && seq_lt(c->segs->seq, una)) {
        struct tcp_seg *seg = c->segs;

        if (seq_lt(una, seg->end)) {
            /* Part of it: the receiver had room for no more, or a device cut
             * it. The rest stays as it is. */
            drop_counts(c, seg, una - seg->seq);
            advance(&seg->chunk, &seg->chunk_off, una - seg->seq);
            seg->seq = una;
            break;
        }
        drop_counts(c, seg, seg->end - seg->seq);
        note_acked(c, seg, a, now_us);
        c->segs = seg->next;
        if (!c->segs)
            c->segs_last = NULL;
        tcp_seg_free(c, seg);
    }
    if (a->was_retrans)
        a->rtt_us = 0;
    free_queue_until(c, una);
}
