/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Mutexes and reader-writer locks over wait queues.
 */
#include "sched/mutex.h"

#include "lib/printk.h"
#include "sched/lockorder.h"
#include "sched/sched.h"

#define SPINS 200 /* about 2 us */

#ifdef DEBUG
#define CHECK_ORDER(m) lockorder_check(current_thread(), (m)->class)
#define NOTE_TAKEN(m) lockorder_took(current_thread(), (m)->class)
#define NOTE_GIVEN(m) lockorder_gave(current_thread(), (m)->class)
#else
#define CHECK_ORDER(m) ((void)(m))
#define NOTE_TAKEN(m) ((void)(m))
#define NOTE_GIVEN(m) ((void)(m))
#endif

void mutex_init(struct mutex *m)
{
    m->owner = NULL;
    m->nr_waiters = 0;
    waitq_init(&m->waiters);
#ifdef DEBUG
    m->class = lockorder_class(__builtin_return_address(0));
#endif
}

static bool take(struct mutex *m)
{
    struct thread *free = NULL;

    if (!atomic_cmpxchg(&m->owner, &free, current_thread()))
        return false;
    NOTE_TAKEN(m);
    return true;
}

bool mutex_trylock(struct mutex *m)
{
    return take(m);
}

/* Spin only while the owner is on another CPU. */
static bool spin_for(struct mutex *m)
{
    for (int i = 0; i < SPINS && nr_cpus > 1; i++) {
        struct thread *owner = atomic_load_relaxed(&m->owner);
        if (!owner) {
            if (take(m))
                return true;
        } else if (!atomic_load_relaxed(&owner->on_cpu)) {
            return false;
        }
        cpu_relax();
    }
    return false;
}

void mutex_lock(struct mutex *m)
{
    struct waiter w;

    CHECK_ORDER(m);
    if (likely(take(m)))
        return;
    if (atomic_load_relaxed(&m->owner) == current_thread())
        panic("mutex %p locked twice by %s", (void *)m,
              current_thread()->name);
    if (spin_for(m))
        return;
    waiter_init(&w);
    atomic_add(&m->nr_waiters, 1u);
    for (;;) {
        wait_prepare(&m->waiters, &w, WAIT_EXCLUSIVE);
        if (take(m))
            break;
        wait_sleep(&w, NO_DEADLINE);
    }
    wait_finish(&m->waiters, &w);
    atomic_sub(&m->nr_waiters, 1u);
}

void mutex_unlock(struct mutex *m)
{
    if (unlikely(m->owner != current_thread()))
        panic("mutex %p unlocked by %s, owner %p", (void *)m,
              current_thread()->name, (void *)m->owner);
    NOTE_GIVEN(m);
    atomic_store_seq(&m->owner, (struct thread *)NULL);
    if (atomic_load_relaxed(&m->nr_waiters))
        wait_wake(&m->waiters, 1);
}

bool mutex_is_mine(struct mutex *m)
{
    return atomic_load_relaxed(&m->owner) == current_thread();
}

void rwlock_init(struct rwlock *l)
{
    spin_init(&l->lock);
    l->readers = 0;
    l->writers_waiting = 0;
    waitq_init(&l->waiters);
}

static bool try_read(struct rwlock *l)
{
    bool was_on = spin_lock_irqsave(&l->lock);
    bool ok = l->readers >= 0 && !l->writers_waiting;

    l->readers += ok;
    spin_unlock_irqrestore(&l->lock, was_on);
    return ok;
}

static bool try_write(struct rwlock *l)
{
    bool was_on = spin_lock_irqsave(&l->lock);
    bool ok = l->readers == 0;

    if (ok)
        l->readers = -1;
    spin_unlock_irqrestore(&l->lock, was_on);
    return ok;
}

void rwlock_read(struct rwlock *l)
{
    wait_event(&l->waiters, try_read(l), 0, NO_DEADLINE);
}

void rwlock_write(struct rwlock *l)
{
    atomic_add(&l->writers_waiting, 1);
    wait_event(&l->waiters, try_write(l), 0, NO_DEADLINE);
    atomic_sub(&l->writers_waiting, 1);
}

static void rwlock_release(struct rwlock *l, int new_readers)
{
    bool was_on = spin_lock_irqsave(&l->lock);

    l->readers = new_readers < 0 ? l->readers - 1 : 0;
    spin_unlock_irqrestore(&l->lock, was_on);
    wait_wake(&l->waiters, 1);
}

void rwlock_read_done(struct rwlock *l)
{
    rwlock_release(l, -1);
}

void rwlock_write_done(struct rwlock *l)
{
    rwlock_release(l, 0);
}
