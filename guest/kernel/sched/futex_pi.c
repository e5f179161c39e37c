/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * FUTEX_LOCK_PI and the end of a futex owner (man 2 futex, man 2
 * set_robust_list; Linux Documentation/locking/robust-futex-ABI.rst).
 *
 * The word holds the owner's tid, so an unlocker hands the lock to the first
 * waiter by writing that one's tid. pi_lock (a mutex, innermost but one:
 * program memory is touched under it, so mm->lock is below it) serialises
 * all of it: the kernel is only asked when there is contention.
 */
#include "lib/errno.h"
#include "lib/list.h"
#include "linux/task.h"
#include "mm/mm.h"
#include "sched/futex.h"
#include "sched/wait.h"

#define ROBUST_LIMIT 2048

struct pi_waiter {
    struct list link;
    struct futex_key key;
    uint32_t __user *word;
    uint32_t tid, owner;   /* owner: when it went to sleep, or since */
    struct waitq waitq;
    uint32_t granted;      /* atomic */
};

/* --- protected by pi_lock --- */
static struct list pi_waiters = LIST_INIT(pi_waiters);
static struct mutex pi_lock = {
    .waiters = {.waiters = LIST_INIT(pi_lock.waiters.waiters)}};

static struct pi_waiter *first_waiter(const struct futex_key *key,
                                      const struct pi_waiter *not_this)
{
    struct pi_waiter *w;

    list_for_each(w, &pi_waiters, link) {
        if (w != not_this && futex_key_equal(&w->key, key))
            return w;
    }
    return NULL;
}

/* Replaces the word old -> value whatever happens to it meanwhile. */
static int set_word(uint32_t __user *word, uint32_t old, uint32_t value)
{
    uint32_t seen;

    for (;;) {
        if (user_cmpxchg32(word, old, value, &seen) != 0)
            return -EFAULT;
        if (seen == old)
            return 0;
        old = seen;
    }
}

/* Gives a contended lock to its first waiter, or frees it. */
static int hand_over(uint32_t __user *word, const struct futex_key *key,
                     uint32_t seen, uint32_t died)
{
    struct pi_waiter *w = first_waiter(key, NULL), *other;
    uint32_t value = died;
    int err;

    if (w != NULL)
        value |= w->tid | (first_waiter(key, w) ? FUTEX_WAITERS : 0);
    err = set_word(word, seen, value);
    if (err != 0 || w == NULL)
        return err;
    list_del(&w->link);
    list_for_each(other, &pi_waiters, link) {
        if (futex_key_equal(&other->key, key))
            other->owner = w->tid;
    }
    atomic_store_release(&w->granted, 1u); /* pairs with pi_sleep */
    wait_wake(&w->waitq, 1);
    return 0;
}

/* Takes the lock if it is free. 1: taken; 0: *seen has WAITERS and an owner;
 * -errno. pi_lock held. */
static int try_take(uint32_t __user *word, const struct futex_key *key,
                    uint32_t tid, bool try_only, uint32_t *seen)
{
    uint32_t v, next;

    if (user_load32(word, &v) != 0)
        return -EFAULT;
    for (;;) {
        if ((v & FUTEX_TID_MASK) == tid)
            return -EDEADLOCK;
        if ((v & FUTEX_TID_MASK) == 0) {
            next = tid | (v & FUTEX_OWNER_DIED);
            if (first_waiter(key, NULL))
                next |= FUTEX_WAITERS;
        } else if (try_only) {
            return -EAGAIN;
        } else {
            next = v | FUTEX_WAITERS;
        }
        if (user_cmpxchg32(word, v, next, seen) != 0)
            return -EFAULT;
        if (*seen == v)
            break;
        v = *seen;
    }
    *seen = next;
    return (v & FUTEX_TID_MASK) == 0;
}

static int pi_sleep(struct pi_waiter *w, nsec_t deadline)
{
    struct waiter sleeper;
    int err = 0;

    waiter_init(&sleeper);
    for (;;) {
        wait_prepare(&w->waitq, &sleeper, WAIT_INTERRUPTIBLE);
        if (atomic_load_acquire(&w->granted))
            break;
        err = wait_sleep(&sleeper, deadline);
        if (err != 0)
            break;
    }
    wait_finish(&w->waitq, &sleeper);
    mutex_lock(&pi_lock);
    if (w->granted)
        err = 0;
    else
        list_del(&w->link); /* the word may keep WAITERS: harmless */
    mutex_unlock(&pi_lock);
    return err;
}

int64_t futex_lock_pi(uint32_t __user *word, bool is_private, nsec_t deadline,
                      bool try_only)
{
    struct pi_waiter w = {.word = word, .tid = (uint32_t)current_task()->tid};
    struct task *owner;
    uint32_t seen;
    int r = futex_get_key(word, is_private, &w.key);

    if (r != 0)
        return r;
    mutex_lock(&pi_lock);
    r = try_take(word, &w.key, w.tid, try_only, &seen);
    if (r == 0) {
        w.owner = seen & FUTEX_TID_MASK;
        owner = task_find((int)w.owner);
        if (owner == NULL) {
            r = -ESRCH;
        } else {
            thread_put(&owner->thread);
            waitq_init(&w.waitq);
            list_add_tail(&pi_waiters, &w.link);
        }
    }
    mutex_unlock(&pi_lock);
    if (r != 0)
        return r == 1 ? 0 : r;
    r = pi_sleep(&w, deadline);
    /* Linux restarts an interrupted FUTEX_LOCK_PI without telling. */
    return r == -EINTR ? -ERESTARTNOINTR : r;
}

int64_t futex_unlock_pi(uint32_t __user *word, bool is_private)
{
    struct futex_key key;
    uint32_t v;
    int err = futex_get_key(word, is_private, &key);

    if (err != 0)
        return err;
    mutex_lock(&pi_lock);
    if (user_load32(word, &v) != 0)
        err = -EFAULT;
    else if ((v & FUTEX_TID_MASK) != (uint32_t)current_task()->tid)
        err = -EPERM;
    else
        err = hand_over(word, &key, v, 0);
    mutex_unlock(&pi_lock);
    return err;
}

/* One lock of a dead owner. */
static int robust_one(struct task *t, uint64_t word_addr, bool is_pi,
                      bool pending)
{
    uint32_t __user *word = (uint32_t *)word_addr;
    struct futex_key key;
    uint32_t v, seen;
    int err = 0;

    if (word_addr & 3 || user_load32(word, &v) != 0)
        return -EFAULT;
    /* Died between unlocking and waking: the next in line must not sleep. */
    if (pending && !is_pi && v == 0) {
        futex_wake(word, false, 1, FUTEX_ANY_BIT);
        futex_wake(word, true, 1, FUTEX_ANY_BIT);
        return 0;
    }
    if ((v & FUTEX_TID_MASK) != (uint32_t)t->tid)
        return 0;
    if (is_pi) {
        mutex_lock(&pi_lock);
        err = futex_get_key(word, false, &key);
        if (err == 0 && !first_waiter(&key, NULL))
            err = futex_get_key(word, true, &key);
        if (err == 0)
            err = hand_over(word, &key, v, FUTEX_OWNER_DIED);
        mutex_unlock(&pi_lock);
        return err;
    }
    for (;;) {
        if (user_cmpxchg32(word, v, (v & FUTEX_WAITERS) | FUTEX_OWNER_DIED,
                           &seen) != 0)
            return -EFAULT;
        if (seen == v)
            break;
        v = seen;
    }
    if (v & FUTEX_WAITERS) {
        futex_wake(word, false, 1, FUTEX_ANY_BIT);
        futex_wake(word, true, 1, FUTEX_ANY_BIT);
    }
    return 0;
}

void futex_exit_robust(struct task *t)
{
    struct { /* struct robust_list_head */
        uint64_t first, offset, pending;
    } head;
    uint64_t entry, next, head_addr = (uint64_t)t->robust_list;

    if (head_addr == 0 || get_user(head, (void *)head_addr) != 0)
        return;
    entry = head.first;
    /* The list is the program's: a bound instead of trust. */
    for (int i = 0; i < ROBUST_LIMIT && (entry & ~1ul) != head_addr; i++) {
        bool last = get_user(next, (void *)(entry & ~1ul)) != 0;

        if ((entry & ~1ul) != (head.pending & ~1ul) &&
            robust_one(t, (entry & ~1ul) + head.offset, entry & 1, false) != 0)
            return;
        if (last)
            break;
        entry = next;
        sched_yield_point();
    }
    if (head.pending & ~1ul)
        robust_one(t, (head.pending & ~1ul) + head.offset, head.pending & 1,
                   true);
}

void futex_exit_pi(struct task *t)
{
    struct pi_waiter *w;
    struct futex_key key;
    uint32_t v;
    bool found = true;

    if (list_empty(&pi_waiters))
        return;
    mutex_lock(&pi_lock);
    while (found) {
        found = false;
        list_for_each(w, &pi_waiters, link) {
            if (w->owner != (uint32_t)t->tid)
                continue;
            w->owner = 0;
            found = true;
            key = w->key;
            if (user_load32(w->word, &v) == 0 &&
                (v & FUTEX_TID_MASK) == (uint32_t)t->tid)
                hand_over(w->word, &key, v, FUTEX_OWNER_DIED);
            break; /* the list changed */
        }
    }
    mutex_unlock(&pi_lock);
}
