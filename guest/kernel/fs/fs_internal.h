/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the files of fs/ share with each other but not with other areas.
 */
#pragma once

#include "fs/vfs.h"
#include "lib/errno.h"
#include "lib/printk.h"
#include "lib/string.h"
#include "mm/heap.h"
#include "mm/mm.h"
#include "sched/thread.h"

#ifndef EOPNOTSUPP
#define EOPNOTSUPP ENOTSUP
#endif
#define NAME_MAX 255u
#define PATH_MAX 4096u
#define MAX_SYMLINKS 40
#define MAX_RW_COUNT 0x7ffff000ul
#define UTIME_MASK (ATTR_ATIME | ATTR_MTIME)

#define DT_UNKNOWN 0
#define DT_FIFO 1
#define DT_CHR 2
#define DT_DIR 4
#define DT_BLK 6
#define DT_REG 8
#define DT_LNK 10
#define DT_SOCK 12
#define MODE_TO_DT(mode) ((uint8_t)(((mode) & S_IFMT) >> 12))

#define SEEK_SET 0
#define SEEK_CUR 1
#define SEEK_END 2
#define SEEK_DATA 3
#define SEEK_HOLE 4

#define RENAME_NOREPLACE 1u
#define RENAME_EXCHANGE 2u
#define RENAME_WHITEOUT 4u

struct process;

/* --- inode.c --- */
/* The process of the current thread, NULL in kernel threads. */
struct process *fs_process(void);
/* Does uid own i (or is root)? */
bool inode_owner_or_root(struct inode *i);
void inode_touch(struct inode *i, uint32_t attr_mask); /* with i->lock */
int vfs_setattr(struct inode *i, const struct inode_attr *a, uint32_t mask);
int vfs_truncate(struct inode *i, uint64_t size);
void superblock_add(struct superblock *sb);
extern struct list superblocks; /* only grows, at boot */
uint64_t new_device_number(void);

/* --- file.c --- */
/* Opens inode `i` named d with the access checks done: Returns owned. */
int file_open_inode(struct inode *i, struct dentry *d, uint32_t flags,
                    struct file **out);
extern const struct file_ops path_file_ops; /* O_PATH */
off_t generic_seek(struct file *f, off_t offset, int whence, uint64_t end);
bool dir_emit_dots(struct file *f, struct dir_context *ctx);
/* close(2)'s part that belongs to the descriptor: drops record locks. */
void file_close_locks(struct file *f, struct fdtable *t);
void file_release_locks(struct file *f); /* last reference: flock, OFD */

/* --- dentry.c --- */
struct dentry *dentry_alloc(struct dentry *parent, const char *name,
                            size_t len);
/* Makes d part of the tree (parent inode's lock held; Takes a reference). */
void dentry_add(struct dentry *d);
/* Takes d out of the tree (parent inode's lock held), drops its reference. */
void dentry_drop(struct dentry *d);
enum dcache_result { DC_MISS, DC_NEGATIVE, DC_LAZY, DC_FOUND };
/* DC_FOUND: *out owned. DC_NEGATIVE, DC_LAZY: *out borrowed, valid only with
 * the parent inode's lock. */
enum dcache_result dcache_find(struct dentry *parent, const char *name,
                               size_t len, struct dentry **out);
/* Gives a negative or lazy dentry an inode (Takes it). */
void dentry_set_inode(struct dentry *d, struct inode *i);
void dentry_move(struct dentry *d, struct dentry *parent, const char *name,
                 size_t len, char *name_copy);
void dentry_exchange(struct dentry *a, struct dentry *b);
struct dentry *dentry_parent(struct dentry *d); /* Returns owned */
bool dentry_is_below(struct dentry *d, struct dentry *ancestor);
/* Remembers that a name does not exist, within a limit. */
void dentry_cache_negative(struct dentry *parent, const char *name,
                           size_t len);
extern struct mutex rename_lock;

/* --- namei.c --- */
struct last_name {
    char name[NAME_MAX + 1];
    size_t len;
    bool trailing_slash;
    enum { LAST_NORMAL, LAST_DOT, LAST_DOTDOT, LAST_ROOT } kind;
};
/* The directory that holds the last component. */
int path_parent(struct dentry *base, const char *path, uint32_t flags,
                struct dentry **dir, struct last_name *last);
/* A child of dir. Without or with dir->inode->lock held by the caller. */
int dentry_child(struct dentry *dir, const char *name, size_t len,
                 struct dentry **out);
int dentry_child_locked(struct dentry *dir, const char *name, size_t len,
                        struct dentry **out);
/* The text of a link, NUL-terminated: Returns owned (kfree). */
int inode_readlink(struct inode *i, char **out);
/* Goes down into whatever is mounted on *d. */
void dentry_cross_mounts(struct dentry **d);

/* --- open.c --- vfs_open with LOOKUP_* restrictions (openat2) */
int vfs_open_lookup(struct dentry *base, const char *path, uint32_t oflags,
                    uint32_t mode, uint32_t lookup, struct file **out);

/* --- names.c: changes to directories; paths as for path_lookup --- */
int vfs_symlink(struct dentry *base, const char *path, const char *target);
int vfs_link(struct dentry *target, struct dentry *base, const char *path);
int vfs_unlink(struct dentry *base, const char *path, bool is_rmdir);
int vfs_rename(struct dentry *old_base, const char *old_path,
               struct dentry *new_base, const char *new_path, uint32_t flags);
int vfs_create_locked(struct dentry *dir, const char *name, size_t len,
                      uint32_t mode, uint64_t rdev, const char *target,
                      struct dentry **out);
/* Mounts sb (with sb->root) on a directory; NULL = the root. */
int vfs_mount(const char *where, struct superblock *sb);

/* --- pagecache.c --- */
void pagecache_destroy(struct inode *i);
void pagecache_init(void);
/* First page index >= from that is in the cache, ~0 = none. */
uint64_t pagecache_next(struct inode *i, uint64_t from);
/* Zeroes [from, to): drops whole pages when nothing is below them. */
int pagecache_punch(struct inode *i, uint64_t from, uint64_t to);
uint64_t pagecache_clean_pages(void);
extern uint64_t pagecache_nr_pages; /* atomic; read by mm/page.c */

/* --- devfs.c --- */
int chrdev_open(struct inode *i, struct file *f);

/* --- memfs.c --- */
int memfs_create_sb(const char *type, uint64_t magic, struct superblock **out);
int memfs_tmpfile(struct inode *dir, uint32_t mode, struct inode **out);
int memfs_fallocate(struct file *f, uint32_t mode, uint64_t off, uint64_t len);
/* Makes the names of the pool's directory known (d->inode->lock held). */
int memfs_merge(struct dentry *dir);
int memfd_create_file(const char *name, bool may_seal, uint32_t mode,
                      struct file **out);
bool inode_is_memfs(struct inode *i);
/* Seals of a memfd: NULL when i cannot have any. */
uint32_t *memfs_seals(struct inode *i);
#define F_SEAL_SEAL 1u
#define F_SEAL_SHRINK 2u
#define F_SEAL_GROW 4u
#define F_SEAL_WRITE 8u
#define F_SEAL_FUTURE_WRITE 16u
#define F_SEAL_EXEC 32u
extern const struct file_ops memfs_file_ops, memfs_dir_ops;

/* --- lower.c: the pool below the root memfs --- */
int lower_mount(uint64_t *root_object); /* -ENXIO: no disk */
int lower_lookup(uint64_t dir, const char *name, size_t len, uint64_t *obj);
int lower_getattr(uint64_t obj, struct inode_attr *out);
int lower_readlink(uint64_t obj, char *buf, size_t size); /* length */
int lower_read(uint64_t obj, uint64_t offset, void *buf, size_t len);
struct lower_dirent {
    uint64_t obj;
    const char *name;
    size_t len;
    uint8_t dt_type;
};
/* Calls take(arg, entry) for every entry until it returns non-zero. */
int lower_readdir(uint64_t dir, int (*take)(void *, struct lower_dirent *),
                  void *arg);
int lower_statfs(uint64_t *total_bytes, uint64_t *free_bytes,
                 uint64_t *files);
