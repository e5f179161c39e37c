/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * file.c: system calls that open, close and position files.
 */
#include "linux/fsutil.h"

#define OPEN_KNOWN (O_ACCMODE | O_CREAT | O_EXCL | O_NOCTTY | O_TRUNC |      \
                    O_APPEND | O_NONBLOCK | O_SYNC | O_ASYNC | O_DIRECT |    \
                    O_LARGEFILE | O_DIRECTORY | O_NOFOLLOW | O_NOATIME |     \
                    O_CLOEXEC | O_PATH | O_TMPFILE)

static int64_t do_open(uint64_t dirfd, uint64_t path, uint32_t flags,
                       uint32_t mode, uint32_t lookup)
{
    struct at_path a;
    struct file *f;
    int fd = at_path_get(&a, dirfd, path);

    if (fd)
        return fd;
    /* RESOLVE_IN_ROOT: "/" is the directory, so one is needed. */
    if ((lookup & LOOKUP_IN_ROOT) && !a.base)
        fd = at_base(dirfd, &a.base);
    if (fd) {
        at_path_put(&a);
        return fd;
    }
    fd = vfs_open_lookup(a.base, a.path.name, flags & OPEN_KNOWN,
                         mode & 07777, lookup, &f);
    at_path_put(&a);
    if (fd)
        return fd;
    if (!(flags & O_PATH))
        f->flags |= O_LARGEFILE;
    fd = fd_install(f, 0, flags & O_CLOEXEC);
    if (fd < 0)
        file_put(f);
    return fd;
}

int64_t sys_open(uint64_t path, uint64_t flags, uint64_t mode, uint64_t d,
                 uint64_t e, uint64_t f)
{
    return do_open(AT_FDCWD, path, flags, mode, 0);
}

int64_t sys_openat(uint64_t dirfd, uint64_t path, uint64_t flags,
                   uint64_t mode, uint64_t e, uint64_t f)
{
    return do_open(dirfd, path, flags, mode, 0);
}

int64_t sys_creat(uint64_t path, uint64_t mode, uint64_t c, uint64_t d,
                  uint64_t e, uint64_t f)
{
    return do_open(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode, 0);
}

/* man 2 openat2 */
struct open_how {
    uint64_t flags, mode, resolve;
};

static int resolve_to_lookup(uint64_t resolve, uint32_t *lookup)
{
    static const uint32_t bits[] = {
        LOOKUP_NO_XDEV, LOOKUP_NO_MAGIC, LOOKUP_NO_SYMLINKS | LOOKUP_NO_MAGIC,
        LOOKUP_BENEATH | LOOKUP_NO_MAGIC, LOOKUP_IN_ROOT | LOOKUP_NO_MAGIC,
    };

    if (resolve & 0x20) /* RESOLVE_CACHED */
        return -EAGAIN;
    if ((resolve & ~0x1ful) || (resolve & 0x18) == 0x18)
        return -EINVAL;
    *lookup = 0;
    for (size_t n = 0; n < ARRAY_SIZE(bits); n++)
        if (resolve & (1ul << n))
            *lookup |= bits[n];
    return 0;
}

int64_t sys_openat2(uint64_t dirfd, uint64_t path, uint64_t how_ptr,
                    uint64_t size, uint64_t e, uint64_t f)
{
    struct open_how how;
    uint32_t lookup;

    if (size < sizeof(how))
        return -EINVAL;
    if (size > PAGE_SIZE)
        return -E2BIG;
    if (copy_from_user(&how, (const void __user *)how_ptr, sizeof(how)))
        return -EFAULT;
    for (uint64_t n = sizeof(how); n < size; n++) {
        uint8_t byte;
        if (copy_from_user(&byte, (const void __user *)(how_ptr + n), 1))
            return -EFAULT;
        if (byte)
            return -E2BIG;
    }
    bool creates = (how.flags & (O_CREAT | (O_TMPFILE & ~O_DIRECTORY))) != 0;
    if ((how.flags & ~(uint64_t)OPEN_KNOWN) || (how.mode & ~07777ul) ||
        (!creates && how.mode))
        return -EINVAL;
    int err = resolve_to_lookup(how.resolve, &lookup);
    return err ? err : do_open(dirfd, path, how.flags, how.mode, lookup);
}

int64_t sys_close(uint64_t fd, uint64_t b, uint64_t c, uint64_t d, uint64_t e,
                  uint64_t f)
{
    return fd_close((int)fd);
}

int64_t sys_close_range(uint64_t first, uint64_t last, uint64_t flags,
                        uint64_t d, uint64_t e, uint64_t f)
{
    struct fdtable *t = current_fds();

    if (flags & ~6ul) /* CLOSE_RANGE_UNSHARE 2, CLOSE_RANGE_CLOEXEC 4 */
        return -EINVAL;
    first = (uint32_t)first;
    last = (uint32_t)last;
    if (first > last)
        return -EINVAL;
    /* UNSHARE: nothing to do unless threads share the table. */
    if ((flags & 2) && current_process()->nr_threads > 1)
        return -EINVAL;
    if (last >= fdtable_capacity(t))
        last = fdtable_capacity(t) - 1;
    for (int fd; first <= last; first = fd + 1) {
        fd = fdtable_next_open(t, first);
        if (fd < 0 || (uint64_t)fd > last)
            break;
        if (flags & 4)
            fd_set_cloexec(fd, true);
        else
            fd_close(fd);
    }
    return 0;
}

int64_t sys_lseek(uint64_t fd, uint64_t offset, uint64_t whence, uint64_t d,
                  uint64_t e, uint64_t g)
{
    struct file *f;
    off_t pos = fd_get_io(fd, &f);

    if (pos)
        return pos;
    if (!f->ops->seek) {
        pos = -ESPIPE;
    } else if (whence > SEEK_HOLE) {
        pos = -EINVAL;
    } else {
        mutex_lock(&f->pos_lock);
        pos = f->ops->seek(f, offset, whence);
        mutex_unlock(&f->pos_lock);
    }
    file_put(f);
    return pos;
}

static int64_t do_sync_fd(uint64_t fd)
{
    struct file *f;
    int err = fd_get_io(fd, &f);

    if (err)
        return err;
    err = f->ops->fsync ? f->ops->fsync(f) : -EINVAL;
    file_put(f);
    return err;
}

int64_t sys_fsync(uint64_t fd, uint64_t b, uint64_t c, uint64_t d, uint64_t e,
                  uint64_t f)
{
    return do_sync_fd(fd);
}

int64_t sys_fdatasync(uint64_t fd, uint64_t b, uint64_t c, uint64_t d,
                      uint64_t e, uint64_t f)
{
    return do_sync_fd(fd);
}

int64_t sys_sync(uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e,
                 uint64_t f)
{
    return 0;
}

int64_t sys_syncfs(uint64_t fd, uint64_t b, uint64_t c, uint64_t d, uint64_t e,
                   uint64_t g)
{
    struct file *f;
    int err = fd_get_io(fd, &f);

    if (!err)
        file_put(f);
    return err;
}

int64_t sys_sync_file_range(uint64_t fd, uint64_t off, uint64_t len,
                            uint64_t flags, uint64_t e, uint64_t g)
{
    struct file *f;
    int err = fd_get_io(fd, &f);

    if (err)
        return err;
    if ((flags & ~7ul) || (int64_t)off < 0 || (int64_t)(off + len) < 0)
        err = -EINVAL;
    else if (!S_ISREG(f->inode->mode) && !S_ISDIR(f->inode->mode))
        err = -ESPIPE;
    file_put(f);
    return err;
}

int64_t sys_fadvise64(uint64_t fd, uint64_t off, uint64_t len, uint64_t advice,
                      uint64_t e, uint64_t g)
{
    struct file *f;
    int err = fd_get_io(fd, &f);

    if (err)
        return err;
    if ((f->inode->mode & S_IFMT) == S_IFIFO)
        err = -ESPIPE;
    else if (advice > 5 || (int64_t)len < 0)
        err = -EINVAL;
    file_put(f);
    return err;
}

int64_t sys_readahead(uint64_t fd, uint64_t off, uint64_t count, uint64_t d,
                      uint64_t e, uint64_t g)
{
    struct file *f;
    int err = fd_get_io(fd, &f);

    if (err)
        return err;
    if ((f->flags & O_ACCMODE) == O_WRONLY) {
        err = -EBADF;
    } else if (!S_ISREG(f->inode->mode)) {
        err = -EINVAL;
    } else {
        uint64_t index = off >> PAGE_SHIFT, end = off + MIN(count, 2 * MIB);
        for (; index << PAGE_SHIFT < end; index += 32) {
            struct page *p;
            if (pagecache_get(f->inode, index, false, &p))
                break;
            page_put(p);
        }
    }
    file_put(f);
    return err;
}
