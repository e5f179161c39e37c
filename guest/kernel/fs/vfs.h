/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Files, directories and names.
 *
 * Layer below: mm (pages, user copies), sched (locks). Above: linux/ (system
 * calls), exec/.
 *
 * - `struct inode` is the object, `struct dentry` its name in a directory,
 *   `struct file` an open file description. All three are refcounted.
 * - The root is memfs: an in-memory tree whose nodes may have a `lower` object
 *   in the ZFS pool; pages, entries and attributes come from there on
 *   first use and are owned by memory once changed (page-granular copy-up), so
 *   everything is writable and nothing meets EROFS.
 * - Offsets and lengths are bytes; functions return 0/-errno or a count.
 * - Read/write buffers are `struct iov_iter`: program or kernel memory.
 * - poll: file->ops->poll returns the current EPOLL* mask; if `pt` is not NULL
 *   it first registers with poll_add(file, queue, pt) on every wait queue
 *   whose wake-up may change the mask. Wakers pass the mask as wake key.
 */
#pragma once

#include "lib/list.h"
#include "lib/types.h"
#include "mm/page.h"
#include "sched/mutex.h"
#include "sched/wait.h"

struct dentry;
struct file;
struct inode;
struct mm;
struct vma;

struct timespec64 {
    int64_t sec;
    int64_t nsec;
};

/* One stat(2) worth of facts. */
struct inode_attr {
    uint32_t mode; /* S_IFMT | permissions */
    uint32_t uid, gid, nlink;
    uint64_t ino, rdev, size, blocks512, blksize, dev;
    struct timespec64 atime, mtime, ctime, btime;
};

/* --- iov_iter.c: where bytes go to or come from --- */
struct iovec64 {
    void *base;
    size_t len;
};
struct iov_iter {
    const struct iovec64 *iov; /* kernel copy of the array */
    size_t nr_iov, iov_offset; /* offset into iov[0] */
    size_t count;              /* bytes left */
    bool is_kernel;            /* base points to kernel memory */
    struct iovec64 one;        /* storage for iter_init_* */
};
void iter_init_user(struct iov_iter *it, void __user *p, size_t n);
void iter_init_kernel(struct iov_iter *it, void *p, size_t n);
/* Return bytes moved; less than n only on a fault (0 bytes: -EFAULT). */
ssize_t iter_copy_to(struct iov_iter *it, const void *src, size_t n);
ssize_t iter_copy_from(struct iov_iter *it, void *dst, size_t n);
ssize_t iter_zero(struct iov_iter *it, size_t n);

struct poll_table; /* fs/poll.c */
void poll_add(struct file *f, struct waitq *q, struct poll_table *pt);

struct dir_context {
    /* Returns false when the buffer is full (entry not taken). */
    bool (*emit)(struct dir_context *ctx, const char *name, size_t len,
                 uint64_t ino, uint8_t dt_type, uint64_t next_pos);
    uint64_t pos; /* in: where to start; out: where to go on */
};

struct file_ops {
    /* *pos is the position to use and to advance; NULL ops = -EINVAL. */
    ssize_t (*read)(struct file *f, struct iov_iter *to, off_t *pos);
    ssize_t (*write)(struct file *f, struct iov_iter *from, off_t *pos);
    off_t (*seek)(struct file *f, off_t offset, int whence);
    uint32_t (*poll)(struct file *f, struct poll_table *pt);
    int64_t (*ioctl)(struct file *f, uint32_t cmd, uint64_t arg);
    int (*readdir)(struct file *f, struct dir_context *ctx);
    int (*fsync)(struct file *f);
    /* Called when the last reference goes. */
    void (*release)(struct file *f);
    /* May the file be mapped? 0 = through the inode's page cache. Absent:
     * -ENODEV. Devices (/dev/zero) may turn the request into anonymous memory
     * by setting *anonymous. */
    int (*mmap)(struct file *f, uint64_t offset, size_t len, int prot,
                int flags, bool *anonymous);
    int (*set_flags)(struct file *f, uint32_t flags); /* F_SETFL changed */
    /* "[eventfd]": how /proc/self/fd names a file without a name. Files whose
     * ops have no release are stateless: opening their /proc/self/fd link makes
     * another one with the same ops and priv. */
    const char *name;
};

struct file {
    uint32_t refcount;            /* atomic */
    const struct file_ops *ops;   /* --- set once --- */
    struct dentry *dentry;        /* owned; NULL for pipes, sockets, ... */
    struct inode *inode;          /* owned; never NULL */
    void *priv;                   /* the file system's */
    uint32_t flags;               /* O_*; changed by F_SETFL (atomic) */
    struct mutex pos_lock;
    off_t pos;                    /* protected by pos_lock */
    struct list epoll_links;      /* epoll.c: protected by epoll's lock */
    int owner_pid, owner_sig;     /* F_SETOWN, F_SETSIG */
};

struct inode_ops {
    /* Directories; called with dir->lock held. Returns owned inode. */
    int (*lookup)(struct inode *dir, const char *name, size_t len,
                  struct inode **out);
    int (*create)(struct inode *dir, const char *name, size_t len,
                  uint32_t mode, uint64_t rdev, const char *symlink_target,
                  struct inode **out); /* all kinds, by S_IFMT */
    int (*link)(struct inode *dir, const char *name, size_t len,
                struct inode *target);
    int (*unlink)(struct inode *dir, const char *name, size_t len,
                  struct inode *target); /* files and empty directories */
    int (*rename)(struct inode *old_dir, const char *old_name, size_t old_len,
                  struct inode *new_dir, const char *new_name, size_t new_len,
                  struct inode *moved, struct inode *replaced /* or NULL */);
    /* Everything. */
    int (*readlink)(struct inode *i, char *buf, size_t size); /* length */
    /* /proc/self/fd/N: jump to an object. Returns owned references. */
    int (*follow)(struct inode *i, struct dentry **out);
    int (*getattr)(struct inode *i, struct inode_attr *out);
    int (*setattr)(struct inode *i, const struct inode_attr *a, uint32_t mask);
    int (*truncate)(struct inode *i, uint64_t size);
    /* Fills f->ops, f->priv. */
    int (*open)(struct inode *i, struct file *f);
    /* Fill nr_pages consecutive pages from the backing store (zero past EOF).
     * Called by the page cache; NULL: new pages are zero. */
    int (*read_pages)(struct inode *i, uint64_t index, void *contiguous,
                      size_t nr_pages);
    void (*destroy)(struct inode *i); /* last reference gone */
};

#define ATTR_MODE 1u
#define ATTR_UID 2u
#define ATTR_GID 4u
#define ATTR_ATIME 8u
#define ATTR_MTIME 16u
#define ATTR_CTIME 32u

struct superblock {
    const char *type;    /* "zfs", "tmpfs", "proc", ... */
    uint64_t dev;        /* st_dev */
    uint64_t magic;      /* statfs f_type */
    int (*statfs)(struct superblock *sb, uint64_t *total_bytes,
                  uint64_t *free_bytes, uint64_t *files);
    struct dentry *root; /* owned */
    struct dentry *mounted_on; /* owned, NULL for the root */
    struct list link;
    const char *source;  /* first word of /proc/mounts */
    const char *options; /* mount options shown there */
    uint32_t flags;      /* SB_* */
};
#define SB_TRANSIENT 1u /* names are looked up each time (proc, sys) */

/* inode.iflags */
#define INODE_LOWER_DIR 1u /* has entries in the pool not merged yet */
#define INODE_NO_ATIME 2u

struct inode {
    uint32_t refcount;           /* atomic */
    const struct inode_ops *ops; /* --- set once --- */
    struct superblock *sb;
    uint64_t ino;
    uint64_t rdev;
    void *priv;
    struct mutex lock;
    /* --- protected by lock --- */
    uint32_t mode, uid, gid, nlink;
    uint64_t size;               /* also read without: atomic */
    struct timespec64 atime, mtime, ctime, btime;
    /* --- page cache (pagecache.c), protected by cache_lock --- */
    struct mutex cache_lock;
    void *cache_tree;            /* index -> struct page */
    uint32_t cache_height;       /* of the tree */
    uint32_t iflags;             /* INODE_*, protected by lock */
    uint64_t nr_cached;
    struct list mappings;        /* VMAs that map it: mm's, under cache_lock */
    /* flock/fcntl locks */
    void *locks;
};

/* --- inode.c, file.c --- */
void inode_init(struct inode *i, struct superblock *sb,
                const struct inode_ops *ops, uint32_t mode);
void inode_get(struct inode *i);
void inode_put(struct inode *i);
/* A new description, refcount 1. Takes nothing: references of its own. */
int file_create(struct inode *inode, struct dentry *dentry,
                const struct file_ops *ops, uint32_t flags, void *priv,
                struct file **out);
void file_get(struct file *f);
void file_put(struct file *f);
/* An inode without a name for pipes, sockets, eventfds: refcount 1. */
int anon_inode_create(uint32_t mode, struct inode **out);
ssize_t file_read(struct file *f, struct iov_iter *to, off_t *pos);
ssize_t file_write(struct file *f, struct iov_iter *from, off_t *pos);
/* Kernel-memory convenience (exec, tests). */
ssize_t file_pread(struct file *f, void *buf, size_t n, off_t pos);

/* --- pagecache.c --- */
/* The page at `index` (in 4 KiB) of a mappable inode, filled; may read ahead.
 * Returns owned (page_put). for_write: marks it dirty: never dropped.
 * -ENXIO past the end, -EIO, -ENOMEM. */
int pagecache_get(struct inode *i, uint64_t index, bool for_write,
                  struct page **out);
/* The same if it is there already, no I/O, NULL otherwise (fault-around). */
struct page *pagecache_peek(struct inode *i, uint64_t index);
void pagecache_truncate(struct inode *i, uint64_t new_size);
ssize_t pagecache_read(struct inode *i, struct iov_iter *to, off_t pos);
ssize_t pagecache_write(struct inode *i, struct iov_iter *from, off_t pos);

/* --- name lookup (namei.c) --- */
struct dentry {
    uint32_t refcount;      /* atomic */
    struct dentry *parent;  /* owned; itself for a root */
    struct inode *inode;    /* owned; NULL = negative */
    char *name;
    uint32_t name_len;
    struct superblock *mount; /* mounted here, or NULL */
    struct list child_link, children; /* protected by parent inode's lock */
    void *fs_priv;
    /* --- dentry.c --- */
    struct dentry *hash_next; /* protected by the bucket's lock */
    uint32_t flags;           /* DENTRY_*, parent inode's lock */
    uint8_t lower_type;       /* DT_*, while DENTRY_LAZY */
    uint64_t lower_object;    /* while DENTRY_LAZY */
    uint64_t cookie;          /* position in readdir */
    uint64_t next_cookie;     /* for the next child */
};
#define DENTRY_HASHED 1u     /* part of the tree, which owns a reference */
#define DENTRY_GONE 2u       /* unlinked */
#define DENTRY_LAZY 4u       /* known from readdir, inode not made yet */
#define DENTRY_FILE 16u      /* /proc/self/fd: fs_priv is an owned file */
#define DENTRY_FROM_LOWER 8u /* the pool has this name: unlink = whiteout */
void dentry_get(struct dentry *d);
void dentry_put(struct dentry *d);

#define AT_FDCWD (-100)
#define LOOKUP_FOLLOW 1u     /* last symlink */
#define LOOKUP_DIRECTORY 2u
#define LOOKUP_EMPTY 4u      /* AT_EMPTY_PATH */
#define LOOKUP_PARENT 8u     /* stop before the last component */
#define LOOKUP_NO_SYMLINKS 16u /* any symlink: -ELOOP */
#define LOOKUP_BENEATH 32u     /* leaving base: -EXDEV */
#define LOOKUP_IN_ROOT 64u     /* base is "/" */
#define LOOKUP_NO_XDEV 128u    /* crossing a mount: -EXDEV */
#define LOOKUP_NO_MAGIC 256u   /* /proc/self/fd/N and the like: -ELOOP */

/* `path` is kernel memory. base: starting directory for relative paths
 * (NULL = the current directory). Returns owned dentry. -ENOENT, -ENOTDIR,
 * -ELOOP, -ENAMETOOLONG, -EACCES. */
int path_lookup(struct dentry *base, const char *path, uint32_t flags,
                struct dentry **out);
/* open(2) without the descriptor. */
int vfs_open(struct dentry *base, const char *path, uint32_t oflags,
             uint32_t mode, struct file **out);
/* Absolute name of d as the program sees it ("... (deleted)" when gone). */
int dentry_path(struct dentry *d, char *buf, size_t size);
struct dentry *root_dentry(void); /* borrowed */
int vfs_getattr(struct inode *i, struct inode_attr *out);

/* --- mounts, made at boot in init order --- */
int rootfs_mount(void); /* memfs over the pool on the first block device */
int tmpfs_mount(const char *where);
int devfs_mount(const char *where);
int procfs_mount(const char *where);
int sysfs_mount(const char *where);

/* --- fdtable.c: descriptors of a process --- */
struct fdtable;
int fdtable_create(struct fdtable **out);        /* Returns owned */
int fdtable_copy(struct fdtable *t, struct fdtable **out);
void fdtable_get(struct fdtable *t);
void fdtable_put(struct fdtable *t);             /* closes all at the last */
struct fdtable *current_fds(void);
/* Returns owned file, NULL if fd is not open. */
struct file *fd_get(int fd);
/* Installs f (Takes the reference) at the lowest free fd >= min, or fails
 * with -EMFILE (reference kept by the caller then). */
int fd_install(struct file *f, int min, bool cloexec);
/* A descriptor that is nobody's file yet: fd_fill (takes f) or fd_unreserve
 * must follow. The lowest free one, or -EMFILE, -ENOMEM. */
int fd_reserve(bool cloexec) __must_check;
void fd_fill(int fd, struct file *f);
void fd_unreserve(int fd);
int fd_close(int fd);
void fdtable_close_on_exec(struct fdtable *t);
void fdtable_close_all(struct fdtable *t); /* of a process that ends */

/* The same on a given table (boot: descriptors 0-2 of the first process). */
struct file *fdtable_get_file(struct fdtable *t, int fd);
int fdtable_install(struct fdtable *t, struct file *f, int min, bool cloexec);

/* --- for the other areas --- */
/* A node of any kind (S_IFSOCK for bind): -EEXIST when the name is taken. */
int vfs_mknod(struct dentry *base, const char *path, uint32_t mode,
              uint64_t rdev, struct dentry **out);
/* -EACCES unless the current process may do mask (MAY_*) to i. */
#define MAY_EXEC 1
#define MAY_WRITE 2
#define MAY_READ 4
int inode_permission(struct inode *i, int mask);
/* A tmpfs file without a name: shared anonymous memory. Returns owned. */
int shmem_inode_create(uint64_t size, struct inode **out);
struct timespec64 current_time(void);
/* Opens the other side of named pipes; pipe.c. Fills f->ops, f->priv. */
int fifo_open(struct inode *i, struct file *f);
void epoll_file_gone(struct file *f); /* epoll.c */
/* Character devices: made known by number before devfs is mounted. */
#define MKDEV(major, minor) (((uint64_t)(major) << 8) | (minor))
int chrdev_register(uint64_t rdev, const struct file_ops *ops);

/* --- constants (man 2 open, stat, fcntl; asm-generic) --- */
#define O_ACCMODE 3u
#define O_RDONLY 0u
#define O_WRONLY 1u
#define O_RDWR 2u
#define O_CREAT 0100u
#define O_EXCL 0200u
#define O_NOCTTY 0400u
#define O_TRUNC 01000u
#define O_APPEND 02000u
#define O_NONBLOCK 04000u
#define O_DSYNC 010000u
#define O_ASYNC 020000u
#define O_DIRECT 040000u
#define O_LARGEFILE 0100000u
#define O_DIRECTORY 0200000u
#define O_NOFOLLOW 0400000u
#define O_NOATIME 01000000u
#define O_CLOEXEC 02000000u
#define O_SYNC 04010000u
#define O_PATH 010000000u
#define O_TMPFILE 020200000u

#define S_IFMT 0170000u
#define S_IFSOCK 0140000u
#define S_IFLNK 0120000u
#define S_IFREG 0100000u
#define S_IFBLK 0060000u
#define S_IFDIR 0040000u
#define S_IFCHR 0020000u
#define S_IFIFO 0010000u
#define S_ISDIR(m) (((m) & S_IFMT) == S_IFDIR)
#define S_ISREG(m) (((m) & S_IFMT) == S_IFREG)
#define S_ISLNK(m) (((m) & S_IFMT) == S_IFLNK)

#define EPOLLIN 0x001u
#define EPOLLPRI 0x002u
#define EPOLLOUT 0x004u
#define EPOLLERR 0x008u
#define EPOLLHUP 0x010u
#define EPOLLNVAL 0x020u
#define EPOLLRDNORM 0x040u
#define EPOLLRDBAND 0x080u
#define EPOLLWRNORM 0x100u
#define EPOLLWRBAND 0x200u
#define EPOLLRDHUP 0x2000u
