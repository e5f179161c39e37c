/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What is true of every connection whenever no lock is held. See link.h.
 */
#include "check.h"
#include "net/link.h"
#include "net/tcp_internal.h"

static void check_segments(const struct tcp_conn *c)
{
    uint32_t at = c->snd_una, sacked = 0, lost = 0;
    const struct tcp_seg *last = NULL;

    for (const struct tcp_seg *s = c->segs; s; s = s->next) {
        CHECK_EQ(s->seq, at);
        CHECK(seq_lt(s->seq, s->end));
        CHECK((s->flags & (SEG_SACKED | SEG_LOST)) !=
              (SEG_SACKED | SEG_LOST));
        CHECK(!(s->flags & SEG_FIN) || s->end == c->snd_nxt);
        sacked += s->flags & SEG_SACKED ? s->end - s->seq : 0;
        lost += s->flags & SEG_LOST ? s->end - s->seq : 0;
        at = s->end;
        last = s;
    }
    CHECK(c->segs_last == last);
    CHECK_EQ(at, c->snd_nxt);
    if (c->has_sack)
        CHECK_EQ(c->sacked, sacked);
    CHECK_EQ(c->lost, lost);
    CHECK(c->sacked + c->lost <= c->snd_nxt - c->snd_una);
}

static void check_send_queue(const struct tcp_conn *c)
{
    const struct frame *last = NULL;
    uint32_t end = c->snd_end, at;
    bool has_cursor = false;

    CHECK(seq_le(c->snd_una, c->snd_nxt));
    CHECK(seq_le(c->snd_nxt, end + c->fin_sent));
    CHECK(seq_le(c->snd_una, end + c->fin_sent));
    if (c->sndq) {
        CHECK(seq_le(c->sndq->seq, c->snd_una));
        CHECK(seq_lt(c->snd_una, c->sndq->seq + c->sndq->len));
        at = c->sndq->seq;
        for (const struct frame *f = c->sndq; f; f = f->next) {
            CHECK_EQ(f->seq, at);
            CHECK(f->len && !f->nr_frags);
            at += f->len;
            last = f;
            if (f == c->snd_chunk) {
                has_cursor = true;
                if (!c->fin_sent)
                    CHECK_EQ(f->seq + c->snd_chunk_off, c->snd_nxt);
            }
        }
        CHECK_EQ(at, end);
        CHECK(has_cursor);
    } else {
        CHECK(seq_le(end, c->snd_una));
        CHECK(!c->snd_chunk);
    }
    CHECK(c->sndq_last == last);
}

static void check_receive_queue(const struct tcp_conn *c)
{
    uint32_t bytes = 0, mem = 0, ooo = 0, ooo_mem = 0;
    const struct frame *last = NULL, *before = NULL;

    for (const struct frame *f = c->rcvq; f; f = f->next) {
        bytes += frame_total(f);
        mem += frame_class_bytes(f->frame_class) + f->frag_len;
        last = f;
    }
    CHECK(c->rcvq_last == last);
    CHECK_EQ(bytes, c->rcvq_bytes + c->rcvq_off);
    CHECK_EQ(mem, c->rcvq_mem);
    for (const struct frame *run = c->ooo; run; run = run->run_next) {
        uint32_t at = run->seq;

        CHECK(seq_lt(c->rcv_nxt, run->seq));
        CHECK(!before || seq_lt(before->run_last->end, run->seq));
        for (const struct frame *f = run;; f = f->next) {
            CHECK_EQ(f->seq, at);
            CHECK_EQ(f->end - f->seq, frame_total(f));
            CHECK(frame_total(f));
            ooo += frame_total(f);
            ooo_mem += frame_class_bytes(f->frame_class) + f->frag_len;
            at = f->end;
            if (f == run->run_last)
                break;
        }
        before = run;
    }
    CHECK_EQ(ooo, c->ooo_bytes);
    CHECK_EQ(ooo_mem, c->ooo_mem);
    CHECK(!before || seq_le(before->run_last->end, c->rcv_adv));
}

/* Nothing may wait for something nobody will do. */
static void check_progress(struct tcp_conn *c)
{
    bool is_queued = c->s.work_flags & SOCK_WORK_QUEUED;
    nsec_t first = NET_NO_DEADLINE;

    if (c->snd_nxt != c->snd_una || tcp_has_unsent(c))
        CHECK(is_queued || c->rexmit_kind != REXMIT_NONE);
    if (c->snd_nxt != c->snd_una && !is_queued)
        CHECK(c->rexmit_kind != REXMIT_PERSIST);
    if (c->rcv_unacked)
        CHECK(is_queued || c->delack_at);
    CHECK(is_queued || !c->ack_now);
    if (c->rexmit_kind != REXMIT_NONE)
        first = c->rexmit_at;
    if (c->delack_at)
        first = MIN(first, c->delack_at);
    if (c->aux_at)
        first = MIN(first, c->aux_at);
    if (first != NET_NO_DEADLINE && !is_queued) {
        CHECK(c->timer_pending && net_timer_is_armed(&c->timer));
        CHECK(c->timer.deadline <= first);
    }
}

void check_conn(struct tcp_conn *c)
{
    CHECK(c->cwnd || !c->was_open);
    if (c->state == TCP_CLOSE || c->state == TCP_LISTEN) {
        CHECK(!c->sndq && !c->segs && !c->ooo && !c->is_hashed);
        return;
    }
    if (!tcp_is_synced(c))
        return;
    CHECK(seq_le(c->last_ack_sent, c->rcv_nxt));
    if (c->state != TCP_SYN_RECV) {
        check_segments(c);
        check_send_queue(c);
    }
    check_receive_queue(c);
    check_progress(c);
}

static void visit(struct tcp_conn *c, void *arg)
{
    (void)arg;
    check_conn(c);
}

void check_stack(struct netstack *net)
{
    CHECK(net->mem_used <= net->mem_max / 8 * 9);
    tcp_for_each(net, visit, NULL);
}
