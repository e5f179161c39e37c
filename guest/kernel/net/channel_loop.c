/* SPDX-License-Identifier: BSD-2-Clause */
/* Loops: the file, the list of what is ready, the turn. See channel.h. */
#include "net/channel.h"

#include "capstan_calls.h"
#include "lib/errno.h"
#include "lib/string.h"
#include "mm/heap.h"
#include "mm/mm.h"
#include "net/kernel.h"

/* ---- what is ready ---- */

void chan_event(struct chan *c, uint32_t bits)
{
    struct chan_loop *l = c->loop;
    bool was_on = spin_lock_irqsave(&l->lock), is_new = false;

    if (!c->is_closed && !l->is_dead) {
        c->due |= bits;
        is_new = !c->is_queued;
        if (is_new) {
            c->is_queued = true;
            sock_get(c->ns); /* put by whoever takes it off the list */
            list_add_tail(&l->ready, &c->ready_link);
        }
    }
    spin_unlock_irqrestore(&l->lock, was_on);
    if (is_new && waitq_active(&l->wait))
        wait_wake_key(&l->wait, 1, EPOLLIN | EPOLLRDNORM);
}

static bool has_something(struct chan_loop *l)
{
    return atomic_load_acquire(&l->ready.next) != &l->ready ||
           atomic_load_relaxed(&l->sent) != NULL ||
           atomic_load_acquire(&l->is_woken) != 0;
}

void chan_loop_wake(struct chan_loop *l)
{
    atomic_store_release(&l->is_woken, 1u);
    if (waitq_active(&l->wait))
        wait_wake_key(&l->wait, 1, EPOLLIN | EPOLLRDNORM);
}

/* ---- one at a time ---- */

int chan_loop_enter(struct chan_loop *l)
{
    if (current_mm() != l->owner)
        return -EPERM;
    return atomic_xchg(&l->busy, 1u) ? -EBUSY : 0;
}

void chan_loop_leave(struct chan_loop *l)
{
    atomic_store_release(&l->busy, 0u); /* pairs with the exchange */
}

/* ---- turns ---- */

/* The program sends and frames come without anybody's sleeping: the stack does
 * its work here. */
static bool look(struct chan_loop *l)
{
    net_kernel_turn();
    chan_collect(l);
    return l->nr_events || atomic_xchg(&l->is_woken, 0u);
}

int chan_loop_turn(struct chan_loop *l, nsec_t timeout)
{
    nsec_t deadline = NO_DEADLINE;
    int err = 0;

    if (timeout > 0 && timeout < INT64_MAX / 2)
        deadline = clock_monotonic() + timeout;
    chan_batch_free(l);
    while (!look(l) && timeout && !err) {
        chan_loop_leave(l);
        err = wait_event(&l->wait, has_something(l), WAIT_INTERRUPTIBLE,
                         deadline);
        if (atomic_xchg(&l->busy, 1u))
            return -EBUSY; /* another thread is turning: its events */
    }
    return l->nr_events ? (int)l->nr_events : err == -EINTR ? err : 0;
}

/* ---- the file ---- */

static void loop_free(struct chan_loop *l)
{
    chan_memory_free(l);
    kfree(l->events);
    kfree(l->slots);
    kfree(l->gens);
    kfree(l);
}

void chan_loop_put(struct chan_loop *l)
{
    if (atomic_sub(&l->refcount, 1u) == 0)
        loop_free(l);
}

/* Nobody calls any more: the last descriptor is gone. */
static void loop_release(struct file *f)
{
    struct chan_loop *l = f->priv;
    struct frame_outside *o;
    bool was_on;

    chan_close_all(l);
    chan_batch_free(l);
    chan_drop_all(l);
    was_on = spin_lock_irqsave(&l->lock);
    l->is_dead = true; /* what is sent from now on is freed at once */
    spin_unlock_irqrestore(&l->lock, was_on);
    while ((o = chan_sent_take(l)) != NULL)
        chan_sent_free(o);
    chan_loop_put(l);
}

static uint32_t loop_poll(struct file *f, struct poll_table *pt)
{
    struct chan_loop *l = f->priv;

    poll_add(f, &l->wait, pt);
    return has_something(l) ? EPOLLIN | EPOLLRDNORM : 0;
}

static const struct file_ops loop_ops = {
    .name = "[capstan-loop]",
    .poll = loop_poll,
    .release = loop_release,
};

struct chan_loop *chan_loop_of(struct file *f)
{
    return f->ops == &loop_ops ? f->priv : NULL;
}

static int loop_new(struct chan_loop **out)
{
    struct netstack *net = net_kernel_stack();
    struct chan_loop *l;

    if (!net)
        return -ENOBUFS;
    l = kzalloc(sizeof(*l));
    if (!l)
        return -ENOMEM;
    l->events = kzalloc(CHAN_EVENTS * sizeof(*l->events));
    if (!l->events) {
        kfree(l);
        return -ENOMEM;
    }
    l->net = net;
    l->owner = current_mm();
    l->refcount = 1;
    spin_init(&l->lock);
    waitq_init(&l->wait);
    list_init(&l->ready);
    l->sent_last = &l->sent;
    *out = l;
    return 0;
}

int chan_loop_create(struct file **out)
{
    struct chan_loop *l;
    struct inode *inode;
    int err = loop_new(&l);

    if (err)
        return err;
    err = anon_inode_create(0600, &inode);
    if (!err) {
        err = file_create(inode, NULL, &loop_ops, O_RDWR, l, out);
        inode_put(inode);
    }
    if (err)
        chan_loop_put(l);
    return err;
}
