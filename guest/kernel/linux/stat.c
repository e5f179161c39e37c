/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * stat.c: stat, statx, statfs. Layouts: man 2 stat, statx, statfs; x86-64.
 */
#include "linux/fsutil.h"

struct stat_abi {
    uint64_t dev, ino, nlink;
    uint32_t mode, uid, gid, pad;
    uint64_t rdev;
    int64_t size, blksize, blocks;
    struct timespec64 atime, mtime, ctime;
    int64_t unused[3];
};
_Static_assert(sizeof(struct stat_abi) == 144, "struct stat");

struct statx_time {
    int64_t sec;
    uint32_t nsec;
    int32_t pad;
};

struct statx_abi {
    uint32_t mask, blksize;
    uint64_t attributes;
    uint32_t nlink, uid, gid;
    uint16_t mode, pad;
    uint64_t ino, size, blocks, attributes_mask;
    struct statx_time atime, btime, ctime, mtime;
    uint32_t rdev_major, rdev_minor, dev_major, dev_minor;
    uint64_t mnt_id;
    uint64_t spare[13];
};
_Static_assert(sizeof(struct statx_abi) == 256, "struct statx");
#define STATX_BASIC_STATS 0x7ffu
#define STATX_BTIME 0x800u
#define STATX_MNT_ID 0x1000u
#define STATX_RESERVED 0x80000000u

struct statfs_abi {
    int64_t type, bsize;
    uint64_t blocks, bfree, bavail, files, ffree;
    int32_t fsid[2];
    int64_t namelen, frsize, flags, spare[4];
};
_Static_assert(sizeof(struct statfs_abi) == 120, "struct statfs");
#define ST_RELATIME 0x1000
#define ST_VALID 0x20

static int64_t stat_out(struct inode *i, uint64_t user)
{
    struct inode_attr a;
    int err = vfs_getattr(i, &a);

    if (err)
        return err;
    struct stat_abi s = {
        .dev = a.dev, .ino = a.ino, .nlink = a.nlink, .mode = a.mode,
        .uid = a.uid, .gid = a.gid, .rdev = a.rdev, .size = a.size,
        .blksize = a.blksize, .blocks = a.blocks512, .atime = a.atime,
        .mtime = a.mtime, .ctime = a.ctime,
    };
    return copy_to_user((void __user *)user, &s, sizeof(s));
}

static int64_t do_stat(uint64_t dirfd, uint64_t path, uint64_t buf,
                       uint32_t flags)
{
    struct inode *i;
    int64_t err = at_inode(dirfd, path, flags, &i);

    if (err)
        return err;
    err = stat_out(i, buf);
    inode_put(i);
    return err;
}

int64_t sys_stat(uint64_t path, uint64_t buf, uint64_t c, uint64_t d,
                 uint64_t e, uint64_t f)
{
    return do_stat(AT_FDCWD, path, buf, 0);
}

int64_t sys_lstat(uint64_t path, uint64_t buf, uint64_t c, uint64_t d,
                  uint64_t e, uint64_t f)
{
    return do_stat(AT_FDCWD, path, buf, AT_SYMLINK_NOFOLLOW);
}

int64_t sys_fstat(uint64_t fd, uint64_t buf, uint64_t c, uint64_t d,
                  uint64_t e, uint64_t g)
{
    struct file *f = fd_get((int)fd);

    if (!f)
        return -EBADF;
    int64_t err = stat_out(f->inode, buf);
    file_put(f);
    return err;
}

int64_t sys_newfstatat(uint64_t dirfd, uint64_t path, uint64_t buf,
                       uint64_t flags, uint64_t e, uint64_t f)
{
    if (flags & ~(uint64_t)(AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT |
                            AT_EMPTY_PATH))
        return -EINVAL;
    return do_stat(dirfd, path, buf, flags);
}

static struct statx_time to_statx_time(struct timespec64 t)
{
    return (struct statx_time){.sec = t.sec, .nsec = t.nsec};
}

static uint32_t dev_major(uint64_t dev)
{
    return (dev >> 8 & 0xfff) | (dev >> 32 & ~0xfffu);
}

static uint32_t dev_minor(uint64_t dev)
{
    return (dev & 0xff) | (dev >> 12 & ~0xffu);
}

int64_t sys_statx(uint64_t dirfd, uint64_t path, uint64_t flags, uint64_t mask,
                  uint64_t buf, uint64_t f)
{
    struct inode_attr a;
    struct inode *i;
    int64_t err;

    if ((mask & STATX_RESERVED) ||
        (flags & ~(uint64_t)(AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT |
                             AT_EMPTY_PATH | AT_STATX_SYNC_TYPE)) ||
        (flags & AT_STATX_SYNC_TYPE) == AT_STATX_SYNC_TYPE)
        return -EINVAL;
    err = at_inode(dirfd, path, flags, &i);
    if (err)
        return err;
    err = vfs_getattr(i, &a);
    struct statx_abi s = {
        .mask = STATX_BASIC_STATS | STATX_MNT_ID,
        .blksize = a.blksize, .nlink = a.nlink, .uid = a.uid, .gid = a.gid,
        .mode = a.mode, .ino = a.ino, .size = a.size, .blocks = a.blocks512,
        .atime = to_statx_time(a.atime), .ctime = to_statx_time(a.ctime),
        .mtime = to_statx_time(a.mtime),
        .rdev_major = dev_major(a.rdev), .rdev_minor = dev_minor(a.rdev),
        .dev_major = dev_major(a.dev), .dev_minor = dev_minor(a.dev),
        .mnt_id = a.dev,
    };
    if (inode_is_memfs(i)) {
        s.mask |= STATX_BTIME;
        s.btime = to_statx_time(a.btime);
    }
    inode_put(i);
    return err ? err : copy_to_user((void __user *)buf, &s, sizeof(s));
}

static int64_t statfs_out(struct superblock *sb, uint64_t user)
{
    uint64_t total = 0, free_bytes = 0, files = 0;
    int err = sb->statfs ? sb->statfs(sb, &total, &free_bytes, &files) : 0;

    if (err)
        return err;
    struct statfs_abi s = {
        .type = sb->magic, .bsize = PAGE_SIZE, .blocks = total / PAGE_SIZE,
        .bfree = free_bytes / PAGE_SIZE, .bavail = free_bytes / PAGE_SIZE,
        .files = files, .ffree = files ? free_bytes / PAGE_SIZE : 0,
        .fsid = {(int32_t)sb->dev, 0}, .namelen = NAME_MAX,
        .frsize = PAGE_SIZE, .flags = ST_VALID | ST_RELATIME,
    };
    return copy_to_user((void __user *)user, &s, sizeof(s));
}

int64_t sys_statfs(uint64_t path, uint64_t buf, uint64_t c, uint64_t d,
                   uint64_t e, uint64_t f)
{
    struct inode *i;
    int64_t err = at_inode(AT_FDCWD, path, 0, &i);

    if (err)
        return err;
    err = statfs_out(i->sb, buf);
    inode_put(i);
    return err;
}

int64_t sys_fstatfs(uint64_t fd, uint64_t buf, uint64_t c, uint64_t d,
                    uint64_t e, uint64_t g)
{
    struct file *f = fd_get((int)fd);

    if (!f)
        return -EBADF;
    int64_t err = f->inode->sb ? statfs_out(f->inode->sb, buf) : -ENOSYS;
    file_put(f);
    return err;
}
