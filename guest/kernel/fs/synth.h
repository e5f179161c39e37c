/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * synth.c: file systems whose files are made up from tables (proc, sys).
 *
 * A table is an array of nodes that ends with a NULL name. Inodes are made per
 * lookup and inherit the keys (which process, thread, descriptor, CPU) of
 * their directory. The text of a file is made at the first read of an open
 * file and again when it is read from position 0.
 */
#pragma once

#include "fs/fs_internal.h"

/* Growing text. */
struct sbuf {
    char *buf;
    size_t len, cap;
    int err; /* -ENOMEM: text is missing */
};
void sbuf_printf(struct sbuf *s, const char *fmt, ...) __printf(2, 3);
void sbuf_write(struct sbuf *s, const void *p, size_t n);

struct synth_inode;

struct synth_node {
    const char *name;
    uint32_t mode; /* S_IFMT | permissions */
    /* --- files --- */
    int (*show)(struct synth_inode *i, struct sbuf *out);
    const char *text;                 /* instead of show */
    /* A whole write: 0 or -errno; buf is NUL-terminated. */
    int (*store)(struct synth_inode *i, char *buf, size_t len);
    const struct file_ops *ops;       /* instead of all that */
    /* --- links --- */
    int (*readlink)(struct synth_inode *i, char *buf, size_t size);
    int (*follow)(struct synth_inode *i, struct dentry **out);
    uint32_t (*get_mode)(struct synth_inode *i); /* instead of mode */
    /* --- directories --- */
    const struct synth_node *children;
    /* Entries that are numbers after `prefix` (may be NULL): the lowest one
     * >= from, -1 = none; `number` is their node, its key is set. */
    int (*next_number)(struct synth_inode *i, int from);
    const char *prefix;
    const struct synth_node *number;
    size_t key;                       /* offsetof(struct synth_inode, x) */
};

struct synth_inode {
    struct inode i; /* first member */
    const struct synth_node *node;
    int pid, tid, fd, cpu;
};

static inline struct synth_inode *to_synth(struct inode *i)
{
    return container_of(i, struct synth_inode, i);
}

int synth_mount(const char *where, const char *type, uint64_t magic,
                const struct synth_node *root);
