/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * SHA-256 (FIPS 180-4), plain integer code. Used for ZFS labels and blocks;
 * not hardened against side channels.
 */
#pragma once

#include "lib/types.h"

struct sha256 {
    uint32_t state[8];
    uint64_t total;    /* bytes taken in */
    uint8_t block[64]; /* the first total % 64 bytes are in use */
};

/* sha256.c */
void sha256_init(struct sha256 *s);
void sha256_update(struct sha256 *s, const void *data, size_t len);
void sha256_final(struct sha256 *s, uint8_t digest[32]);
