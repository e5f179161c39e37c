/* SPDX-License-Identifier: BSD-2-Clause */
/* Numbers as memcached reads them: strtol's, without its surprises. */
#include "kv.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define TEXT_MAX 40 /* more than any number has, but for what is skipped */

static bool is_space(char c)
{
    return c == ' ' || (c >= 9 && c <= 13);
}

/* With an end. A number may be the first word of something longer. */
static bool copy(char *to, const char *p, size_t n)
{
    for (; n && is_space(*p); n--)
        p++;
    for (; n >= TEXT_MAX && *p == '0'; n--)
        p++;
    if (n >= TEXT_MAX)
        n = TEXT_MAX - 1;
    memcpy(to, p, n);
    to[n] = 0;
    return n != 0;
}

static bool is_end(const char *text, const char *end)
{
    return end != text && (!*end || is_space(*end));
}

bool number_u64(const char *p, size_t n, uint64_t *out)
{
    char text[TEXT_MAX], *end;

    if (!copy(text, p, n))
        return false;
    errno = 0;
    *out = strtoull(text, &end, 10);
    /* A sign is looked for only where it makes a large number. */
    return errno != ERANGE && is_end(text, end) &&
           !((int64_t)*out < 0 && memchr(text, '-', (size_t)(end - text)));
}

bool number_u32(const char *p, size_t n, uint32_t *out)
{
    uint64_t v;

    if (!number_u64(p, n, &v))
        return false;
    *out = (uint32_t)v; /* the rest is lost, as there */
    return true;
}

bool number_i32(const char *p, size_t n, int32_t *out)
{
    char text[TEXT_MAX], *end;

    if (!copy(text, p, n))
        return false;
    errno = 0;
    *out = (int32_t)strtoll(text, &end, 10);
    return errno != ERANGE && is_end(text, end);
}

size_t number_put(char *to, uint64_t v)
{
    char text[20];
    size_t n = sizeof(text);

    do
        text[--n] = (char)('0' + v % 10);
    while (v /= 10);
    memcpy(to, text + n, sizeof(text) - n);
    return sizeof(text) - n;
}
