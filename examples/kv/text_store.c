/* SPDX-License-Identifier: BSD-2-Clause */
/* set, add, replace, append, prepend, cas: the line, then the value. */
#include "text.h"

#include <string.h>

static void store_failed(struct client *c, const struct item_facts *f,
                         const char *text)
{
    struct store *s = c->kv->store;
    struct shard *h;
    struct item *it;

    text_say(c, text);
    c->swallow = (size_t)f->len + 2;
    if (c->command != SET) /* or the old value would stay, as if it were new */
        return;
    h = store_lock(s, f->hash);
    it = item_find(s, h, f->hash, f->key, f->key_len);
    if (it)
        item_unlink(h, it);
    store_unlock(s, h);
}

static void begin_store(struct client *c, const struct item_facts *f)
{
    struct store *s = c->kv->store;
    struct shard *h;

    if (!item_fits(s, f)) {
        store_failed(c, f, "SERVER_ERROR object too large for cache\r\n");
        return;
    }
    h = store_lock(s, f->hash);
    c->storing = item_new(s, h, f);
    store_unlock(s, h);
    c->stored = 0;
    if (!c->storing)
        store_failed(c, f,
                     "SERVER_ERROR out of memory storing object\r\n");
}

void text_store(struct client *c, const struct line *l, uint32_t command)
{
    struct item_facts f = {.key = l->w[1].p};
    int32_t exptime, len;
    int plain = command == CAS ? 6 : 5;

    if (l->nr != plain && l->nr != plain + 1) {
        client_say(c, "ERROR\r\n");
        return;
    }
    text_note_quiet(c, l);
    c->command = command;
    if (l->w[1].n > KEY_MAX || !number_u32(l->w[2].p, l->w[2].n, &f.flags) ||
        !number_i32(l->w[3].p, l->w[3].n, &exptime) ||
        !number_i32(l->w[4].p, l->w[4].n, &len) ||
        (command == CAS &&
         !number_u64(l->w[5].p, l->w[5].n, &c->wanted_cas)) ||
        len < 0 || len > INT32_MAX - 2) {
        text_say(c, FORMAT_ERROR);
        return;
    }
    f.key_len = (uint8_t)l->w[1].n;
    f.len = (uint32_t)len;
    f.hash = store_hash(f.key, f.key_len);
    f.expires = store_time(c->kv->store, exptime);
    c->kv->n.set++;
    begin_store(c, &f);
}

/* Old and new value as one, in a new item; NULL: no memory, or too large. */
static struct item *join(struct store *s, struct shard *h, struct item *old,
                         struct item *with, bool in_front)
{
    struct item_facts f = {.key = old->bytes, .key_len = old->key_len,
                           .hash = old->hash, .flags = old->flags,
                           .expires = old->expires,
                           .len = old->len + with->len};
    struct item *first = in_front ? with : old, *it;

    old->refs++; /* room for the new one may be made by throwing it out */
    it = item_fits(s, &f) ? item_new(s, h, &f) : NULL;
    if (it) {
        memcpy(item_value(it), item_value(first), first->len);
        memcpy(item_value(it) + first->len,
               item_value(first == old ? with : old), it->len - first->len);
    }
    return it;
}

void text_replace(struct store *s, struct shard *h, struct item *old,
                    struct item *it)
{
    if (old && old->is_linked)
        item_unlink(h, old);
    item_link(s, h, it);
}

static const char *store_joined(struct client *c, struct shard *h,
                                struct item *old)
{
    struct store *s = c->kv->store;
    struct item *it = join(s, h, old, c->storing, c->command == PREPEND);

    if (it) {
        text_replace(s, h, old, it);
        item_put(h, it);
    }
    item_put(h, old);
    return it ? "STORED\r\n" : "NOT_STORED\r\n"; /* also when too large */
}

static const char *store_cas(struct client *c, struct shard *h,
                             struct item *old)
{
    if (!old) {
        c->kv->n.cas_misses++;
        return "NOT_FOUND\r\n";
    }
    if (old->cas != c->wanted_cas) {
        c->kv->n.cas_badval++;
        return "EXISTS\r\n";
    }
    c->kv->n.cas_hits++;
    text_replace(c->kv->store, h, old, c->storing);
    return "STORED\r\n";
}

/* The value is there: what becomes of it? */
static const char *finish_store(struct client *c, struct shard *h)
{
    struct item *it = c->storing, *old;

    if (memcmp(item_value(it) + it->len, "\r\n", 2) != 0)
        return "CLIENT_ERROR bad data chunk\r\n";
    old = item_find(c->kv->store, h, it->hash, it->bytes, it->key_len);
    switch (c->command) {
    case ADD:
        if (!old)
            break;
        item_touch(c->kv->store, h, old);
        return "NOT_STORED\r\n";
    case REPLACE:
        if (!old)
            return "NOT_STORED\r\n";
        break;
    case APPEND:
    case PREPEND:
        return old ? store_joined(c, h, old) : "NOT_STORED\r\n";
    case CAS:
        return store_cas(c, h, old);
    default:
        break;
    }
    text_replace(c->kv->store, h, old, it);
    return "STORED\r\n";
}

/* Bytes of a value; returns how many were its. */
size_t text_value(struct client *c, const char *p, size_t n)
{
    struct item *it = c->storing;
    size_t want = (size_t)it->len + 2 - c->stored;
    struct shard *h;

    n = n < want ? n : want;
    memcpy(item_value(it) + c->stored, p, n);
    c->stored += (uint32_t)n;
    if (n < want)
        return n;
    h = store_lock(c->kv->store, it->hash);
    text_say(c, finish_store(c, h));
    c->storing = NULL;
    item_put(h, it);
    store_unlock(c->kv->store, h);
    return n;
}

void text_stop(struct client *c)
{
    struct shard *h;

    if (!c->storing)
        return;
    h = store_lock(c->kv->store, c->storing->hash);
    item_put(h, c->storing);
    store_unlock(c->kv->store, h);
    c->storing = NULL;
}
