// SPDX-License-Identifier: BSD-2-Clause
/*
 * Redis: batches of SET, GET, APPEND, INCR and DEL on keys of this slot alone,
 * so that the whole answer is known before it comes.
 */
#define _GNU_SOURCE
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "load.h"

/* Bytes for one round of commands besides its values. */
#define ROUND_BYTES 512u

static void put(char *to, size_t *len, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    *len += (size_t)vsprintf(to + *len, format, args);
    va_end(args);
}

static void put_value(char *to, size_t *len, unsigned seed, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        seed = seed * 1664525u + 1013904223u;
        to[(*len)++] = (char)('a' + (seed >> 24) % 26);
    }
}

static void put_round(struct slot *s, unsigned round)
{
    char key[64];
    unsigned seed = (unsigned)(s->requests * 977 + s->number * 131 + round);
    unsigned n = 1 + seed % opt.value_max;
    int k = snprintf(key, sizeof(key), "key:%d:%u:%u", getpid(), s->number,
                     round);

    put(s->buf, &s->buf_len, "*3\r\n$3\r\nSET\r\n$%d\r\n%s\r\n$%u\r\n", k, key,
        n);
    put_value(s->buf, &s->buf_len, seed, n);
    put(s->buf, &s->buf_len, "\r\n*2\r\n$3\r\nGET\r\n$%d\r\n%s\r\n", k, key);
    put(s->buf, &s->buf_len,
        "*3\r\n$6\r\nAPPEND\r\n$%d\r\n%s\r\n$3\r\nxyz\r\n", k, key);
    put(s->buf, &s->buf_len, "*2\r\n$4\r\nINCR\r\n$%d\r\ncounter:%s\r\n", k + 8,
        key);
    put(s->buf, &s->buf_len, "*2\r\n$3\r\nDEL\r\n$%d\r\n%s\r\n", k, key);
    put(s->expected, &s->expected_len, "+OK\r\n$%u\r\n", n);
    put_value(s->expected, &s->expected_len, seed, n);
    put(s->expected, &s->expected_len, "\r\n:%u\r\n:%lld\r\n:1\r\n", n + 3,
        (long long)s->counter + 1);
}

/* The counters live as long as the server: each slot starts its own anew. */
static void ask(struct slot *s)
{
    size_t size = 128 + (size_t)opt.pipeline * (ROUND_BYTES + opt.value_max);

    if (!s->buf) {
        s->buf = malloc(size);
        s->expected = malloc(size);
    }
    s->buf_len = s->expected_len = s->done = 0;
    for (unsigned round = 0; !s->requests && round < opt.pipeline; round++) {
        char key[72];
        int k = snprintf(key, sizeof(key), "counter:key:%d:%u:%u", getpid(),
                         s->number, round);

        put(s->buf, &s->buf_len, "*3\r\n$3\r\nSET\r\n$%d\r\n%s\r\n$1\r\n0\r\n",
            k, key);
        put(s->expected, &s->expected_len, "+OK\r\n");
    }
    for (unsigned round = 0; s->requests && round < opt.pipeline; round++)
        put_round(s, round);
    s->counter += s->requests != 0;
    s->out = s->buf;
    s->out_len = s->buf_len;
}

static enum verdict take(struct slot *s, const char *data, size_t n,
                         enum error_kind *kind, char why[128])
{
    if (n > s->expected_len - s->done) {
        *kind = ERR_EXTRA;
        snprintf(why, 128, "%zu bytes more than were to come",
                 n - (s->expected_len - s->done));
        return WRONG;
    }
    if (memcmp(data, s->expected + s->done, n) != 0) {
        *kind = ERR_BODY;
        snprintf(why, 128, "wrong answer \"%.40s\"", data);
        return WRONG;
    }
    s->done += n;
    return s->done == s->expected_len ? COMPLETE : MORE;
}

const struct protocol redis_protocol = {.ask = ask, .take = take};
