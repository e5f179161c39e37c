/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * LZ4 block decoder.
 *
 * A block is a row of sequences: a token (upper half: number of literals,
 * lower half: match length - 4; 15 means "more bytes follow, each added until
 * one is not 255"), the literals, and a 16-bit distance. The last sequence
 * ends after its literals.
 *
 * Copies go in 8- and 16-byte steps and may run past their end by up to
 * COPY_SLACK bytes; near the end of either buffer exact copies are used
 * instead. An overlapping match (distance below 8) is spread out first so
 * that the wide steps stay right.
 */
#include "lib/lz4.h"

#include "lib/errno.h"
#include "lib/le.h"

#define MIN_MATCH 4u
#define COPY_SLACK 16u /* how far wild copies may overshoot */

static inline void copy8(uint8_t *d, const uint8_t *s)
{
    put_le64(d, get_le64(s));
}

/* Copies n bytes in steps of 16; both buffers have COPY_SLACK bytes more. */
static inline void wild_copy(uint8_t *d, const uint8_t *s, size_t n)
{
    uint8_t *end = d + n;

    do {
        copy8(d, s);
        copy8(d + 8, s + 8);
        d += 16;
        s += 16;
    } while (d < end);
}

/* Adds the extension bytes of a length to *len. */
static inline bool read_length(const uint8_t **src, const uint8_t *end,
                               size_t *len)
{
    const uint8_t *s = *src;
    uint8_t byte;

    do {
        if (s == end)
            return false;
        byte = *s++;
        *len += byte;
    } while (byte == 255);
    *src = s;
    return true;
}

/* A match whose source overlaps its destination by less than 8 bytes of
 * distance; d has n + COPY_SLACK bytes. */
static void copy_close_match(uint8_t *d, size_t dist, size_t n)
{
    const uint8_t *s = d - dist;
    size_t step = dist;

    /* After 8 exact bytes the pattern repeats with a period that is a
     * multiple of dist and at least 8. */
    for (size_t i = 0; i < 8; i++)
        d[i] = s[i];
    while (step < 8)
        step += dist;
    for (size_t i = 8; i < n; i += 8)
        copy8(d + i, d + i - step);
}

static inline void copy_match(uint8_t *d, size_t dist, size_t n)
{
    if (likely(dist >= 16))
        wild_copy(d, d - dist, n);
    else if (dist >= 8)
        for (size_t i = 0; i < n; i += 8)
            copy8(d + i, d + i - dist);
    else
        copy_close_match(d, dist, n);
}

static void copy_exact(uint8_t *d, const uint8_t *s, size_t n)
{
    while (n--)
        *d++ = *s++;
}

ssize_t lz4_decompress(const void *src, size_t src_len, void *dst,
                       size_t dst_len)
{
    const uint8_t *s = src, *s_end = s + src_len;
    uint8_t *start = dst, *d = start, *d_end = d + dst_len;

    while (s < s_end) {
        unsigned int token = *s++;
        size_t n = token >> 4;

        if (n == 15 && !read_length(&s, s_end, &n))
            return -EINVAL;
        if (n > (size_t)(s_end - s) || n > (size_t)(d_end - d))
            return -EINVAL;
        if (likely((size_t)(s_end - s) - n >= COPY_SLACK &&
                   (size_t)(d_end - d) - n >= COPY_SLACK))
            wild_copy(d, s, n);
        else
            copy_exact(d, s, n);
        s += n;
        d += n;
        if (s == s_end)
            return d - start;

        if (s_end - s < 2)
            return -EINVAL;
        size_t dist = get_le16(s);
        s += 2;
        n = token & 15;
        if (n == 15 && !read_length(&s, s_end, &n))
            return -EINVAL;
        n += MIN_MATCH;
        if (dist == 0 || dist > (size_t)(d - start) ||
            n > (size_t)(d_end - d))
            return -EINVAL;
        if (likely((size_t)(d_end - d) - n >= COPY_SLACK))
            copy_match(d, dist, n);
        else
            copy_exact(d, d - dist, n);
        d += n;
    }
    return -EINVAL;
}

int lz4_zfs_decompress(const void *src, size_t src_len, void *dst,
                       size_t dst_len)
{
    if (src_len < 4)
        return -EINVAL;
    size_t len = get_be32(src);
    if (len > src_len - 4)
        return -EINVAL;
    ssize_t n = lz4_decompress((const uint8_t *)src + 4, len, dst, dst_len);
    return n >= 0 && (size_t)n == dst_len ? 0 : -EINVAL;
}
