/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A pool image mapped into memory as the device of the ZFS reader. The
 * mapping is private: tests may write to it, the file does not change.
 */
#pragma once

#include "fs/zfs/zfs.h"

struct image {
    uint8_t *bytes;
    uint64_t size;
    long fail_read; /* like shim_fail_alloc, for reads; 0 = none */
};

extern const struct zfs_vdev_ops image_ops;

/* image.c; exits with a message when the file cannot be mapped. */
void image_open(struct image *img, const char *path);
void image_close(struct image *img);
/* zfs_open; on failure prints `why` and exits. */
struct zfs *image_mount(struct image *img, const char *dataset);
