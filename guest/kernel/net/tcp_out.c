/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What to send now: lost data again, new data, a FIN, an acknowledgement.
 * tcp_output is called after everything that may have changed the answer, from
 * the soft work or a timer; it leaves no unsent data behind that nothing will
 * wake up for.
 */
#include "net/tcp_internal.h"

static uint32_t window_room(const struct tcp_conn *c)
{
    uint32_t right = c->snd_una + c->snd_wnd;

    return seq_lt(c->snd_nxt, right) ? right - c->snd_nxt : 0;
}

static uint32_t cwnd_room(const struct tcp_conn *c, uint32_t mss)
{
    uint32_t pipe = tcp_pipe(c);

    if (pipe == 0)
        return MAX(c->cwnd, mss);
    /* Less than a segment waits for an acknowledgement. */
    return pipe + mss <= c->cwnd ? c->cwnd - pipe : 0;
}

/* May bytes that do not fill a segment wait? (Nagle after Minshall; CORK.) */
static bool must_hold(const struct tcp_conn *c)
{
    if (c->fin_queued)
        return false;
    if (c->p.cork || c->more_coming)
        return true;
    return !c->p.nodelay && seq_lt(c->snd_una, c->snd_small);
}

/* How many of the `avail` bytes go into the next segment; 0: none now. */
static uint32_t next_len(const struct tcp_conn *c, uint32_t avail,
                         uint32_t max, uint32_t mss)
{
    uint32_t wnd = window_room(c), room = MIN(wnd, cwnd_room(c, mss));
    uint32_t n = MIN(MIN(avail, max), room);

    if (n < avail && n < max) { /* there is more, and no room for it */
        if (n >= mss)
            return n - n % mss;
        /* RFC 9293 3.8.6.2.1: no silly windows. */
        return room == wnd && n && n >= c->snd_max_wnd / 2 ? n : 0;
    }
    if (n == avail && n % mss && must_hold(c))
        return n - n % mss;
    return n;
}

static void note_sent(struct tcp_conn *c)
{
    c->last_send_us = tcp_now_us(c->s.net);
    if (c->snd_nxt == c->snd_una)
        c->unacked_since_ms = tcp_now_ms(c->s.net);
    if (c->last_data_ms && tcp_now_ms(c->s.net) - c->last_data_ms < 40)
        c->is_pingpong = true;
}

/* The cursor to the next byte to send. */
static void advance_cursor(struct tcp_conn *c, uint32_t n)
{
    c->snd_chunk_off += n;
    while (c->snd_chunk && c->snd_chunk_off >= c->snd_chunk->len &&
           c->snd_chunk->next) {
        c->snd_chunk_off -= c->snd_chunk->len;
        c->snd_chunk = c->snd_chunk->next;
    }
}

/* Sends [snd_nxt, +len) and perhaps FIN; false: no memory. */
static bool send_segment(struct tcp_conn *c, uint32_t len, bool with_fin)
{
    struct tcp_emit e = {.seq = c->snd_nxt, .len = len, .flags = TCP_ACK};
    struct tcp_seg *seg;
    int sent;

    advance_cursor(c, 0);
    e.chunk = c->snd_chunk;
    e.chunk_off = c->snd_chunk_off;
    if (len && c->snd_nxt + len == c->snd_end)
        e.flags |= TCP_PSH;
    if (with_fin)
        e.flags |= TCP_FIN;
    seg = tcp_seg_new(c, c->snd_nxt, c->snd_nxt + len + with_fin);
    if (!seg)
        return false;
    sent = tcp_emit(c, &e);
    if (sent < 0) {
        tcp_seg_free(c, seg);
        return false;
    }
    if ((uint32_t)sent < len)
        seg->end = c->snd_nxt + (uint32_t)sent;
    else if (with_fin)
        seg->flags |= SEG_FIN;
    seg->chunk = e.chunk;
    seg->chunk_off = e.chunk_off;
    note_sent(c);
    seg->sent_us = c->last_send_us;
    if (c->segs_last)
        c->segs_last->next = seg;
    else
        c->segs = seg;
    c->segs_last = seg;
    if (seg->end - seg->seq < c->mss)
        c->snd_small = seg->end;
    c->snd_nxt = seg->end;
    c->fin_sent |= (seg->flags & SEG_FIN) != 0;
    advance_cursor(c, (uint32_t)sent);
    if (c->recovery == TCP_RECOVERY)
        c->prr_out += (uint32_t)sent;
    return true;
}

static bool send_new(struct tcp_conn *c)
{
    uint32_t mss, max = tcp_emit_max(c, &mss);

    if (c->snd_nxt == c->snd_una &&
        tcp_now_us(c->s.net) - c->last_send_us > MAX(c->rto_us, 1u))
        tcp_cc_idle(c);
    for (;;) {
        uint32_t avail = tcp_unsent_bytes(c), n;
        bool fin = c->fin_queued && !c->fin_sent;

        if (!tcp_has_unsent(c))
            return true;
        n = avail ? next_len(c, avail, max, mss) : 0;
        fin = fin && n == avail && window_room(c) > n;
        if (!n && !fin)
            return true;
        if (!send_segment(c, n, fin))
            return false;
    }
}

/* Repeats one record; cuts it to what one segment holds. */
static bool resend(struct tcp_conn *c, struct tcp_seg *seg, uint32_t max)
{
    uint32_t len = seg->end - seg->seq - ((seg->flags & SEG_FIN) != 0);
    struct tcp_emit e;
    int sent;

    if (len > max) {
        if (!tcp_seg_split(c, seg, seg->seq + max))
            return false;
        len = max;
    }
    e = (struct tcp_emit){.chunk = seg->chunk, .chunk_off = seg->chunk_off,
                          .seq = seg->seq, .len = len, .flags = TCP_ACK};
    if (seg->flags & SEG_FIN)
        e.flags |= TCP_FIN;
    if (seg->end == c->snd_nxt)
        e.flags |= TCP_PSH;
    sent = tcp_emit(c, &e);
    if (sent < 0 || ((uint32_t)sent < len &&
                     !tcp_seg_split(c, seg, seg->seq + (uint32_t)sent)))
        return false;
    if (seg->flags & SEG_LOST)
        c->lost -= seg->end - seg->seq;
    if (seg->flags & SEG_RETRANS)
        seg->flags |= SEG_AGAIN;
    seg->flags = (uint8_t)((seg->flags & ~SEG_LOST) | SEG_RETRANS);
    note_sent(c);
    seg->sent_us = c->last_send_us;
    c->total_retrans++;
    net_count(c->s.net, NET_TCP_RETRANS);
    if (c->recovery == TCP_RECOVERY)
        c->prr_out += seg->end - seg->seq;
    return true;
}

static bool send_lost(struct tcp_conn *c)
{
    uint32_t mss, max = tcp_emit_max(c, &mss);

    for (struct tcp_seg *seg = c->segs; seg && c->lost; seg = seg->next) {
        uint32_t pipe = tcp_pipe(c), room;

        if (!(seg->flags & SEG_LOST))
            continue;
        room = c->cwnd > pipe ? c->cwnd - pipe : 0;
        if (pipe && room < MIN(mss, seg->end - seg->seq))
            break;
        /* A peer that shrank its window gets its first segment only. */
        if (seg != c->segs &&
            seq_lt(c->snd_una + c->snd_wnd, seg->end))
            break;
        room = MAX(room - room % mss, mss);
        if (!resend(c, seg, MIN(max, room)))
            return false;
    }
    return true;
}

/* Something waits and nothing is on the way: look again later. */
static void arm_persist(struct tcp_conn *c, bool no_memory)
{
    nsec_t delay;

    if (c->snd_nxt != c->snd_una || c->rexmit_kind != REXMIT_NONE ||
        !tcp_has_unsent(c))
        return;
    if (no_memory)
        delay = TCP_NO_MEMORY_NS;
    else if (window_room(c) == 0)
        delay = tcp_rto_ns(c);
    else
        delay = TCP_CORK_NS;
    c->rexmit_kind = REXMIT_PERSIST;
    c->rexmit_at = net_now(c->s.net) + delay;
}

void tcp_output(struct tcp_conn *c)
{
    bool has_memory = true;
    uint32_t before = c->snd_nxt;

    if (c->state == TCP_SYN_RECV) { /* nothing but the handshake goes out */
        if (c->ack_now)
            tcp_send_ack(c);
        tcp_timer_update(c);
        return;
    }
    if (!tcp_is_synced(c))
        return;
    if (tcp_check_route(c)) {
        has_memory = send_lost(c) && send_new(c);
        if (c->ack_now)
            tcp_send_ack(c);
    }
    if (c->snd_nxt != c->snd_una && (c->rexmit_kind == REXMIT_NONE ||
                                     c->rexmit_kind == REXMIT_PERSIST))
        tcp_arm_rexmit(c);
    else if (c->snd_nxt != before && c->rexmit_kind == REXMIT_TLP)
        tcp_postpone_tail_probe(c);
    arm_persist(c, !has_memory);
    tcp_timer_update(c);
}

void tcp_send_ack(struct tcp_conn *c)
{
    struct tcp_emit e = {.seq = c->snd_nxt, .flags = TCP_ACK};

    if (tcp_emit(c, &e) < 0) {
        c->ack_now = false;
        c->delack_at = net_now(c->s.net) + TCP_NO_MEMORY_NS;
    }
}

void tcp_send_probe(struct tcp_conn *c)
{
    struct tcp_emit e = {.seq = c->snd_una - 1, .flags = TCP_ACK};

    (void)!tcp_emit(c, &e);
}

void tcp_send_window_probe(struct tcp_conn *c)
{
    if (window_room(c) && tcp_unsent_bytes(c)) {
        /* Held back by CORK, Nagle or a small window: enough of that. */
        uint32_t mss, max = tcp_emit_max(c, &mss);
        uint32_t n = MIN(MIN(tcp_unsent_bytes(c), max), window_room(c));

        if (n > mss)
            n -= n % mss;
        if (send_segment(c, n, false))
            tcp_arm_rexmit(c);
        return;
    }
    tcp_send_probe(c);
}

void tcp_send_tail_probe(struct tcp_conn *c)
{
    uint32_t mss, max = tcp_emit_max(c, &mss);
    uint32_t avail = tcp_unsent_bytes(c);
    struct tcp_seg *last = c->segs_last;
    uint32_t n = MIN(MIN(avail, mss), window_room(c));

    net_count(c->s.net, NET_TCP_TLP);
    if (n) {
        if (!send_segment(c, n, false))
            return;
        c->tlp_is_retrans = false;
    } else {
        if (!last || (last->flags & (SEG_SACKED | SEG_LOST)))
            return;
        if (last->end - last->seq > mss &&
            !tcp_seg_split(c, last, last->end - mss))
            return;
        if (!resend(c, c->segs_last, max))
            return;
        c->tlp_is_retrans = true;
    }
    c->tlp_out = true;
    c->tlp_end = c->snd_nxt;
}

void tcp_send_reset(struct tcp_conn *c)
{
    struct tcp_emit e = {.seq = c->snd_nxt, .flags = TCP_RST | TCP_ACK};

    net_count(c->s.net, NET_TCP_RST_OUT);
    if (tcp_check_route(c))
        (void)!tcp_emit(c, &e);
}
