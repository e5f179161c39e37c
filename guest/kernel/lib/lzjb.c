/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * lzjb: a control byte announces eight items, lowest bit first. A 0 bit is a
 * literal byte, a 1 bit a big-endian 16-bit match: length - 3 in the upper 6
 * bits, distance in the lower 10. zle: a byte n below 64 announces n + 1
 * literals, any other n stands for n - 63 zeros.
 */
#include "lib/lzjb.h"

#include "lib/errno.h"
#include "lib/le.h"
#include "lib/string.h"

#define LZJB_MATCH_MIN 3u
#define LZJB_DISTANCE_BITS 10
#define ZLE_LITERALS 64u

int lzjb_decompress(const void *src, size_t src_len, void *dst,
                    size_t dst_len)
{
    const uint8_t *s = src, *s_end = s + src_len;
    uint8_t *start = dst, *d = start, *d_end = d + dst_len;
    unsigned int control = 1; /* a guard bit marks the end of the byte */

    while (d < d_end) {
        if (control == 1) {
            if (s == s_end)
                return -EINVAL;
            control = *s++ | 0x100u;
        }
        if (control & 1) {
            if (s_end - s < 2)
                return -EINVAL;
            unsigned int match = get_be16(s);
            size_t len = (match >> LZJB_DISTANCE_BITS) + LZJB_MATCH_MIN;
            size_t dist = match & ((1u << LZJB_DISTANCE_BITS) - 1);
            s += 2;
            if (dist == 0 || dist > (size_t)(d - start))
                return -EINVAL;
            len = MIN(len, (size_t)(d_end - d));
            for (; len; len--, d++)
                *d = *(d - dist);
        } else {
            if (s == s_end)
                return -EINVAL;
            *d++ = *s++;
        }
        control >>= 1;
    }
    return 0;
}

int zle_decompress(const void *src, size_t src_len, void *dst, size_t dst_len)
{
    const uint8_t *s = src, *s_end = s + src_len;
    uint8_t *d = dst, *d_end = d + dst_len;

    while (d < d_end) {
        if (s == s_end)
            return -EINVAL;
        size_t n = *s++ + 1u;
        if (n <= ZLE_LITERALS) {
            if (n > (size_t)(s_end - s) || n > (size_t)(d_end - d))
                return -EINVAL;
            memcpy(d, s, n);
            s += n;
        } else {
            n -= ZLE_LITERALS;
            if (n > (size_t)(d_end - d))
                return -EINVAL;
            memset(d, 0, n);
        }
        d += n;
    }
    return 0;
}
