/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The program's bytes into the send queue: one copy, made without a lock. The
 * room behind the last frame's bytes is the writer's until it says how much it
 * filled; there is one writer at a time.
 */
#include "net/tcp_internal.h"

#define OUTPUT_AT (64u << 10) /* unsent bytes that do not wait for the turn */

struct piece {
    struct frame *f; /* one reference */
    uint8_t *at;
    uint32_t room;
    bool is_new;
};

/* `keep`: bytes were moved, so the error is for the next call. */
static int send_error(struct tcp_conn *c, bool keep)
{
    int err = keep ? atomic_load_relaxed(&c->s.error)
                   : sock_take_error(&c->s);

    if (err)
        return -err;
    if (c->state == TCP_SYN_SENT || c->state == TCP_SYN_RECV)
        return -EAGAIN;
    return tcp_may_send(c) ? 0 : -EPIPE;
}

/* How much may be queued now. */
static uint32_t send_room(const struct tcp_conn *c)
{
    uint32_t used = c->snd_end - c->snd_una;

    return used < c->p.sndbuf ? c->p.sndbuf - used : 0;
}

/* Room for up to `want` bytes. */
static int take_piece(struct tcp_conn *c, uint32_t want, struct piece *p)
{
    struct frame *last = c->sndq_last;
    enum frame_class k;

    if (last && frame_tailroom(last) >= MIN(want, 64u)) {
        frame_get(last);
        *p = (struct piece){.f = last, .at = last->data + last->len,
                            .room = MIN(want, frame_tailroom(last))};
        return 0;
    }
    k = want <= frame_room(FRAME_SMALL, 0) &&
                (!last || last->frame_class == FRAME_OUTSIDE)
            ? FRAME_SMALL
            : FRAME_LARGE;
    p->f = frame_alloc(c->s.net, k, 0, FRAME_FOR_DATA);
    if (!p->f && k == FRAME_LARGE) {
        k = FRAME_SMALL;
        p->f = frame_alloc(c->s.net, k, 0, FRAME_FOR_DATA);
    }
    if (!p->f)
        return -ENOBUFS;
    p->at = p->f->data;
    p->room = MIN(want, frame_room(k, 0));
    p->is_new = true;
    return 0;
}

/* Puts f, which has its bytes, at the end of the queue. Takes f. */
static void append(struct tcp_conn *c, struct frame *f)
{
    f->seq = c->snd_end;
    f->next = NULL;
    if (c->sndq_last)
        c->sndq_last->next = f;
    else
        c->sndq = f;
    c->sndq_last = f;
    if (!c->snd_chunk) {
        c->snd_chunk = f;
        c->snd_chunk_off = 0;
    }
    c->snd_end += f->len;
}

/* n bytes of the piece are filled. Takes its reference. */
static void give_piece(struct tcp_conn *c, struct piece *p, uint32_t n)
{
    struct frame *f = p->f;

    if (n && c->sndq_last == f) {
        f->len += n;
        c->snd_end += n;
        frame_put(f);
        return;
    }
    if (!n) {
        frame_put(f);
        return;
    }
    /* A new frame, or one that was acknowledged while it was being filled. */
    f->data = p->at;
    f->len = n;
    append(c, f);
}

/* One round: room under the lock, the copy without it. Returns bytes, or an
 * error; *is_end: the program's memory could not be read further. */
static ssize_t send_some(struct tcp_conn *c, struct net_iter *from,
                         bool keep, bool *is_end)
{
    struct piece p = {0};
    uint32_t room;
    size_t n;
    int err = send_error(c, keep);

    if (err)
        return err;
    room = send_room(c);
    if (!room) {
        c->is_snd_full = true;
        return -EAGAIN;
    }
    err = take_piece(c, (uint32_t)MIN((size_t)room, from->left), &p);
    if (err) {
        /* Others have the memory. Perhaps no acknowledgement will ever come
         * to tell the writer to go on: the timer does. */
        c->is_snd_full = true;
        c->room_at = net_now(c->s.net) + TCP_NO_MEMORY_NS;
        tcp_timer_update(c);
        return -EAGAIN;
    }
    sock_unlock(&c->s);
    n = from->copy(from, p.at, p.room);
    sock_lock(&c->s);
    *is_end = n < p.room;
    if (!tcp_may_send(c)) {
        frame_put(p.f);
        return send_error(c, keep);
    }
    give_piece(c, &p, (uint32_t)n);
    if (tcp_unsent_bytes(c) >= OUTPUT_AT) {
        c->more_coming = from->left && !*is_end;
        tcp_output(c);
    }
    return n ? (ssize_t)n : -EFAULT;
}

ssize_t tcp_send(struct tcp_conn *c, struct net_iter *from, uint32_t flags)
{
    ssize_t done = 0, n = 0;
    bool is_end = false;

    sock_lock(&c->s);
    tcp_drain(c);
    if (!from->left)
        n = send_error(c, flags & TCP_KEEP_ERROR);
    while (from->left && !is_end) {
        n = send_some(c, from, done || (flags & TCP_KEEP_ERROR), &is_end);
        if (n < 0)
            break;
        done += n;
    }
    c->more_coming = (flags & TCP_SEND_MORE) && !from->left;
    if (done || sock_channel_has(&c->s) || c->ack_now) {
        sock_queue_work(&c->s);
        net_defer(c->s.net);
    }
    sock_unlock(&c->s);
    return done ? done : n;
}

int tcp_send_frame(struct tcp_conn *c, struct frame *f)
{
    int err;

    sock_lock(&c->s);
    tcp_drain(c);
    err = send_error(c, false);
    if (!err && !send_room(c)) {
        c->is_snd_full = true;
        err = -EAGAIN;
    }
    if (!err) {
        append(c, f);
        c->more_coming = false;
        if (tcp_unsent_bytes(c) >= OUTPUT_AT)
            tcp_output(c);
    }
    sock_queue_work(&c->s);
    net_defer(c->s.net);
    sock_unlock(&c->s);
    return err;
}

uint32_t tcp_unsent(struct tcp_conn *c)
{
    uint32_t n;

    sock_lock(&c->s);
    n = tcp_is_synced(c) ? c->snd_end - c->snd_una : 0;
    sock_unlock(&c->s);
    return n;
}
