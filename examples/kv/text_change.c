/* SPDX-License-Identifier: BSD-2-Clause */
/* incr, decr, touch, delete, flush_all, verbosity. */
#include "text.h"

#include <string.h>

static void found(struct client *c, const struct item *it, uint64_t *hits,
                  uint64_t *misses, const char *text)
{
    *(it ? hits : misses) += 1;
    text_say(c, it ? text : "NOT_FOUND\r\n");
}

/* The number in its place, or in a new item when that is longer or the old
 * one's bytes are being sent. False: no memory. */
static bool set_number(struct client *c, struct shard *h, struct item *it,
                       const struct word *w)
{
    struct store *s = c->kv->store;
    struct item_facts f = {.key = it->bytes, .key_len = it->key_len,
                           .hash = it->hash, .flags = it->flags,
                           .expires = it->expires, .len = (uint32_t)w->n};
    struct item *fresh;

    if (w->n <= it->len && it->refs == 1) {
        memcpy(item_value(it), w->p, w->n);
        memset(item_value(it) + w->n, ' ', it->len - w->n);
        it->cas = store_next_cas(s);
        return true;
    }
    it->refs++;
    fresh = item_new(s, h, &f);
    if (fresh) {
        memcpy(item_value(fresh), w->p, w->n);
        text_replace(s, h, it, fresh);
        item_put(h, fresh);
    }
    item_put(h, it);
    return fresh != NULL;
}

static void add_number(struct client *c, const struct word *key,
                       uint64_t delta, bool is_incr)
{
    struct store *s = c->kv->store;
    struct counts *n = &c->kv->n;
    uint32_t hash = store_hash(key->p, key->n);
    struct shard *h = store_lock(s, hash);
    struct item *it = item_find(s, h, hash, key->p, key->n);
    const char *text = "NOT_FOUND\r\n";
    char number[24];
    uint64_t v;

    *(is_incr ? it ? &n->incr_hits : &n->incr_misses
              : it ? &n->decr_hits : &n->decr_misses) += 1;
    if (it && (!it->len ||
               !number_u64(item_value(it), it->len, &v))) {
        text = "CLIENT_ERROR cannot increment or decrement non-numeric "
               "value\r\n";
    } else if (it) {
        struct word w = {.p = number};

        v = is_incr ? v + delta : v > delta ? v - delta : 0;
        w.n = number_put(number, v);
        text = "SERVER_ERROR out of memory in incr\r\n";
        if (set_number(c, h, it, &w)) {
            memcpy(number + w.n, "\r\n", 3);
            text = number;
        }
    }
    store_unlock(s, h);
    text_say(c, text);
}

void text_arith(struct client *c, const struct line *l, bool is_incr)
{
    uint64_t delta;

    if (l->nr != 3 && l->nr != 4) {
        client_say(c, "ERROR\r\n");
        return;
    }
    text_note_quiet(c, l);
    if (l->w[1].n > KEY_MAX)
        text_say(c, FORMAT_ERROR);
    else if (!number_u64(l->w[2].p, l->w[2].n, &delta))
        text_say(c, "CLIENT_ERROR invalid numeric delta argument\r\n");
    else
        add_number(c, &l->w[1], delta, is_incr);
}

void text_touch(struct client *c, const struct line *l)
{
    struct store *s = c->kv->store;
    struct item *it;
    struct shard *h;
    uint32_t hash;
    int32_t exptime;

    if (l->nr != 3 && l->nr != 4) {
        client_say(c, "ERROR\r\n");
        return;
    }
    text_note_quiet(c, l);
    if (l->w[1].n > KEY_MAX) {
        text_say(c, FORMAT_ERROR);
        return;
    }
    if (!number_i32(l->w[2].p, l->w[2].n, &exptime)) {
        text_say(c, "CLIENT_ERROR invalid exptime argument\r\n");
        return;
    }
    hash = store_hash(l->w[1].p, l->w[1].n);
    h = store_lock(s, hash);
    it = item_find(s, h, hash, l->w[1].p, l->w[1].n);
    if (it) {
        it->expires = store_time(s, exptime);
        item_touch(s, h, it);
    }
    store_unlock(s, h);
    c->kv->n.touch++;
    found(c, it, &c->kv->n.touch_hits, &c->kv->n.touch_misses, "TOUCHED\r\n");
}

void text_delete(struct client *c, const struct line *l)
{
    struct store *s = c->kv->store;
    bool zero, is_good;
    struct item *it;
    struct shard *h;
    uint32_t hash;

    if (l->nr < 2 || l->nr > 4) {
        client_say(c, "ERROR\r\n");
        return;
    }
    zero = l->nr > 2 && text_is(&l->w[2], "0");
    text_note_quiet(c, l);
    is_good = l->nr == 2 || (l->nr == 3 && (zero || c->is_quiet)) ||
              (l->nr == 4 && zero && c->is_quiet);
    if (!is_good) {
        text_say(c, "CLIENT_ERROR bad command line format.  Usage: delete <key> "
               "[noreply]\r\n");
        return;
    }
    if (l->w[1].n > KEY_MAX) {
        text_say(c, FORMAT_ERROR);
        return;
    }
    hash = store_hash(l->w[1].p, l->w[1].n);
    h = store_lock(s, hash);
    it = item_find(s, h, hash, l->w[1].p, l->w[1].n);
    if (it)
        item_unlink(h, it);
    store_unlock(s, h);
    found(c, it, &c->kv->n.delete_hits, &c->kv->n.delete_misses,
          "DELETED\r\n");
}

/* ---- the rest ---- */

void text_flush(struct client *c, const struct line *l)
{
    struct store *s = c->kv->store;
    int32_t delay = 0;

    if (l->nr > 3) {
        client_say(c, "ERROR\r\n");
        return;
    }
    text_note_quiet(c, l);
    if (l->nr != (c->is_quiet ? 2 : 1) &&
        !number_i32(l->w[1].p, l->w[1].n, &delay)) {
        text_say(c, "CLIENT_ERROR invalid exptime argument\r\n");
        return;
    }
    c->kv->n.flush++;
    if (delay > 0)
        __atomic_store_n(&s->flush_at, store_time(s, delay) - 1,
                         __ATOMIC_RELAXED);
    else
        __atomic_store_n(&s->flush_cas, store_next_cas(s), __ATOMIC_RELAXED);
    text_say(c, "OK\r\n");
}

void text_verbosity(struct client *c, const struct line *l)
{
    uint32_t level;

    if (l->nr < 2) {
        client_say(c, "ERROR\r\n");
        return;
    }
    text_note_quiet(c, l);
    if (l->nr == 2 && c->is_quiet) /* there is no level in the line */
        text_say(c, "OK\r\n");
    else
        text_say(c, number_u32(l->w[1].p, l->w[1].n, &level) ? "OK\r\n"
                                                        : FORMAT_ERROR);
}
