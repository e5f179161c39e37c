/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Wait queues; the protocol is in wait.h.
 */
#include "sched/wait.h"

#include "lib/errno.h"
#include "sched/sched.h"
#include "sched/timer.h"

void waitq_init(struct waitq *q)
{
    spin_init(&q->lock);
    list_init(&q->waiters);
}

void waiter_init(struct waiter *w)
{
    list_init(&w->link);
    w->thread = current_thread();
    w->flags = 0;
    w->callback = NULL;
    w->arg = NULL;
}

void waiter_init_callback(struct waiter *w,
                          void (*callback)(struct waiter *, uint32_t),
                          void *arg)
{
    waiter_init(w);
    w->callback = callback;
    w->arg = arg;
}

static void add_locked(struct waitq *q, struct waiter *w)
{
    if (!list_empty(&w->link))
        return;
    if (w->flags & WAIT_EXCLUSIVE)
        list_add_tail(&q->waiters, &w->link);
    else
        list_add(&q->waiters, &w->link);
}

void wait_add(struct waitq *q, struct waiter *w)
{
    bool was_on = spin_lock_irqsave(&q->lock);

    add_locked(q, w);
    spin_unlock_irqrestore(&q->lock, was_on);
}

void wait_remove(struct waitq *q, struct waiter *w)
{
    bool was_on = spin_lock_irqsave(&q->lock);

    list_del(&w->link);
    spin_unlock_irqrestore(&q->lock, was_on);
}

void wait_prepare(struct waitq *q, struct waiter *w, uint32_t flags)
{
    bool was_on = spin_lock_irqsave(&q->lock);

    /* Both under the lock: a waker that takes an exclusive waiter off the
     * queue must find it SLEEPING, or its wake-up would be lost. */
    w->flags = flags;
    add_locked(q, w);
    atomic_store_seq(&w->thread->state, (uint32_t)THREAD_SLEEPING);
    spin_unlock_irqrestore(&q->lock, was_on);
}

struct sleep_timer {
    struct timer timer;
    struct thread *thread;
};

static void sleep_expired(struct timer *t)
{
    struct sleep_timer *s = container_of(t, struct sleep_timer, timer);
    thread_wake(s->thread);
}

int wait_sleep(struct waiter *w, nsec_t deadline)
{
    struct thread *t = current_thread();
    struct sleep_timer s;

    if (w->flags & WAIT_INTERRUPTIBLE && signal_pending()) {
        atomic_store_relaxed(&t->state, (uint32_t)THREAD_RUNNING);
        return -EINTR;
    }
    if (!deadline) {
        schedule();
        return 0;
    }
    if (clock_monotonic() >= deadline) {
        atomic_store_relaxed(&t->state, (uint32_t)THREAD_RUNNING);
        return -ETIMEDOUT;
    }
    s.thread = t;
    timer_init(&s.timer, sleep_expired, NULL);
    timer_set(&s.timer, deadline);
    schedule();
    timer_cancel(&s.timer);
    return clock_monotonic() >= deadline ? -ETIMEDOUT : 0;
}

void wait_finish(struct waitq *q, struct waiter *w)
{
    atomic_store_relaxed(&w->thread->state, (uint32_t)THREAD_RUNNING);
    wait_remove(q, w);
}

int wait_wake_key(struct waitq *q, int nr, uint32_t key)
{
    struct waiter *w, *tmp;
    bool was_on;
    int woken = 0;

    if (!waitq_active(q))
        return 0;
    was_on = spin_lock_irqsave(&q->lock);
    list_for_each_safe(w, tmp, &q->waiters, link) {
        if (w->callback) {
            w->callback(w, key);
            continue;
        }
        if (w->flags & WAIT_EXCLUSIVE) {
            if (nr-- <= 0)
                break;
            list_del(&w->link); /* the next wake-up takes another one */
        }
        thread_wake(w->thread);
        woken++;
    }
    spin_unlock_irqrestore(&q->lock, was_on);
    return woken;
}

int wait_wake(struct waitq *q, int nr)
{
    return wait_wake_key(q, nr, ~0u);
}

int sleep_until(nsec_t deadline, bool intr)
{
    struct waitq q;
    int err;

    waitq_init(&q);
    err = wait_event(&q, clock_monotonic() >= deadline,
                     intr ? WAIT_INTERRUPTIBLE : 0, deadline);
    return err == -ETIMEDOUT ? 0 : err;
}
