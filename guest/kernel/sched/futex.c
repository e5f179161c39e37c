/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Waiting, waking and requeueing on futexes; rules in futex.h.
 *
 * Locks: bucket->lock (spin, order: lib/lock.h) protects the lists and, for
 * queued waiters, waiter->bucket, key and woken. Two buckets are locked in the
 * order of their addresses. A woken waiter takes its bucket's lock once more
 * before its stack frame goes away, so wakers may use it under the lock.
 */
#include "sched/futex.h"
#include "lib/errno.h"
#include "lib/list.h"
#include "linux/task.h"
#include "mm/mm.h"
#include "sched/wait.h"

#define NR_BUCKETS 256

struct futex_bucket {
    struct spinlock lock;
    struct list waiters;
};

struct futex_waiter {
    struct list link;
    struct futex_key key;
    struct futex_bucket *bucket; /* atomic: where it is queued, may move */
    struct waitq waitq;
    uint32_t bitset;
    uint32_t woken;              /* atomic */
};

static struct futex_bucket buckets[NR_BUCKETS];

void futex_init(void)
{
    for (int i = 0; i < NR_BUCKETS; i++) {
        spin_init(&buckets[i].lock);
        list_init(&buckets[i].waiters);
    }
}

static struct futex_bucket *bucket_of(const struct futex_key *key)
{
    uint64_t h = ((uint64_t)key->object >> 4) ^ (key->offset >> 2);

    h *= 0x9e3779b97f4a7c15ul;
    return &buckets[h >> 56];
}

_Static_assert(NR_BUCKETS == 256, "the hash keeps eight bits");

int futex_get_key(uint32_t __user *word, bool is_private,
                  struct futex_key *out)
{
    vaddr_t addr = (vaddr_t)word;
    struct mm *mm = current_mm();
    struct vma_info vma;

    if (addr & 3)
        return -EINVAL;
    if (!user_range_ok(word, 4))
        return -EFAULT;
    out->object = mm;
    out->offset = addr;
    if (is_private)
        return 0;
    mutex_lock(&mm->lock);
    if (!mm_vma_at(mm, addr, &vma) || vma.start > addr) {
        mutex_unlock(&mm->lock);
        return -EFAULT;
    }
    /* Shared memory without an inode is in one place of one mm only, as
     * long as there is no fork: its address is its name. */
    if (vma.shared && vma.inode != NULL) {
        out->object = vma.inode;
        out->offset = vma.offset + (addr - vma.start);
    }
    mutex_unlock(&mm->lock);
    return 0;
}

/* The waiter's bucket, locked (it may be moved by a requeue meanwhile). */
static struct futex_bucket *lock_bucket_of(struct futex_waiter *w)
{
    struct futex_bucket *b;

    for (;;) {
        b = atomic_load_acquire(&w->bucket);
        spin_lock(&b->lock);
        if (b == atomic_load_relaxed(&w->bucket))
            return b;
        spin_unlock(&b->lock);
    }
}

static void wake_locked(struct futex_waiter *w)
{
    list_del(&w->link);
    atomic_store_release(&w->woken, 1u); /* pairs with futex_wait */
    wait_wake(&w->waitq, 1);
}

static int wake_bucket_locked(struct futex_bucket *b,
                              const struct futex_key *key, int nr,
                              uint32_t bitset)
{
    struct futex_waiter *w, *tmp;
    int n = 0;

    list_for_each_safe(w, tmp, &b->waiters, link) {
        if (n >= nr)
            break;
        if (!(w->bitset & bitset) || !futex_key_equal(&w->key, key))
            continue;
        wake_locked(w);
        n++;
    }
    return n;
}

static int wake_key(const struct futex_key *key, int nr, uint32_t bitset)
{
    struct futex_bucket *b = bucket_of(key);
    int n = 0;

    smp_mb(); /* the caller's change of the word; pairs with futex_wait */
    if (list_empty(&b->waiters))
        return 0;
    spin_lock(&b->lock);
    n = wake_bucket_locked(b, key, nr, bitset);
    spin_unlock(&b->lock);
    return n;
}

int64_t futex_wake(uint32_t __user *word, bool is_private, int nr,
                   uint32_t bitset)
{
    struct futex_key key;
    int err;

    if (bitset == 0)
        return -EINVAL;
    err = futex_get_key(word, is_private, &key);
    if (err != 0)
        return err;
    return wake_key(&key, MAX(nr, 1), bitset); /* 0 wakes one, as on Linux */
}

/* Leaves the queue. True: somebody had woken w. */
static bool unqueue(struct futex_waiter *w)
{
    struct futex_bucket *b = lock_bucket_of(w);
    bool woken = w->woken;

    if (!woken)
        list_del(&w->link);
    spin_unlock(&b->lock);
    return woken;
}

static int64_t sleep_on(struct futex_waiter *w, nsec_t deadline)
{
    struct waiter sleeper;
    int err = 0;

    waiter_init(&sleeper);
    for (;;) {
        wait_prepare(&w->waitq, &sleeper, WAIT_INTERRUPTIBLE);
        if (atomic_load_acquire(&w->woken))
            break;
        err = wait_sleep(&sleeper, deadline);
        if (err != 0)
            break;
    }
    wait_finish(&w->waitq, &sleeper);
    return unqueue(w) ? 0 : err;
}

int64_t futex_wait(uint32_t __user *word, bool is_private, uint32_t value,
                   nsec_t deadline, uint32_t bitset)
{
    struct futex_waiter w = {.bitset = bitset};
    uint32_t now;
    int err;

    if (bitset == 0)
        return -EINVAL;
    err = futex_get_key(word, is_private, &w.key);
    if (err != 0)
        return err;
    /* Usually the word has changed already: no lock then. */
    if (user_load32(word, &now) != 0)
        return -EFAULT;
    if (now != value)
        return -EAGAIN;
    waitq_init(&w.waitq);
    w.bucket = bucket_of(&w.key);
    spin_lock(&w.bucket->lock);
    list_add_tail(&w.bucket->waiters, &w.link);
    spin_unlock(&w.bucket->lock);
    smp_mb(); /* queued before the word is read; pairs with wake_key */

    err = user_load32(word, &now) != 0 ? -EFAULT : 0;
    if (err == 0 && now == value)
        return sleep_on(&w, deadline);
    if (unqueue(&w))
        wake_key(&w.key, 1, bitset); /* it was meant for a real sleeper */
    return err != 0 ? err : -EAGAIN;
}

static void lock_two(struct futex_bucket *a, struct futex_bucket *b)
{
    if (a > b) {
        struct futex_bucket *t = a;
        a = b;
        b = t;
    }
    spin_lock(&a->lock);
    if (a != b)
        spin_lock(&b->lock);
}

static void unlock_two(struct futex_bucket *a, struct futex_bucket *b)
{
    spin_unlock(&a->lock);
    if (a != b)
        spin_unlock(&b->lock);
}

int64_t futex_requeue(uint32_t __user *from, uint32_t __user *to,
                      bool is_private, int nr_wake, int nr_move, bool compare,
                      uint32_t value)
{
    struct futex_key k1, k2;
    struct futex_bucket *b1, *b2;
    struct futex_waiter *w, *tmp;
    uint32_t now;
    int err, n, moved = 0;

    if (nr_wake < 0 || nr_move < 0)
        return -EINVAL;
    err = futex_get_key(from, is_private, &k1);
    if (err == 0)
        err = futex_get_key(to, is_private, &k2);
    if (err != 0)
        return err;
    if (compare) {
        if (user_load32(from, &now) != 0)
            return -EFAULT;
        if (now != value)
            return -EAGAIN;
    }
    b1 = bucket_of(&k1);
    b2 = bucket_of(&k2);
    lock_two(b1, b2);
    n = nr_wake > 0 ? wake_bucket_locked(b1, &k1, nr_wake, FUTEX_ANY_BIT) : 0;
    list_for_each_safe(w, tmp, &b1->waiters, link) {
        if (moved >= nr_move)
            break;
        if (!futex_key_equal(&w->key, &k1))
            continue;
        w->key = k2;
        if (b1 != b2) {
            list_del(&w->link);
            list_add_tail(&b2->waiters, &w->link);
            atomic_store_release(&w->bucket, b2); /* lock_bucket_of */
        }
        moved++;
    }
    unlock_two(b1, b2);
    return n + moved;
}

/* op: man 2 futex, FUTEX_WAKE_OP. *old: the word before. */
static int apply_op(uint32_t __user *word, uint32_t op, uint32_t *old)
{
    uint32_t kind = op >> 28 & 7, arg = op >> 12 & 0xfff, v, next, seen;
    int err;

    arg = (uint32_t)((int32_t)(arg << 20) >> 20);
    if (op >> 28 & 8)
        arg = 1u << (arg & 31);
    err = user_load32(word, &v);
    for (;;) {
        if (err != 0)
            return -EFAULT;
        switch (kind) {
        case 0: next = arg; break;
        case 1: next = v + arg; break;
        case 2: next = v | arg; break;
        case 3: next = v & ~arg; break;
        case 4: next = v ^ arg; break;
        default: return -ENOSYS;
        }
        err = user_cmpxchg32(word, v, next, &seen);
        if (err == 0 && seen == v)
            break;
        v = seen;
    }
    *old = v;
    return 0;
}

static int compare_op(uint32_t op, uint32_t old)
{
    int32_t arg = (int32_t)(op << 20) >> 20, v = (int32_t)old;

    switch (op >> 24 & 15) {
    case 0: return v == arg;
    case 1: return v != arg;
    case 2: return v < arg;
    case 3: return v <= arg;
    case 4: return v > arg;
    case 5: return v >= arg;
    default: return -ENOSYS;
    }
}

int64_t futex_wake_op(uint32_t __user *word, uint32_t __user *word2,
                      bool is_private, int nr_wake, int nr_wake2, uint32_t op)
{
    struct futex_key k1, k2;
    uint32_t old;
    int err, yes, n;

    err = futex_get_key(word, is_private, &k1);
    if (err == 0)
        err = futex_get_key(word2, is_private, &k2);
    if (err == 0)
        err = apply_op(word2, op, &old);
    if (err != 0)
        return err;
    yes = compare_op(op, old);
    if (yes < 0)
        return yes;
    n = wake_key(&k1, MAX(nr_wake, 1), FUTEX_ANY_BIT);
    if (yes)
        n += wake_key(&k2, MAX(nr_wake2, 1), FUTEX_ANY_BIT);
    return n;
}
