/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Segments that arrive for a connection (RFC 9293 3.10.7), with the checks of
 * RFC 5961 against blind attackers and of RFC 7323 against old duplicates.
 */
#include "net/tcp_internal.h"

/* RFC 5961 7: not more than 10 in 5 seconds. By connection, not for all of
 * them: how much of a common budget is left would tell a stranger about the
 * connections of others. */
#define CHALLENGES 10u
#define CHALLENGES_MS 5000u
#define OUT_OF_WINDOW_MS 500u /* per connection, so that two never loop */
#define PAWS_VALID_MS (24u * 86400u * 1000u)

void tcp_challenge_ack(struct tcp_conn *c)
{
    uint32_t now_ms = tcp_now_ms(c->s.net);

    if (!c->challenges || now_ms - c->challenges_ms >= CHALLENGES_MS) {
        c->challenges = 0;
        c->challenges_ms = now_ms;
    }
    if (c->challenges >= CHALLENGES)
        return;
    c->challenges++;
    net_count(c->s.net, NET_TCP_CHALLENGE);
    if (tcp_check_route(c))
        tcp_send_ack(c);
}

/* Answers a segment that cannot be used. */
static void answer_unacceptable(struct tcp_conn *c, const struct tcp_in *in)
{
    uint32_t now_ms = tcp_now_ms(c->s.net);

    if (in->len && c->has_sack && c->dsack_start == c->dsack_end &&
        seq_le(in->seq + in->len, c->rcv_nxt)) {
        c->dsack_start = in->seq;
        c->dsack_end = in->seq + in->len;
    }
    if (!in->len && now_ms - c->last_oow_ms < OUT_OF_WINDOW_MS)
        return;
    c->last_oow_ms = now_ms;
    if (tcp_check_route(c))
        tcp_send_ack(c);
}

static bool fails_paws(struct tcp_conn *c, const struct tcp_in *in)
{
    return c->has_ts && in->has_ts && !(in->flags & TCP_RST) &&
           seq_lt(in->ts_val, c->ts_recent) &&
           tcp_now_ms(c->s.net) - c->ts_recent_ms < PAWS_VALID_MS;
}

static bool is_in_window(const struct tcp_conn *c, const struct tcp_in *in)
{
    uint32_t end = in->seq + in->len + !!(in->flags & TCP_SYN) +
                   !!(in->flags & TCP_FIN);
    uint32_t right = seq_max(c->rcv_adv, c->rcv_nxt);

    return !seq_lt(end, c->last_ack_sent) && seq_le(in->seq, right);
}

static int reset_error(const struct tcp_conn *c)
{
    switch (c->state) {
    case TCP_SYN_RECV:
        return ECONNREFUSED;
    case TCP_CLOSE_WAIT:
        return EPIPE;
    default:
        return ECONNRESET;
    }
}

/* Resets and SYNs. True: the segment is done with. */
static bool check_flags(struct tcp_conn *c, struct tcp_in *in)
{
    if (in->flags & TCP_RST) {
        if (in->seq == c->rcv_nxt)
            tcp_done(c, reset_error(c));
        else
            tcp_challenge_ack(c);
        return true;
    }
    if (in->flags & TCP_SYN) {
        /* Both sides called: the peer's SYN comes again with its ACK. */
        if (c->state == TCP_SYN_RECV && in->seq == c->irs &&
            (in->flags & TCP_ACK)) {
            in->flags &= (uint8_t)~TCP_SYN;
            in->seq++;
            return false;
        }
        tcp_challenge_ack(c);
        return true;
    }
    return !(in->flags & TCP_ACK);
}

/* RFC 5961 5: acknowledgements of what was never sent, or long ago. */
static bool ack_is_sane(struct tcp_conn *c, const struct frame *f,
                        const struct tcp_in *in)
{
    if (c->state == TCP_SYN_RECV) {
        if (seq_lt(c->snd_una, in->ack) && seq_le(in->ack, c->snd_nxt))
            return true;
        tcp_reply_reset(c->s.net, f, in);
        return false;
    }
    if (seq_lt(c->snd_nxt, in->ack) ||
        seq_lt(in->ack, c->snd_una - MAX(c->snd_max_wnd, 65535u))) {
        tcp_challenge_ack(c);
        return false;
    }
    return true;
}

static void note_timestamp(struct tcp_conn *c, const struct tcp_in *in)
{
    if (!c->has_ts || !in->has_ts || seq_lt(c->last_ack_sent, in->seq) ||
        seq_lt(in->ts_val, c->ts_recent))
        return;
    c->ts_recent = in->ts_val;
    c->ts_recent_ms = tcp_now_ms(c->s.net);
}

/* Our FIN was acknowledged. */
static void fin_acked(struct tcp_conn *c)
{
    switch (c->state) {
    case TCP_FIN_WAIT1:
        c->state = TCP_FIN_WAIT2;
        if (c->is_orphan)
            c->aux_at = net_now(c->s.net) + TCP_FIN_WAIT2_NS;
        sock_note(&c->s, NET_EV_OUT);
        break;
    case TCP_CLOSING:
        tcp_enter_time_wait(c);
        break;
    case TCP_LAST_ACK:
        tcp_done(c, 0);
        break;
    default:
        break;
    }
}

/* Data for a program that has gone: tell the peer (RFC 1122 4.2.2.13). */
static bool refuse_data(struct tcp_conn *c, const struct tcp_in *in)
{
    if (!c->is_orphan || !in->len || c->fin_seen ||
        !seq_lt(c->rcv_nxt, in->seq + in->len))
        return false;
    tcp_abort(c, ECONNRESET);
    return true;
}

/* Takes f. */
static void input_synced(struct tcp_conn *c, struct frame *f,
                         struct tcp_in *in)
{
    if (fails_paws(c, in)) {
        net_count(c->s.net, NET_TCP_PAWS);
        answer_unacceptable(c, in);
        goto done;
    }
    if (!is_in_window(c, in)) {
        if (in->flags & TCP_SYN)
            tcp_challenge_ack(c);
        else if (!(in->flags & TCP_RST))
            answer_unacceptable(c, in);
        goto done;
    }
    if (check_flags(c, in) || !ack_is_sane(c, f, in))
        goto done;
    note_timestamp(c, in);
    c->keep_probes = 0;
    c->last_rx_ms = tcp_now_ms(c->s.net);
    if (c->state == TCP_SYN_RECV) {
        c->snd_una++; /* our SYN */
        c->snd_wnd = in->wnd << c->snd_wscale;
        c->snd_wl1 = in->seq - 1;
        tcp_established(c);
    }
    if (seq_le(c->snd_una, in->ack))
        tcp_process_ack(c, in);
    if (c->fin_sent && c->snd_una == c->snd_nxt)
        fin_acked(c);
    if (!tcp_is_synced(c) || refuse_data(c, in))
        goto done;
    if (!in->len && !(in->flags & TCP_FIN))
        goto done;
    frame_trim_head(f, f->payload_off);
    f->seq = in->seq;
    f->end = in->seq + in->len;
    tcp_receive_data(c, f, (in->flags & TCP_FIN) != 0);
    return;
done:
    frame_put(f);
}

/* Both ends are ours: nothing of this comes over a wire. */
static bool is_spoofed(const struct tcp_conn *c, const struct frame *f)
{
    return !(f->flags & FRAME_LOOPED) && c->route.nif &&
           (c->route.nif->caps & NETIF_LOOPBACK);
}

void tcp_input(struct tcp_conn *c, struct frame *f)
{
    struct tcp_in in;

    net_count(c->s.net, NET_TCP_IN);
    if (!ip_check(c->s.net, f) || is_spoofed(c, f)) {
        frame_put(f);
        return;
    }
    tcp_parse(f, &in);
    if (!c->is_hashed) {
        /* It left the table after the frame came: look again. */
        net_input_queue(c->s.net, f);
        return;
    }
    if (c->state == TCP_SYN_SENT)
        tcp_input_syn_sent(c, f, &in);
    else
        input_synced(c, f, &in);
}

void tcp_drain(struct tcp_conn *c)
{
    struct frame *f = sock_channel_take(&c->s);

    while (f) {
        struct frame *next = f->next;

        f->next = NULL;
        tcp_input(c, f);
        f = next;
    }
}

void tcp_work(struct net_sock *s)
{
    struct tcp_conn *c = to_tcp(s);

    sock_lock(s);
    tcp_drain(c);
    tcp_output(c);
    sock_unlock(s);
}
