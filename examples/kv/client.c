/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Bytes in and out of a client. See kv.h.
 *
 * Answers gather in kv->out while one piece of input is looked at, and leave
 * with its end. When the stack takes no more, the rest waits in pieces; input
 * is not looked at until they are gone, so a client that does not read costs
 * no more than what it sent.
 */
#include "kv.h"

#include <stdlib.h>
#include <string.h>

#define UDP_HEADER 8
#define UDP_DATA 1392 /* of a datagram of 1400 */
#define DATAGRAM_MAX (8u << 20)

static void client_free(struct client *c)
{
    struct kv *kv = c->kv;

    text_stop(c);
    while (c->waiting) {
        struct piece *p = c->waiting;

        c->waiting = p->next;
        if (p->item) {
            struct shard *h = store_lock(kv->store, p->item->hash);

            item_put(h, p->item);
            store_unlock(kv->store, h);
        }
        free(p);
    }
    free(c->in);
    free(c);
    kv->n.connections--;
}

static void client_close(struct client *c)
{
    capstan_channel_close(c->channel);
    client_free(c);
}

/* ---- out ---- */

/* Without memory for an answer the connection ends: it would be wrong. */
static void wait_with(struct client *c, struct item *it, const void *bytes,
                      size_t len)
{
    struct piece *p = malloc(sizeof(*p) + (it ? 0 : len));

    if (!p) {
        c->must_close = true;
        return;
    }
    *p = (struct piece){.item = it, .len = len};
    if (it)
        it->refs++;
    else
        memcpy(p->bytes, bytes, len);
    if (!c->waiting) {
        c->last = &c->waiting;
        capstan_channel_pause(c->channel, true);
    }
    *c->last = p;
    c->last = &p->next;
}

static void add_datagram(struct kv *kv, const void *p, size_t n)
{
    if (kv->datagram_len + n > kv->datagram_room) {
        size_t room = 2 * (kv->datagram_len + n);
        char *more = room <= DATAGRAM_MAX ? realloc(kv->datagram, room) : NULL;

        if (!more)
            return; /* the answer lacks its end: UDP may lose it anyway */
        kv->datagram = more;
        kv->datagram_room = room;
    }
    memcpy(kv->datagram + kv->datagram_len, p, n);
    kv->datagram_len += n;
}

static void send_bytes(struct client *c, const char *p, size_t n)
{
    ssize_t done = 0;

    c->kv->n.bytes_written += n;
    if (c->is_udp) {
        add_datagram(c->kv, p, n);
        return;
    }
    if (!c->waiting)
        done = capstan_send(c->channel, p, n);
    if (done < 0)
        done = 0; /* no room; or it is over, and `ended` comes */
    if ((size_t)done < n)
        wait_with(c, NULL, p + done, n - (size_t)done);
}

static void flush(struct client *c)
{
    size_t n = c->kv->out_len;

    c->kv->out_len = 0;
    if (n)
        send_bytes(c, c->kv->out, n);
}

void client_put_more(struct client *c, const void *p, size_t n)
{
    flush(c);
    if (n > OUT_BYTES / 2)
        send_bytes(c, p, n);
    else
        client_put(c, p, n);
}

void client_put_value(struct client *c, struct item *it)
{
    size_t n = it->len + 2u;

    if (it->len < REF_MIN || c->is_udp || c->kv->store->is_shared) {
        client_put(c, item_value(it), n);
        return;
    }
    flush(c);
    it->refs++; /* until client_sent */
    if (c->waiting) {
        wait_with(c, it, NULL, n);
    } else if (capstan_send_ref(c->channel, item_value(it), n,
                                (uint64_t)it) == 0) {
        c->kv->n.bytes_written += n;
        return;
    } else {
        send_bytes(c, item_value(it), n);
    }
    it->refs--;
}

/* Nobody reads the item's bytes any more. */
void client_sent(void *arg, uint64_t token)
{
    struct kv *kv = arg;
    struct item *it = (struct item *)token;
    struct shard *h = store_lock(kv->store, it->hash);

    item_put(h, it);
    store_unlock(kv->store, h);
}

/* False: there is still no room. */
static bool send_piece(struct client *c, struct piece *p)
{
    const char *from = p->item ? item_value(p->item) : p->bytes;
    ssize_t n = capstan_send(c->channel, from + p->done, p->len - p->done);

    if (n > 0)
        p->done += (size_t)n;
    return p->done == p->len;
}

/* ---- in ---- */

static bool keep(struct client *c, const char *p, size_t n)
{
    if (c->in_len + n > c->in_room) {
        size_t room = 2 * (c->in_len + n);
        char *more = realloc(c->in, room);

        if (!more)
            return false;
        c->in = more;
        c->in_room = room;
    }
    memcpy(c->in + c->in_len, p, n);
    c->in_len += n;
    return true;
}

/* Looks at what was kept. */
static void look_again(struct client *c)
{
    size_t used = text_input(c, c->in, c->in_len);

    c->in_len -= used;
    memmove(c->in, c->in + used, c->in_len);
    if (!c->in_len && c->in_room > OUT_BYTES) {
        free(c->in);
        c->in = NULL;
        c->in_room = 0;
    }
}

/* After input or room; c may be gone afterwards. */
static void settle(struct client *c)
{
    flush(c);
    if (c->must_close || (c->has_ended && !c->waiting))
        client_close(c);
}

static void received(struct capstan_channel *ch, const struct capstan_data *d)
{
    struct client *c = capstan_channel_arg(ch);
    const char *p = d->bytes;
    size_t used = 0;

    c->kv->n.bytes_read += d->len;
    if (__builtin_expect(!c->in_len && !c->waiting, 1))
        used = text_input(c, p, d->len);
    if (used < d->len && !c->must_close) {
        bool was_waiting = c->waiting != NULL;

        if (!keep(c, p + used, d->len - used))
            c->must_close = true;
        else if (!used && !was_waiting)
            look_again(c);
    }
    settle(c);
}

static void room(struct capstan_channel *ch)
{
    struct client *c = capstan_channel_arg(ch);

    while (c->waiting && send_piece(c, c->waiting)) {
        struct piece *p = c->waiting;

        c->waiting = p->next;
        if (p->item)
            client_sent(c->kv, (uint64_t)p->item);
        free(p);
    }
    if (!c->waiting && !c->must_close) {
        capstan_channel_pause(ch, false);
        look_again(c);
    }
    settle(c);
}

static void ended(struct capstan_channel *ch, int error)
{
    struct client *c = capstan_channel_arg(ch);

    c->has_ended = true;
    if (error || !c->waiting) /* else it still reads */
        client_close(c);
}

static const struct capstan_handlers client_handlers = {
    .received = received,
    .ended = ended,
    .room = room,
};

static void accepted(struct capstan_channel *listener,
                     struct capstan_channel *ch)
{
    struct kv *kv = capstan_channel_arg(listener);
    struct client *c = calloc(1, sizeof(*c));

    if (!c) {
        capstan_channel_abort(ch);
        return;
    }
    c->kv = kv;
    c->channel = ch;
    kv->n.connections++;
    kv->n.total_connections++;
    capstan_channel_set(ch, &client_handlers, c);
}

const struct capstan_handlers listener_handlers = {.accepted = accepted};

/* ---- UDP: a header of four 16-bit words: request, part, parts, 0 ---- */

static void put16(char *p, size_t v)
{
    p[0] = (char)(v >> 8);
    p[1] = (char)v;
}

static void answer(struct kv *kv, struct capstan_channel *ch,
                   const struct capstan_data *d, const char *id)
{
    size_t parts = (kv->datagram_len + UDP_DATA - 1) / UDP_DATA;
    char part[UDP_HEADER + UDP_DATA];

    for (size_t i = 0; i < parts && i <= 0xffff; i++) {
        size_t at = i * UDP_DATA, n = kv->datagram_len - at;

        n = n < UDP_DATA ? n : UDP_DATA;
        memcpy(part, id, 2);
        put16(part + 2, i);
        put16(part + 4, parts);
        put16(part + 6, 0);
        memcpy(part + UDP_HEADER, kv->datagram + at, n);
        (void)capstan_send_to(ch, part, UDP_HEADER + n, d->from, d->from_len);
    }
    kv->datagram_len = 0;
}

static void datagram(struct capstan_channel *ch, const struct capstan_data *d)
{
    struct kv *kv = capstan_channel_arg(ch);
    struct client c = {.kv = kv, .channel = ch, .is_udp = true};
    const char *p = d->bytes;
    size_t used = UDP_HEADER;

    /* Requests are one datagram in one piece (memcached's rule for the first). */
    if (d->len <= UDP_HEADER || !d->is_first)
        return;
    kv->n.bytes_read += d->len;
    if (p[4] || p[5] != 1 || !d->is_last) {
        client_say(&c, "SERVER_ERROR multi-packet request not supported\r\n");
        used = d->len;
    }
    while (used < d->len && !c.must_close) {
        size_t n = text_input(&c, p + used, d->len - used);

        flush(&c);
        answer(kv, ch, d, p);
        if (!n)
            break; /* a line without its end */
        used += n;
    }
    flush(&c);
    answer(kv, ch, d, p);
    text_stop(&c);
}

const struct capstan_handlers udp_handlers = {.received = datagram};
