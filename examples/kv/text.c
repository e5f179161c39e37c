/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * memcached's text protocol: the same answers to the same lines, those to bad
 * ones too. See kv.h.
 *
 * A `get` of one key, most of all requests, is recognised at once; everything
 * else is cut into words first.
 */
#include "text.h"

#include <string.h>

bool text_is(const struct word *w, const char *text)
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
void text_say(struct client *c, const char *text)
{
    if (!c->is_quiet)
        client_say(c, text);
}

void text_note_quiet(struct client *c, const struct line *l)
{
    c->is_quiet = l->nr && text_is(&l->w[l->nr - 1], "noreply");
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

/* ---- lines ---- */

static void run_other(struct client *c, const struct line *l)
{
    const struct word *w = &l->w[0];

    if (text_is(w, "quit"))
        c->must_close = true;
    else if (text_is(w, "version"))
        client_say(c, "VERSION " VERSION "\r\n");
    else if (text_is(w, "stats"))
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
        if (text_is(w, stores[i].name)) {
            text_store(c, &l, stores[i].command);
            return;
        }
    }
    if (text_is(w, "get") || text_is(w, "gets"))
        run_get(c, &l, w->n == 4);
    else if (text_is(w, "incr") || text_is(w, "decr"))
        text_arith(c, &l, *w->p == 'i');
    else if (text_is(w, "delete"))
        text_delete(c, &l);
    else if (text_is(w, "touch"))
        text_touch(c, &l);
    else if (text_is(w, "flush_all"))
        text_flush(c, &l);
    else if (text_is(w, "verbosity"))
        text_verbosity(c, &l);
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
        return text_value(c, p, n);
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
