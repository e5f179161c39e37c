/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * file_rw.c: read and write in all their forms.
 */
#include "linux/fsutil.h"

#define IOV_MAX 1024u
#define INLINE_IOVS 8u
#define RWF_DSYNC 2u
#define RWF_SYNC 4u
#define RWF_HIPRI 1u
#define RWF_NOWAIT 8u
#define RWF_APPEND 16u
#define NO_POSITION (-1l)

/* The program's vector in the kernel. */
struct user_iov {
    struct iov_iter it;
    struct iovec64 *allocated;
    struct iovec64 inl[INLINE_IOVS];
};

static int user_iov_get(struct user_iov *v, uint64_t user, uint64_t nr)
{
    struct iovec64 *iov = v->inl;
    size_t total = 0;

    v->allocated = NULL;
    if (nr > IOV_MAX)
        return -EINVAL;
    if (nr > INLINE_IOVS) {
        iov = v->allocated = kmalloc(nr * sizeof(*iov));
        if (!iov)
            return -ENOMEM;
    }
    int err = copy_from_user(iov, (const void __user *)user,
                             nr * sizeof(*iov));
    for (uint64_t n = 0; !err && n < nr; n++) {
        if ((int64_t)iov[n].len < 0)
            err = -EINVAL;
        else if (iov[n].len && !user_range_ok(iov[n].base, iov[n].len))
            err = -EFAULT;
        else if (iov[n].len > MAX_RW_COUNT - total)
            iov[n].len = MAX_RW_COUNT - total;
        total += iov[n].len;
    }
    if (err) {
        kfree(v->allocated);
        return err;
    }
    v->it.iov = iov;
    v->it.nr_iov = nr;
    v->it.iov_offset = 0;
    v->it.count = total;
    v->it.is_kernel = false;
    return 0;
}

/* pos: NO_POSITION = the file's. */
static int64_t do_rw(uint64_t fd, struct iov_iter *it, off_t pos, bool write)
{
    struct file *f;
    int64_t n = fd_get_io(fd, &f);

    if (n)
        return n;
    if (pos != NO_POSITION && !f->ops->seek)
        n = -ESPIPE;
    else if (pos != NO_POSITION)
        n = write ? file_write(f, it, &pos) : file_read(f, it, &pos);
    else
        n = write ? file_write_at_pos(f, it) : file_read_at_pos(f, it);
    file_put(f);
    return n;
}

static int64_t do_rw_buf(uint64_t fd, uint64_t buf, uint64_t len, off_t pos,
                         bool write)
{
    struct iov_iter it;

    if ((int64_t)len < 0)
        return fd_get_cloexec((int)fd) < 0 ? -EBADF : -EINVAL;
    if (len && !user_range_ok((void *)buf, len))
        return fd_get_cloexec((int)fd) < 0 ? -EBADF : -EFAULT;
    iter_init_user(&it, (void __user *)buf, MIN(len, MAX_RW_COUNT));
    return do_rw(fd, &it, pos, write);
}

int64_t sys_read(uint64_t fd, uint64_t buf, uint64_t len, uint64_t d,
                 uint64_t e, uint64_t f)
{
    return do_rw_buf(fd, buf, len, NO_POSITION, false);
}

int64_t sys_write(uint64_t fd, uint64_t buf, uint64_t len, uint64_t d,
                  uint64_t e, uint64_t f)
{
    return do_rw_buf(fd, buf, len, NO_POSITION, true);
}

int64_t sys_pread64(uint64_t fd, uint64_t buf, uint64_t len, uint64_t pos,
                    uint64_t e, uint64_t f)
{
    if ((off_t)pos < 0)
        return -EINVAL;
    return do_rw_buf(fd, buf, len, pos, false);
}

int64_t sys_pwrite64(uint64_t fd, uint64_t buf, uint64_t len, uint64_t pos,
                     uint64_t e, uint64_t f)
{
    if ((off_t)pos < 0)
        return -EINVAL;
    return do_rw_buf(fd, buf, len, pos, true);
}

static int64_t do_rwv(uint64_t fd, uint64_t iov, uint64_t nr, off_t pos,
                      bool write)
{
    struct user_iov v;
    int64_t n;

    if (fd_get_cloexec((int)fd) < 0)
        return -EBADF;
    n = user_iov_get(&v, iov, nr);
    if (n)
        return n;
    n = do_rw(fd, &v.it, pos, write);
    kfree(v.allocated);
    return n;
}

int64_t sys_readv(uint64_t fd, uint64_t iov, uint64_t nr, uint64_t d,
                  uint64_t e, uint64_t f)
{
    return do_rwv(fd, iov, nr, NO_POSITION, false);
}

int64_t sys_writev(uint64_t fd, uint64_t iov, uint64_t nr, uint64_t d,
                   uint64_t e, uint64_t f)
{
    return do_rwv(fd, iov, nr, NO_POSITION, true);
}

int64_t sys_preadv(uint64_t fd, uint64_t iov, uint64_t nr, uint64_t pos,
                   uint64_t pos_high, uint64_t f)
{
    if ((off_t)pos < 0)
        return -EINVAL;
    return do_rwv(fd, iov, nr, pos, false);
}

int64_t sys_pwritev(uint64_t fd, uint64_t iov, uint64_t nr, uint64_t pos,
                    uint64_t pos_high, uint64_t f)
{
    if ((off_t)pos < 0)
        return -EINVAL;
    return do_rwv(fd, iov, nr, pos, true);
}

/* RWF_SYNC, DSYNC and HIPRI ask for nothing that is not so already. */
int64_t sys_preadv2(uint64_t fd, uint64_t iov, uint64_t nr, uint64_t pos,
                    uint64_t pos_high, uint64_t flags)
{
    if (flags & ~(uint64_t)(RWF_HIPRI | RWF_DSYNC | RWF_SYNC))
        return -EOPNOTSUPP;
    if ((off_t)pos < -1)
        return -EINVAL;
    return do_rwv(fd, iov, nr, pos, false);
}

int64_t sys_pwritev2(uint64_t fd, uint64_t iov, uint64_t nr, uint64_t pos,
                     uint64_t pos_high, uint64_t flags)
{
    if (flags & ~(uint64_t)(RWF_HIPRI | RWF_DSYNC | RWF_SYNC))
        return -EOPNOTSUPP;
    if ((off_t)pos < -1)
        return -EINVAL;
    return do_rwv(fd, iov, nr, pos, true);
}

/* vmsplice: a copy in, a copy out; SPLICE_F_GIFT needs no more. */
int64_t sys_vmsplice(uint64_t fd, uint64_t iov, uint64_t nr, uint64_t flags,
                     uint64_t e, uint64_t g)
{
    struct file *f;
    int err = fd_get_io(fd, &f);

    if (err)
        return err;
    bool is_pipe = (f->inode->mode & S_IFMT) == S_IFIFO;
    bool write = (f->flags & O_ACCMODE) != O_RDONLY;
    file_put(f);
    if (flags & ~15ul)
        return -EINVAL;
    if (!is_pipe)
        return -EBADF;
    return do_rwv(fd, iov, nr, NO_POSITION, write);
}
