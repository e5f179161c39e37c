/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * fsutil.c: what the file system calls share: names and descriptors that come
 * from the program.
 */
#pragma once

#include "fs/fs_internal.h"
#include "fs/fdtable.h"
#include "linux/syscall_protos.h"
#include "linux/task.h"

#define AT_SYMLINK_NOFOLLOW 0x100u
#define AT_REMOVEDIR 0x200u
#define AT_EACCESS 0x200u
#define AT_SYMLINK_FOLLOW 0x400u
#define AT_NO_AUTOMOUNT 0x800u
#define AT_EMPTY_PATH 0x1000u
#define AT_STATX_SYNC_TYPE 0x6000u

/* A path argument copied into the kernel; short ones need no allocation. */
struct user_path {
    char *name;
    char small[192];
};
int user_path_get(struct user_path *p, uint64_t user);
void user_path_put(struct user_path *p);

/* dirfd and path of an *at call. */
struct at_path {
    struct user_path path;
    struct dentry *base; /* owned or NULL */
};
/* dirfd alone: owned, or NULL for AT_FDCWD. */
int at_base(uint64_t dirfd, struct dentry **out);
int at_path_get(struct at_path *a, uint64_t dirfd, uint64_t user);
void at_path_put(struct at_path *a);
/* dirfd + path -> dentry. lookup: LOOKUP_* */
int at_lookup(uint64_t dirfd, uint64_t user, uint32_t lookup,
              struct dentry **out);
/* The same down to the inode; AT_EMPTY_PATH and a NULL-free empty path work
 * on descriptors without a name too. Returns owned. */
int at_inode(uint64_t dirfd, uint64_t user, uint32_t at_flags,
             struct inode **out);
/* A file that may be used for I/O: -EBADF for closed ones and O_PATH. */
int fd_get_io(uint64_t fd, struct file **out);

/* stream: no position. Locks f->pos_lock for others. */
ssize_t file_read_at_pos(struct file *f, struct iov_iter *it);
ssize_t file_write_at_pos(struct file *f, struct iov_iter *it);
