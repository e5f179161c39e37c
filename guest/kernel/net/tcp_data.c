/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Data received: in order into the receive queue, the rest into runs of
 * adjacent frames (the out-of-order queue); the window; when to acknowledge.
 *
 * A run is a list of frames without gaps; its first frame knows the last one
 * and the next run. Runs are in order and do not touch.
 */
#include "net/tcp_internal.h"

#define OOO_RUNS_MAX 512u
#define COLLAPSE_MAX 512u /* short data is copied into the frame before it */

uint32_t tcp_receive_window(struct tcp_conn *c)
{
    struct netstack *net = c->s.net;
    uint32_t used = MAX(c->rcvq_bytes, c->rcvq_mem / 4), wnd;

    wnd = used < c->p.rcvbuf ? c->p.rcvbuf - used : 0;
    wnd = MIN(wnd, 65535u << c->rcv_wscale);
    if (unlikely(atomic_load_relaxed(&net->mem_used) > net->mem_max / 4 * 3))
        wnd = MIN(wnd, 4u * c->mss);
    /* Small steps are not worth a word (RFC 9293 3.8.6.2.2). */
    uint32_t right = c->rcv_nxt + wnd;
    uint32_t step = MIN(c->p.rcvbuf / 2, (uint32_t)c->mss);
    if (seq_lt(right, c->rcv_adv + step) && seq_le(c->rcv_nxt, c->rcv_adv))
        wnd = c->rcv_adv - c->rcv_nxt;
    return wnd;
}

bool tcp_window_grew(struct tcp_conn *c)
{
    uint32_t wnd = tcp_receive_window(c);
    uint32_t offered = c->rcv_adv - c->rcv_nxt;

    if (seq_lt(c->rcv_adv, c->rcv_nxt))
        offered = 0;
    return wnd > offered &&
           (wnd - offered >= MIN(c->p.rcvbuf / 2, 2u * c->mss * 8) ||
            (offered < c->mss && wnd >= c->mss));
}

static uint32_t frame_mem(const struct frame *f)
{
    return frame_class_bytes(f->frame_class) + f->frag_len;
}

/* Short data goes into the room behind the last frame: a peer that sends byte
 * by byte must not cost us a frame each. */
static bool collapse(struct tcp_conn *c, struct frame *f)
{
    struct frame *last = c->rcvq_last;
    uint32_t n = frame_total(f);

    if (!last || n > COLLAPSE_MAX || last->nr_frags ||
        frame_tailroom(last) < n)
        return false;
    frame_copy_out(f, 0, last->data + last->len, n);
    last->len += n;
    last->end += n;
    frame_put(f);
    return true;
}

static void append_in_order(struct tcp_conn *c, struct frame *f)
{
    uint32_t n = frame_total(f);

    c->rcv_nxt += n;
    c->rcvq_bytes += n;
    if (collapse(c, f))
        return;
    c->rcvq_mem += frame_mem(f);
    f->next = NULL;
    if (c->rcvq_last)
        c->rcvq_last->next = f;
    else
        c->rcvq = f;
    c->rcvq_last = f;
}

static uint32_t run_end(const struct frame *run)
{
    return run->run_last->end;
}

static void free_run(struct tcp_conn *c, struct frame *run)
{
    struct frame *last = run->run_last, *f = run;

    if (c->ooo_latest == run)
        c->ooo_latest = NULL;
    for (;;) {
        struct frame *next = f->next;
        bool is_last = f == last;

        c->ooo_bytes -= frame_total(f);
        c->ooo_mem -= frame_mem(f);
        f->next = NULL;
        frame_put(f);
        if (is_last)
            break;
        f = next;
    }
}

void tcp_prune_ooo(struct tcp_conn *c)
{
    while (c->ooo) {
        struct frame *run = c->ooo;
        c->ooo = run->run_next;
        free_run(c, run);
    }
}

/* The stream ends at `end`: what lies behind is no data. */
static void prune_behind(struct tcp_conn *c, uint32_t end)
{
    struct frame **link = &c->ooo, *run;

    while ((run = *link) != NULL) {
        if (seq_le(run_end(run), end)) {
            link = &run->run_next;
            continue;
        }
        *link = run->run_next;
        free_run(c, run);
    }
}

static void note_dsack(struct tcp_conn *c, uint32_t start, uint32_t end)
{
    if (!c->has_sack || c->dsack_start != c->dsack_end)
        return;
    c->dsack_start = start;
    c->dsack_end = end;
}

/* Runs that [seq, end) of f covers go; one that it touches shortens f. */
static void make_room(struct tcp_conn *c, struct frame *f, struct frame **link)
{
    struct frame *run;

    while ((run = *link) != NULL && seq_lt(run->seq, f->end)) {
        if (seq_le(run_end(run), f->end)) {
            note_dsack(c, run->seq, run_end(run));
            *link = run->run_next;
            free_run(c, run);
            continue;
        }
        note_dsack(c, run->seq, f->end);
        frame_trim_to(f, run->seq - f->seq);
        f->end = run->seq;
        break;
    }
}

/* Puts f, which overlaps with nobody, behind `prev` (NULL: in front). */
static void link_run(struct tcp_conn *c, struct frame *prev, struct frame *f)
{
    struct frame *next = prev ? prev->run_next : c->ooo, *run = f;

    f->run_last = f;
    f->next = NULL;
    if (prev && run_end(prev) == f->seq) {
        prev->run_last->next = f;
        prev->run_last = f;
        run = prev;
    } else {
        f->run_next = next;
        if (prev)
            prev->run_next = f;
        else
            c->ooo = f;
    }
    if (next && run_end(run) == next->seq) {
        run->run_last->next = next;
        run->run_last = next->run_last;
        run->run_next = next->run_next;
    }
    c->ooo_latest = run;
}

static void insert_out_of_order(struct tcp_conn *c, struct frame *f)
{
    struct frame *prev = NULL, **link = &c->ooo;
    uint32_t runs = 0;

    c->ack_now = true;
    net_count(c->s.net, NET_TCP_OUT_OF_ORDER);
    while (*link && seq_le((*link)->seq, f->seq)) {
        prev = *link;
        link = &prev->run_next;
        runs++;
    }
    if (prev && seq_lt(f->seq, run_end(prev))) {
        uint32_t known = seq_min(run_end(prev), f->end) - f->seq;

        note_dsack(c, f->seq, f->seq + known);
        if (known == frame_total(f)) {
            c->ooo_latest = prev;
            frame_put(f);
            return;
        }
        frame_trim_head(f, known);
        f->seq += known;
    }
    make_room(c, f, link);
    if (runs > OOO_RUNS_MAX || c->ooo_mem > 2 * c->p.rcvbuf + 65536 ||
        atomic_load_relaxed(&c->s.net->mem_used) >
            c->s.net->mem_max / 4 * 3) {
        frame_put(f);
        return;
    }
    c->ooo_bytes += frame_total(f);
    c->ooo_mem += frame_mem(f);
    link_run(c, prev, f);
}

/* The first run now follows what is in order. */
static void pull_runs(struct tcp_conn *c)
{
    while (c->ooo && seq_le(c->ooo->seq, c->rcv_nxt)) {
        struct frame *run = c->ooo, *last = run->run_last, *f = run;
        bool is_last = false;

        c->ooo = run->run_next;
        if (c->ooo_latest == run)
            c->ooo_latest = NULL;
        while (!is_last) {
            struct frame *next = f->next;
            uint32_t old = seq_lt(f->seq, c->rcv_nxt) ? c->rcv_nxt - f->seq
                                                      : 0;

            is_last = f == last;
            c->ooo_bytes -= frame_total(f);
            c->ooo_mem -= frame_mem(f);
            f->next = NULL;
            if (old < frame_total(f)) {
                frame_trim_head(f, old);
                append_in_order(c, f);
            } else {
                frame_put(f);
            }
            f = next;
        }
    }
}

uint32_t tcp_fill_sacks(const struct tcp_conn *c, uint32_t (*blocks)[2],
                        uint32_t max)
{
    uint32_t n = 0;

    if (n < max && c->dsack_start != c->dsack_end) {
        blocks[n][0] = c->dsack_start;
        blocks[n++][1] = c->dsack_end;
    }
    if (n < max && c->ooo_latest) {
        blocks[n][0] = c->ooo_latest->seq;
        blocks[n++][1] = run_end(c->ooo_latest);
    }
    for (struct frame *run = c->ooo; run && n < max; run = run->run_next) {
        if (run == c->ooo_latest)
            continue;
        blocks[n][0] = run->seq;
        blocks[n++][1] = run_end(run);
    }
    return n;
}

/* Now, or with the next data, or a little later? RFC 9293 3.8.6.3. */
static void schedule_ack(struct tcp_conn *c, uint32_t bytes, bool was_gap)
{
    c->rcv_unacked += bytes;
    if (was_gap || c->ooo || c->rcv_unacked >= 2 * c->rcv_mss) {
        c->ack_now = true;
    } else if (c->quick_left && !c->is_pingpong) {
        c->quick_left--;
        c->ack_now = true;
    } else if (!c->delack_at) {
        c->delack_at = net_now(c->s.net) + TCP_DELACK_NS;
    }
}

static void receive_fin(struct tcp_conn *c)
{
    c->fin_received = true;
    c->rcv_nxt++;
    c->ack_now = true;
    sock_note(&c->s, NET_EV_IN | NET_EV_RDHUP);
    switch (c->state) {
    case TCP_SYN_RECV:
    case TCP_ESTABLISHED:
        c->state = TCP_CLOSE_WAIT;
        break;
    case TCP_FIN_WAIT1: /* ours is not acknowledged yet: tcp_in.c looked */
        c->state = TCP_CLOSING;
        break;
    case TCP_FIN_WAIT2:
        tcp_send_ack(c);
        tcp_enter_time_wait(c);
        break;
    default:
        break;
    }
}

/* Cuts f to what is new and inside of the window; false: nothing left. */
static bool fit_to_window(struct tcp_conn *c, struct frame *f)
{
    uint32_t right = seq_max(c->rcv_adv, c->rcv_nxt), old;

    if (c->fin_seen)
        right = seq_min(right, c->fin_seq);
    if (seq_lt(f->seq, c->rcv_nxt)) {
        old = seq_min(c->rcv_nxt, f->end) - f->seq;
        note_dsack(c, f->seq, f->seq + old);
        c->ack_now = true;
        frame_trim_head(f, old);
        f->seq += old;
    }
    if (seq_lt(right, f->end)) {
        c->ack_now = true;
        if (seq_le(right, f->seq))
            return false;
        frame_trim_to(f, right - f->seq);
        f->end = right;
    }
    return f->seq != f->end;
}

void tcp_receive_data(struct tcp_conn *c, struct frame *f, bool has_fin)
{
    uint32_t before = c->rcv_nxt, fin_at = f->end;
    uint32_t unit = f->gso_size ? f->gso_size : frame_total(f);
    bool was_gap = c->ooo != NULL;

    if (unit && frame_total(f)) {
        c->rcv_mss = MIN(MAX(c->rcv_mss, unit), 65535u);
        c->last_data_ms = tcp_now_ms(c->s.net);
    }
    if (has_fin && !c->fin_seen && seq_le(c->rcv_nxt, fin_at) &&
        seq_le(fin_at, seq_max(c->rcv_adv, c->rcv_nxt))) {
        c->fin_seen = true;
        c->fin_seq = fin_at;
        prune_behind(c, fin_at);
    } else if (has_fin && seq_lt(fin_at, c->rcv_nxt)) {
        c->ack_now = true; /* again: our acknowledgement was lost */
    }
    if (!fit_to_window(c, f)) {
        frame_put(f);
    } else if (unlikely(net_is_full(c->s.net, !c->rcvq))) {
        net_count(c->s.net, NET_FRAME_NO_MEMORY);
        c->ack_now = true;
        frame_put(f);
    } else if (f->seq == c->rcv_nxt) {
        append_in_order(c, f);
        pull_runs(c);
    } else {
        insert_out_of_order(c, f);
    }
    if (c->rcv_nxt != before) {
        schedule_ack(c, c->rcv_nxt - before, was_gap);
        if (c->rcvq_bytes >= c->p.rcvlowat)
            sock_note(&c->s, NET_EV_IN);
    }
    if (c->fin_seen && !c->fin_received && c->rcv_nxt == c->fin_seq)
        receive_fin(c);
}
