/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * memcached's text protocol: the same answers to the same lines, those to bad
 * ones too. See kv.h.
 *
 * A `get` of one key, most of all requests, is recognised at once; everything
 * else is cut into words first.
 */
#include "kv.h"

#include <string.h>

#define WORDS_MAX 24
#define FORMAT_ERROR "CLIENT_ERROR bad command line format\r\n"

enum { SET = 1, ADD, REPLACE, APPEND, PREPEND, CAS };

struct word {
    const char *p;
    size_t n;
};

struct line {
    struct word w[WORDS_MAX];
    int nr;
    const char *rest, *end; /* behind the words there was room for */
};

static bool is_word(const struct word *w, const char *text)
{
    return w->n == strlen(text) && !memcmp(w->p, text, w->n);
}

static void cut(struct line *l, const char *p, const char *end)
{
    l->nr = 0;
    l->end = end;
    while (p < end && l->nr < WORDS_MAX) {
        const char *from;

        while (p < end && *p == ' ')
            p++;
        from = p;
        while (p < end && *p != ' ')
            p++;
        if (p > from)
            l->w[l->nr++] = (struct word){from, (size_t)(p - from)};
    }
    l->rest = p;
}

/* An answer that `noreply` takes away. */
static void say(struct client *c, const char *text)
{
    if (!c->is_quiet)
        client_say(c, text);
}

static void note_quiet(struct client *c, const struct line *l)
{
    c->is_quiet = l->nr && is_word(&l->w[l->nr - 1], "noreply");
}

/* ---- get ---- */

/* "VALUE", the item; true: it is there. */
static bool give(struct client *c, const char *key, size_t n, bool with_cas)
{
    struct store *s = c->kv->store;
    uint32_t hash = store_hash(key, n);
    struct shard *h = store_lock(s, hash);
    struct item *it = item_find(s, h, hash, key, n);

    if (it) {
        size_t line = (size_t)it->key_len + it->head_len;
        char cas[24];

        item_touch(s, h, it);
        client_put(c, "VALUE ", 6);
        if (!with_cas && it->len < REF_MIN) {
            client_put(c, it->bytes, line + it->len + 2);
        } else {
            client_put(c, it->bytes, with_cas ? line - 2 : line);
            if (with_cas) {
                size_t k = number_put(cas + 1, it->cas) + 1;

                cas[0] = ' ';
                memcpy(cas + k, "\r\n", 2);
                client_put(c, cas, k + 2);
            }
            client_put_value(c, it);
        }
    }
    store_unlock(s, h);
    c->kv->n.get++;
    *(it ? &c->kv->n.get_hits : &c->kv->n.get_misses) += 1;
    return it != NULL;
}

/* The keys of a line of any length: gives them, or only looks whether they are
 * short enough. `l` has the first words. */
static bool each_key(struct client *c, struct line l, bool do_give,
                     bool with_cas)
{
    for (int i = 1;; i = 0) {
        for (; i < l.nr; i++) {
            if (l.w[i].n > KEY_MAX)
                return false;
            if (do_give)
                (void)give(c, l.w[i].p, l.w[i].n, with_cas);
        }
        if (l.rest >= l.end)
            return true;
        cut(&l, l.rest, l.end);
    }
}

static void run_get(struct client *c, const struct line *l, bool with_cas)
{
    if (l->nr < 2) {
        client_say(c, "ERROR\r\n");
    } else if (!each_key(c, *l, false, with_cas)) {
        client_say(c, FORMAT_ERROR);
    } else {
        (void)each_key(c, *l, true, with_cas);
        client_put(c, "END\r\n", 5);
    }
}

/* ---- set and its kin: the line, then the value ---- */

static void store_failed(struct client *c, const struct item_facts *f,
                         const char *text)
{
    struct store *s = c->kv->store;
    struct shard *h;
    struct item *it;

    say(c, text);
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

static void run_store(struct client *c, const struct line *l, uint32_t command)
{
    struct item_facts f = {.key = l->w[1].p};
    int32_t exptime, len;
    int plain = command == CAS ? 6 : 5;

    if (l->nr != plain && l->nr != plain + 1) {
        client_say(c, "ERROR\r\n");
        return;
    }
    note_quiet(c, l);
    c->command = command;
    if (l->w[1].n > KEY_MAX || !number_u32(l->w[2].p, l->w[2].n, &f.flags) ||
        !number_i32(l->w[3].p, l->w[3].n, &exptime) ||
        !number_i32(l->w[4].p, l->w[4].n, &len) ||
        (command == CAS &&
         !number_u64(l->w[5].p, l->w[5].n, &c->wanted_cas)) ||
        len < 0 || len > INT32_MAX - 2) {
        say(c, FORMAT_ERROR);
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

static void replace(struct store *s, struct shard *h, struct item *old,
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
        replace(s, h, old, it);
        item_put(h, it);
    }
    item_put(h, old);
    return it ? "STORED\r\n" : "SERVER_ERROR out of memory storing object\r\n";
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
    replace(c->kv->store, h, old, c->storing);
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
    replace(c->kv->store, h, old, it);
    return "STORED\r\n";
}

/* Bytes of a value; returns how many were its. */
static size_t take_value(struct client *c, const char *p, size_t n)
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
    say(c, finish_store(c, h));
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

/* ---- incr, decr, touch, delete ---- */

static void found(struct client *c, const struct item *it, uint64_t *hits,
                  uint64_t *misses, const char *text)
{
    *(it ? hits : misses) += 1;
    say(c, it ? text : "NOT_FOUND\r\n");
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
        replace(s, h, it, fresh);
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
    say(c, text);
}

static void run_arith(struct client *c, const struct line *l, bool is_incr)
{
    uint64_t delta;

    if (l->nr != 3 && l->nr != 4) {
        client_say(c, "ERROR\r\n");
        return;
    }
    note_quiet(c, l);
    if (l->w[1].n > KEY_MAX)
        say(c, FORMAT_ERROR);
    else if (!number_u64(l->w[2].p, l->w[2].n, &delta))
        say(c, "CLIENT_ERROR invalid numeric delta argument\r\n");
    else
        add_number(c, &l->w[1], delta, is_incr);
}

static void run_touch(struct client *c, const struct line *l)
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
    note_quiet(c, l);
    if (l->w[1].n > KEY_MAX) {
        say(c, FORMAT_ERROR);
        return;
    }
    if (!number_i32(l->w[2].p, l->w[2].n, &exptime)) {
        say(c, "CLIENT_ERROR invalid exptime argument\r\n");
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

static void run_delete(struct client *c, const struct line *l)
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
    zero = l->nr > 2 && is_word(&l->w[2], "0");
    note_quiet(c, l);
    is_good = l->nr == 2 || (l->nr == 3 && (zero || c->is_quiet)) ||
              (l->nr == 4 && zero && c->is_quiet);
    if (!is_good) {
        say(c, "CLIENT_ERROR bad command line format.  Usage: delete <key> "
               "[noreply]\r\n");
        return;
    }
    if (l->w[1].n > KEY_MAX) {
        say(c, FORMAT_ERROR);
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

static void run_flush(struct client *c, const struct line *l)
{
    struct store *s = c->kv->store;
    int32_t delay = 0;

    if (l->nr > 3) {
        client_say(c, "ERROR\r\n");
        return;
    }
    note_quiet(c, l);
    if (l->nr != (c->is_quiet ? 2 : 1) &&
        !number_i32(l->w[1].p, l->w[1].n, &delay)) {
        say(c, "CLIENT_ERROR invalid exptime argument\r\n");
        return;
    }
    c->kv->n.flush++;
    if (delay > 0)
        __atomic_store_n(&s->flush_at, store_time(s, delay) - 1,
                         __ATOMIC_RELAXED);
    else
        __atomic_store_n(&s->flush_cas, store_next_cas(s), __ATOMIC_RELAXED);
    say(c, "OK\r\n");
}

static void run_verbosity(struct client *c, const struct line *l)
{
    uint32_t level;

    if (l->nr < 2) {
        client_say(c, "ERROR\r\n");
        return;
    }
    note_quiet(c, l);
    if (l->nr == 2 && c->is_quiet) /* there is no level in the line */
        say(c, "OK\r\n");
    else
        say(c, number_u32(l->w[1].p, l->w[1].n, &level) ? "OK\r\n"
                                                        : FORMAT_ERROR);
}

static void run_other(struct client *c, const struct line *l)
{
    const struct word *w = &l->w[0];

    if (is_word(w, "quit"))
        c->must_close = true;
    else if (is_word(w, "version"))
        client_say(c, "VERSION " VERSION "\r\n");
    else if (is_word(w, "stats"))
        text_stats(c);
    else if (l->nr > 1 && l->w[l->nr - 1].n >= 5 &&
             !memcmp(l->w[l->nr - 1].p, "HTTP/", 5))
        c->must_close = true; /* a browser that was lured here */
    else
        client_say(c, "ERROR\r\n");
}

static const struct {
    const char *name;
    uint32_t command;
} stores[] = {{"set", SET},       {"add", ADD},         {"replace", REPLACE},
              {"append", APPEND}, {"prepend", PREPEND}, {"cas", CAS}};

static void run_line(struct client *c, const char *p, const char *end)
{
    const char *zero = memchr(p, 0, (size_t)(end - p));
    struct line l;
    const struct word *w = &l.w[0];

    cut(&l, p, zero ? zero : end);
    c->is_quiet = false;
    if (!l.nr) {
        client_say(c, "ERROR\r\n");
        return;
    }
    for (size_t i = 0; i < sizeof(stores) / sizeof(stores[0]); i++) {
        if (is_word(w, stores[i].name)) {
            run_store(c, &l, stores[i].command);
            return;
        }
    }
    if (is_word(w, "get") || is_word(w, "gets"))
        run_get(c, &l, w->n == 4);
    else if (is_word(w, "incr") || is_word(w, "decr"))
        run_arith(c, &l, *w->p == 'i');
    else if (is_word(w, "delete"))
        run_delete(c, &l);
    else if (is_word(w, "touch"))
        run_touch(c, &l);
    else if (is_word(w, "flush_all"))
        run_flush(c, &l);
    else if (is_word(w, "verbosity"))
        run_verbosity(c, &l);
    else
        run_other(c, &l);
}

/* "get KEY\r\n", whole: how many bytes; 0: something else. */
static size_t quick_get(struct client *c, const char *p, size_t n)
{
    size_t at = 4;

    if (n < 7 || memcmp(p, "get ", 4) != 0)
        return 0;
    while (at < n && (unsigned char)p[at] > ' ')
        at++;
    if (at == 4 || at > KEY_MAX + 4 || n - at < 2 || p[at] != '\r' ||
        p[at + 1] != '\n')
        return 0;
    (void)give(c, p + 4, at - 4, false);
    client_put(c, "END\r\n", 5);
    return at + 2;
}

/* A line that is too long without an end. */
static void check_length(struct client *c, const char *p, size_t n)
{
    size_t spaces = 0;

    if (n <= LINE_MAX)
        return;
    while (spaces < n && p[spaces] == ' ')
        spaces++;
    if (n > GET_LINE_MAX || spaces > 100 ||
        (memcmp(p + spaces, "get ", 4) != 0 &&
         memcmp(p + spaces, "gets ", 5) != 0))
        c->must_close = true;
}

/* One thing; returns its bytes, 0: its end has not come. */
static size_t step(struct client *c, const char *p, size_t n)
{
    const char *end;
    size_t used;

    if (c->storing)
        return take_value(c, p, n);
    if (c->swallow) {
        n = n < c->swallow ? n : c->swallow;
        c->swallow -= n;
        return n;
    }
    used = quick_get(c, p, n);
    if (used)
        return used;
    end = memchr(p, '\n', n);
    if (!end) {
        check_length(c, p, n);
        return 0;
    }
    used = (size_t)(end - p) + 1;
    run_line(c, p, end > p && end[-1] == '\r' ? end - 1 : end);
    return used;
}

size_t text_input(struct client *c, const char *p, size_t n)
{
    size_t done = 0, used = 1;

    while (done < n && used && !c->waiting && !c->must_close) {
        used = step(c, p + done, n - done);
        done += used;
        if (c->is_udp && used && !c->storing && !c->swallow)
            break; /* one answer, one datagram */
    }
    return done;
}
