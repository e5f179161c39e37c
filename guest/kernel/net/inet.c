/* SPDX-License-Identifier: BSD-2-Clause */
/* Addresses: comparing prefixes, text in and out (RFC 4291 2.2, RFC 5952). */
#include "net/inet.h"

#include "lib/errno.h"
#include "lib/string.h"

bool addr_in_prefix(const struct net_addr *a, const struct net_addr *prefix,
                    uint32_t bits)
{
    uint32_t full = bits / 8, rest = bits % 8;

    if (memcmp(a->b, prefix->b, full) != 0)
        return false;
    if (!rest)
        return true;
    return ((a->b[full] ^ prefix->b[full]) >> (8 - rest)) == 0;
}

/* Finds the longest run of at least two zero groups. */
static void longest_zero_run(const struct net_addr *a, int *start, int *len)
{
    int run = 0;

    *start = -1;
    *len = 1;
    for (int i = 0; i < 8; i++) {
        run = wire_get16(a->b + 2 * i) ? 0 : run + 1;
        if (run > *len) {
            *len = run;
            *start = i - run + 1;
        }
    }
}

const char *addr_to_text(const struct net_addr *a, char *buf)
{
    char *at = buf, *end = buf + NET_ADDR_TEXT;
    int start, len;

    if (addr_is_v4(a)) {
        snprintf(buf, NET_ADDR_TEXT, "%u.%u.%u.%u", a->b[12], a->b[13],
                 a->b[14], a->b[15]);
        return buf;
    }
    longest_zero_run(a, &start, &len);
    for (int i = 0; i < 8; i++) {
        if (i == start) {
            at += snprintf(at, (size_t)(end - at), "%s", i ? ":" : "::");
            i += len - 1;
            continue;
        }
        at += snprintf(at, (size_t)(end - at), i < 7 ? "%x:" : "%x",
                       wire_get16(a->b + 2 * i));
    }
    return buf;
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static int parse_v4(const char *s, uint32_t *out)
{
    uint32_t v = 0;

    for (int i = 0; i < 4; i++) {
        uint32_t part = 0;
        int digits = 0;

        if (i && *s++ != '.')
            return -EINVAL;
        for (; *s >= '0' && *s <= '9' && digits < 3; s++, digits++)
            part = part * 10 + (uint32_t)(*s - '0');
        if (!digits || part > 255)
            return -EINVAL;
        v = v << 8 | part;
    }
    if (*s)
        return -EINVAL;
    *out = v;
    return 0;
}

/* One group of hex digits; returns what follows or NULL. */
static const char *parse_group(const char *s, uint32_t *out)
{
    int digits = 0;

    for (*out = 0; hex_digit(*s) >= 0 && digits < 4; s++, digits++)
        *out = *out << 4 | (uint32_t)hex_digit(*s);
    return digits ? s : NULL;
}

static int parse_v6(const char *s, struct net_addr *out)
{
    int n = 0, gap = -1;
    uint32_t group;

    memset(out, 0, sizeof(*out));
    if (s[0] == ':' && s[1] != ':')
        return -EINVAL;
    while (*s) {
        if (s[0] == ':' && s[1] == ':' && gap < 0) {
            gap = n;
            s += 2;
            continue;
        }
        if (n && gap != n && *s++ != ':')
            return -EINVAL;
        uint32_t v4;
        if (n <= 6 && strchr(s, '.') && parse_v4(s, &v4) == 0) {
            wire_put32(out->b + 2 * n, v4);
            n += 2;
            break;
        }
        s = n < 8 ? parse_group(s, &group) : NULL;
        if (!s)
            return -EINVAL;
        wire_put16(out->b + 2 * n++, group);
    }
    if (gap < 0)
        return n == 8 ? 0 : -EINVAL;
    if (n >= 8)
        return -EINVAL;
    memmove(out->b + 2 * (gap + 8 - n), out->b + 2 * gap,
            (size_t)(2 * (n - gap)));
    memset(out->b + 2 * gap, 0, (size_t)(2 * (8 - n)));
    return 0;
}

int addr_from_text(const char *text, struct net_addr *out)
{
    uint32_t v4;
    struct net_addr a;

    if (parse_v4(text, &v4) == 0) {
        *out = addr_from_v4(v4);
        return 0;
    }
    if (parse_v6(text, &a))
        return -EINVAL;
    *out = a;
    return 0;
}
