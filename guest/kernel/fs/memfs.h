/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The inode of memfs and what memfs.c and memfs_file.c share.
 */
#pragma once

#include "fs/fs_internal.h"

struct memfs_inode {
    struct inode i; /* first member */
    /* --- set once --- */
    uint64_t lower; /* object in the pool, 0 = none */
    uint64_t lower_blocks;
    uint32_t blksize;
    bool is_memfd;
    char *symlink;
    struct memfs_inode *hash_next; /* protected by icache.lock */
    /* --- protected by i.lock --- */
    uint64_t lower_size;
    uint32_t seals; /* F_SEAL_* */
    bool is_changed;
    bool is_forgotten; /* not in the icache any more */
};

static inline struct memfs_inode *to_memfs(struct inode *i)
{
    return container_of(i, struct memfs_inode, i);
}

extern const struct inode_ops memfs_ops, memfs_lower_ops;
/* The inode of an object of the pool: Returns owned. */
int memfs_instantiate(struct superblock *sb, uint64_t object,
                      struct inode **out);
