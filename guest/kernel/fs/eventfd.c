/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * eventfd(2): a counter that is a file.
 *
 * Lock: e->lock (spinlock), never across user copies or sleeps. Wake protocol:
 * the count changes under the lock, then e->wait is woken with the bits that
 * became true; sleepers read the count atomically.
 */
#include "fs/events.h"
#include "fs/fs_internal.h"

#define COUNT_MAX (~0ul - 1)

struct eventfd {
    struct spinlock lock;
    uint64_t count; /* protected by lock, also read without */
    bool is_semaphore;
    struct waitq wait;
};

static uint64_t eventfd_count(struct eventfd *e)
{
    return atomic_load_acquire(&e->count);
}

/* Takes what a read returns; 0: nothing there. */
static uint64_t eventfd_take(struct eventfd *e)
{
    uint64_t value;

    spin_lock(&e->lock);
    value = e->count;
    if (value && e->is_semaphore)
        value = 1;
    e->count -= value;
    spin_unlock(&e->lock);
    return value;
}

static bool eventfd_add(struct eventfd *e, uint64_t value)
{
    bool fits;

    spin_lock(&e->lock);
    fits = COUNT_MAX - e->count >= value;
    if (fits)
        e->count += value;
    spin_unlock(&e->lock);
    return fits;
}

static ssize_t eventfd_read(struct file *f, struct iov_iter *to, off_t *pos)
{
    struct eventfd *e = f->priv;
    uint64_t value;

    if (to->count < sizeof(value))
        return -EINVAL;
    while (!(value = eventfd_take(e))) {
        if (f->flags & O_NONBLOCK)
            return -EAGAIN;
        if (wait_event(&e->wait, eventfd_count(e), WAIT_INTERRUPTIBLE,
                       NO_DEADLINE))
            return -ERESTARTSYS;
    }
    wait_wake_key(&e->wait, 1, EPOLLOUT | EPOLLWRNORM);
    return iter_copy_to(to, &value, sizeof(value));
}

static ssize_t eventfd_write(struct file *f, struct iov_iter *from,
                             off_t *pos)
{
    struct eventfd *e = f->priv;
    uint64_t value;
    ssize_t n;

    if (from->count < sizeof(value))
        return -EINVAL;
    n = iter_copy_from(from, &value, sizeof(value));
    if (n != sizeof(value))
        return -EFAULT;
    if (value == ~0ul)
        return -EINVAL;
    while (!eventfd_add(e, value)) {
        if (f->flags & O_NONBLOCK)
            return -EAGAIN;
        if (wait_event(&e->wait, COUNT_MAX - eventfd_count(e) >= value,
                       WAIT_INTERRUPTIBLE, NO_DEADLINE))
            return -ERESTARTSYS;
    }
    wait_wake_key(&e->wait, 1, EPOLLIN | EPOLLRDNORM);
    return sizeof(value);
}

static uint32_t eventfd_poll(struct file *f, struct poll_table *pt)
{
    struct eventfd *e = f->priv;
    uint64_t count;
    uint32_t mask = 0;

    poll_add(f, &e->wait, pt);
    count = eventfd_count(e);
    if (count)
        mask |= EPOLLIN;
    if (count < COUNT_MAX)
        mask |= EPOLLOUT;
    return mask;
}

static void eventfd_release(struct file *f)
{
    kfree(f->priv);
}

static const struct file_ops eventfd_ops = {
    .name = "[eventfd]",
    .read = eventfd_read,
    .write = eventfd_write,
    .poll = eventfd_poll,
    .release = eventfd_release,
};

int eventfd_create(uint64_t count, uint32_t flags, struct file **out)
{
    struct eventfd *e = kzalloc(sizeof(*e));
    struct inode *inode;
    int err;

    if (!e)
        return -ENOMEM;
    waitq_init(&e->wait);
    e->count = count;
    e->is_semaphore = (flags & EFD_SEMAPHORE) != 0;
    err = anon_inode_create(0600, &inode);
    if (!err) {
        err = file_create(inode, NULL, &eventfd_ops,
                          O_RDWR | (flags & O_NONBLOCK), e, out);
        inode_put(inode);
    }
    if (err)
        kfree(e);
    return err;
}
