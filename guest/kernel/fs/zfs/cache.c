/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The buffer cache of the ZFS reader; rules in cache.h.
 *
 * Life of a buffer: created with one reference and `filling` locked, in the
 * hash; filled; referenced and released many times; idle (refcount 0, in the
 * idle list) until evicted. A buffer whose fill failed leaves the hash at
 * once and is freed with its last reference.
 */
#include "fs/zfs/cache.h"

static struct zbuf **bucket_of(struct zcache *c, const struct zkey *key)
{
    uint64_t h = key->word[0] * 0x9E3779B97F4A7C15u;

    h ^= key->word[1] + (key->word[2] << 7);
    h *= 0x9E3779B97F4A7C15u;
    return &c->buckets[(h >> 40) & (CACHE_BUCKETS - 1)];
}

static size_t footprint(const struct zbuf *b)
{
    return b->size + sizeof(*b);
}

static void idle_add_locked(struct zcache *c, struct zbuf *b)
{
    b->newer = NULL;
    b->older = c->newest;
    if (c->newest)
        c->newest->newer = b;
    else
        c->oldest = b;
    c->newest = b;
}

static void idle_remove_locked(struct zcache *c, struct zbuf *b)
{
    if (b->older)
        b->older->newer = b->newer;
    else
        c->oldest = b->newer;
    if (b->newer)
        b->newer->older = b->older;
    else
        c->newest = b->older;
    b->older = b->newer = NULL;
}

static void unhash_locked(struct zcache *c, struct zbuf *b)
{
    struct zbuf **p = bucket_of(c, &b->key);

    if (!b->is_hashed)
        return;
    while (*p != b)
        p = &(*p)->hash_next;
    *p = b->hash_next;
    b->is_hashed = false;
}

static void buf_free(struct zbuf *b)
{
    kfree(b->data);
    kfree(b);
}

static void free_locked(struct zcache *c, struct zbuf *b)
{
    unhash_locked(c, b);
    c->bytes -= footprint(b);
    buf_free(b);
}

/* Evicts idle buffers, oldest first, until `more` bytes fit. */
static void evict_locked(struct zcache *c, size_t more)
{
    while (c->oldest && c->bytes + more > c->limit) {
        struct zbuf *b = c->oldest;
        idle_remove_locked(c, b);
        free_locked(c, b);
    }
}

static void evict_all_locked(struct zcache *c)
{
    while (c->oldest) {
        struct zbuf *b = c->oldest;
        idle_remove_locked(c, b);
        free_locked(c, b);
    }
}

static struct zbuf *find_locked(struct zcache *c, const struct zkey *key)
{
    struct zbuf *b = *bucket_of(c, key);

    while (b && (b->key.word[0] != key->word[0] ||
                 b->key.word[1] != key->word[1] ||
                 b->key.word[2] != key->word[2]))
        b = b->hash_next;
    if (b && b->refcount++ == 0)
        idle_remove_locked(c, b);
    return b;
}

/* Waits until the filler is done. */
static int wait_filled(struct zbuf *b)
{
    if (!__atomic_load_n(&b->ready, __ATOMIC_ACQUIRE)) {
        mutex_lock(&b->filling);
        mutex_unlock(&b->filling);
    }
    return b->error;
}

/* Returns owned: a buffer outside of all lists, refcount 1, `filling` held. */
static struct zbuf *buf_alloc(struct zcache *c, const struct zkey *key,
                              size_t size)
{
    struct zbuf *b = kzalloc(sizeof(*b));

    if (!b)
        return NULL;
    b->data = kmalloc(size ? size : 1);
    if (!b->data) {
        kfree(b);
        return NULL;
    }
    b->cache = c;
    b->key = *key;
    b->size = size;
    b->refcount = 1;
    mutex_init(&b->filling);
    mutex_lock(&b->filling);
    return b;
}

static void insert_locked(struct zcache *c, struct zbuf *b)
{
    struct zbuf **bucket = bucket_of(c, &b->key);

    b->hash_next = *bucket;
    *bucket = b;
    b->is_hashed = true;
    c->bytes += footprint(b);
}

void cache_init(struct zcache *c, size_t limit)
{
    memset(c, 0, sizeof(*c));
    c->limit = limit;
    mutex_init(&c->lock);
}

void cache_shrink(struct zcache *c)
{
    mutex_lock(&c->lock);
    evict_all_locked(c);
    mutex_unlock(&c->lock);
}

void cache_destroy(struct zcache *c)
{
    cache_shrink(c);
}

struct zbuf *cache_find(struct zcache *c, const struct zkey *key)
{
    mutex_lock(&c->lock);
    struct zbuf *b = find_locked(c, key);
    mutex_unlock(&c->lock);
    if (b && wait_filled(b)) {
        cache_put(b);
        return NULL;
    }
    return b;
}

/* Makes room and inserts a new buffer, unless another thread has just done
 * so: then *must_fill is false. NULL: no memory. */
static struct zbuf *create(struct zcache *c, const struct zkey *key,
                           size_t size, bool *must_fill)
{
    mutex_lock(&c->lock);
    evict_locked(c, size + sizeof(struct zbuf));
    mutex_unlock(&c->lock);
    struct zbuf *b = buf_alloc(c, key, size);
    if (!b) {
        cache_shrink(c);
        b = buf_alloc(c, key, size);
    }
    mutex_lock(&c->lock);
    struct zbuf *other = find_locked(c, key);
    if (!other && b)
        insert_locked(c, b);
    mutex_unlock(&c->lock);
    *must_fill = !other;
    if (other && b) {
        mutex_unlock(&b->filling);
        buf_free(b);
    }
    return other ? other : b;
}

int cache_get(struct zcache *c, const struct zkey *key, size_t size,
              struct zbuf **out, bool *must_fill)
{
    mutex_lock(&c->lock);
    struct zbuf *b = find_locked(c, key);
    mutex_unlock(&c->lock);
    *must_fill = false;
    if (!b)
        b = create(c, key, size, must_fill);
    if (!b)
        return -ENOMEM;
    if (!*must_fill) {
        int err = wait_filled(b);
        if (!err && b->size != size)
            err = -EIO;
        if (err) {
            cache_put(b);
            return err;
        }
    }
    *out = b;
    return 0;
}

void cache_filled(struct zbuf *b, int error)
{
    if (error) {
        mutex_lock(&b->cache->lock);
        unhash_locked(b->cache, b);
        mutex_unlock(&b->cache->lock);
    }
    b->error = error;
    __atomic_store_n(&b->ready, 1u, __ATOMIC_RELEASE); /* wait_filled */
    mutex_unlock(&b->filling);
}

void cache_put(struct zbuf *b)
{
    if (!b)
        return;
    struct zcache *c = b->cache;
    mutex_lock(&c->lock);
    if (--b->refcount == 0) {
        if (b->is_hashed)
            idle_add_locked(c, b);
        else
            free_locked(c, b);
        evict_locked(c, 0);
    }
    mutex_unlock(&c->lock);
}
