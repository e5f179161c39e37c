/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The receive queue into the program's memory: one copy, made without a lock.
 * Only the reader takes frames off the queue, and there is one reader at a
 * time: what it noted under the lock stays where it is.
 */
#include "net/tcp_internal.h"

#define PIECES 16u

struct pieces {
    struct {
        uint8_t *data;
        uint32_t len;
    } p[PIECES];
    uint32_t nr, bytes;
};

/* Notes up to `want` bytes that start `skip` bytes into the queue. */
static void gather(struct tcp_conn *c, uint32_t skip, size_t want,
                   struct pieces *out)
{
    uint32_t off = c->rcvq_off + skip;

    out->nr = out->bytes = 0;
    for (struct frame *f = c->rcvq; f && out->bytes < want; f = f->next) {
        uint32_t total = frame_total(f);

        if (off >= total) {
            off -= total;
            continue;
        }
        while (off < total && out->nr < PIECES && out->bytes < want) {
            uint32_t n = frame_piece(f, off, &out->p[out->nr].data);

            n = (uint32_t)MIN((size_t)n, want - out->bytes);
            out->p[out->nr++].len = n;
            out->bytes += n;
            off += n;
        }
        if (out->nr == PIECES)
            break;
        off = 0;
    }
}

static uint32_t copy_pieces(const struct pieces *from, struct net_iter *to,
                            uint32_t flags)
{
    uint32_t done = 0;

    if (flags & TCP_RECV_DISCARD) {
        to->left -= from->bytes;
        return from->bytes;
    }
    for (uint32_t i = 0; i < from->nr; i++) {
        size_t n = to->copy(to, from->p[i].data, from->p[i].len);

        done += (uint32_t)n;
        if (n < from->p[i].len)
            break;
    }
    return done;
}

static void consume(struct tcp_conn *c, uint32_t n)
{
    c->rcvq_bytes -= n;
    c->rcvq_off += n;
    while (c->rcvq && c->rcvq_off >= frame_total(c->rcvq)) {
        struct frame *f = c->rcvq;

        c->rcvq_off -= frame_total(f);
        c->rcvq_mem -= frame_class_bytes(f->frame_class) + f->frag_len;
        c->rcvq = f->next;
        if (!c->rcvq)
            c->rcvq_last = NULL;
        f->next = NULL;
        frame_put(f);
    }
}

/* The window follows what the program reads in a round trip (what Linux calls
 * dynamic right-sizing). */
static void tune_rcvbuf(struct tcp_conn *c, uint32_t n)
{
    struct netstack *net = c->s.net;
    uint32_t now_ms = tcp_now_ms(net);
    uint32_t round_ms = MAX(tcp_srtt_us(c) / 1000, 1u);

    c->drs_copied += n;
    if (now_ms - c->drs_ms < round_ms)
        return;
    if (c->drs_copied > c->drs_space && !c->p.rcvbuf_fixed &&
        atomic_load_relaxed(&net->mem_used) < net->mem_max / 2) {
        uint32_t want = c->drs_copied * 2 + 16u * c->mss;

        c->p.rcvbuf = MIN(MAX(c->p.rcvbuf, want), TCP_RCVBUF_MAX);
        c->drs_space = c->drs_copied;
    }
    c->drs_copied = 0;
    c->drs_ms = now_ms;
}

/* Why nothing can be read: an error, 0 at the end, -EAGAIN. `keep`: bytes were
 * moved, so the error is for the next call. */
static ssize_t recv_status(struct tcp_conn *c, bool keep)
{
    int err;

    if (c->fin_received || c->is_read_shut)
        return 0;
    err = keep ? atomic_load_relaxed(&c->s.error) : sock_take_error(&c->s);
    if (err)
        return -err;
    if (c->state == TCP_LISTEN)
        return -ENOTCONN;
    if (c->state == TCP_CLOSE)
        return c->was_open ? 0 : -ENOTCONN;
    return -EAGAIN;
}

/* One round; `done` bytes were moved before. Returns bytes or why there are
 * none. */
static ssize_t recv_some(struct tcp_conn *c, ssize_t done,
                         struct net_iter *to, uint32_t flags)
{
    struct pieces pieces;
    uint32_t n;

    if (sock_channel_has(&c->s)) {
        tcp_drain(c);
        sock_queue_work(&c->s);
    }
    gather(c, flags & TCP_RECV_PEEK ? (uint32_t)done : 0, to->left, &pieces);
    if (!pieces.bytes)
        return recv_status(c, done || (flags & TCP_KEEP_ERROR));
    sock_unlock(&c->s);
    n = copy_pieces(&pieces, to, flags);
    sock_lock(&c->s);
    if (!(flags & TCP_RECV_PEEK)) {
        consume(c, n);
        tune_rcvbuf(c, n);
        if (tcp_window_grew(c))
            c->ack_now = true;
    }
    return n ? (ssize_t)n : -EFAULT;
}

ssize_t tcp_recv(struct tcp_conn *c, struct net_iter *to, uint32_t flags)
{
    ssize_t done = 0, n = 0;

    sock_lock(&c->s);
    while (to->left) {
        uint32_t before = c->rcvq_bytes;

        n = recv_some(c, done, to, flags);
        if (n <= 0)
            break;
        done += n;
        /* What came meanwhile is for the next call, unless there was none. */
        if ((uint32_t)n >= before && !sock_channel_has(&c->s))
            break;
    }
    if (c->ack_now && tcp_is_synced(c)) {
        sock_queue_work(&c->s);
        net_defer(c->s.net);
    }
    sock_unlock(&c->s);
    return done ? done : n;
}

/* The first frame of the queue, which is not empty. */
static struct frame *take_first(struct tcp_conn *c)
{
    struct frame *f = c->rcvq;
    uint32_t total = frame_total(f);

    c->rcvq = f->next;
    if (!c->rcvq)
        c->rcvq_last = NULL;
    c->rcvq_mem -= frame_class_bytes(f->frame_class) + f->frag_len;
    c->rcvq_bytes -= total - c->rcvq_off;
    if (c->rcvq_off)
        frame_trim_head(f, c->rcvq_off);
    c->rcvq_off = 0;
    return f;
}

ssize_t tcp_take(struct tcp_conn *c, struct frame_list *to, uint32_t max)
{
    uint32_t before;
    ssize_t n;

    sock_lock(&c->s);
    if (sock_channel_has(&c->s)) {
        tcp_drain(c);
        sock_queue_work(&c->s);
    }
    before = c->rcvq_bytes;
    for (; c->rcvq && max; max--)
        frame_list_add(to, take_first(c));
    n = (ssize_t)(before - c->rcvq_bytes);
    if (n) {
        tune_rcvbuf(c, (uint32_t)n);
        if (tcp_window_grew(c))
            c->ack_now = true;
    } else {
        n = recv_status(c, false);
    }
    if (c->ack_now && tcp_is_synced(c)) {
        sock_queue_work(&c->s);
        net_defer(c->s.net);
    }
    sock_unlock(&c->s);
    return n;
}

uint32_t tcp_unread(struct tcp_conn *c)
{
    uint32_t n;

    sock_lock(&c->s);
    tcp_drain(c);
    sock_queue_work(&c->s);
    n = c->rcvq_bytes;
    sock_unlock(&c->s);
    return n;
}
