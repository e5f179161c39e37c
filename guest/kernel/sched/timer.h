/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * One-shot timers on clock_monotonic(). Tickless: the hardware is armed only
 * for the earliest deadline, and an earlier armed deadline is left alone
 * (core.md 9).
 *
 * - timer_cancel() returns after the callback is not running any more, unless
 *   it is called from the callback itself.
 * - Callbacks run with interrupts off and must not sleep; they may re-arm.
 */
#pragma once

#include "lib/types.h"

struct timer {
    nsec_t deadline;
    void (*callback)(struct timer *t);
    void *arg;
    uint32_t cpu;             /* whose heap it is in */
    bool armed;
    struct timer *child, *next, *prev; /* pairing heap */
};

/* timer.c */
void timer_init(struct timer *t, void (*callback)(struct timer *), void *arg);
void timer_set(struct timer *t, nsec_t deadline); /* (re-)arms */
bool timer_cancel(struct timer *t); /* true if it was armed */
