/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The few words the C tests share: a check that ends the program with the
 * place and the values, and a small generator whose seed is printed.
 */
#pragma once

#include "lib/types.h"

#include <stdio.h>
#include <stdlib.h>

#define CHECK(cond)                                                      \
    do {                                                                 \
        if (!(cond)) {                                                   \
            fprintf(stderr, "%s:%d: failed: %s\n", __FILE__, __LINE__, #cond); \
            exit(1);                                                     \
        }                                                                \
    } while (0)

#define CHECK_EQ(a, b)                                                   \
    do {                                                                 \
        long long a_ = (long long)(a), b_ = (long long)(b);              \
        if (a_ != b_) {                                                  \
            fprintf(stderr, "%s:%d: %s = %lld, expected %s = %lld\n",    \
                    __FILE__, __LINE__, #a, a_, #b, b_);                 \
            exit(1);                                                     \
        }                                                                \
    } while (0)

/* xorshift64* */
static inline uint64_t rng_next(uint64_t *state)
{
    uint64_t x = *state;

    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    *state = x;
    return x * 0x2545F4914F6CDD1Dull;
}

static inline uint64_t rng_below(uint64_t *state, uint64_t n)
{
    return rng_next(state) % n;
}
