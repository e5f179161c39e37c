/* SPDX-License-Identifier: BSD-2-Clause */
/* The timer wheel. See net_timer.h. */
#include "net/net_timer.h"

#include "lib/printk.h"
#include "lib/string.h"

#define LEVEL_SHIFT 3u /* a level is 8 times as coarse as the one below */

void net_wheel_init(struct net_wheel *w, nsec_t now)
{
    memset(w, 0, sizeof(*w));
    spin_init(&w->lock);
    w->now = (uint64_t)now >> WHEEL_TICK_SHIFT;
    w->next = NET_NO_DEADLINE;
}

void net_timer_init(struct net_timer *t,
                    void (*callback)(struct net_timer *t))
{
    memset(t, 0, sizeof(*t));
    t->callback = callback;
}

/* The slot for a deadline, in ticks; *at: when that slot fires. */
static uint32_t slot_for(struct net_wheel *w, uint64_t tick, uint64_t *at)
{
    uint64_t distance = tick > w->now ? tick - w->now : 1;
    uint32_t level = 0;

    while (level < WHEEL_LEVELS - 1 &&
           distance >= (uint64_t)(WHEEL_SLOTS - 1) << level * LEVEL_SHIFT)
        level++;
    uint32_t shift = level * LEVEL_SHIFT;
    uint64_t max = (uint64_t)(WHEEL_SLOTS - 2) << shift;
    uint64_t width = 1ull << shift;
    uint64_t unit = (w->now + MIN(distance, max) + width - 1) >> shift;

    *at = unit << shift;
    return level * WHEEL_SLOTS + (uint32_t)(unit % WHEEL_SLOTS);
}

/* After a long idle time `now` is far behind, and distances would be coarse. */
static void wheel_catch_up(struct net_wheel *w, nsec_t now)
{
    uint64_t tick = (uint64_t)now >> WHEEL_TICK_SHIFT;
    uint64_t next = (uint64_t)w->next >> WHEEL_TICK_SHIFT;

    tick = MIN(tick, next - 1);
    if (tick > w->now)
        w->now = tick;
}

/* Puts the timer into its slot; returns when that fires. */
static nsec_t insert_locked(struct net_wheel *w, struct net_timer *t)
{
    uint64_t tick = ((uint64_t)t->deadline >> WHEEL_TICK_SHIFT) + 1, at;
    uint32_t slot = slot_for(w, tick, &at);

    t->slot = (uint16_t)slot;
    t->next = w->slots[slot];
    t->link = &w->slots[slot];
    if (t->next)
        t->next->link = &t->next;
    w->slots[slot] = t;
    w->used[slot / WHEEL_SLOTS] |= 1ull << slot % WHEEL_SLOTS;
    atomic_store_relaxed(&t->wheel, w);
    return (nsec_t)(at << WHEEL_TICK_SHIFT);
}

bool net_timer_arm(struct net_wheel *w, struct net_timer *t, nsec_t now,
                   nsec_t deadline)
{
    bool is_first = false;
    nsec_t fires;

    spin_lock(&w->lock);
    assert(!t->wheel);
    wheel_catch_up(w, now);
    t->deadline = deadline;
    fires = insert_locked(w, t);
    if (fires < w->next) {
        atomic_store_relaxed(&w->next, fires);
        is_first = true;
    }
    spin_unlock(&w->lock);
    return is_first;
}

static void timer_unlink(struct net_wheel *w, struct net_timer *t)
{
    *t->link = t->next;
    if (t->next)
        t->next->link = t->link;
    if (!w->slots[t->slot])
        w->used[t->slot / WHEEL_SLOTS] &= ~(1ull << t->slot % WHEEL_SLOTS);
    t->next = NULL;
    t->link = NULL;
    atomic_store_relaxed(&t->wheel, (struct net_wheel *)NULL);
}

bool net_timer_cancel(struct net_timer *t)
{
    struct net_wheel *w = atomic_load_relaxed(&t->wheel);
    bool was_armed = false;

    if (!w)
        return false;
    spin_lock(&w->lock);
    /* `next` may now be early: the owner of the CPU finds out when it fires. */
    if (t->wheel == w) {
        timer_unlink(w, t);
        was_armed = true;
    }
    spin_unlock(&w->lock);
    return was_armed;
}

/* When the first used slot of a level fires, in ticks. */
static uint64_t level_next(struct net_wheel *w, uint32_t level)
{
    uint32_t shift = level * LEVEL_SHIFT;
    uint64_t unit = (w->now >> shift) + 1;
    uint32_t from = (uint32_t)(unit % WHEEL_SLOTS);
    uint64_t bits = w->used[level];

    if (!bits)
        return UINT64_MAX;
    if (from)
        bits = bits >> from | bits << (WHEEL_SLOTS - from);
    return (unit + (uint64_t)__builtin_ctzll(bits)) << shift;
}

static uint64_t wheel_next_tick(struct net_wheel *w, uint32_t *level)
{
    uint64_t best = UINT64_MAX;

    *level = 0;
    for (uint32_t i = 0; i < WHEEL_LEVELS; i++) {
        uint64_t at = level_next(w, i);
        if (at < best) {
            best = at;
            *level = i;
        }
    }
    return best;
}

uint32_t net_wheel_run(struct net_wheel *w, nsec_t now)
{
    uint64_t until = (uint64_t)now >> WHEEL_TICK_SHIFT;
    uint32_t fired = 0, level;

    if (now < net_wheel_next(w))
        return 0;
    spin_lock(&w->lock);
    for (;;) {
        uint64_t at = wheel_next_tick(w, &level);
        if (at > until)
            break;
        /* Another level may have a slot at the same tick: stay before it. */
        if (w->now < at - 1)
            w->now = at - 1;
        uint32_t shift = level * LEVEL_SHIFT;
        uint32_t slot =
            level * WHEEL_SLOTS + (uint32_t)((at >> shift) % WHEEL_SLOTS);
        while (w->slots[slot]) {
            struct net_timer *t = w->slots[slot];

            timer_unlink(w, t);
            if ((uint64_t)t->deadline >> WHEEL_TICK_SHIFT >= until) {
                /* Farther away than the wheel reached: one more round. */
                insert_locked(w, t);
                continue;
            }
            spin_unlock(&w->lock);
            t->callback(t);
            fired++;
            spin_lock(&w->lock);
        }
    }
    if (w->now < until)
        w->now = until;
    uint64_t next = wheel_next_tick(w, &level);
    atomic_store_relaxed(&w->next, next == UINT64_MAX
                                       ? NET_NO_DEADLINE
                                       : (nsec_t)(next << WHEEL_TICK_SHIFT));
    spin_unlock(&w->lock);
    return fired;
}
