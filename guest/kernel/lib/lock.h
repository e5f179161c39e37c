/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Spinlocks, and the order in which locks are taken.
 *
 * - The kernel is not preemptible: code that holds a spinlock runs until it
 *   releases it. It must not sleep, touch user memory or wait for a device.
 * - spin_lock is for data no interrupt handler touches; spin_lock_irq(save)
 *   for data one does. Interrupt handlers take only the latter kind.
 * - Sleeping locks (`struct mutex`) are in sched/mutex.h.
 *
 * Order, outermost first (a thread takes them only downwards):
 *   mutexes:   fdtable -> rename -> inode (parent before child)
 *              -> mm -> page cache fill -> zfs -> blk
 *   spinlocks: epoll -> socket/pipe/eventfd wait queues -> futex bucket
 *              -> signal -> timer base -> wait queue -> run queue
 *              -> page allocator -> heap -> console
 */
#pragma once

#include "lib/atomic.h"
#include "lib/types.h"

struct spinlock {
    uint32_t locked; /* atomic */
};

#define SPINLOCK_INIT {0}

static inline void spin_init(struct spinlock *l)
{
    l->locked = 0;
}

/* lock.c */
void spin_lock_slow(struct spinlock *l);

static inline bool spin_trylock(struct spinlock *l)
{
    return atomic_xchg(&l->locked, 1u) == 0;
}

static inline void spin_lock(struct spinlock *l)
{
    if (unlikely(!spin_trylock(l)))
        spin_lock_slow(l);
}

static inline void spin_unlock(struct spinlock *l)
{
    atomic_store_release(&l->locked, 0u);
}

/* irq.h supplies irq_save/irq_restore. */
#include "arch/irq.h"

static inline bool spin_lock_irqsave(struct spinlock *l)
{
    bool was_on = irq_save();
    spin_lock(l);
    return was_on;
}

static inline void spin_unlock_irqrestore(struct spinlock *l, bool was_on)
{
    spin_unlock(l);
    irq_restore(was_on);
}
