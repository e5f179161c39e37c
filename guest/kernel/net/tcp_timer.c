/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Time in TCP. A connection keeps exact deadlines (rexmit_at with its kind,
 * delack_at, aux_at) and has one timer in the wheel, armed for the earliest; a
 * deadline that moves later leaves the timer alone.
 *
 * Round-trip times: RFC 6298; tail loss probes: RFC 8985 7.
 */
#include "net/tcp_internal.h"

#define MAX_BACKOFF 12u
#define RETRIES_MS 924600u /* what 15 retries take on Linux (man 7 tcp) */
#define ORPHAN_MS 100000u
#define SYN_ACK_RETRIES 5u
#define MAX_PROBES 15u
#define TLP_MIN_US 10000u
#define WORST_DELACK_US 200000u

void tcp_rtt_sample(struct tcp_conn *c, uint32_t rtt_us)
{
    uint32_t rtt = MIN(rtt_us, TCP_RTO_MAX_US);
    int32_t err;

    if (!c->min_rtt_us || rtt < c->min_rtt_us)
        c->min_rtt_us = rtt;
    if (!c->srtt8) {
        c->srtt8 = rtt * 8;
        c->rttvar4 = rtt * 2;
    } else {
        err = (int32_t)rtt - (int32_t)(c->srtt8 / 8);
        c->srtt8 = (uint32_t)((int32_t)c->srtt8 + err);
        err = err < 0 ? -err : err;
        c->rttvar4 = (uint32_t)((int32_t)c->rttvar4 + err -
                                (int32_t)(c->rttvar4 / 4));
    }
    c->rto_us = c->srtt8 / 8 + MAX(c->rttvar4, 1000u);
    c->rto_us = MIN(MAX(c->rto_us, TCP_RTO_MIN_US), TCP_RTO_MAX_US);
}

nsec_t tcp_rto_ns(const struct tcp_conn *c)
{
    uint64_t us = (uint64_t)c->rto_us << MIN(c->backoff, MAX_BACKOFF);

    return (nsec_t)MIN(us, TCP_RTO_MAX_US) * 1000;
}

static nsec_t tail_probe_ns(const struct tcp_conn *c)
{
    uint64_t us = c->srtt8 ? c->srtt8 / 4 : TCP_US_PER_SEC;

    if (c->snd_nxt - c->snd_una <= c->mss)
        us += WORST_DELACK_US;
    return (nsec_t)MAX(us, TLP_MIN_US) * 1000;
}

void tcp_postpone_tail_probe(struct tcp_conn *c)
{
    nsec_t at = net_now(c->s.net) + tail_probe_ns(c);

    c->rexmit_kind = at < c->rto_at ? REXMIT_TLP : REXMIT_RTO;
    c->rexmit_at = MIN(at, c->rto_at);
}

void tcp_arm_rexmit(struct tcp_conn *c)
{
    c->rto_at = net_now(c->s.net) + tcp_rto_ns(c);
    c->rexmit_at = c->rto_at;
    c->rexmit_kind = REXMIT_RTO;
    if (c->has_sack && c->recovery == TCP_OPEN && !c->sacked && !c->lost &&
        !c->tlp_out && !c->backoff)
        tcp_postpone_tail_probe(c);
}

void tcp_timer_update(struct tcp_conn *c)
{
    nsec_t at = NET_NO_DEADLINE;

    if (c->rexmit_kind != REXMIT_NONE)
        at = c->rexmit_at;
    if (c->delack_at)
        at = MIN(at, c->delack_at);
    if (c->aux_at)
        at = MIN(at, c->aux_at);
    if (c->room_at)
        at = MIN(at, c->room_at);
    if (at == NET_NO_DEADLINE)
        return;
    if (c->timer_pending) {
        if (c->timer.deadline <= at || !net_timer_cancel(&c->timer))
            return; /* early enough, or about to look at the deadlines */
    } else {
        c->timer_pending = true;
        sock_get(&c->s);
    }
    net_arm(c->s.net, &c->timer, at);
}

/* Nothing came back for too long? */
static bool is_hopeless(const struct tcp_conn *c)
{
    uint32_t waited = tcp_now_ms(c->s.net) - c->unacked_since_ms;

    if (c->p.user_timeout)
        return waited >= c->p.user_timeout;
    return waited >= (c->is_orphan ? ORPHAN_MS : RETRIES_MS);
}

static void give_up(struct tcp_conn *c)
{
    tcp_done(c, c->soft_error ? c->soft_error : ETIMEDOUT);
}

static void handshake_timeout(struct tcp_conn *c)
{
    uint32_t max = c->state == TCP_SYN_RECV ? SYN_ACK_RETRIES
                                            : c->p.syn_count;

    if (c->backoff >= max) {
        give_up(c);
        return;
    }
    c->backoff++;
    net_count(c->s.net, NET_TCP_RTO);
    c->total_retrans++;
    tcp_send_syn(c);
    c->rexmit_kind = REXMIT_RTO;
    c->rexmit_at = net_now(c->s.net) + tcp_rto_ns(c);
}

static void retransmit_timeout(struct tcp_conn *c)
{
    if (c->state == TCP_SYN_SENT || c->state == TCP_SYN_RECV) {
        handshake_timeout(c);
        return;
    }
    if (c->snd_una == c->snd_nxt)
        return;
    if (is_hopeless(c)) {
        tcp_abort(c, c->soft_error ? c->soft_error : ETIMEDOUT);
        return;
    }
    net_count(c->s.net, NET_TCP_RTO);
    tcp_enter_loss(c);
    if (c->backoff < MAX_BACKOFF)
        c->backoff++;
    c->rto_at = net_now(c->s.net) + tcp_rto_ns(c);
    c->rexmit_at = c->rto_at;
    c->rexmit_kind = REXMIT_RTO;
    if (c->backoff == 3) /* perhaps the way is another one now */
        c->route.nif = NULL;
}

static void persist_timeout(struct tcp_conn *c)
{
    if (!tcp_has_unsent(c))
        return;
    /* A program may wait for room as long as the peer answers; without one, or
     * with TCP_USER_TIMEOUT, answers that offer no room do not count. */
    if (c->probes >= MAX_PROBES ||
        ((c->is_orphan || c->p.user_timeout) && c->is_persisting &&
         is_hopeless(c))) {
        tcp_abort(c, c->soft_error ? c->soft_error : ETIMEDOUT);
        return;
    }
    c->probes++;
    if (tcp_check_route(c))
        tcp_send_window_probe(c);
    if (!c->is_persisting) {
        c->is_persisting = true;
        c->unacked_since_ms = tcp_now_ms(c->s.net);
    }
    if (c->rexmit_kind == REXMIT_NONE) {
        if (c->backoff < MAX_BACKOFF)
            c->backoff++;
        c->rexmit_kind = REXMIT_PERSIST;
        c->rexmit_at = net_now(c->s.net) + tcp_rto_ns(c);
    }
}

static void rexmit_timeout(struct tcp_conn *c)
{
    enum tcp_rexmit kind = c->rexmit_kind;

    c->rexmit_kind = REXMIT_NONE;
    switch (kind) {
    case REXMIT_RTO:
        retransmit_timeout(c);
        break;
    case REXMIT_TLP:
        if (tcp_check_route(c))
            tcp_send_tail_probe(c);
        tcp_arm_rexmit(c);
        break;
    case REXMIT_REORDER:
        if (tcp_rack_detect(c))
            tcp_enter_recovery(c);
        break;
    case REXMIT_PERSIST:
        persist_timeout(c);
        break;
    case REXMIT_NONE:
        break;
    }
}

void tcp_start_keepalive(struct tcp_conn *c)
{
    c->keep_probes = 0;
    if (c->p.keepalive)
        c->aux_at = net_now(c->s.net) +
                    (nsec_t)c->p.keep_idle * NSEC_PER_SEC;
    else if (c->state != TCP_FIN_WAIT2)
        c->aux_at = 0;
}

/* Keep-alive while open; the end of waiting for a FIN without a program. */
static void aux_timeout(struct tcp_conn *c)
{
    nsec_t now = net_now(c->s.net);
    uint32_t idle_ms = tcp_now_ms(c->s.net) - c->last_rx_ms;

    c->aux_at = 0;
    if (c->state == TCP_FIN_WAIT2 && c->is_orphan) {
        tcp_done(c, 0);
        return;
    }
    if (!c->p.keepalive || !tcp_is_synced(c) || c->state == TCP_SYN_RECV)
        return;
    if (idle_ms < c->p.keep_idle * 1000 && !c->keep_probes) {
        c->aux_at = now + ((nsec_t)c->p.keep_idle * 1000 - idle_ms) * 1000000;
        return;
    }
    if (c->snd_una == c->snd_nxt) { /* else retransmission does the work */
        bool is_over = c->p.user_timeout ? idle_ms >= c->p.user_timeout &&
                                               c->keep_probes
                                         : c->keep_probes >= c->p.keep_count;
        if (is_over) {
            tcp_abort(c, ETIMEDOUT);
            return;
        }
        c->keep_probes++;
        if (tcp_check_route(c))
            tcp_send_probe(c);
    }
    c->aux_at = now + (nsec_t)c->p.keep_interval * NSEC_PER_SEC;
}

void tcp_timer_fired(struct net_timer *t)
{
    struct tcp_conn *c = container_of(t, struct tcp_conn, timer);
    nsec_t now = net_now(c->s.net);

    sock_lock(&c->s);
    c->timer_pending = false;
    if (c->rexmit_kind != REXMIT_NONE && c->rexmit_at <= now)
        rexmit_timeout(c);
    if (c->delack_at && c->delack_at <= now) {
        c->delack_at = 0;
        c->ack_now = true;
    }
    if (c->aux_at && c->aux_at <= now)
        aux_timeout(c);
    if (c->room_at && c->room_at <= now) { /* let the writer try again */
        c->room_at = 0;
        c->is_snd_full = false;
        sock_note(&c->s, NET_EV_OUT);
    }
    tcp_output(c);
    tcp_timer_update(c);
    sock_unlock(&c->s);
    sock_put(&c->s); /* the timer's */
}
