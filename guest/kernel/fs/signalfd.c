/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * signalfd(2): pending signals of the *calling* thread and its process,
 * taken by reading.
 *
 * No lock of its own: the mask is read and written atomically. Wake protocol:
 * linux/signal.c wakes process->signal_wait with EPOLLIN when a signal was
 * queued; readers look at the pending set.
 */
#include "fs/events.h"
#include "fs/fs_internal.h"
#include "linux/task.h"

#define SIGNAL_KILL 9
#define SIGNAL_STOP 19

struct signalfd_siginfo_abi {
    uint32_t signo;
    int32_t error, code;
    uint32_t pid, uid;
    int32_t fd;
    uint32_t tid, band, overrun, trapno;
    int32_t status, integer;
    uint64_t pointer, utime, stime, addr;
    uint16_t addr_lsb, pad2;
    int32_t syscall;
    uint64_t call_addr;
    uint32_t arch;
    uint8_t pad[28];
};
_Static_assert(sizeof(struct signalfd_siginfo_abi) == 128, "man 2 signalfd");

struct signalfd {
    sigset_t64 mask; /* atomic */
};

static void signalfd_convert(const struct siginfo64 *in,
                             struct signalfd_siginfo_abi *out)
{
    uint32_t low = (uint32_t)in->fields[0];
    uint32_t high = (uint32_t)(in->fields[0] >> 32);

    memset(out, 0, sizeof(*out));
    out->signo = (uint32_t)in->signo;
    out->error = in->error;
    out->code = in->code;
    if (in->code == -2) { /* SI_TIMER: id, overrun, value */
        out->tid = low;
        out->overrun = high;
        out->pointer = in->fields[1];
        out->integer = (int32_t)in->fields[1];
        return;
    }
    switch (in->code > 0 ? in->signo : 0) {
    case 17: /* SIGCHLD: pid, uid, status, utime, stime */
        out->pid = low;
        out->uid = high;
        out->status = (int32_t)in->fields[1];
        out->utime = in->fields[2];
        out->stime = in->fields[3];
        break;
    case 4: /* SIGILL, SIGTRAP, SIGBUS, SIGFPE, SIGSEGV */
    case 5:
    case 7:
    case 8:
    case 11:
        out->addr = in->fields[0];
        break;
    case 29: /* SIGIO */
        out->band = low;
        out->fd = (int32_t)in->fields[1];
        break;
    default:
        out->pid = low;
        out->uid = high;
        out->pointer = in->fields[1];
        out->integer = (int32_t)in->fields[1];
    }
}

static ssize_t signalfd_read(struct file *f, struct iov_iter *to, off_t *pos)
{
    struct signalfd *s = f->priv;
    struct signalfd_siginfo_abi out;
    struct siginfo64 info;
    ssize_t done = 0, n;

    if (to->count < sizeof(out))
        return -EINVAL;
    while (to->count >= sizeof(out)) {
        sigset_t64 mask = atomic_load_relaxed(&s->mask);

        if (!signal_dequeue(mask, &info)) {
            if (done)
                break;
            if (f->flags & O_NONBLOCK)
                return -EAGAIN;
            if (wait_event(&current_process()->signal_wait,
                           signal_pending_set() & mask, WAIT_INTERRUPTIBLE,
                           NO_DEADLINE))
                return -ERESTARTSYS;
            continue;
        }
        signalfd_convert(&info, &out);
        n = iter_copy_to(to, &out, sizeof(out));
        if (n != sizeof(out))
            return done ? done : -EFAULT;
        done += n;
    }
    return done;
}

static uint32_t signalfd_poll(struct file *f, struct poll_table *pt)
{
    struct signalfd *s = f->priv;

    poll_add(f, &current_process()->signal_wait, pt);
    return signal_pending_set() & atomic_load_relaxed(&s->mask) ? EPOLLIN : 0;
}

static void signalfd_release(struct file *f)
{
    kfree(f->priv);
}

static const struct file_ops signalfd_ops = {
    .name = "[signalfd]",
    .read = signalfd_read,
    .poll = signalfd_poll,
    .release = signalfd_release,
};

int signalfd_set_mask(struct file *f, uint64_t mask)
{
    struct signalfd *s = f->priv;

    if (f->ops != &signalfd_ops)
        return -EINVAL;
    mask &= ~(SIGMASK(SIGNAL_KILL) | SIGMASK(SIGNAL_STOP));
    atomic_store_release(&s->mask, mask);
    wait_wake_key(&current_process()->signal_wait, 1, EPOLLIN);
    return 0;
}

int signalfd_create(uint64_t mask, uint32_t flags, struct file **out)
{
    struct signalfd *s = kzalloc(sizeof(*s));
    struct inode *inode;
    int err;

    if (!s)
        return -ENOMEM;
    s->mask = mask & ~(SIGMASK(SIGNAL_KILL) | SIGMASK(SIGNAL_STOP));
    err = anon_inode_create(0600, &inode);
    if (!err) {
        err = file_create(inode, NULL, &signalfd_ops,
                          O_RDWR | (flags & O_NONBLOCK), s, out);
        inode_put(inode);
    }
    if (err)
        kfree(s);
    return err;
}
