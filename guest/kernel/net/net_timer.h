/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The stack's timers: one wheel per CPU.
 *
 * - Seven levels of 64 slots; a level's slots are eight times as wide as
 *   those of the one below, the first 2^20 ns (about a millisecond). A timer
 *   is put where its distance fits and is never moved: it fires up to an
 *   eighth of its distance late, never early.
 * - A timer's owner keeps exact deadlines and looks at them when it fires, so
 *   a deadline that moves later need not touch the wheel.
 * - The callback runs in net_timer_run, without locks, not in an interrupt;
 *   it may arm the timer again.
 * - net_timer_cancel returns true when the timer will not fire; false: it was
 *   not armed, or its callback runs. References: whoever arms holds one for
 *   the timer; the callback, or a successful cancel, gets it back.
 *
 * Locks: wheel.lock, innermost but the heap's. Not for interrupt handlers.
 */
#pragma once

#include "lib/lock.h"

#define WHEEL_LEVELS 7u
#define WHEEL_SLOTS 64u
#define WHEEL_TICK_SHIFT 20u
#define NET_NO_DEADLINE INT64_MAX

struct net_wheel;

struct net_timer {
    struct net_timer *next, **link; /* link NULL: not armed */
    struct net_wheel *wheel;        /* whose it is while armed; atomic */
    nsec_t deadline;                /* as armed */
    void (*callback)(struct net_timer *t);
    uint16_t slot;
};

struct net_wheel {
    struct spinlock lock;
    /* --- protected by lock --- */
    uint64_t now; /* ticks; everything before has fired */
    uint64_t used[WHEEL_LEVELS]; /* bit per slot */
    struct net_timer *slots[WHEEL_LEVELS * WHEEL_SLOTS];
    /* --- atomic --- */
    nsec_t next; /* earliest deadline, NET_NO_DEADLINE = none */
};

/* net_timer.c */
void net_wheel_init(struct net_wheel *w, nsec_t now);
void net_timer_init(struct net_timer *t,
                    void (*callback)(struct net_timer *t));
static inline bool net_timer_is_armed(const struct net_timer *t)
{
    return atomic_load_relaxed(&t->wheel) != NULL;
}
/* Arms a timer that is not armed. True: it is now the earliest. */
bool net_timer_arm(struct net_wheel *w, struct net_timer *t, nsec_t now,
                   nsec_t deadline);
bool net_timer_cancel(struct net_timer *t);
/* Fires what is due; returns how many. */
uint32_t net_wheel_run(struct net_wheel *w, nsec_t now);
static inline nsec_t net_wheel_next(struct net_wheel *w)
{
    return atomic_load_relaxed(&w->next);
}
