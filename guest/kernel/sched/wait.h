/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Wait queues.
 *
 * A sleeper:
 *     struct waiter w;
 *     waiter_init(&w);
 *     for (;;) {
 *         wait_prepare(&q, &w, WAIT_INTERRUPTIBLE);   state = SLEEPING
 *         if (condition) break;
 *         err = wait_sleep(&w, deadline);   0, -EINTR or -ETIMEDOUT
 *         if (err) break;
 *     }
 *     wait_finish(&q, &w);                             state = RUNNING
 * A waker changes the condition, then calls wait_wake(). The condition may be
 * protected by any lock or none: prepare is a full barrier.
 *
 * A waiter with `callback` set (epoll, poll) gets a call instead of a wake-up,
 * under the queue's lock, interrupts off; the callback must not sleep.
 */
#pragma once

#include "lib/list.h"
#include "lib/lock.h"

struct thread;

struct waitq {
    struct spinlock lock; /* irq-safe */
    struct list waiters;
};

#define WAIT_INTERRUPTIBLE 1u
#define WAIT_EXCLUSIVE 2u /* wait_wake(q, n) wakes at most n of these */
#define NO_DEADLINE 0     /* nsec_t: wait for ever */

struct waiter {
    struct list link;
    struct thread *thread;
    uint32_t flags;
    /* key: what happened (EPOLL* bits), ~0u if not told */
    void (*callback)(struct waiter *w, uint32_t key);
    void *arg;
};

/* wait.c */
void waitq_init(struct waitq *q);
void waiter_init(struct waiter *w);
void waiter_init_callback(struct waiter *w,
                          void (*callback)(struct waiter *, uint32_t),
                          void *arg);
/* Adds without sleeping (callbacks). */
void wait_add(struct waitq *q, struct waiter *w);
void wait_remove(struct waitq *q, struct waiter *w);
void wait_prepare(struct waitq *q, struct waiter *w, uint32_t flags);
/* Sleeps until woken. deadline is on clock_monotonic(), NO_DEADLINE = none.
 * 0: woken; -EINTR: a signal is pending (interruptible only);
 * -ETIMEDOUT: the deadline passed. */
int wait_sleep(struct waiter *w, nsec_t deadline);
void wait_finish(struct waitq *q, struct waiter *w);
/* Wakes all non-exclusive waiters and up to `nr` exclusive ones; returns how
 * many threads were woken. Callable from interrupt handlers. */
int wait_wake(struct waitq *q, int nr);
int wait_wake_key(struct waitq *q, int nr, uint32_t key);
static inline bool waitq_active(struct waitq *q)
{
    smp_mb(); /* pairs with wait_prepare */
    return !list_empty(&q->waiters);
}

/* Sleeps until the deadline; -EINTR when a signal arrives and `intr`. */
int sleep_until(nsec_t deadline, bool intr);
/* Is a signal waiting for the current thread (hook set by linux/)? */
bool signal_pending(void);

/* Waits until cond is true. Evaluates to 0, -EINTR or -ETIMEDOUT. */
#define wait_event(q, cond, wflags, deadline)                   \
    ({                                                          \
        int wait_err_ = 0;                                      \
        bool wait_ok_ = (cond);                                 \
        if (!wait_ok_) {                                        \
            struct waiter waiter_;                              \
            waiter_init(&waiter_);                              \
            for (;;) {                                          \
                wait_prepare((q), &waiter_, (wflags));          \
                wait_ok_ = (cond);                              \
                if (wait_ok_ || wait_err_)                      \
                    break;                                      \
                wait_err_ = wait_sleep(&waiter_, (deadline));   \
            }                                                   \
            if (wait_ok_)                                       \
                wait_err_ = 0;                                  \
            wait_finish((q), &waiter_);                         \
        }                                                       \
        wait_err_;                                              \
    })
