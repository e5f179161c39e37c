/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Futexes: man 2 futex.
 *
 * - A waiter is put in the hash bucket first and reads the word afterwards,
 *   without a lock: program memory may fault and sleep. If the word differs
 *   and somebody woke the waiter meanwhile, the wake-up is passed on.
 * - Keys: (mm, address) for private futexes and for memory that is private
 *   anyway; (inode, offset) for shared mappings of files.
 * - Priority-inheritance futexes keep their protocol on the word (owner's tid,
 *   FUTEX_WAITERS, FUTEX_OWNER_DIED) without inheriting anything: there
 *   are no priorities here. They are serialised by one mutex.
 */
#pragma once

#include "lib/types.h"

#define FUTEX_WAITERS 0x80000000u
#define FUTEX_OWNER_DIED 0x40000000u
#define FUTEX_TID_MASK 0x3fffffffu
#define FUTEX_ANY_BIT 0xffffffffu

struct task;

/* futex.c */
void futex_init(void);
/* Wakes up to `nr` waiters of the word that have a bit of `bitset`; returns
 * how many, or -EFAULT, -EINVAL. */
int64_t futex_wake(uint32_t __user *word, bool is_private, int nr,
                   uint32_t bitset);
/* Waits while *word == value. deadline on clock_monotonic(), 0: none.
 * 0, -EAGAIN, -EINTR, -ETIMEDOUT, -EFAULT. */
int64_t futex_wait(uint32_t __user *word, bool is_private, uint32_t value,
                   nsec_t deadline, uint32_t bitset);
/* Wakes nr_wake waiters of `from`, moves up to nr_move others to `to`. With
 * `compare`, -EAGAIN unless *from == value; returns woken + moved. */
int64_t futex_requeue(uint32_t __user *from, uint32_t __user *to,
                      bool is_private, int nr_wake, int nr_move, bool compare,
                      uint32_t value);
int64_t futex_wake_op(uint32_t __user *word, uint32_t __user *word2,
                      bool is_private, int nr_wake, int nr_wake2, uint32_t op);

/* futex_pi.c */
int64_t futex_lock_pi(uint32_t __user *word, bool is_private, nsec_t deadline,
                      bool try_only);
int64_t futex_unlock_pi(uint32_t __user *word, bool is_private);
/* A task ends: what it owned in its robust list is marked and handed on. */
void futex_exit_robust(struct task *t);
/* Locks it owned that were in no robust list get a new owner. */
void futex_exit_pi(struct task *t);

/* --- shared by the two files --- */
struct futex_key {
    void *object;    /* mm or inode: only compared, never followed */
    uint64_t offset;
};
int futex_get_key(uint32_t __user *word, bool is_private,
                  struct futex_key *out);
static inline bool futex_key_equal(const struct futex_key *a,
                                   const struct futex_key *b)
{
    return a->object == b->object && a->offset == b->offset;
}
