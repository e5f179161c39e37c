/* SPDX-License-Identifier: BSD-2-Clause */
/* `stats`: what the server has done, with memcached's names. */
#include "kv.h"

#include <stddef.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

static const struct {
    const char *name;
    size_t at; /* in struct counts */
} names[] = {
#define COUNT(name, field) {name, offsetof(struct counts, field)}
    COUNT("curr_connections", connections),
    COUNT("total_connections", total_connections),
    COUNT("cmd_get", get),
    COUNT("cmd_set", set),
    COUNT("cmd_flush", flush),
    COUNT("cmd_touch", touch),
    COUNT("get_hits", get_hits),
    COUNT("get_misses", get_misses),
    COUNT("delete_misses", delete_misses),
    COUNT("delete_hits", delete_hits),
    COUNT("incr_misses", incr_misses),
    COUNT("incr_hits", incr_hits),
    COUNT("decr_misses", decr_misses),
    COUNT("decr_hits", decr_hits),
    COUNT("cas_misses", cas_misses),
    COUNT("cas_hits", cas_hits),
    COUNT("cas_badval", cas_badval),
    COUNT("touch_hits", touch_hits),
    COUNT("touch_misses", touch_misses),
    COUNT("bytes_read", bytes_read),
    COUNT("bytes_written", bytes_written),
};

static void tell(struct client *c, const char *name, uint64_t v)
{
    char line[80];

    snprintf(line, sizeof(line), "STAT %s %llu\r\n", name,
             (unsigned long long)v);
    client_say(c, line);
}

/* Other loops count on meanwhile: each number is right, their sum nearly. */
static void tell_counts(struct client *c)
{
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        uint64_t sum = 0;

        for (int k = 0; k < nr_kvs; k++)
            sum += __atomic_load_n(
                (uint64_t *)((char *)&all_kvs[k]->n + names[i].at),
                __ATOMIC_RELAXED);
        tell(c, names[i].name, sum);
    }
}

void text_stats(struct client *c)
{
    struct store *s = c->kv->store;
    uint64_t items = 0, bytes = 0, total = 0, evictions = 0;

    for (int i = 0; i < SHARDS; i++) {
        items += s->shards[i].nr_items;
        bytes += s->shards[i].bytes;
        total += s->shards[i].total_items;
        evictions += s->shards[i].evictions;
    }
    tell(c, "pid", (uint64_t)getpid());
    tell(c, "uptime", s->now - 2);
    tell(c, "time", s->started + s->now);
    client_say(c, "STAT version " VERSION "\r\n");
    tell(c, "pointer_size", 8 * sizeof(void *));
    tell(c, "threads", (uint64_t)nr_kvs);
    tell(c, "limit_maxbytes", s->limit);
    tell_counts(c);
    tell(c, "bytes", bytes);
    tell(c, "curr_items", items);
    tell(c, "total_items", total);
    tell(c, "evictions", evictions);
    client_say(c, "END\r\n");
}
