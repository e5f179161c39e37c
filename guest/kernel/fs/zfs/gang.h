/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Gang blocks: when no free run was large enough, a block was cut in pieces.
 * Its address leads to a header, one sector with three block pointers; the
 * pieces, which may be gang blocks again, follow each other in that order.
 */
#pragma once

#include "fs/zfs/zfs_impl.h"

/* gang.c */
/* Reads the stored form of a gang block (copy i of bp). */
int gang_read(struct zfs *z, const struct zfs_bp *bp, int i, void *dst,
              size_t len) __must_check;
/* zio.c: raw bytes of copy i. */
int zio_read_dva(struct zfs *z, const struct zfs_bp *bp, int i, void *dst,
                 size_t len) __must_check;
