/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Decompressors of two old ZFS formats: lzjb (default before lz4) and zle
 * (runs of zeros).
 *
 * - Both fill exactly dst_len bytes or fail with -EINVAL; neither reads or
 *   writes outside its buffers, whatever the input.
 */
#pragma once

#include "lib/types.h"

/* lzjb.c */
int lzjb_decompress(const void *src, size_t src_len, void *dst,
                    size_t dst_len) __must_check;
int zle_decompress(const void *src, size_t src_len, void *dst,
                   size_t dst_len) __must_check;
