/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * file_attr.c: modes, owners, times, sizes, access checks, xattr.
 */
#include "linux/fsutil.h"

#define UTIME_NOW 0x3fffffffl
#define UTIME_OMIT 0x3ffffffel

/* Takes i (the result of at_inode) and sets attributes. */
static int64_t setattr_put(struct inode *i, const struct inode_attr *a,
                           uint32_t mask)
{
    int err = vfs_setattr(i, a, mask);

    inode_put(i);
    return err;
}

static int64_t do_chmod(uint64_t dirfd, uint64_t path, uint32_t mode,
                        uint32_t flags)
{
    struct inode_attr a = {.mode = mode & 07777};
    struct inode *i;
    int err = at_inode(dirfd, path, flags, &i);

    if (err)
        return err;
    if (S_ISLNK(i->mode)) {
        inode_put(i);
        return -EOPNOTSUPP;
    }
    return setattr_put(i, &a, ATTR_MODE);
}

int64_t sys_chmod(uint64_t path, uint64_t mode, uint64_t c, uint64_t d,
                  uint64_t e, uint64_t f)
{
    return do_chmod(AT_FDCWD, path, mode, 0);
}

int64_t sys_fchmodat(uint64_t dirfd, uint64_t path, uint64_t mode, uint64_t d,
                     uint64_t e, uint64_t f)
{
    return do_chmod(dirfd, path, mode, 0);
}

int64_t sys_fchmodat2(uint64_t dirfd, uint64_t path, uint64_t mode,
                      uint64_t flags, uint64_t e, uint64_t f)
{
    if (flags & ~(uint64_t)(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH))
        return -EINVAL;
    return do_chmod(dirfd, path, mode, flags);
}

/* The inode of a descriptor that is open for more than its path. */
static int io_inode(uint64_t fd, struct inode **out)
{
    struct file *f;
    int err = fd_get_io(fd, &f);

    if (err)
        return err;
    *out = f->inode;
    inode_get(f->inode);
    file_put(f);
    return 0;
}

int64_t sys_fchmod(uint64_t fd, uint64_t mode, uint64_t c, uint64_t d,
                   uint64_t e, uint64_t f)
{
    struct inode_attr a = {.mode = mode & 07777};
    struct inode *i;
    int err = io_inode(fd, &i);

    return err ? err : setattr_put(i, &a, ATTR_MODE);
}

static uint32_t owner_attr(struct inode_attr *a, uint64_t uid, uint64_t gid)
{
    uint32_t mask = 0;

    a->uid = uid;
    a->gid = gid;
    if (a->uid != ~0u)
        mask |= ATTR_UID;
    if (a->gid != ~0u)
        mask |= ATTR_GID;
    return mask;
}

static int64_t do_chown(uint64_t dirfd, uint64_t path, uint64_t uid,
                        uint64_t gid, uint32_t flags)
{
    struct inode_attr a;
    struct inode *i;
    uint32_t mask = owner_attr(&a, uid, gid);
    int err = at_inode(dirfd, path, flags, &i);

    return err ? err : setattr_put(i, &a, mask);
}

int64_t sys_chown(uint64_t path, uint64_t uid, uint64_t gid, uint64_t d,
                  uint64_t e, uint64_t f)
{
    return do_chown(AT_FDCWD, path, uid, gid, 0);
}

int64_t sys_lchown(uint64_t path, uint64_t uid, uint64_t gid, uint64_t d,
                   uint64_t e, uint64_t f)
{
    return do_chown(AT_FDCWD, path, uid, gid, AT_SYMLINK_NOFOLLOW);
}

int64_t sys_fchownat(uint64_t dirfd, uint64_t path, uint64_t uid, uint64_t gid,
                     uint64_t flags, uint64_t f)
{
    if (flags & ~(uint64_t)(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH))
        return -EINVAL;
    return do_chown(dirfd, path, uid, gid, flags);
}

int64_t sys_fchown(uint64_t fd, uint64_t uid, uint64_t gid, uint64_t d,
                   uint64_t e, uint64_t f)
{
    struct inode_attr a;
    struct inode *i;
    uint32_t mask = owner_attr(&a, uid, gid);
    int err = io_inode(fd, &i);

    return err ? err : setattr_put(i, &a, mask);
}

/* times: NULL = now. Takes i. */
static int64_t set_times(struct inode *i, const struct timespec64 *times)
{
    struct inode_attr a = {.atime = current_time()};
    uint32_t mask = 0;
    bool is_exact = false;
    int err = 0;

    a.mtime = a.atime;
    for (int n = 0; n < 2; n++) {
        int64_t nsec = times ? times[n].nsec : UTIME_NOW;
        if (nsec == UTIME_OMIT)
            continue;
        mask |= n ? ATTR_MTIME : ATTR_ATIME;
        if (nsec == UTIME_NOW)
            continue;
        is_exact = true;
        if (nsec < 0 || nsec >= NSEC_PER_SEC)
            err = -EINVAL;
        else if (n)
            a.mtime = times[n];
        else
            a.atime = times[n];
    }
    if (!err && mask && !inode_owner_or_root(i)) {
        if (is_exact || mask != UTIME_MASK)
            err = -EPERM;
        else
            err = inode_permission(i, MAY_WRITE);
    }
    if (err || !mask) {
        inode_put(i);
        return err;
    }
    return setattr_put(i, &a, mask);
}

int64_t sys_utimensat(uint64_t dirfd, uint64_t path, uint64_t times,
                      uint64_t flags, uint64_t e, uint64_t f)
{
    struct timespec64 t[2];
    struct inode *i;
    int err;

    if (flags & ~(uint64_t)(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH))
        return -EINVAL;
    if (times && copy_from_user(t, (const void __user *)times, sizeof(t)))
        return -EFAULT;
    if (times && t[0].nsec == UTIME_OMIT && t[1].nsec == UTIME_OMIT)
        return 0; /* before anything is looked at */
    if (!path && (int)dirfd != AT_FDCWD)
        err = flags & AT_SYMLINK_NOFOLLOW ? -EINVAL : io_inode(dirfd, &i);
    else
        err = at_inode(dirfd, path, flags, &i);
    return err ? err : set_times(i, times ? t : NULL);
}

/* struct timeval pairs: microseconds. */
static int64_t do_utimes(uint64_t dirfd, uint64_t path, uint64_t times)
{
    struct timespec64 t[2];
    struct inode *i;
    int err;

    if (times && copy_from_user(t, (const void __user *)times, sizeof(t)))
        return -EFAULT;
    for (int n = 0; times && n < 2; n++) {
        if (t[n].nsec < 0 || t[n].nsec >= 1000000)
            return -EINVAL;
        t[n].nsec *= 1000;
    }
    err = at_inode(dirfd, path, 0, &i);
    return err ? err : set_times(i, times ? t : NULL);
}

int64_t sys_utimes(uint64_t path, uint64_t times, uint64_t c, uint64_t d,
                   uint64_t e, uint64_t f)
{
    return do_utimes(AT_FDCWD, path, times);
}

int64_t sys_futimesat(uint64_t dirfd, uint64_t path, uint64_t times,
                      uint64_t d, uint64_t e, uint64_t f)
{
    return do_utimes(dirfd, path, times);
}

int64_t sys_utime(uint64_t path, uint64_t times, uint64_t c, uint64_t d,
                  uint64_t e, uint64_t f)
{
    int64_t sec[2];
    struct inode *i;
    int err;

    if (times && copy_from_user(sec, (const void __user *)times, sizeof(sec)))
        return -EFAULT;
    err = at_inode(AT_FDCWD, path, 0, &i);
    if (err)
        return err;
    if (!times)
        return set_times(i, NULL);
    struct timespec64 t[2] = {{sec[0], 0}, {sec[1], 0}};
    return set_times(i, t);
}

int64_t sys_truncate(uint64_t path, uint64_t size, uint64_t c, uint64_t d,
                     uint64_t e, uint64_t f)
{
    struct inode *i;
    int err;

    if ((int64_t)size < 0)
        return -EINVAL;
    err = at_inode(AT_FDCWD, path, 0, &i);
    if (err)
        return err;
    err = S_ISDIR(i->mode) ? -EISDIR : inode_permission(i, MAY_WRITE);
    if (!err)
        err = vfs_truncate(i, size);
    inode_put(i);
    return err;
}

int64_t sys_ftruncate(uint64_t fd, uint64_t size, uint64_t c, uint64_t d,
                      uint64_t e, uint64_t g)
{
    struct file *f;
    int err;

    if ((int64_t)size < 0)
        return -EINVAL;
    err = fd_get_io(fd, &f);
    if (err)
        return err;
    if ((f->flags & O_ACCMODE) == O_RDONLY || !S_ISREG(f->inode->mode))
        err = -EINVAL;
    else
        err = vfs_truncate(f->inode, size);
    file_put(f);
    return err;
}

int64_t sys_fallocate(uint64_t fd, uint64_t mode, uint64_t off, uint64_t len,
                      uint64_t e, uint64_t g)
{
    struct file *f;
    int err = fd_get_io(fd, &f);

    if (err)
        return err;
    if ((int64_t)off < 0 || (int64_t)len <= 0)
        err = -EINVAL;
    else if ((f->flags & O_ACCMODE) == O_RDONLY)
        err = -EBADF;
    else if ((f->inode->mode & S_IFMT) == S_IFIFO)
        err = -ESPIPE;
    else if (S_ISDIR(f->inode->mode))
        err = -EISDIR;
    else if (!S_ISREG(f->inode->mode))
        err = -ENODEV;
    else if ((int64_t)(off + len) < 0)
        err = -EFBIG;
    else if (!inode_is_memfs(f->inode) ||
             (mode != 0 && mode != 1 && mode != 3))
        err = -EOPNOTSUPP; /* as tmpfs: 0, KEEP_SIZE, PUNCH|KEEP */
    else
        err = memfs_fallocate(f, mode, off, len);
    file_put(f);
    return err;
}

/* access(2) asks for the real user, AT_EACCESS for the effective one. */
static int64_t do_access(uint64_t dirfd, uint64_t path, uint32_t mode,
                         uint32_t flags)
{
    struct process *p = current_process();
    struct inode *i;
    int err;

    if (mode & ~7u)
        return -EINVAL;
    err = at_inode(dirfd, path, flags & ~AT_EACCESS, &i);
    if (err)
        return err;
    if (mode && (p->uid == p->euid || (flags & AT_EACCESS))) {
        err = inode_permission(i, mode);
    } else if (mode && p->uid == 0) {
        if ((mode & MAY_EXEC) && !S_ISDIR(i->mode) && !(i->mode & 0111))
            err = -EACCES;
    } else if (mode) {
        uint32_t bits = i->mode;
        if (p->uid == i->uid)
            bits >>= 6;
        else if (p->gid == i->gid)
            bits >>= 3;
        err = (bits & mode) == mode ? 0 : -EACCES;
    }
    inode_put(i);
    return err;
}

int64_t sys_access(uint64_t path, uint64_t mode, uint64_t c, uint64_t d,
                   uint64_t e, uint64_t f)
{
    return do_access(AT_FDCWD, path, mode, 0);
}

int64_t sys_faccessat(uint64_t dirfd, uint64_t path, uint64_t mode, uint64_t d,
                      uint64_t e, uint64_t f)
{
    return do_access(dirfd, path, mode, 0);
}

int64_t sys_faccessat2(uint64_t dirfd, uint64_t path, uint64_t mode,
                       uint64_t flags, uint64_t e, uint64_t f)
{
    if (flags & ~(uint64_t)(AT_EACCESS | AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH))
        return -EINVAL;
    return do_access(dirfd, path, mode, flags);
}

int64_t sys_umask(uint64_t mask, uint64_t b, uint64_t c, uint64_t d,
                  uint64_t e, uint64_t f)
{
    return atomic_xchg(&current_process()->umask, (uint32_t)mask & 0777);
}

/* --- extended attributes: none, and none can be made --- */
#define XATTR_NAME_MAX 255
#define XATTR_SIZE_MAX 65536

enum xattr_op { XATTR_GET, XATTR_SET, XATTR_LIST, XATTR_REMOVE };

/* What is wrong with the arguments, whatever the file. *is_known: the name is
 * in one of the name spaces there are. */
static int xattr_check(enum xattr_op op, uint64_t user_name, uint64_t size,
                       uint64_t flags, bool *is_known)
{
    static const char *const spaces[] = {"user.", "trusted.", "security.",
                                         "system."};
    char name[XATTR_NAME_MAX + 1];
    ssize_t n;

    *is_known = true;
    if (op == XATTR_LIST)
        return 0;
    if (op == XATTR_SET && (uint32_t)flags & ~3u /* CREATE, REPLACE */)
        return -EINVAL;
    n = strncpy_from_user(name, (const char *)user_name, sizeof(name));
    if (n == 0 || n == -ENAMETOOLONG)
        return -ERANGE;
    if (n < 0)
        return (int)n;
    if (op == XATTR_SET && size > XATTR_SIZE_MAX)
        return -E2BIG;
    *is_known = false;
    for (unsigned k = 0; k < ARRAY_SIZE(spaces); k++)
        *is_known |= strncmp(name, spaces[k], strlen(spaces[k])) == 0;
    return 0;
}

/* err: what finding the file said; i is put. */
static int64_t xattr_result(int err, struct inode *i, enum xattr_op op,
                            bool is_known)
{
    if (err)
        return err;
    bool is_memfs = inode_is_memfs(i);
    inode_put(i);
    if (op == XATTR_LIST)
        return 0;
    if (!is_known)
        return -EOPNOTSUPP;
    return op == XATTR_GET && is_memfs ? -ENODATA : -EOPNOTSUPP;
}

#define XATTR_PATH(name, op, at_flags)                                     \
    int64_t sys_##name(uint64_t a, uint64_t b, uint64_t c, uint64_t d,     \
                       uint64_t e, uint64_t f)                             \
    {                                                                      \
        struct inode *i = NULL;                                            \
        bool is_known;                                                     \
        int err = xattr_check(op, b, d, e, &is_known);                     \
        if (!err)                                                          \
            err = at_inode(AT_FDCWD, a, at_flags, &i);                     \
        return xattr_result(err, i, op, is_known);                         \
    }
#define XATTR_FD(name, op)                                                 \
    int64_t sys_##name(uint64_t a, uint64_t b, uint64_t c, uint64_t d,     \
                       uint64_t e, uint64_t f)                             \
    {                                                                      \
        struct inode *i = NULL;                                            \
        bool is_known;                                                     \
        int err = xattr_check(op, b, d, e, &is_known);                     \
        if (!err)                                                          \
            err = io_inode(a, &i);                                         \
        return xattr_result(err, i, op, is_known);                         \
    }

XATTR_PATH(setxattr, XATTR_SET, 0)
XATTR_PATH(lsetxattr, XATTR_SET, AT_SYMLINK_NOFOLLOW)
XATTR_FD(fsetxattr, XATTR_SET)
XATTR_PATH(getxattr, XATTR_GET, 0)
XATTR_PATH(lgetxattr, XATTR_GET, AT_SYMLINK_NOFOLLOW)
XATTR_FD(fgetxattr, XATTR_GET)
XATTR_PATH(listxattr, XATTR_LIST, 0)
XATTR_PATH(llistxattr, XATTR_LIST, AT_SYMLINK_NOFOLLOW)
XATTR_FD(flistxattr, XATTR_LIST)
XATTR_PATH(removexattr, XATTR_REMOVE, 0)
XATTR_PATH(lremovexattr, XATTR_REMOVE, AT_SYMLINK_NOFOLLOW)
XATTR_FD(fremovexattr, XATTR_REMOVE)
