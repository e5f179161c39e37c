/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * How much may be in flight: slow start and CUBIC (RFC 9438), proportional
 * rate reduction during recovery (RFC 6937). Integers only; windows in bytes,
 * time in milliseconds.
 */
#include "net/tcp_internal.h"

/* beta = 0.7; C = 0.4 segments per second cubed */
#define BETA_NUM 7u
#define BETA_DEN 10u
#define CUBE_DENOMINATOR 10000000000ull /* C = 4 * 10^-10 per ms cubed */
#define MAX_CUBE_MS 160000u
#define MIN_CWND_SEGMENTS 2u
#define MAX_CWND (1u << 29)

uint32_t tcp_initial_cwnd(const struct tcp_conn *c)
{
    /* RFC 6928 */
    return MIN(TCP_INITIAL_WINDOW * c->mss, MAX(2u * c->mss, 14600u));
}

void tcp_cc_init(struct tcp_conn *c)
{
    c->cwnd = tcp_initial_cwnd(c);
    c->ssthresh = MAX_CWND;
    memset(&c->cubic, 0, sizeof(c->cubic));
}

static uint32_t cube_root(uint64_t v)
{
    uint64_t root = 0;

    for (int shift = 19; shift >= 0; shift--) {
        uint64_t next = root | 1ull << shift;
        if (next * next * next <= v)
            root = next;
    }
    return (uint32_t)root;
}

static void begin_epoch(struct tcp_conn *c, uint32_t now_ms)
{
    struct tcp_cubic *q = &c->cubic;
    uint64_t gap = 0;

    q->epoch_ms = now_ms ? now_ms : 1;
    q->cwnd_start = c->cwnd;
    q->w_est = c->cwnd;
    q->acked = 0;
    if (q->w_max > c->cwnd)
        gap = q->w_max - c->cwnd;
    else
        q->w_max = c->cwnd;
    /* K = cubic root of ((w_max - cwnd) / C), in ms. The gap is at most 2^29
     * bytes: no overflow with 88 bytes per segment. */
    q->k_ms = cube_root(gap * (CUBE_DENOMINATOR / 4) / c->mss);
}

/* W(t) of RFC 9438 (1), in bytes. */
static uint64_t cubic_window(const struct tcp_conn *c, uint32_t t_ms)
{
    const struct tcp_cubic *q = &c->cubic;
    bool is_before = t_ms < q->k_ms;
    uint64_t d = is_before ? q->k_ms - t_ms : t_ms - q->k_ms, delta;

    d = MIN(d, MAX_CUBE_MS);
    delta = d * d * d * 4096 / CUBE_DENOMINATOR * c->mss / 1024;
    if (!is_before)
        return q->w_max + delta;
    return delta < q->w_max ? q->w_max - delta : 0;
}

static void grow_cubic(struct tcp_conn *c, uint32_t bytes)
{
    struct tcp_cubic *q = &c->cubic;
    uint32_t now_ms = tcp_now_ms(c->s.net);
    uint64_t target, step;

    if (!q->epoch_ms)
        begin_epoch(c, now_ms);
    target = cubic_window(c, now_ms - q->epoch_ms + tcp_srtt_us(c) / 1000);
    target = MIN(target, (uint64_t)c->cwnd * 3 / 2);
    /* Reno-friendly region: alpha = 3 (1 - beta) / (1 + beta) = 9/17. */
    step = (uint64_t)c->mss * bytes * 9 / 17;
    q->acked += (uint32_t)(step / MAX(q->w_est, 1u));
    if (q->acked) {
        q->w_est += q->acked;
        q->acked = 0;
    }
    target = MAX(target, q->w_est);
    if (target <= c->cwnd)
        return;
    step = (target - c->cwnd) * bytes / c->cwnd;
    c->cwnd += (uint32_t)MIN(step, (uint64_t)bytes);
}

void tcp_cc_acked(struct tcp_conn *c, uint32_t bytes)
{
    if (!c->is_cwnd_limited && c->recovery == TCP_OPEN)
        return;
    if (c->cwnd < c->ssthresh) {
        uint32_t n = MIN(bytes, c->ssthresh - c->cwnd);
        c->cwnd += n;
        bytes -= n;
    }
    if (bytes && c->recovery == TCP_OPEN && c->cwnd >= c->ssthresh)
        grow_cubic(c, bytes);
    c->cwnd = MIN(c->cwnd, MAX_CWND);
}

uint32_t tcp_cc_reduce(struct tcp_conn *c)
{
    struct tcp_cubic *q = &c->cubic;
    uint32_t from = c->cwnd;

    /* Fast convergence (RFC 9438 4.7). */
    q->w_max = from < q->w_max
                   ? (uint32_t)((uint64_t)from * (BETA_DEN + BETA_NUM) /
                                (2 * BETA_DEN))
                   : from;
    q->epoch_ms = 0;
    return MAX((uint32_t)((uint64_t)from * BETA_NUM / BETA_DEN),
               MIN_CWND_SEGMENTS * c->mss);
}

void tcp_prr_begin(struct tcp_conn *c)
{
    c->prr_delivered = c->prr_out = 0;
    c->prr_start = MAX(c->snd_nxt - c->snd_una, 1u);
}

void tcp_prr_update(struct tcp_conn *c, uint32_t delivered, bool is_progress)
{
    uint32_t pipe = tcp_pipe(c);
    int64_t send;

    if (!delivered)
        return;
    c->prr_delivered += delivered;
    if (pipe > c->ssthresh) {
        send = ((int64_t)c->prr_delivered * c->ssthresh + c->prr_start - 1) /
                   c->prr_start -
               c->prr_out;
    } else {
        int64_t limit =
            MAX((int64_t)c->prr_delivered - c->prr_out, (int64_t)delivered);
        if (is_progress) /* the slow-start reduction bound */
            limit += c->mss;
        send = MIN((int64_t)c->ssthresh - pipe, limit);
    }
    if (c->prr_out == 0) /* the first repetition always goes out */
        send = MAX(send, (int64_t)c->mss);
    c->cwnd = pipe + (uint32_t)MAX(send, 0);
}

/* After silence the network is not known any more (RFC 5681 4.1). */
void tcp_cc_idle(struct tcp_conn *c)
{
    uint32_t start = tcp_initial_cwnd(c);

    c->cubic.epoch_ms = 0;
    if (c->cwnd <= start)
        return;
    c->ssthresh = MAX(c->ssthresh == MAX_CWND ? 0 : c->ssthresh,
                      c->cwnd / 4 * 3);
    c->cwnd = start;
}
