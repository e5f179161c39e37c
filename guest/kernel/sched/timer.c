/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Timers: one pairing heap per CPU (Fredman et al. 1986: insert O(1), delete-min
 * amortised O(log n), no memory of its own).
 *
 * Everything is protected by the base's irq-safe lock. A callback runs without
 * it; `running` lets timer_cancel wait for it.
 */
#include "arch/machine.h"
#include "lib/printk.h"
#include "sched/sched.h"
#include "sched/timer.h"

static struct timer_base {
    struct spinlock lock;
    struct timer *root;
    struct timer *running;
    uint32_t running_cpu;
} bases[MAX_CPUS];

static struct timer *meld(struct timer *a, struct timer *b)
{
    if (!a)
        return b;
    if (!b)
        return a;
    if (b->deadline < a->deadline) {
        struct timer *t = a;
        a = b;
        b = t;
    }
    b->prev = a; /* the first child points back to its parent */
    b->next = a->child;
    if (a->child)
        a->child->prev = b;
    a->child = b;
    return a;
}

/* Melds a list of siblings in pairs, then all results. */
static struct timer *meld_list(struct timer *list)
{
    struct timer *pairs = NULL, *root = NULL;

    while (list) {
        struct timer *a = list, *b = a->next;
        list = b ? b->next : NULL;
        a->next = a->prev = NULL;
        if (b)
            b->next = b->prev = NULL;
        a = meld(a, b);
        a->next = pairs;
        pairs = a;
    }
    while (pairs) {
        struct timer *next = pairs->next;
        pairs->next = NULL;
        root = meld(root, pairs);
        pairs = next;
    }
    return root;
}

static void remove_locked(struct timer_base *b, struct timer *t)
{
    struct timer *children = meld_list(t->child);

    if (b->root == t) {
        b->root = children;
    } else {
        if (t->prev->child == t)
            t->prev->child = t->next;
        else
            t->prev->next = t->next;
        if (t->next)
            t->next->prev = t->prev;
        b->root = meld(b->root, children);
    }
    if (b->root)
        b->root->prev = b->root->next = NULL;
    t->child = t->next = t->prev = NULL;
    t->armed = false;
}

void timer_init(struct timer *t, void (*callback)(struct timer *), void *arg)
{
    *t = (struct timer){.callback = callback, .arg = arg};
}

void timer_arm_hardware(nsec_t deadline)
{
    struct cpu *c = this_cpu();

    if (c->timer_armed && c->timer_armed <= deadline)
        return; /* fires earlier and looks again */
    c->timer_armed = deadline;
    apic_timer_arm(deadline);
}

void timer_set(struct timer *t, nsec_t deadline)
{
    bool was_on;
    struct timer_base *b;

    timer_cancel(t);
    was_on = irq_save();
    t->cpu = this_cpu()->id;
    b = &bases[t->cpu];
    spin_lock(&b->lock);
    t->deadline = deadline;
    t->armed = true;
    b->root = meld(b->root, t);
    if (b->root == t)
        timer_arm_hardware(deadline);
    spin_unlock(&b->lock);
    irq_restore(was_on);
}

bool timer_cancel(struct timer *t)
{
    bool was_on, was_armed;
    struct timer_base *b;

    for (;;) {
        was_on = irq_save();
        b = &bases[t->cpu];
        spin_lock(&b->lock);
        if (b != &bases[t->cpu]) {
            spin_unlock(&b->lock);
            irq_restore(was_on);
            continue;
        }
        was_armed = t->armed;
        if (was_armed)
            remove_locked(b, t);
        bool busy = b->running == t && b->running_cpu != this_cpu()->id;
        spin_unlock(&b->lock);
        irq_restore(was_on);
        if (!busy)
            return was_armed;
        cpu_relax();
    }
}

nsec_t timer_run_due(void)
{
    struct cpu *c = this_cpu();
    struct timer_base *b = &bases[c->id];
    struct timer *t;
    nsec_t next;

    spin_lock(&b->lock);
    while ((t = b->root) && t->deadline <= clock_monotonic()) {
        remove_locked(b, t);
        b->running = t;
        b->running_cpu = c->id;
        void (*callback)(struct timer *) = t->callback;
        spin_unlock(&b->lock);
        callback(t);
        spin_lock(&b->lock);
        b->running = NULL;
    }
    next = b->root ? b->root->deadline : 0;
    spin_unlock(&b->lock);
    return next;
}
