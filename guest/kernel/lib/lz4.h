/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Decompression of one raw LZ4 block (lz4_Block_format.md), and of the form
 * ZFS stores: a 4-byte big-endian length, then the block, then padding.
 *
 * - Neither reads or writes outside its buffers, whatever the input; bytes of
 *   dst behind the result may be overwritten.
 * - Only general registers are used.
 */
#pragma once

#include "lib/types.h"

/* lz4.c */

/* Returns the number of bytes produced (at most dst_len), or -EINVAL. */
ssize_t lz4_decompress(const void *src, size_t src_len, void *dst,
                       size_t dst_len) __must_check;
/* Fills exactly dst_len bytes or fails with -EINVAL. */
int lz4_zfs_decompress(const void *src, size_t src_len, void *dst,
                       size_t dst_len) __must_check;
