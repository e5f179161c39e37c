/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Fletcher sums with plain 64-bit integers. The additions of fletcher4 form
 * four chains of one addition per word that overlap in the processor, so the
 * loop runs at about one word per cycle and wider tricks would need vector
 * registers, which the kernel does not touch.
 */
#include "lib/fletcher.h"

#include "lib/le.h"

void fletcher2(const void *data, size_t len, uint64_t out[4])
{
    const uint8_t *p = data;
    uint64_t a0 = 0, a1 = 0, b0 = 0, b1 = 0;

    for (; len >= 16; len -= 16, p += 16) {
        a0 += get_le64(p);
        a1 += get_le64(p + 8);
        b0 += a0;
        b1 += a1;
    }
    out[0] = a0;
    out[1] = a1;
    out[2] = b0;
    out[3] = b1;
}

#define FLETCHER4_STEP(word)  \
    do {                      \
        a += (uint32_t)(word); \
        b += a;               \
        c += b;               \
        d += c;               \
    } while (0)

void fletcher4(const void *data, size_t len, uint64_t out[4])
{
    const uint8_t *p = data;
    uint64_t a = 0, b = 0, c = 0, d = 0;

    for (; len >= 32; len -= 32, p += 32) {
        FLETCHER4_STEP(get_le32(p));
        FLETCHER4_STEP(get_le32(p + 4));
        FLETCHER4_STEP(get_le32(p + 8));
        FLETCHER4_STEP(get_le32(p + 12));
        FLETCHER4_STEP(get_le32(p + 16));
        FLETCHER4_STEP(get_le32(p + 20));
        FLETCHER4_STEP(get_le32(p + 24));
        FLETCHER4_STEP(get_le32(p + 28));
    }
    for (; len >= 4; len -= 4, p += 4)
        FLETCHER4_STEP(get_le32(p));
    out[0] = a;
    out[1] = b;
    out[2] = c;
    out[3] = d;
}
