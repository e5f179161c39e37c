/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Work of a layer above that is done when a thread is about to block or a CPU
 * has nothing to run: the network's (net/kernel.h). There is at most one such
 * layer; while there is none, each hook is one load and one test.
 *
 * - turn: from schedule(), with interrupts as the caller had them (on), before
 *   anything is decided: it may wake the current thread. It does not sleep.
 * - has_work: is there something for a turn? Any context.
 * - idle: in the idle loop, before it polls for work until `until` (0: it does
 *   not): a later time, or `until`.
 * - may_halt: interrupts off, the last thing before the CPU halts; false:
 *   there is work.
 */
#pragma once

#include "lib/atomic.h"
#include "lib/types.h"

struct sched_poller {
    void (*turn)(void);
    bool (*has_work)(void);
    nsec_t (*idle)(nsec_t until);
    bool (*may_halt)(void);
};

/* run.c; set once, atomic. */
extern const struct sched_poller *sched_poller;

static inline void poller_turn(void)
{
    const struct sched_poller *p = atomic_load_acquire(&sched_poller);

    if (unlikely(p != NULL))
        p->turn();
}

static inline bool poller_has_work(void)
{
    const struct sched_poller *p = atomic_load_acquire(&sched_poller);

    return unlikely(p != NULL) && p->has_work();
}

static inline nsec_t poller_idle(nsec_t until)
{
    const struct sched_poller *p = atomic_load_acquire(&sched_poller);

    return likely(p == NULL) ? until : p->idle(until);
}

static inline bool poller_may_halt(void)
{
    const struct sched_poller *p = atomic_load_acquire(&sched_poller);

    return likely(p == NULL) || p->may_halt();
}
