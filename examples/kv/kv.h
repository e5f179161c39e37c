/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * kv: a small server that speaks memcached's text protocol on TCP and UDP, made
 * with libcapstan's loops and channels (capstan/channel.h).
 *
 *     cd examples/kv; gcc -O2 -o kv *.c $(capstan sdk) -pthread
 *     capstan run -p 11211:11211 ./kv           # or ./kv, over epoll
 *
 * - main.c: options; one loop and one thread per core, each with listeners of
 *   its own. client.c: bytes in and out of a connection, and what waits when a
 *   peer does not read. text.c: the protocol. numbers.c: its numbers, as
 *   memcached reads them. store.c: items, memory, eviction.
 * - A request is parsed where the card put it. A stored value is copied once,
 *   into its item; an item has its reply ready: "KEY FLAGS LENGTH\r\nDATA\r\n". A
 *   value of REF_MIN bytes or more is sent from there, not copied: the item has
 *   a reference until the peer has it.
 * - The store is one for all loops, in shards with a lock each when there are
 *   several loops; values are copied then, since a loop sends by reference from
 *   memory of its own only. Memory is bounded: pages are cut into chunks of
 *   one size class; a full class throws out what was not used for longest.
 */
#pragma once

#include <capstan/capstan.h>
#include <capstan/channel.h>

#define KEY_MAX 250
#define SHARDS 8
#define CLASSES 64
#define LINE_MAX 2048       /* bytes of a line, but for get and gets */
#define GET_LINE_MAX (1 << 20)
#define REF_MIN 1024
#define OUT_BYTES 65536
#define VERSION "1.0.0-capstan"

/* ---- store.c ---- */

struct item {
    struct item *next;           /* in its bucket */
    struct item *newer, *older;  /* in its class; older: in the free list */
    uint64_t cas;
    uint32_t hash, flags;
    uint32_t len;                /* of the value */
    uint32_t expires, used;      /* seconds of store.now; expires 0: never */
    uint16_t refs;               /* one of the table, and users */
    uint8_t key_len, head_len;   /* head: " FLAGS LENGTH\r\n" */
    uint8_t size_class, is_linked, shard;
    char bytes[];                /* key, head, value, "\r\n" */
};

static inline char *item_value(struct item *it)
{
    return it->bytes + it->key_len + it->head_len;
}

struct store_class {
    uint32_t size, per_page;
    struct item *free;
    struct item *newest, *oldest;
};

struct shard {
    int lock;
    uint32_t mask, nr_items;
    struct item **buckets;
    struct store_class classes[CLASSES];
    uint64_t bytes, total_items, evictions;
} __attribute__((aligned(64)));

struct store {
    bool is_shared;          /* several threads: locks are needed */
    uint32_t now;            /* seconds since the start, from 2 */
    uint64_t started;        /* seconds since 1970 */
    uint64_t limit, used;    /* bytes of blocks */
    int block_lock;          /* inside a shard's */
    char *block;             /* pages are cut from here */
    size_t block_left;
    uint64_t last_cas;
    uint64_t flush_cas; /* items with this or a lower number are gone */
    uint32_t flush_at;  /* then, those stored before are, too; 0: never */
    uint32_t item_max;
    void *(*more)(void *arg, size_t bytes); /* zeroed memory, or NULL */
    void *more_arg;
    struct shard shards[SHARDS];
};

int store_init(struct store *s, uint64_t limit, uint32_t item_max);
uint32_t store_hash(const char *key, size_t n);
struct shard *store_lock(struct store *s, uint32_t hash);
void store_unlock(struct store *s, struct shard *h);
uint64_t store_next_cas(struct store *s);
/* The functions below want the shard's lock. */
/* Borrowed while the lock is held; NULL: not there, or expired. */
struct item *item_find(struct store *s, struct shard *h, uint32_t hash,
                       const char *key, size_t n);
struct item_facts {
    const char *key;
    uint32_t hash, flags, expires, len;
    uint8_t key_len;
};
/* One reference, the caller's; in no table. NULL: no memory. */
struct item *item_new(struct store *s, struct shard *h,
                      const struct item_facts *facts);
bool item_fits(const struct store *s, const struct item_facts *facts);
void item_link(struct store *s, struct shard *h, struct item *it);
void item_unlink(struct shard *h, struct item *it);
void item_put(struct shard *h, struct item *it);
void item_touch(struct store *s, struct shard *h, struct item *it);
/* An expiry time of the protocol, as seconds of store.now; 0: never. */
uint32_t store_time(const struct store *s, int64_t exptime);

/* ---- numbers.c: as memcached reads them; false: not a number ---- */
bool number_u64(const char *p, size_t n, uint64_t *out);
bool number_u32(const char *p, size_t n, uint32_t *out);
bool number_i32(const char *p, size_t n, int32_t *out);
size_t number_put(char *to, uint64_t v); /* decimal; how many bytes */

/* ---- main.c ---- */

struct counts {
    uint64_t connections, total_connections;
    uint64_t get, set, flush, touch, get_hits, get_misses, delete_hits;
    uint64_t delete_misses, incr_hits, incr_misses, decr_hits, decr_misses;
    uint64_t cas_hits, cas_misses, cas_badval, touch_hits, touch_misses;
    uint64_t bytes_read, bytes_written;
};

struct kv { /* one per loop */
    struct capstan_loop *loop;
    struct store *store;
    struct counts n;
    size_t out_len;
    char out[OUT_BYTES];      /* answers of the bytes being looked at */
    char *datagram;           /* one answer on UDP */
    size_t datagram_len, datagram_room;
};
extern struct kv **all_kvs;
extern int nr_kvs;

/* ---- client.c ---- */

struct piece { /* of an answer that waits for room */
    struct piece *next;
    struct item *item; /* one reference: bytes are its value; or NULL */
    size_t len, done;
    char bytes[];
};

struct client {
    struct kv *kv;
    struct capstan_channel *channel;
    /* a line that has not come entirely, or input behind a blocked answer */
    char *in;
    size_t in_len, in_room;
    struct piece *waiting, **last;
    bool must_close, has_ended, is_udp;
    /* the command whose value is coming (text.c) */
    struct item *storing;
    uint32_t stored, command;
    uint64_t wanted_cas;
    size_t swallow; /* bytes of a value nobody wants */
    bool is_quiet;  /* noreply */
};

extern const struct capstan_handlers listener_handlers, udp_handlers;
/* There is no room for them with the answers before. */
void client_put_more(struct client *c, const void *p, size_t n);
static inline void client_put(struct client *c, const void *p, size_t n)
{
    struct kv *kv = c->kv;

    if (__builtin_expect(kv->out_len + n > OUT_BYTES, 0)) {
        client_put_more(c, p, n);
        return;
    }
    __builtin_memcpy(kv->out + kv->out_len, p, n);
    kv->out_len += n;
}
static inline void client_say(struct client *c, const char *text)
{
    client_put(c, text, __builtin_strlen(text));
}
/* The value and its line end. Borrows it, of a locked shard. */
void client_put_value(struct client *c, struct item *it);
void client_sent(void *kv, uint64_t token);

/* ---- text.c ---- */

/* Looks at up to n bytes; returns how many are done with. The rest is a line
 * without its end, or waits since the client does not read its answers. */
size_t text_input(struct client *c, const char *p, size_t n);
void text_stop(struct client *c); /* the connection ends: drops a half value */
/* stats.c */
void text_stats(struct client *c);
