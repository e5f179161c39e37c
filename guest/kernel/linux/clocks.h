/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Clock numbers and the timers behind setitimer, alarm and timer_create.
 *
 * A CPU clock has no event of its own: its timer looks again when the clock
 * can be there at the earliest.
 */
#pragma once

#include "linux/task.h"
#include "linux/timespec.h"

#define CLOCK_REALTIME 0
#define CLOCK_MONOTONIC 1
#define CLOCK_PROCESS_CPUTIME_ID 2
#define CLOCK_THREAD_CPUTIME_ID 3
#define CLOCK_MONOTONIC_RAW 4
#define CLOCK_REALTIME_COARSE 5
#define CLOCK_MONOTONIC_COARSE 6
#define CLOCK_BOOTTIME 7
#define CLOCK_REALTIME_ALARM 8
#define CLOCK_BOOTTIME_ALARM 9
#define CLOCK_TAI 11

#define TIMER_ABSTIME 1

struct itimer {
    /* --- set once --- */
    struct process *process;
    struct task *target;    /* owned (thread_put), NULL: the process */
    struct task *cpu_task;  /* owned: whose CPU time, NULL: the process' */
    int clock;
    bool is_cpu;            /* a CPU clock */
    bool is_silent;         /* SIGEV_NONE */
    int id;                 /* timer_create's */
    /* --- protected by process->timers_lock --- */
    struct list link;
    /* --- protected by lock (irq-safe) --- */
    struct spinlock lock;
    nsec_t expires;         /* deadline or CPU time; 0 = not armed */
    nsec_t interval;
    uint64_t overruns;      /* since the signal was queued */
    /* --- own locks --- */
    struct timer timer;
    struct sigqueue queue;  /* owner is this; protected by siglock */
};

/* itimer.c: what setitimer and timer_settime share. */
void itimer_init(struct itimer *it, struct process *p, int clock, int signo);
/* value 0 disarms. is_abs: on its clock. */
void itimer_set(struct itimer *it, nsec_t value, nsec_t interval, bool is_abs);
void itimer_get(struct itimer *it, nsec_t *value, nsec_t *interval);
/* Disarms and takes back a queued signal. */
void itimer_stop(struct itimer *it);

/* posix_timer.c: execve deletes them. */
void posix_timers_delete_all(struct process *p);

/* time.c: the task a CPU clock id speaks of. Returns owned in *task, or NULL
 * for the process. -EINVAL: not a CPU clock, or nobody's. */
int clock_cpu_target(int clock, struct task **task);
