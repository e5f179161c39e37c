// SPDX-License-Identifier: BSD-2-Clause
/*
 * When did the machine run somebody else, or nobody?
 *
 * - One thread per CPU sleeps a millisecond at a time and notes when it woke up
 *   much later: the machine was stopped, or we were.
 * - A thread that only sleeps is let in at once even where others have all of
 *   the CPU, but QEMU works. So one more thread looks how long each thread of
 *   the watched processes waited for a CPU although it could have run: the
 *   second number of /proc/PID/task/TID/schedstat, which grows when the wait
 *   is over.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "load.h"

#define GAP_MIN (20 * 1000000ll)
#define KEEP 8192u
#define THREADS_MAX 64u
#define SAMPLE_NS (10 * 1000000l)

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

struct waiter {
    int tid;
    nsec_t waited;
};

/* The thread's place in the table, made when it is new; NULL: it is full. */
static struct waiter *waiter_of(struct waiter *table, int tid)
{
    for (unsigned i = 0; i < THREADS_MAX; i++) {
        if (table[i].tid == tid || !table[i].tid)
            return &table[i];
    }
    return NULL;
}

static void sample(int pid, int tid, struct waiter *w)
{
    unsigned long long ran, waited;
    char path[64];
    nsec_t now;
    FILE *in;

    snprintf(path, sizeof(path), "/proc/%d/task/%d/schedstat", pid, tid);
    in = fopen(path, "r");
    if (!in)
        return; /* it has ended */
    if (fscanf(in, "%llu %llu", &ran, &waited) == 2) {
        now = now_ns();
        if (w->tid == tid)
            gaps_note(now - ((nsec_t)waited - w->waited), now);
        *w = (struct waiter){tid, (nsec_t)waited};
    }
    fclose(in);
}

static void *watch_process(void *arg)
{
    struct waiter table[THREADS_MAX] = {{0, 0}};
    int pid = (int)(long)arg;
    char path[64];

    snprintf(path, sizeof(path), "/proc/%d/task", pid);
    for (;;) {
        struct timespec rest = {0, SAMPLE_NS};
        DIR *tasks = opendir(path);
        struct dirent *e;

        while (tasks && (e = readdir(tasks)) != NULL) {
            int tid = atoi(e->d_name);
            struct waiter *w = tid ? waiter_of(table, tid) : NULL;

            if (w)
                sample(pid, tid, w);
        }
        if (!tasks)
            return NULL;
        closedir(tasks);
        nanosleep(&rest, NULL);
    }
}

void gaps_watch(int pid)
{
    pthread_t t;

    if (pthread_create(&t, NULL, watch_process, (void *)(long)pid) != 0)
        abort();
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
