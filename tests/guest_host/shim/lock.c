/* SPDX-License-Identifier: BSD-2-Clause */
/* Spinlocks, panic and messages of the kernel, for host programs. */
#include "lib/lock.h"

#include "lib/printk.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>

static _Thread_local uint32_t self, held;
static uint32_t nr_threads;

static uint32_t my_number(void)
{
    if (!self)
        self = atomic_add(&nr_threads, 1u);
    return self;
}

bool spin_trylock(struct spinlock *l)
{
    uint32_t none = 0;

    if (!atomic_cmpxchg(&l->locked, &none, my_number()))
        return false;
    held++;
    return true;
}

void spin_lock(struct spinlock *l)
{
    while (!spin_trylock(l)) {
        if (atomic_load_relaxed(&l->locked) == self)
            panic("spinlock %p: taken twice", (void *)l);
        sched_yield();
    }
}

void spin_unlock(struct spinlock *l)
{
    if (atomic_load_relaxed(&l->locked) != my_number())
        panic("spinlock %p: released by somebody else", (void *)l);
    held--;
    atomic_store_release(&l->locked, 0u);
}

uint32_t spin_held(void)
{
    return held;
}

void panic(const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    fputs("panic: ", stderr);
    vfprintf(stderr, fmt, args);
    fputc('\n', stderr);
    va_end(args);
    abort();
}

void klog(int level, const char *fmt, ...)
{
    va_list args;

    (void)level;
    va_start(args, fmt);
    vfprintf(stderr, fmt, args);
    fputc('\n', stderr);
    va_end(args);
}
