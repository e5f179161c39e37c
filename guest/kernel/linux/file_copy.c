/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * file_copy.c: sendfile, copy_file_range, splice: through a kernel buffer.
 *
 * What was read is written in full unless the target fails; a source with a
 * position advances only by what was written.
 */
#include "fs/events.h"
#include "linux/fsutil.h"

#define COPY_BUFFER (64 * KIB)

struct copy {
    struct file *in, *out;
    off_t in_pos, out_pos;
    bool has_in_pos, has_out_pos; /* given by the caller, else the file's */
    size_t count;
};

static ssize_t copy_read(struct copy *c, char *buf, size_t n)
{
    struct iov_iter it;
    off_t pos = c->in_pos;

    iter_init_kernel(&it, buf, n);
    return file_read(c->in, &it, &pos);
}

/* Writes all n bytes unless it fails; the count or the error of the first. */
static ssize_t copy_write(struct copy *c, char *buf, size_t n)
{
    size_t done = 0;

    while (done < n) {
        struct iov_iter it;
        ssize_t r;
        iter_init_kernel(&it, buf + done, n - done);
        if (c->out->ops->seek)
            r = file_write(c->out, &it, &c->out_pos);
        else
            r = file_write_at_pos(c->out, &it);
        if (r <= 0)
            return done ? (ssize_t)done : r;
        done += r;
    }
    return done;
}

static ssize_t copy_loop(struct copy *c)
{
    size_t size = MIN(c->count, COPY_BUFFER), done = 0;
    char *buf = kmalloc(size ? size : 1);
    bool is_stream = !c->in->ops->seek;
    ssize_t r = 0;

    if (!buf)
        return -ENOMEM;
    while (done < c->count) {
        ssize_t n = copy_read(c, buf, MIN(size, c->count - done));
        r = n;
        if (n <= 0)
            break;
        r = copy_write(c, buf, n);
        if (r <= 0)
            break;
        if (!is_stream)
            c->in_pos += r;
        done += r;
        if (r < n || is_stream || signal_pending())
            break;
        sched_yield_point();
    }
    kfree(buf);
    return done ? (ssize_t)done : r;
}

/* Positions of files are used and advanced under their locks. */
static ssize_t copy_run(struct copy *c)
{
    bool lock_in = c->in->ops->seek && !c->has_in_pos;
    bool lock_out = c->out->ops->seek && !c->has_out_pos &&
                    (c->out != c->in || !lock_in);
    ssize_t n;

    if ((c->in->flags & O_ACCMODE) == O_WRONLY ||
        (c->out->flags & O_ACCMODE) == O_RDONLY)
        return -EBADF;
    if (lock_in && lock_out && c->out < c->in) {
        mutex_lock(&c->out->pos_lock);
        mutex_lock(&c->in->pos_lock);
    } else {
        if (lock_in)
            mutex_lock(&c->in->pos_lock);
        if (lock_out)
            mutex_lock(&c->out->pos_lock);
    }
    if (lock_in)
        c->in_pos = c->in->pos;
    if (!c->has_out_pos)
        c->out_pos = c->out->pos;
    n = copy_loop(c);
    if (lock_in)
        c->in->pos = c->in_pos;
    if (!c->has_out_pos && c->out->ops->seek)
        c->out->pos = c->out_pos;
    if (lock_in)
        mutex_unlock(&c->in->pos_lock);
    if (lock_out)
        mutex_unlock(&c->out->pos_lock);
    return n;
}

static int copy_get(struct copy *c, uint64_t in, uint64_t out)
{
    int err = fd_get_io(in, &c->in);

    if (err)
        return err;
    err = fd_get_io(out, &c->out);
    if (err)
        file_put(c->in);
    return err;
}

static void copy_put(struct copy *c)
{
    file_put(c->in);
    file_put(c->out);
}

static int pos_get(uint64_t user, off_t *pos, bool *has)
{
    *has = user != 0;
    if (user && copy_from_user(pos, (const void __user *)user, sizeof(*pos)))
        return -EFAULT;
    return user && *pos < 0 ? -EINVAL : 0;
}

static ssize_t pos_store(uint64_t user, off_t pos, ssize_t n)
{
    if (user && n >= 0 &&
        copy_to_user((void __user *)user, &pos, sizeof(pos)))
        return -EFAULT;
    return n;
}

int64_t sys_sendfile(uint64_t out, uint64_t in, uint64_t off, uint64_t count,
                     uint64_t e, uint64_t f)
{
    struct copy c = {.count = MIN(count, MAX_RW_COUNT)};
    ssize_t n = pos_get(off, &c.in_pos, &c.has_in_pos);

    if (n)
        return n;
    n = copy_get(&c, in, out);
    if (n)
        return n;
    if (!c.in->ops->seek)
        n = c.has_in_pos ? -ESPIPE : -EINVAL;
    else if (c.out->flags & O_APPEND)
        n = -EINVAL;
    else
        n = copy_run(&c);
    copy_put(&c);
    return pos_store(off, c.in_pos, n);
}

int64_t sys_copy_file_range(uint64_t in, uint64_t in_off, uint64_t out,
                            uint64_t out_off, uint64_t len, uint64_t flags)
{
    struct copy c = {.count = MIN(len, MAX_RW_COUNT)};
    ssize_t n = flags ? -EINVAL : pos_get(in_off, &c.in_pos, &c.has_in_pos);

    if (!n)
        n = pos_get(out_off, &c.out_pos, &c.has_out_pos);
    if (!n)
        n = copy_get(&c, in, out);
    if (n)
        return n;
    if (S_ISDIR(c.in->inode->mode) || S_ISDIR(c.out->inode->mode))
        n = -EISDIR;
    else if (!S_ISREG(c.in->inode->mode) || !S_ISREG(c.out->inode->mode))
        n = -EINVAL;
    else if (c.out->flags & O_APPEND)
        n = -EBADF;
    else if (c.in->inode == c.out->inode && c.has_in_pos && c.has_out_pos &&
             c.in_pos < c.out_pos + (off_t)c.count &&
             c.out_pos < c.in_pos + (off_t)c.count)
        n = -EINVAL;
    else
        n = copy_run(&c);
    copy_put(&c);
    n = pos_store(in_off, c.in_pos, n);
    return pos_store(out_off, c.out_pos, n);
}

#define SPLICE_F_NONBLOCK 2u

static bool is_pipe(struct file *f)
{
    return (f->inode->mode & S_IFMT) == S_IFIFO;
}

/* SPLICE_F_NONBLOCK: would a pipe make us wait? */
static bool would_block(struct copy *c)
{
    return (is_pipe(c->in) &&
            !(file_poll(c->in, NULL) & (EPOLLIN | EPOLLHUP))) ||
           (is_pipe(c->out) &&
            !(file_poll(c->out, NULL) & (EPOLLOUT | EPOLLERR)));
}

int64_t sys_splice(uint64_t in, uint64_t in_off, uint64_t out,
                   uint64_t out_off, uint64_t len, uint64_t flags)
{
    struct copy c = {.count = MIN(len, COPY_BUFFER)};
    ssize_t n;

    if (len == 0)
        return 0;
    if (flags & ~15ul)
        return -EINVAL;
    n = pos_get(in_off, &c.in_pos, &c.has_in_pos);
    if (!n)
        n = pos_get(out_off, &c.out_pos, &c.has_out_pos);
    if (!n)
        n = copy_get(&c, in, out);
    if (n)
        return n;
    if (!is_pipe(c.in) && !is_pipe(c.out))
        n = -EINVAL;
    else if (is_pipe(c.in) && c.in->inode == c.out->inode)
        n = -EINVAL;
    else if ((c.has_in_pos && !c.in->ops->seek) ||
             (c.has_out_pos && !c.out->ops->seek))
        n = -ESPIPE;
    else if (!is_pipe(c.out) && (c.out->flags & O_APPEND))
        n = -EINVAL;
    else if ((flags & SPLICE_F_NONBLOCK) && would_block(&c))
        n = -EAGAIN;
    else
        n = copy_run(&c);
    copy_put(&c);
    n = pos_store(in_off, c.in_pos, n);
    return pos_store(out_off, c.out_pos, n);
}

static ssize_t tee_run(struct copy *c, uint64_t flags)
{
    char *buf = kmalloc(c->count);
    ssize_t n;

    if (!buf)
        return -ENOMEM;
    if ((flags & SPLICE_F_NONBLOCK) && would_block(c))
        n = -EAGAIN;
    else
        n = pipe_peek(c->in, buf, c->count,
                      c->in->flags & O_NONBLOCK);
    if (n > 0)
        n = copy_write(c, buf, n);
    kfree(buf);
    return n;
}

int64_t sys_tee(uint64_t in, uint64_t out, uint64_t len, uint64_t flags,
                uint64_t e, uint64_t f)
{
    struct copy c = {.count = MIN(len, COPY_BUFFER)};
    ssize_t n;

    if (flags & ~15ul)
        return -EINVAL;
    if (len == 0)
        return 0;
    n = copy_get(&c, in, out);
    if (n)
        return n;
    if ((c.in->flags & O_ACCMODE) == O_WRONLY ||
        (c.out->flags & O_ACCMODE) == O_RDONLY)
        n = -EBADF;
    else if (!is_pipe(c.in) || !is_pipe(c.out) || c.in->inode == c.out->inode)
        n = -EINVAL;
    else
        n = tee_run(&c, flags);
    copy_put(&c);
    return n;
}
