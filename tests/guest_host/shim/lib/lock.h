/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Host version of the guest's lib/lock.h. A lock knows its holder, so taking
 * it twice and releasing another's ends the program; waiting gives the CPU
 * away. Interrupts do not exist.
 */
#pragma once

#include "lib/atomic.h"
#include "lib/types.h"

struct spinlock {
    uint32_t locked; /* atomic: the holder's number, 0 = free */
};

#define SPINLOCK_INIT {0}

static inline void spin_init(struct spinlock *l)
{
    l->locked = 0;
}

/* lock.c */
void spin_lock(struct spinlock *l);
bool spin_trylock(struct spinlock *l);
void spin_unlock(struct spinlock *l);
/* How many spinlocks the calling thread holds. */
uint32_t spin_held(void);

static inline bool irq_save(void)
{
    return true;
}

static inline void irq_restore(bool was_on)
{
    (void)was_on;
}

static inline bool spin_lock_irqsave(struct spinlock *l)
{
    spin_lock(l);
    return true;
}

static inline void spin_unlock_irqrestore(struct spinlock *l, bool was_on)
{
    (void)was_on;
    spin_unlock(l);
}
