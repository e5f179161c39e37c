/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Random numbers: ChaCha20 (RFC 8439 2.3) with fast key erasure.
 *
 * - The key is 32 bytes. A request computes one block: its first half
 *   replaces the key at once, its second half is the output or, for requests
 *   of more than 32 bytes, the key of a stream made outside the lock.
 * - The first key is the launcher's seed xor RDRAND and clock jitter.
 *   random_reseed() stirs in the host's virtio-rng: when there was no seed at
 *   the first sys_getrandom, and every five minutes of use.
 * - Callable from anywhere but interrupt handlers.
 */
#include "arch/arch.h"
#include "drivers/drivers.h"
#include "drivers/virtio.h"
#include "lib/lock.h"
#include "lib/string.h"
#include "param.h"

#define RESEED_NS (300 * NSEC_PER_SEC)

static struct {
    struct spinlock lock;
    /* --- protected by lock --- */
    uint32_t key[8];
    uint64_t counter;
    nsec_t reseed_at;
} rng;

static inline uint32_t rotl32(uint32_t v, int n)
{
    return v << n | v >> (32 - n);
}

#define QUARTER(a, b, c, d)                             \
    do {                                                \
        a += b, d = rotl32(d ^ a, 16);                  \
        c += d, b = rotl32(b ^ c, 12);                  \
        a += b, d = rotl32(d ^ a, 8);                   \
        c += d, b = rotl32(b ^ c, 7);                   \
    } while (0)

static void chacha_block(const uint32_t key[8], uint64_t counter,
                         uint32_t out[16])
{
    uint32_t in[16] = {0x61707865, 0x3320646e, 0x79622d32, 0x6b206574};

    memcpy(&in[4], key, 32);
    in[12] = (uint32_t)counter;
    in[13] = (uint32_t)(counter >> 32);
    memcpy(out, in, sizeof(in));
    for (int i = 0; i < 10; i++) {
        QUARTER(out[0], out[4], out[8], out[12]);
        QUARTER(out[1], out[5], out[9], out[13]);
        QUARTER(out[2], out[6], out[10], out[14]);
        QUARTER(out[3], out[7], out[11], out[15]);
        QUARTER(out[0], out[5], out[10], out[15]);
        QUARTER(out[1], out[6], out[11], out[12]);
        QUARTER(out[2], out[7], out[8], out[13]);
        QUARTER(out[3], out[4], out[9], out[14]);
    }
    for (int i = 0; i < 16; i++)
        out[i] += in[i];
}

/* Stirs 32 bytes into the key. */
static void random_mix(const uint32_t seed[8])
{
    uint32_t block[16];

    spin_lock(&rng.lock);
    for (int i = 0; i < 8; i++)
        rng.key[i] ^= seed[i];
    chacha_block(rng.key, ++rng.counter, block);
    memcpy(rng.key, block, sizeof(rng.key));
    spin_unlock(&rng.lock);
}

void random_init(void)
{
    uint64_t seed[4];

    random_mix((const uint32_t *)boot_params.seed);
    cpu_random_seed(seed);
    random_mix((const uint32_t *)seed);
    rng.reseed_at = boot_params.has_seed ? RESEED_NS : 0;
}

void random_reseed(void)
{
    nsec_t now = clock_monotonic();
    uint32_t seed[8];
    bool is_due;

    if (now < atomic_load_relaxed(&rng.reseed_at))
        return;
    spin_lock(&rng.lock);
    is_due = now >= rng.reseed_at;
    rng.reseed_at = now + RESEED_NS;
    spin_unlock(&rng.lock);
    if (!is_due)
        return;
    if (virtio_rng_read(seed, sizeof(seed)) == 0)
        random_mix(seed);
    cpu_random_seed((uint64_t *)(void *)seed);
    random_mix(seed);
}

void random_bytes(void *buf, size_t n)
{
    uint32_t block[16], key[8];
    char *p = buf;

    spin_lock(&rng.lock);
    chacha_block(rng.key, ++rng.counter, block);
    memcpy(rng.key, block, sizeof(rng.key));
    spin_unlock(&rng.lock);
    memcpy(key, &block[8], sizeof(key));
    if (n <= sizeof(key)) {
        memcpy(p, key, n);
        n = 0;
    }
    for (uint64_t i = 0; n; i++) {
        size_t k = MIN(n, sizeof(block));

        chacha_block(key, i, block);
        memcpy(p, block, k);
        p += k;
        n -= k;
    }
    /* Nothing that was handed out stays on the stack. */
    memset(block, 0, sizeof(block));
    memset(key, 0, sizeof(key));
    __asm__ volatile("" ::"r"(block), "r"(key) : "memory");
}

uint64_t random_u64(void)
{
    uint64_t v;

    random_bytes(&v, sizeof(v));
    return v;
}
