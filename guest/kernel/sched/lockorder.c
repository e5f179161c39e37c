/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The order of mutexes; see lockorder.h. All tables are atomic words that only
 * gain bits.
 */
#include "sched/lockorder.h"

#ifdef DEBUG
#include "lib/atomic.h"
#include "lib/printk.h"
#include "sched/thread.h"

#define NR_CLASSES 64u

static const void *sites[NR_CLASSES]; /* [0] stays NULL */
static uint64_t after[NR_CLASSES];    /* bit j: j was taken while this was held */

uint8_t lockorder_class(const void *init_site)
{
    for (unsigned i = 1; i < NR_CLASSES; i++) {
        const void *expected = NULL;
        if (atomic_cmpxchg(&sites[i], &expected, init_site) ||
            expected == init_site)
            return (uint8_t)i;
    }
    return 0;
}

/* Every class that was ever taken, directly or not, after this one. */
static uint64_t reachable(unsigned class)
{
    uint64_t seen = 1ul << class, todo = seen;

    while (todo) {
        unsigned i = (unsigned)__builtin_ctzl(todo);
        uint64_t next = atomic_load_relaxed(&after[i]) & ~seen;
        todo = (todo & ~(1ul << i)) | next;
        seen |= next;
    }
    return seen;
}

void lockorder_check(const struct thread *t, uint8_t class)
{
    uint64_t then = class && t && t->nr_held ? reachable(class) : 0;

    for (unsigned i = 0; then && i < t->nr_held; i++) {
        uint8_t held = t->held[i];
        if (!held || held == class)
            continue;
        if (then >> held & 1)
            panic("lock order: a mutex made at %p is taken while one made at "
                  "%p is held; it has been the other way round",
                  sites[class], sites[held]);
        atomic_or(&after[held], 1ul << class);
    }
}

void lockorder_took(struct thread *t, uint8_t class)
{
    if (!t)
        return;
    if (t->nr_held == LOCKORDER_MAX_HELD)
        panic("%s holds more than %u mutexes", t->name, LOCKORDER_MAX_HELD);
    t->held[t->nr_held++] = class;
}

void lockorder_gave(struct thread *t, uint8_t class)
{
    for (unsigned i = t ? t->nr_held : 0; i-- > 0;) {
        if (t->held[i] != class)
            continue;
        t->nr_held--;
        for (; i < t->nr_held; i++)
            t->held[i] = t->held[i + 1];
        return;
    }
}
#endif
