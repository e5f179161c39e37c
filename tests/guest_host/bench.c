/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Speed of the routines every block passes through; prints, asserts nothing.
 * usage: bench FILE.lz4raw UNPACKED_BYTES  (one raw LZ4 block)
 */
#include "lib/fletcher.h"
#include "lib/lz4.h"
#include "lib/sha256.h"
#include "lib/string.h"

#include <stdlib.h>
#include <time.h>

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

#define BEST_OF(what, bytes, statement)                                   \
    do {                                                                  \
        double best = 1e9;                                                \
        for (int i_ = 0; i_ < 200; i_++) {                                \
            double start = now();                                         \
            statement;                                                    \
            best = MIN(best, now() - start);                              \
        }                                                                 \
        printf("%-10s %6.0f MB/s\n", what, (double)(bytes) / best / 1e6); \
    } while (0)

int main(int argc, char **argv)
{
    size_t len = 128u << 10;
    uint8_t *buf = malloc(len), digest[32];
    uint64_t sums[4];
    struct sha256 sha;

    for (size_t i = 0; i < len; i++)
        buf[i] = (uint8_t)(i * 7 + (i >> 8));
    BEST_OF("fletcher4", len, fletcher4(buf, len, sums));
    BEST_OF("fletcher2", len, fletcher2(buf, len, sums));
    BEST_OF("sha256", len, {
        sha256_init(&sha);
        sha256_update(&sha, buf, len);
        sha256_final(&sha, digest);
    });
    if (argc > 2) {
        size_t out_len = strtoul(argv[2], NULL, 10);
        uint8_t *src = malloc(16u << 20), *dst = malloc(out_len);
        FILE *f = fopen(argv[1], "rb");
        size_t src_len = f ? fread(src, 1, 16u << 20, f) : 0;
        ssize_t n = 0;
        BEST_OF("lz4", out_len, n = lz4_decompress(src, src_len, dst, out_len));
        printf("(%zu -> %zd)\n", src_len, n);
        free(src);
        free(dst);
    }
    free(buf);
    return 0;
}
