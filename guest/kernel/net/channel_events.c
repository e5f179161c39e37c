/* SPDX-License-Identifier: BSD-2-Clause */
/* From what is ready to events; lending and giving back. See channel.h. */
#include "net/channel.h"

#include "capstan_calls.h"
#include "lib/errno.h"
#include "lib/string.h"
#include "net/inet_sock.h"

#define MAX_PIECES (FRAME_MAX_FRAGS + 1)
#define ENDS (NET_EV_RDHUP | NET_EV_HUP | NET_EV_ERR)

/* ---- events ---- */

static uint32_t room(const struct chan_loop *l)
{
    return CHAN_EVENTS - l->nr_events;
}

static struct capstan_event_abi *add(struct chan_loop *l, const struct chan *c,
                                     uint32_t what, uint64_t value)
{
    struct capstan_event_abi *e = &l->events[l->nr_events++];

    e->handle = c ? c->handle : 0;
    e->data = NULL;
    e->len = 0;
    e->what = what;
    e->value = value;
    e->from_len = 0;
    return e;
}

uint32_t chan_put_name(const struct chan *c, const struct net_endpoint *e,
                       uint8_t out[28])
{
    uint16_t family = c->ns->family == 4 ? AF_INET : AF_INET6;

    memset(out, 0, SOCKADDR_IN6_BYTES);
    memcpy(out, &family, sizeof(family));
    wire_put16(out + 2, e->port);
    if (family == AF_INET) {
        wire_put32(out + 4, addr_v4(&e->addr));
        return SOCKADDR_IN_BYTES;
    }
    memcpy(out + 8, e->addr.b, sizeof(e->addr.b));
    memcpy(out + 24, &e->scope, sizeof(e->scope));
    return SOCKADDR_IN6_BYTES;
}

static void tell_source(const struct chan *c, const struct frame *f,
                        struct capstan_event_abi *e)
{
    struct net_endpoint from = {.addr = f->src, .port = f->sport};

    if (addr_is_link_local(&f->src))
        from.scope = f->nif->index;
    e->from_len = chan_put_name(c, &from, e->from);
}

/* One event per piece of f. Takes f: it is lent until the next turn. */
static void lend(struct chan_loop *l, const struct chan *c, struct frame *f)
{
    struct capstan_event_abi *e;
    uint32_t off = 0, total = frame_total(f), more = 0;
    uint8_t *data = f->data;

    l->batch[l->nr_batch] = f;
    do {
        uint32_t n = frame_piece(f, off, &data);

        l->batch_at[l->nr_events] = l->nr_batch;
        e = add(l, c, CAPSTAN_EV_DATA | more, 0);
        e->data = data;
        e->len = n;
        off += n;
        if (c->kind == CHAN_UDP) {
            tell_source(c, f, e);
            e->what |= off < total ? CAPSTAN_EV_MORE : 0;
            more = CAPSTAN_EV_SAME;
        }
    } while (off < total);
    l->nr_batch++;
}

static void lend_all(struct chan_loop *l, const struct chan *c,
                     struct frame_list *frames)
{
    struct frame *f;

    while ((f = frame_list_take(frames)) != NULL)
        lend(l, c, f);
}

/* ---- kinds; true: done, false: no room for the rest ---- */

static bool serve_listener(struct chan_loop *l, struct chan *c)
{
    struct tcp_conn *tcp;
    struct chan *made;

    while (room(l)) {
        if (tcp_accept(c->tcp, &tcp))
            return true;
        if (!chan_adopt(l, tcp, &made)) { /* else: no memory, a reset went */
            struct capstan_event_abi *e =
                add(l, c, CAPSTAN_EV_ACCEPT, made->handle);
            e->from_len = chan_put_name(made, &made->ns->remote, e->from);
        }
    }
    return false;
}

static bool serve_udp(struct chan_loop *l, struct chan *c)
{
    while (!c->is_paused && room(l) >= MAX_PIECES) {
        struct frame_list frames = {0};

        if (udp_take(c->udp, &frames, room(l) / MAX_PIECES) == -EAGAIN)
            return true;
        lend_all(l, c, &frames);
    }
    return c->is_paused;
}

/* The handshake is over. False: it is not, or it failed. */
static bool is_open(struct chan_loop *l, struct chan *c)
{
    uint32_t now = tcp_poll(c->tcp);

    if (now & (NET_EV_ERR | NET_EV_HUP)) {
        int err = sock_take_error(c->ns);

        c->has_ended = true;
        c->is_connecting = false;
        add(l, c, CAPSTAN_EV_END, (uint64_t)(err ? err : ECONNREFUSED));
        return false;
    }
    if (!(now & NET_EV_OUT))
        return false;
    c->is_connecting = false;
    add(l, c, CAPSTAN_EV_OPEN, 0);
    return true;
}

static bool has_more(const struct chan *c)
{
    return atomic_load_relaxed(&c->tcp->rcvq) || sock_channel_has(c->ns);
}

static bool serve_tcp(struct chan_loop *l, struct chan *c, uint32_t due)
{
    if (room(l) < 3 * MAX_PIECES)
        return false;
    if (c->is_connecting && !is_open(l, c))
        return true;
    if (c->wants_room && (tcp_poll(c->tcp) & NET_EV_OUT)) {
        c->wants_room = false;
        add(l, c, CAPSTAN_EV_ROOM, 0);
    }
    if (!(due & ~NET_EV_OUT) || c->has_ended || c->is_paused)
        return true;
    while (room(l) >= 2 * MAX_PIECES) {
        struct frame_list frames = {0};
        uint32_t max = room(l) / MAX_PIECES - 1; /* END has room too */
        ssize_t n = tcp_take(c->tcp, &frames, max);

        lend_all(l, c, &frames);
        if (n <= 0 && n != -EAGAIN) {
            c->has_ended = true;
            add(l, c, CAPSTAN_EV_END, (uint64_t)-n);
        }
        /* An event tells of what comes after a look at the queue. */
        if (n <= 0 || (!(due & ENDS) && !has_more(c)))
            return true;
    }
    return false;
}

/* ---- collecting ---- */

/* Returns owned: the list's reference to its socket. */
static struct chan *take_ready(struct chan_loop *l, uint32_t *due)
{
    struct chan *c = NULL;
    bool was_on;

    if (atomic_load_relaxed(&l->ready.next) == &l->ready)
        return NULL;
    was_on = spin_lock_irqsave(&l->lock);
    if (!list_empty(&l->ready)) {
        c = list_first(&l->ready, struct chan, ready_link);
        list_del(&c->ready_link);
        c->is_queued = false;
        *due = c->due;
        c->due = 0;
    }
    spin_unlock_irqrestore(&l->lock, was_on);
    return c;
}

static void collect_sent(struct chan_loop *l)
{
    struct frame_outside *o;

    while (room(l) > CHAN_EVENTS / 2 && (o = chan_sent_take(l)) != NULL) {
        add(l, NULL, CAPSTAN_EV_SENT, o->token);
        chan_sent_free(o);
    }
}

void chan_collect(struct chan_loop *l)
{
    struct chan *c;
    uint32_t due = 0;
    bool is_done = true;

    l->nr_events = 0;
    collect_sent(l);
    while (is_done && (c = take_ready(l, &due)) != NULL) {
        is_done = c->kind == CHAN_LISTENER ? serve_listener(l, c)
                  : c->kind == CHAN_UDP    ? serve_udp(l, c)
                                           : serve_tcp(l, c, due);
        if (!is_done)
            chan_event(c, due);
        sock_put(c->ns);
    }
}

/* ---- what is lent ---- */

void chan_batch_free(struct chan_loop *l)
{
    for (uint32_t i = 0; i < l->nr_batch; i++)
        frame_put(l->batch[i]);
    l->nr_batch = l->nr_events = 0;
}

int64_t chan_hold(struct chan_loop *l, uint32_t at)
{
    if (at >= l->nr_events ||
        (l->events[at].what & 0xff) != CAPSTAN_EV_DATA ||
        l->batch_at[at] >= l->nr_batch)
        return -EINVAL;
    for (uint32_t i = 0; l->nr_held < CHAN_HELD_MAX && i < CHAN_HELD_MAX;
         i++) {
        struct chan_held *h = &l->held[(l->nr_held + i) % CHAN_HELD_MAX];

        if (h->frame)
            continue;
        h->frame = l->batch[l->batch_at[at]];
        frame_get(h->frame);
        h->gen = (h->gen + 1) & 0x7fffffff;
        l->nr_held++;
        return (int64_t)((uint64_t)h->gen << 32 | (uint32_t)(h - l->held));
    }
    return -ENOBUFS;
}

int chan_drop(struct chan_loop *l, uint64_t held)
{
    uint32_t at = (uint32_t)held;
    struct chan_held *h = &l->held[at % CHAN_HELD_MAX];

    if (at >= CHAN_HELD_MAX || !h->frame || h->gen != held >> 32)
        return -EINVAL;
    frame_put(h->frame);
    h->frame = NULL;
    l->nr_held--;
    return 0;
}

void chan_drop_all(struct chan_loop *l)
{
    for (uint32_t i = 0; i < CHAN_HELD_MAX; i++)
        if (l->held[i].frame)
            (void)chan_drop(l, (uint64_t)l->held[i].gen << 32 | i);
}

static bool has_bytes(struct frame *f, const uint8_t *data, size_t len)
{
    uint32_t off = 0, n;
    uint8_t *at;

    for (; (n = frame_piece(f, off, &at)) != 0; off += n)
        if (data >= at && data < at + n && len <= (size_t)(at + n - data))
            return true;
    return false;
}

struct frame *chan_lent(struct chan_loop *l, const void *data, size_t len)
{
    for (uint32_t i = 0; i < l->nr_batch; i++)
        if (has_bytes(l->batch[i], data, len))
            return l->batch[i];
    for (uint32_t i = 0; l->nr_held && i < CHAN_HELD_MAX; i++)
        if (l->held[i].frame && has_bytes(l->held[i].frame, data, len))
            return l->held[i].frame;
    return NULL;
}
