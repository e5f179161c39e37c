// SPDX-License-Identifier: BSD-2-Clause
/*
 * One thread per CPU sleeps a millisecond at a time and notes when it woke up
 * much later: then the machine ran somebody else, or was stopped.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <time.h>

#include "load.h"

#define GAP_MIN (20 * 1000000ll)
#define KEEP 8192u

static struct {
    pthread_mutex_t lock;
    /* --- protected by lock --- */
    struct gap {
        nsec_t from, to;
    } gaps[KEEP]; /* a ring */
    unsigned long nr;
    nsec_t longest;
} state = {.lock = PTHREAD_MUTEX_INITIALIZER};

nsec_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * SECOND + t.tv_nsec;
}

void gaps_note(nsec_t from, nsec_t to)
{
    if (to - from < GAP_MIN)
        return;
    pthread_mutex_lock(&state.lock);
    state.gaps[state.nr++ % KEEP] = (struct gap){from, to};
    if (to - from > state.longest)
        state.longest = to - from;
    pthread_mutex_unlock(&state.lock);
}

static void *watch(void *arg)
{
    nsec_t last = now_ns();

    (void)arg;
    for (;;) {
        struct timespec ms = {0, 1000000};
        nsec_t now;

        nanosleep(&ms, NULL);
        now = now_ns();
        gaps_note(last + ms.tv_nsec, now);
        last = now;
    }
    return NULL;
}

void gaps_start(void)
{
    cpu_set_t all, one;

    sched_getaffinity(0, sizeof(all), &all);
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        pthread_attr_t attr;
        pthread_t t;

        if (!CPU_ISSET(cpu, &all))
            continue;
        CPU_ZERO(&one);
        CPU_SET(cpu, &one);
        pthread_attr_init(&attr);
        pthread_attr_setstacksize(&attr, 65536);
        pthread_attr_setaffinity_np(&attr, sizeof(one), &one);
        if (pthread_create(&t, &attr, watch, NULL) != 0)
            abort();
        pthread_attr_destroy(&attr);
    }
}

static int by_start(const void *a, const void *b)
{
    const struct gap *x = a, *y = b;

    return (x->from > y->from) - (x->from < y->from);
}

nsec_t gaps_within(nsec_t from, nsec_t to)
{
    static struct gap found[KEEP]; /* the loop's thread only */
    unsigned n = 0;
    nsec_t sum = 0, upto = from;

    pthread_mutex_lock(&state.lock);
    for (unsigned i = 0; i < KEEP && i < state.nr; i++) {
        struct gap g = state.gaps[i];

        if (g.to > from && g.from < to)
            found[n++] = g;
    }
    pthread_mutex_unlock(&state.lock);
    qsort(found, n, sizeof(found[0]), by_start);
    for (unsigned i = 0; i < n; i++) {
        nsec_t a = found[i].from > upto ? found[i].from : upto;
        nsec_t b = found[i].to < to ? found[i].to : to;

        if (b > a) {
            sum += b - a;
            upto = b;
        }
    }
    return sum;
}

nsec_t gaps_longest(void)
{
    nsec_t longest;

    pthread_mutex_lock(&state.lock);
    longest = state.longest;
    pthread_mutex_unlock(&state.lock);
    return longest;
}
