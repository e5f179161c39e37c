/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The standard descriptors of the first program. One that is a terminal on
 * the host is a tty file; any other is a stream of the host's: it looks like
 * a pipe (fstat says FIFO, no seek, no ioctl but FIONREAD).
 *
 * file->priv is the port number + 1. Locks: the console's own.
 */
#include "drivers/console.h"
#include "drivers/drivers.h"
#include "lib/errno.h"
#include "mm/mm.h"
#include "param.h"

#define FIONREAD 0x541b

static enum console_port stream_port(struct file *f)
{
    return (enum console_port)((uintptr_t)f->priv - 1);
}

static ssize_t stream_read(struct file *f, struct iov_iter *to, off_t *pos)
{
    for (;;) {
        ssize_t n = console_read_iter(CONSOLE_STDIO, to);
        int err;

        if (n != -EAGAIN || (f->flags & O_NONBLOCK))
            return n;
        err = wait_event(&console_read_wait,
                         console_port_readable(CONSOLE_STDIO),
                         WAIT_INTERRUPTIBLE, NO_DEADLINE);
        if (err)
            return -ERESTARTSYS;
    }
}

static ssize_t stream_write(struct file *f, struct iov_iter *from, off_t *pos)
{
    ssize_t n = console_write_iter(stream_port(f), from,
                                   f->flags & O_NONBLOCK, true);

    return n == -EINTR ? -ERESTARTSYS : n;
}

static uint32_t stream_poll(struct file *f, struct poll_table *pt)
{
    uint32_t mask = 0;

    if ((f->flags & O_ACCMODE) != O_RDONLY)
        return console_poll_out(stream_port(f), f, pt);
    poll_add(f, &console_read_wait, pt);
    if (console_readable())
        mask |= EPOLLIN | EPOLLRDNORM;
    return mask;
}

static int64_t stream_ioctl(struct file *f, uint32_t cmd, uint64_t arg)
{
    int32_t n;

    if (cmd != FIONREAD || (f->flags & O_ACCMODE) != O_RDONLY)
        return -ENOTTY;
    n = (int32_t)console_nr_readable();
    return put_user((int32_t __user *)arg, n);
}

static const struct file_ops stream_ops = {
    .read = stream_read,
    .write = stream_write,
    .poll = stream_poll,
    .ioctl = stream_ioctl,
};

int stdio_stream_open(int fd, enum console_port port, struct file **out)
{
    struct inode *inode;
    int err = anon_inode_create(S_IFIFO | 0600, &inode);

    if (err)
        return err;
    err = file_create(inode, NULL, &stream_ops, fd == 0 ? O_RDONLY : O_WRONLY,
                      (void *)((uintptr_t)port + 1), out);
    inode_put(inode);
    return err;
}

int console_open_std(int fd, struct file **out)
{
    enum console_port port = CONSOLE_STDIO;

    if (fd == 2 && !boot_params.merge)
        port = CONSOLE_STDERR;
    if (boot_params.tty & (1u << fd))
        return tty_open(fd, port, out);
    return stdio_stream_open(fd, port, out);
}
