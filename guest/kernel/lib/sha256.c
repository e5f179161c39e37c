/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * SHA-256. The message schedule is kept as a ring of 16 words so that the
 * stack frame stays small.
 */
#include "lib/sha256.h"

#include "lib/le.h"
#include "lib/string.h"

static const uint32_t round_constants[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1,
    0x923f82a4, 0xab1c5ed5, 0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3,
    0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786,
    0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147,
    0x06ca6351, 0x14292967, 0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13,
    0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85, 0xa2bfe8a1, 0xa81a664b,
    0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a,
    0x5b9cca4f, 0x682e6ff3, 0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208,
    0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

static const uint32_t initial_state[8] = {
    0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c,
    0x1f83d9ab, 0x5be0cd19,
};

static inline uint32_t ror32(uint32_t x, unsigned int n)
{
    return (x >> n) | (x << (32 - n));
}

static inline uint32_t schedule(uint32_t w[16], unsigned int i)
{
    uint32_t w15 = w[(i + 1) & 15], w2 = w[(i + 14) & 15];
    uint32_t s0 = ror32(w15, 7) ^ ror32(w15, 18) ^ (w15 >> 3);
    uint32_t s1 = ror32(w2, 17) ^ ror32(w2, 19) ^ (w2 >> 10);

    w[i & 15] += s0 + w[(i + 9) & 15] + s1;
    return w[i & 15];
}

/* One round; the caller rotates the names instead of the values. */
#define ROUND(a, b, c, d, e, f, g, h, k, word)                          \
    do {                                                                \
        uint32_t t_ = (h) + (k) + (word) + ((g) ^ ((e) & ((f) ^ (g)))) + \
                      (ror32(e, 6) ^ ror32(e, 11) ^ ror32(e, 25));      \
        (d) += t_;                                                      \
        (h) = t_ + (ror32(a, 2) ^ ror32(a, 13) ^ ror32(a, 22)) +        \
              (((a) & (b)) | ((c) & ((a) | (b))));                      \
    } while (0)

#define EIGHT_ROUNDS(i, get)                                     \
    do {                                                         \
        ROUND(a, b, c, d, e, f, g, h, k[(i)], get((i)));         \
        ROUND(h, a, b, c, d, e, f, g, k[(i) + 1], get((i) + 1)); \
        ROUND(g, h, a, b, c, d, e, f, k[(i) + 2], get((i) + 2)); \
        ROUND(f, g, h, a, b, c, d, e, k[(i) + 3], get((i) + 3)); \
        ROUND(e, f, g, h, a, b, c, d, k[(i) + 4], get((i) + 4)); \
        ROUND(d, e, f, g, h, a, b, c, k[(i) + 5], get((i) + 5)); \
        ROUND(c, d, e, f, g, h, a, b, k[(i) + 6], get((i) + 6)); \
        ROUND(b, c, d, e, f, g, h, a, k[(i) + 7], get((i) + 7)); \
    } while (0)

#define FROM_BLOCK(i) (w[(i)] = get_be32(p + 4 * (i)))
#define FROM_SCHEDULE(i) schedule(w, (i))

static void sha256_block(uint32_t s[8], const uint8_t *p)
{
    const uint32_t *k = round_constants;
    uint32_t w[16];
    uint32_t a = s[0], b = s[1], c = s[2], d = s[3];
    uint32_t e = s[4], f = s[5], g = s[6], h = s[7];

    EIGHT_ROUNDS(0u, FROM_BLOCK);
    EIGHT_ROUNDS(8u, FROM_BLOCK);
    for (unsigned int i = 16; i < 64; i += 8)
        EIGHT_ROUNDS(i, FROM_SCHEDULE);
    s[0] += a;
    s[1] += b;
    s[2] += c;
    s[3] += d;
    s[4] += e;
    s[5] += f;
    s[6] += g;
    s[7] += h;
}

void sha256_init(struct sha256 *s)
{
    memcpy(s->state, initial_state, sizeof(s->state));
    s->total = 0;
}

void sha256_update(struct sha256 *s, const void *data, size_t len)
{
    const uint8_t *p = data;
    size_t used = s->total % 64;

    s->total += len;
    if (used + len < 64) {
        memcpy(s->block + used, p, len);
        return;
    }
    if (used) {
        memcpy(s->block + used, p, 64 - used);
        sha256_block(s->state, s->block);
        p += 64 - used;
        len -= 64 - used;
    }
    for (; len >= 64; len -= 64, p += 64)
        sha256_block(s->state, p);
    memcpy(s->block, p, len);
}

void sha256_final(struct sha256 *s, uint8_t digest[32])
{
    uint64_t bits = s->total * 8;
    size_t used = s->total % 64;

    s->block[used++] = 0x80;
    if (used > 56) {
        memset(s->block + used, 0, 64 - used);
        sha256_block(s->state, s->block);
        used = 0;
    }
    memset(s->block + used, 0, 56 - used);
    put_be64(s->block + 56, bits);
    sha256_block(s->state, s->block);
    for (int i = 0; i < 8; i++)
        put_be32(digest + 4 * i, s->state[i]);
}
