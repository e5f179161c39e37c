/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Atomics, each with its memory order in the name. On x86 a locked
 * instruction is a full barrier, so read-modify-write is always `seq`.
 */
#pragma once

#include "lib/types.h"

#define atomic_load_relaxed(p) __atomic_load_n(p, __ATOMIC_RELAXED)
#define atomic_load_acquire(p) __atomic_load_n(p, __ATOMIC_ACQUIRE)
#define atomic_store_relaxed(p, v) __atomic_store_n(p, v, __ATOMIC_RELAXED)
#define atomic_store_release(p, v) __atomic_store_n(p, v, __ATOMIC_RELEASE)
#define atomic_store_seq(p, v) __atomic_store_n(p, v, __ATOMIC_SEQ_CST)
/* Return the value after the operation. */
#define atomic_add(p, v) __atomic_add_fetch(p, v, __ATOMIC_SEQ_CST)
#define atomic_sub(p, v) __atomic_sub_fetch(p, v, __ATOMIC_SEQ_CST)
/* Return the value before the operation. */
#define atomic_or(p, v) __atomic_fetch_or(p, v, __ATOMIC_SEQ_CST)
#define atomic_and(p, v) __atomic_fetch_and(p, v, __ATOMIC_SEQ_CST)
#define atomic_xchg(p, v) __atomic_exchange_n(p, v, __ATOMIC_SEQ_CST)
/* True and *p = new when *p was *old; else *old = *p. */
#define atomic_cmpxchg(p, old, new)                                \
    __atomic_compare_exchange_n(p, old, new, false, __ATOMIC_SEQ_CST, \
                                __ATOMIC_SEQ_CST)
#define barrier() __asm__ volatile("" ::: "memory")
#define smp_mb() __atomic_thread_fence(__ATOMIC_SEQ_CST)

static inline void cpu_relax(void)
{
    __builtin_ia32_pause();
}
