/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What an acknowledgement means: window, data that arrived, losses, the
 * congestion window, timers. The caller has checked that the number is
 * between snd_una and snd_nxt.
 */
#include "net/neigh.h"
#include "net/tcp_internal.h"

#define DUP_ACKS 3u
#define CONFIRM_MS 1000u
#define RACK_MAX_MULT 20u

/* RFC 9293 3.10.7.4: SND.WL1, SND.WL2; and always with a new acknowledgement,
 * since the window counts from there. True: the window is another one. */
static bool update_window(struct tcp_conn *c, const struct tcp_in *in)
{
    uint32_t wnd = in->wnd << c->snd_wscale, before = c->snd_wnd;

    if (!seq_lt(c->snd_una, in->ack) && !seq_lt(c->snd_wl1, in->seq) &&
        !(c->snd_wl1 == in->seq && seq_le(c->snd_wl2, in->ack)))
        return false;
    c->snd_wl1 = in->seq;
    c->snd_wl2 = in->ack;
    c->snd_wnd = wnd;
    c->snd_max_wnd = MAX(c->snd_max_wnd, wnd);
    return wnd != before;
}

static void take_rtt(struct tcp_conn *c, const struct tcp_in *in,
                     const struct tcp_acked *a)
{
    uint32_t ms;

    if (a->rtt_us) {
        tcp_rtt_sample(c, a->rtt_us);
    } else if (a->sack_rtt_us) {
        tcp_rtt_sample(c, a->sack_rtt_us);
    } else if (c->has_ts && in->has_ts && in->ts_ecr && a->una_advanced &&
               !a->was_again) {
        ms = tcp_ts_now(c) - in->ts_ecr;
        if (ms < 120000u)
            tcp_rtt_sample(c, MAX(ms, 1u) * 1000);
    }
}

/* Without SACK nobody knows more than that the first segment is missing. */
static void lose_first(struct tcp_conn *c)
{
    struct tcp_seg *seg = c->segs;

    if (!seg || (seg->flags & SEG_RETRANS))
        return;
    if (seg->end - seg->seq > c->mss)
        (void)tcp_seg_split(c, seg, seg->seq + c->mss);
    tcp_seg_lost(c, seg);
}

/* Without SACK the number of duplicate ACKs says how much arrived (what Linux
 * and BSD do); the first record is the one that is missing. */
static void count_duplicate(struct tcp_conn *c)
{
    uint32_t flight = c->snd_nxt - c->snd_una;

    if (c->dup_acks < 255)
        c->dup_acks++;
    c->sacked = MIN((uint32_t)c->dup_acks * c->mss,
                    flight > c->lost + c->mss ? flight - c->lost - c->mss : 0);
    if (c->dup_acks == DUP_ACKS && c->recovery == TCP_OPEN && c->segs) {
        lose_first(c);
        tcp_enter_recovery(c);
    }
}

static void advance_without_sack(struct tcp_conn *c)
{
    c->dup_acks = 0;
    c->sacked = 0;
    /* A partial ACK: the next hole (RFC 6582 3.2). */
    if (c->recovery == TCP_RECOVERY && seq_lt(c->snd_una, c->recover))
        lose_first(c);
}

static void check_tail_probe(struct tcp_conn *c, const struct tcp_acked *a)
{
    if (!c->tlp_out || seq_lt(c->snd_una, c->tlp_end))
        return;
    c->tlp_out = false;
    /* The probe repaired a loss nobody saw (RFC 8985 7.4.2). */
    if (c->tlp_is_retrans && !a->has_dsack && c->recovery == TCP_OPEN) {
        c->ssthresh = tcp_cc_reduce(c);
        c->cwnd = c->ssthresh;
    }
}

static void leave_recovery(struct tcp_conn *c)
{
    if (c->recovery == TCP_OPEN || seq_lt(c->snd_una, c->recover))
        return;
    if (c->recovery == TCP_RECOVERY)
        c->cwnd = MAX(c->ssthresh, 2u * c->mss);
    c->recovery = TCP_OPEN;
    c->dup_acks = 0;
    c->cubic.epoch_ms = 0;
}

static void update_cwnd(struct tcp_conn *c, const struct tcp_acked *a,
                        bool found_loss)
{
    uint32_t delivered = a->bytes + a->sacked;

    if (!c->has_sack && !a->bytes && c->dup_acks)
        delivered = c->mss;
    c->is_cwnd_limited = c->cwnd < c->ssthresh
                             ? a->prior_flight * 2 >= c->cwnd
                             : a->prior_flight + 3u * c->mss >= c->cwnd;
    if (c->recovery == TCP_RECOVERY)
        tcp_prr_update(c, delivered, a->una_advanced && !found_loss);
    else if (a->bytes)
        tcp_cc_acked(c, a->bytes);
}

static void tune_sndbuf(struct tcp_conn *c)
{
    uint32_t want = MIN(c->cwnd * 2, TCP_SNDBUF_MAX);
    struct netstack *net = c->s.net;

    if (!c->p.sndbuf_fixed && want > c->p.sndbuf &&
        atomic_load_relaxed(&net->mem_used) < net->mem_max / 2)
        c->p.sndbuf = want;
}

static void tell_writer(struct tcp_conn *c)
{
    uint32_t used = c->snd_end - c->snd_una;

    if (!c->is_snd_full || used > c->p.sndbuf - c->p.sndbuf / 3)
        return;
    c->is_snd_full = false;
    sock_note(&c->s, NET_EV_OUT);
}

static void una_advanced(struct tcp_conn *c, const struct tcp_in *in,
                         struct tcp_acked *a)
{
    struct netstack *net = c->s.net;
    uint32_t now_ms = tcp_now_ms(net);

    a->una_advanced = true;
    a->bytes = in->ack - c->snd_una;
    tcp_segs_acked(c, in->ack, a);
    c->snd_una = in->ack;
    c->backoff = 0;
    c->unacked_since_ms = now_ms;
    c->soft_error = 0;
    if (!c->has_sack)
        advance_without_sack(c);
    if (now_ms - c->confirmed_ms >= CONFIRM_MS && c->route.nif) {
        c->confirmed_ms = now_ms;
        neigh_confirm(c->route.nif, &c->route.next_hop);
    }
}

static bool is_duplicate(const struct tcp_conn *c, const struct tcp_in *in,
                         bool window_changed)
{
    return in->ack == c->snd_una && in->len == 0 && !window_changed &&
           c->snd_nxt != c->snd_una && !(in->flags & (TCP_SYN | TCP_FIN));
}

void tcp_process_ack(struct tcp_conn *c, const struct tcp_in *in)
{
    struct tcp_acked a = {.prior_flight = tcp_pipe(c)};
    bool window_changed = update_window(c, in);
    bool is_dup = is_duplicate(c, in, window_changed), found_loss = false;

    c->probes = 0;
    if (c->rexmit_kind == REXMIT_PERSIST && c->snd_wnd) {
        c->rexmit_kind = REXMIT_NONE;
        c->backoff = 0;
    }
    if (c->snd_wnd)
        c->is_persisting = false;
    if (c->has_sack && in->nr_sacks)
        tcp_mark_sacked(c, in, &a);
    if (seq_lt(c->snd_una, in->ack))
        una_advanced(c, in, &a);
    else if (is_dup && !c->has_sack)
        count_duplicate(c);
    take_rtt(c, in, &a);
    /* Repeated for nothing: wait longer, once a round trip (RFC 8985 6.2). */
    if (a.has_dsack && c->rack_mult < RACK_MAX_MULT &&
        !seq_lt(c->snd_una, c->rack_round)) {
        c->rack_mult++;
        c->rack_round = c->snd_nxt;
    }
    check_tail_probe(c, &a);
    if (a.una_advanced) {
        c->rexmit_kind = REXMIT_NONE;
        leave_recovery(c);
    }
    if (c->sacked || c->recovery != TCP_OPEN)
        found_loss = tcp_rack_detect(c);
    if (found_loss)
        tcp_enter_recovery(c);
    update_cwnd(c, &a, found_loss);
    tune_sndbuf(c);
    tell_writer(c);
    if (c->rexmit_kind == REXMIT_NONE && c->snd_nxt != c->snd_una)
        tcp_arm_rexmit(c);
    else if (c->snd_nxt == c->snd_una && c->rexmit_kind != REXMIT_PERSIST)
        c->rexmit_kind = REXMIT_NONE;
}
