// SPDX-License-Identifier: BSD-2-Clause
/* HTTP/1.1: GETs of files whose bytes are known, taken in turn. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "load.h"

#define HEADER_MAX 2048u

static void ask(struct slot *s)
{
    bool is_last = opt.mode == MODE_SHORT && s->server_closes;

    if (!s->buf) {
        s->buf_size = HEADER_MAX;
        s->buf = malloc(s->buf_size);
    }
    s->file = &opt.files[(s->requests + s->number) % opt.nr_files];
    s->out = s->buf;
    s->out_len = (size_t)snprintf(
        s->buf, s->buf_size,
        "GET /%s HTTP/1.1\r\nHost: soak\r\nUser-Agent: soak\r\n"
        "Connection: %s\r\n\r\n",
        s->file->name, is_last ? "close" : "keep-alive");
    s->buf_len = 0;
    s->done = 0;
    s->in_body = false;
}

/* The header is complete in buf. */
static enum verdict look_at_header(struct slot *s, enum error_kind *kind,
                                   char why[128])
{
    const char *length;

    s->buf[s->buf_len - 2] = '\0';
    *kind = ERR_STATUS;
    snprintf(why, 128, "\"%.60s\"", s->buf);
    if (strncmp(s->buf, "HTTP/1.1 200 ", 13) != 0)
        return WRONG;
    length = strcasestr(s->buf, "\r\nContent-Length: ");
    if (!length || strtoull(length + 18, NULL, 10) != s->file->len) {
        *kind = ERR_BODY;
        snprintf(why, 128, "the length of %s is wrong", s->file->name);
        return WRONG;
    }
    s->in_body = true;
    return s->file->len ? MORE : COMPLETE;
}

static enum verdict take(struct slot *s, const char *data, size_t n,
                         enum error_kind *kind, char why[128])
{
    enum verdict v = MORE;

    while (n && !s->in_body && v == MORE) {
        if (s->buf_len == s->buf_size) {
            *kind = ERR_STATUS;
            snprintf(why, 128, "a header of more than %zu bytes", s->buf_size);
            return WRONG;
        }
        s->buf[s->buf_len++] = *data++;
        n--;
        if (s->buf_len >= 4 &&
            memcmp(s->buf + s->buf_len - 4, "\r\n\r\n", 4) == 0)
            v = look_at_header(s, kind, why);
    }
    if (!n || v == WRONG)
        return v;
    *kind = ERR_EXTRA;
    snprintf(why, 128, "%zu bytes more than were to come", n);
    if (v == COMPLETE || (v == MORE && n > s->file->len - s->done))
        return WRONG;
    *kind = ERR_BODY;
    snprintf(why, 128, "bytes of %s from %zu on are wrong", s->file->name,
             s->done);
    if (memcmp(data, s->file->data + s->done, n) != 0)
        return WRONG;
    s->done += n;
    return s->done == s->file->len ? COMPLETE : MORE;
}

const struct protocol http_protocol = {.ask = ask, .take = take};
