/* SPDX-License-Identifier: BSD-2-Clause */
/* SipHash-2-4 (Aumasson and Bernstein, 2012). */
#include "net/checksum.h"

static inline uint64_t rotate(uint64_t x, unsigned n)
{
    return x << n | x >> (64 - n);
}

static void sip_round(uint64_t v[4])
{
    v[0] += v[1];
    v[1] = rotate(v[1], 13) ^ v[0];
    v[0] = rotate(v[0], 32);
    v[2] += v[3];
    v[3] = rotate(v[3], 16) ^ v[2];
    v[0] += v[3];
    v[3] = rotate(v[3], 21) ^ v[0];
    v[2] += v[1];
    v[1] = rotate(v[1], 17) ^ v[2];
    v[2] = rotate(v[2], 32);
}

static void sip_word(uint64_t v[4], uint64_t m)
{
    v[3] ^= m;
    sip_round(v);
    sip_round(v);
    v[0] ^= m;
}

uint64_t siphash(const struct siphash_key *key, const void *data, size_t n)
{
    uint64_t v[4] = {
        key->k[0] ^ 0x736f6d6570736575ull, key->k[1] ^ 0x646f72616e646f6dull,
        key->k[0] ^ 0x6c7967656e657261ull, key->k[1] ^ 0x7465646279746573ull};
    const uint8_t *p = data;
    uint64_t last = (uint64_t)n << 56;

    for (; n >= 8; n -= 8, p += 8)
        sip_word(v, get_le64(p));
    for (size_t i = 0; i < n; i++)
        last |= (uint64_t)p[i] << (8 * i);
    sip_word(v, last);
    v[2] ^= 0xff;
    for (int i = 0; i < 4; i++)
        sip_round(v);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}

uint64_t siphash_tuple(const struct siphash_key *key,
                       const struct net_endpoint *local,
                       const struct net_endpoint *remote, uint64_t extra)
{
    uint64_t words[6] = {local->addr.q[0], local->addr.q[1],
                         remote->addr.q[0], remote->addr.q[1],
                         (uint64_t)local->port << 16 | remote->port, extra};

    return siphash(key, words, sizeof(words));
}
