/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The ZFS reader: one dataset of one single-disk pool, read-only.
 *
 * Below it: a device that reads bytes (struct zfs_vdev_ops). Above it: the
 * VFS glue (fs/zfsfs.c). Inside: vdev.c (labels, device) -> zio.c (block
 * pointers, checksums, compression) -> dmu.c (objects) -> zap.c (names) ->
 * dsl.c (datasets) -> sa.c, zpl.c (files); cache.c serves all of them.
 *
 * - Pool versions 1-28 and 5000, little-endian, one top-level disk, file or
 *   mirror. Compression: off, lzjb, zle, lz4. Checksums: off, fletcher2,
 *   fletcher4, sha256. Everything else is refused with a sentence in `why`
 *   (at open) or -ENOTSUP (later).
 * - Every block is verified by its checksum each time it comes from the
 *   device; further copies are tried when one is bad. Damaged pools give
 *   -EIO, never a crash.
 * - An intent log that was not replayed is ignored (ZFS_UNPLAYED_LOG).
 * - Objects are named by their 64-bit numbers: they serve as inode numbers.
 * - Buffers passed in MUST be kernel memory the device may write to.
 * - `mode`, `rdev` and the DT_ types have Linux' values; `rdev` is encoded as
 *   in stat(2).
 *
 * Locks: all calls on one `struct zfs` may run concurrently except
 * zfs_close. No lock is held while the device is read but the one of the
 * very block that is being read.
 */
#pragma once

#include "lib/types.h"

struct zfs; /* one mounted dataset */

struct zfs_vdev_ops {
    /* Reads all bytes or returns -errno. May sleep. Offsets and lengths are
     * multiples of 512. */
    int (*read)(void *dev, uint64_t offset_bytes, void *buf, size_t len_bytes);
};

/* How much memory the caches may take; 0 = the default. */
struct zfs_tuning {
    uint32_t chunk_bytes; /* read-ahead unit, a power of two >= 4096 */
    uint32_t nr_chunks;   /* how many of them are kept */
    size_t meta_bytes;    /* decompressed metadata blocks */
    size_t data_bytes;    /* decompressed records of partly read files */
    size_t dnode_bytes;   /* recently used files */
};

struct zfs_time {
    int64_t sec;
    uint32_t nsec;
};

struct zfs_attr {
    uint64_t obj, size, blocks512, links, rdev, gen, parent;
    uint32_t mode, uid, gid;
    struct zfs_time atime, mtime, ctime, crtime;
    uint32_t blksize;
};

#define ZFS_NAME_MAX 255u

struct zfs_dirent {
    uint64_t obj;
    uint8_t type; /* DT_*, 0 = not recorded */
    uint16_t name_len;
    char name[ZFS_NAME_MAX + 1]; /* NUL-terminated */
};

struct zfs_stats {
    uint64_t dev_reads, dev_bytes; /* requests to the device */
    uint64_t blocks, block_bytes;  /* blocks verified, bytes decompressed */
};

/* zfs_flags */
#define ZFS_UNPLAYED_LOG 1u /* the intent log holds newer writes */
#define ZFS_DAMAGED_LABEL 2u /* the first label was not usable */

/* mount.c: the pool */

/* dataset: NULL or "" = root dataset; "child", "child/grandchild", "@snap",
 * "child@snap". tuning may be NULL. On failure `why` holds a sentence; on
 * success "" or a remark that goes with zfs_flags. Returns owned (zfs_close).
 */
int zfs_open(const struct zfs_vdev_ops *ops, void *dev, uint64_t size_bytes,
             const char *dataset, struct zfs **out, char *why,
             size_t why_len) __must_check;
int zfs_open_tuned(const struct zfs_vdev_ops *ops, void *dev,
                   uint64_t size_bytes, const char *dataset,
                   const struct zfs_tuning *tuning, struct zfs **out,
                   char *why, size_t why_len) __must_check;
void zfs_close(struct zfs *z); /* NULL is allowed */
uint32_t zfs_flags(struct zfs *z);
uint64_t zfs_guid(struct zfs *z); /* of the dataset, for statfs f_fsid */
int zfs_stat_pool(struct zfs *z, uint64_t *total_bytes, uint64_t *free_bytes,
                  uint64_t *objects) __must_check;
void zfs_get_stats(struct zfs *z, struct zfs_stats *out);
/* Gives back all cache memory that is not in use at this moment. */
void zfs_shrink(struct zfs *z);

/* zpl.c: files */

uint64_t zfs_root(struct zfs *z);
int zfs_getattr(struct zfs *z, uint64_t obj,
                struct zfs_attr *out) __must_check;
/* "." and ".." are not stored: use attr.parent. -ENOENT, -ENOTDIR. */
int zfs_lookup(struct zfs *z, uint64_t dir, const char *name, size_t name_len,
               uint64_t *obj_out) __must_check;
/* One entry per call; *cursor starts at 0 and stays valid for ever (values
 * are below 2^62). -ENOENT at the end. No "." and "..". */
int zfs_readdir(struct zfs *z, uint64_t dir, uint64_t *cursor,
                struct zfs_dirent *out) __must_check;
/* At most `size` bytes, no NUL; *len_out = bytes stored. -EINVAL: no link. */
int zfs_readlink(struct zfs *z, uint64_t obj, char *buf, size_t size,
                 size_t *len_out) __must_check;
/* Regular files. Holes read as zeros; short only at the end of the file: a
 * damaged block anywhere in the range fails the whole call. Bytes of buf
 * behind the result may be changed.
 * Fastest for whole, aligned records (blksize); up to four of them that lie
 * side by side take one device request. */
ssize_t zfs_read(struct zfs *z, uint64_t obj, uint64_t offset, void *buf,
                 size_t len) __must_check;
