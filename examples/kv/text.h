/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Lines of the text protocol, cut into words: what text.c (lines, get) shares with
 * text_store.c (set and its kin) and text_change.c (the other commands).
 */
#pragma once

#include "kv.h"

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

/* text.c */
bool text_is(const struct word *w, const char *text);
/* An answer that `noreply` takes away. */
void text_say(struct client *c, const char *text);
void text_note_quiet(struct client *c, const struct line *l);

/* text_store.c */
void text_store(struct client *c, const struct line *l, uint32_t command);
/* Bytes of a value; returns how many were its. */
size_t text_value(struct client *c, const char *p, size_t n);
/* it instead of old, which may be NULL or gone by now. The shard is locked. */
void text_replace(struct store *s, struct shard *h, struct item *old,
                  struct item *it);

/* text_change.c */
void text_arith(struct client *c, const struct line *l, bool is_incr);
void text_touch(struct client *c, const struct line *l);
void text_delete(struct client *c, const struct line *l);
void text_flush(struct client *c, const struct line *l);
void text_verbosity(struct client *c, const struct line *l);
