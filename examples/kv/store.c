/* SPDX-License-Identifier: BSD-2-Clause */
/* Items: a hash table in shards, memory in size classes. See kv.h. */
#include "kv.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define FIRST_BUCKETS 1024u
#define SMALLEST 96u
#define PAGE_BYTES (64u << 10) /* of large chunks: one is a page */
#define BLOCK_BYTES (2u << 20) /* pages are cut from these */
#define BUMP_AFTER 60 /* seconds an item stays where it is in the order */
#define EVICT_TRIES 8
#define SPINS 256
#define MONTH (60 * 60 * 24 * 30)

int store_init(struct store *s, uint64_t limit, uint32_t item_max)
{
    memset(s, 0, sizeof(*s));
    s->now = 2;
    s->started = (uint64_t)time(NULL) - s->now;
    s->limit = limit;
    s->item_max = item_max;
    for (int i = 0; i < SHARDS; i++) {
        struct shard *h = &s->shards[i];
        uint32_t size = SMALLEST;

        h->mask = FIRST_BUCKETS - 1;
        h->buckets = calloc(FIRST_BUCKETS, sizeof(*h->buckets));
        if (!h->buckets)
            return -ENOMEM;
        for (int k = 0; k < CLASSES && size; k++) {
            h->classes[k].size = size;
            h->classes[k].per_page = size < PAGE_BYTES ? PAGE_BYTES / size : 1;
            size = size >= BLOCK_BYTES
                       ? 0
                       : size + (size / 4 + 15) / 16 * 16;
            if (size > BLOCK_BYTES)
                size = BLOCK_BYTES;
        }
    }
    return 0;
}

/* ---- hashing and locks ---- */

static inline uint64_t mix(uint64_t a, uint64_t b)
{
    unsigned __int128 m = (unsigned __int128)a * b;

    return (uint64_t)m ^ (uint64_t)(m >> 64);
}

uint32_t store_hash(const char *key, size_t n)
{
    uint64_t h = 0x9e3779b97f4a7c15ull ^ n, v;

    for (; n > 8; key += 8, n -= 8) {
        memcpy(&v, key, 8);
        h = mix(h ^ v, 0xa0761d6478bd642full);
    }
    v = 0;
    memcpy(&v, key, n);
    h = mix(h ^ v, 0xe7037ed1a0b428dbull);
    return (uint32_t)(h ^ h >> 32);
}

static void lock(struct store *s, int *l)
{
    for (int i = 1;
         s->is_shared && __atomic_exchange_n(l, 1, __ATOMIC_ACQUIRE); i++) {
        if (i % SPINS)
            __builtin_ia32_pause();
        else
            sched_yield(); /* the holder may wait for our CPU */
    }
}

static void unlock(struct store *s, int *l)
{
    if (s->is_shared)
        __atomic_store_n(l, 0, __ATOMIC_RELEASE);
}

struct shard *store_lock(struct store *s, uint32_t hash)
{
    struct shard *h = &s->shards[s->is_shared ? hash >> 28 & (SHARDS - 1) : 0];

    lock(s, &h->lock);
    return h;
}

void store_unlock(struct store *s, struct shard *h)
{
    unlock(s, &h->lock);
}

uint64_t store_next_cas(struct store *s)
{
    if (!s->is_shared)
        return ++s->last_cas;
    return __atomic_add_fetch(&s->last_cas, 1, __ATOMIC_RELAXED);
}

uint32_t store_time(const struct store *s, int64_t exptime)
{
    if (exptime == 0)
        return 0;
    if (exptime < 0)
        return 1; /* over already: now is 2 or more */
    if (exptime > MONTH) /* a date */
        return exptime <= (int64_t)s->started
                   ? 1
                   : (uint32_t)(exptime - (int64_t)s->started);
    return (uint32_t)exptime + s->now;
}

/* ---- the order of use ---- */

static void order_remove(struct shard *h, struct item *it)
{
    struct store_class *k = &h->classes[it->size_class];

    *(it->newer ? &it->newer->older : &k->newest) = it->older;
    *(it->older ? &it->older->newer : &k->oldest) = it->newer;
}

static void order_add(struct shard *h, struct item *it)
{
    struct store_class *k = &h->classes[it->size_class];

    it->newer = NULL;
    it->older = k->newest;
    *(k->newest ? &k->newest->newer : &k->oldest) = it;
    k->newest = it;
}

void item_touch(struct store *s, struct shard *h, struct item *it)
{
    if (__builtin_expect(s->now - it->used < BUMP_AFTER, 1))
        return;
    it->used = s->now;
    order_remove(h, it);
    order_add(h, it);
}

/* ---- memory ---- */

static size_t bytes_of(const struct item_facts *f)
{
    /* head: two spaces, two numbers of ten digits, two line ends */
    return sizeof(struct item) + f->key_len + 24 + (size_t)f->len + 2;
}

/* By memcached's measure: its header, number and flags. */
bool item_fits(const struct store *s, const struct item_facts *f)
{
    uint64_t size = 48 + 8 + f->key_len + 1u + (f->flags ? 4u : 0u) +
                    (uint64_t)f->len + 2;

    return size <= s->item_max;
}

static void cut_page(struct store_class *k, char *page)
{
    for (uint32_t i = 0; i < k->per_page; i++) {
        struct item *it = (struct item *)(page + (size_t)i * k->size);

        it->older = k->free;
        k->free = it;
    }
}

/* Bytes of the block in use, or of another one; NULL: that is all. What is
 * left of a block when a large page does not fit is not used. */
static char *take_bytes(struct store *s, size_t size)
{
    char *p = NULL;

    lock(s, &s->block_lock);
    if (s->block_left < size && s->used + BLOCK_BYTES <= s->limit &&
        (p = s->more(s->more_arg, BLOCK_BYTES)) != NULL) {
        s->used += BLOCK_BYTES;
        s->block = p;
        s->block_left = BLOCK_BYTES;
    }
    p = s->block_left >= size ? s->block : NULL;
    if (p) {
        s->block += size;
        s->block_left -= size;
    }
    unlock(s, &s->block_lock);
    return p;
}

static void take_page(struct store *s, struct store_class *k)
{
    char *page = take_bytes(s, (size_t)k->size * k->per_page);

    if (page)
        cut_page(k, page);
}

/* Until a chunk is free. What is being sent frees its chunk later. */
static void evict(struct shard *h, struct store_class *k)
{
    for (int i = 0; i < EVICT_TRIES && !k->free && k->oldest; i++) {
        h->evictions++;
        item_unlink(h, k->oldest);
    }
}

/* A chunk of class *at; of a larger one when that has neither a chunk nor an
 * item to throw out. NULL: no class has. */
static struct item *take_chunk(struct store *s, struct shard *h, uint32_t *at)
{
    if (!h->classes[*at].free)
        take_page(s, &h->classes[*at]);
    for (; *at < CLASSES; ++*at) {
        struct store_class *k = &h->classes[*at];
        struct item *it;

        if (!k->free)
            evict(h, k);
        it = k->free;
        if (it) {
            k->free = it->older;
            return it;
        }
    }
    return NULL;
}

struct item *item_new(struct store *s, struct shard *h,
                      const struct item_facts *f)
{
    size_t size = bytes_of(f);
    uint32_t at = 0;
    struct item *it;
    char *p;

    while (at < CLASSES - 1 && h->classes[at].size < size &&
           h->classes[at].size)
        at++;
    if (h->classes[at].size < size)
        return NULL;
    it = take_chunk(s, h, &at);
    if (!it)
        return NULL;
    *it = (struct item){.hash = f->hash, .flags = f->flags, .len = f->len,
                        .expires = f->expires, .refs = 1,
                        .key_len = f->key_len, .size_class = (uint8_t)at,
                        .shard = (uint8_t)(h - s->shards)};
    memcpy(it->bytes, f->key, f->key_len);
    p = it->bytes + f->key_len;
    *p++ = ' ';
    p += number_put(p, f->flags);
    *p++ = ' ';
    p += number_put(p, f->len);
    memcpy(p, "\r\n", 2);
    it->head_len = (uint8_t)(p + 2 - it->bytes - f->key_len);
    memcpy(item_value(it) + f->len, "\r\n", 2);
    return it;
}

void item_put(struct shard *h, struct item *it)
{
    struct store_class *k = &h->classes[it->size_class];

    if (--it->refs)
        return;
    it->older = k->free;
    k->free = it;
}

/* ---- the table ---- */

static void grow(struct shard *h)
{
    uint32_t n = 2 * (h->mask + 1);
    struct item **buckets = calloc(n, sizeof(*buckets));

    if (!buckets)
        return; /* longer chains */
    for (uint32_t i = 0; i <= h->mask; i++) {
        while (h->buckets[i]) {
            struct item *it = h->buckets[i];

            h->buckets[i] = it->next;
            it->next = buckets[it->hash & (n - 1)];
            buckets[it->hash & (n - 1)] = it;
        }
    }
    free(h->buckets);
    h->buckets = buckets;
    h->mask = n - 1;
}

void item_link(struct store *s, struct shard *h, struct item *it)
{
    struct item **bucket;

    if (h->nr_items > h->mask + (h->mask >> 1))
        grow(h);
    bucket = &h->buckets[it->hash & h->mask];
    it->next = *bucket;
    *bucket = it;
    it->used = s->now;
    it->cas = store_next_cas(s);
    it->is_linked = 1;
    it->refs++;
    order_add(h, it);
    h->nr_items++;
    h->total_items++;
    h->bytes += sizeof(*it) + it->key_len + it->head_len + it->len + 2;
}

void item_unlink(struct shard *h, struct item *it)
{
    struct item **link = &h->buckets[it->hash & h->mask];

    while (*link != it)
        link = &(*link)->next;
    *link = it->next;
    it->is_linked = 0;
    order_remove(h, it);
    h->nr_items--;
    h->bytes -= sizeof(*it) + it->key_len + it->head_len + it->len + 2;
    item_put(h, it);
}

static bool is_gone(const struct store *s, const struct item *it)
{
    if (it->expires && it->expires <= s->now)
        return true;
    return it->cas <= s->flush_cas ||
           (s->flush_at && s->flush_at <= s->now && it->used <= s->flush_at);
}

struct item *item_find(struct store *s, struct shard *h, uint32_t hash,
                       const char *key, size_t n)
{
    struct item *it = h->buckets[hash & h->mask];

    while (it && (it->hash != hash || it->key_len != n ||
                  memcmp(it->bytes, key, n) != 0))
        it = it->next;
    if (it && __builtin_expect(is_gone(s, it), 0)) {
        item_unlink(h, it);
        it = NULL;
    }
    return it;
}
