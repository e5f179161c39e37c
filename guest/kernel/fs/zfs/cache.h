/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A cache of byte buffers named by three words, bounded in bytes. The reader
 * has four: device chunks, metadata blocks, file records, dnodes.
 *
 * - cache_get either finds a buffer, waiting while another thread fills it,
 *   or creates one and tells the caller to fill it and call cache_filled.
 *   So each block is read once, however many threads want it, and threads
 *   that want different blocks do not wait for each other.
 * - A buffer is refcounted: it stays as long as a reference is held
 *   (cache_put gives it back). Contents never change after cache_filled.
 * - A failed fill is not kept: those who waited get the error, the next
 *   caller tries again.
 * - References may push the cache over its limit; the surplus goes when they
 *   are given back.
 *
 * Locks, outermost first: zbuf.filling (held by the filler), then cache.lock
 * (never held while a buffer is filled, nor while memory is allocated). A
 * filler may use *other* caches, in the order dnodes -> records or metadata ->
 * chunks.
 */
#pragma once

#include "fs/zfs/zfs_os.h"

#define CACHE_BUCKETS 128u /* a power of two */

struct zcache;

struct zkey {
    uint64_t word[3];
};

struct zbuf {
    /* --- set once --- */
    struct zcache *cache;
    struct zkey key;
    size_t size;
    void *data;
    /* --- written by the filler, stable once `ready` --- */
    int error;
    uint32_t ready;       /* atomic */
    struct mutex filling; /* held from creation to cache_filled */
    /* --- protected by cache->lock --- */
    uint32_t refcount;
    bool is_hashed;
    struct zbuf *hash_next;
    struct zbuf *older, *newer; /* in the idle list when refcount is 0 */
};

struct zcache {
    size_t limit; /* set once */
    struct mutex lock;
    /* --- protected by lock --- */
    size_t bytes; /* of all buffers, with their headers */
    struct zbuf *buckets[CACHE_BUCKETS];
    struct zbuf *oldest, *newest; /* idle list */
};

/* cache.c */
void cache_init(struct zcache *c, size_t limit);
/* Frees everything; no reference may be held. */
void cache_destroy(struct zcache *c);
/* Frees idle buffers. */
void cache_shrink(struct zcache *c);
/* Returns a reference to a filled buffer, NULL if there is none. */
struct zbuf *cache_find(struct zcache *c, const struct zkey *key);
/* On success the caller holds a reference. *must_fill: write `data`, then
 * call cache_filled. -ENOMEM, or the error of the thread that filled it. */
int cache_get(struct zcache *c, const struct zkey *key, size_t size,
              struct zbuf **out, bool *must_fill) __must_check;
/* error 0: data is valid. Keeps the reference. */
void cache_filled(struct zbuf *b, int error);
void cache_put(struct zbuf *b); /* NULL is allowed */
