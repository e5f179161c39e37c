/* SPDX-License-Identifier: BSD-2-Clause */
/* Affinity, CPU numbers, priorities, policies; not how many CPUs there are. */
#include "abi.h"

#include <sys/resource.h>
#include <sys/sysinfo.h>

static void *in_thread(void *arg)
{
    cpu_set_t *want = arg, got;

    P(pthread_getaffinity_np(pthread_self(), sizeof(got), &got));
    SAY("a new thread has its maker's set", CPU_EQUAL(want, &got));
    return NULL;
}

static void affinity(void)
{
    cpu_set_t all, one, got;
    unsigned cpu = 0, node = 99;
    pthread_t t;
    int first = -1;
    long n;

    SECTION("affinity");
    E(sched_getaffinity(0, sizeof(all), &all));
    YES(CPU_COUNT(&all) >= 1);
    YES(CPU_COUNT(&all) <= get_nprocs_conf());
    YES(sysconf(_SC_NPROCESSORS_ONLN) == get_nprocs());
    for (int i = 0; i < CPU_SETSIZE && first < 0; i++)
        if (CPU_ISSET(i, &all))
            first = i;
    CPU_ZERO(&one);
    CPU_SET(first, &one);
    E(sched_setaffinity(0, sizeof(one), &one));
    E(sched_getaffinity(0, sizeof(got), &got));
    YES(CPU_EQUAL(&one, &got));
    YES(sched_getcpu() == first);
    E(syscall(SYS_getcpu, &cpu, &node, NULL));
    YES((int)cpu == first);
    YES(node < 99);
    E(syscall(SYS_getcpu, NULL, NULL, NULL));
    E(syscall(SYS_getcpu, (void *)8, NULL, NULL));
    pthread_create(&t, NULL, in_thread, &one);
    pthread_join(t, NULL);
    E(sched_setaffinity(0, sizeof(all), &all));
    E(sched_getaffinity(0, sizeof(got), &got));
    YES(CPU_EQUAL(&all, &got));
    /* A thread that moves itself has moved when the call returns. */
    bool in_set = true;
    int wrong = 0;
    for (int i = 0; i < 20 * CPU_SETSIZE; i++) {
        int to = i % CPU_SETSIZE;
        if (!CPU_ISSET(to, &all))
            continue;
        CPU_ZERO(&one);
        CPU_SET(to, &one);
        wrong += sched_setaffinity(0, sizeof(one), &one) != 0;
        wrong += sched_getcpu() != to;
    }
    E(wrong);
    MUST(sched_setaffinity(0, sizeof(all), &all));
    for (int i = 0; i < 1000; i++)
        in_set = in_set && CPU_ISSET(sched_getcpu(), &all);
    SAY("always on a CPU of the set", in_set);
    CPU_ZERO(&one);
    E(sched_setaffinity(0, sizeof(one), &one));
    CPU_SET(CPU_SETSIZE - 1, &one);
    E(sched_setaffinity(0, sizeof(one), &one));
    E(sched_setaffinity(99999999, sizeof(all), &all));
    E(sched_getaffinity(99999999, sizeof(all), &all));
    E(sched_setaffinity(0, sizeof(all), (void *)8));
    E(syscall(SYS_sched_getaffinity, 0, 4, &got));
    E(syscall(SYS_sched_getaffinity, 0, 0, &got));
    n = syscall(SYS_sched_getaffinity, 0, sizeof(got), &got);
    SAY("the call gives a size in bytes", n >= 8 && n <= 1024 && n % 8 == 0);
    E(sched_setaffinity(getpid(), sizeof(all), &all));
}

static void policies(void)
{
    struct sched_param p = {0};
    struct timespec t;

    SECTION("policies");
    E(sched_getscheduler(0));
    E(sched_getparam(0, &p));
    E(p.sched_priority);
    E(sched_setscheduler(0, SCHED_BATCH, &p));
    E(sched_getscheduler(0));
    E(sched_setscheduler(0, SCHED_OTHER, &p));
    E(sched_getscheduler(0));
    p.sched_priority = 1;
    E(sched_setscheduler(0, SCHED_OTHER, &p));
    E(sched_setparam(0, &p));
    p.sched_priority = 0;
    E(sched_setscheduler(0, 99, &p));
    E(sched_setscheduler(0, SCHED_FIFO, &p));
    E(sched_setscheduler(99999999, SCHED_OTHER, &p));
    E(sched_getscheduler(99999999));
    E(sched_getscheduler(-1));
    E(sched_getparam(0, NULL));
    E(sched_get_priority_min(SCHED_OTHER));
    E(sched_get_priority_max(SCHED_OTHER));
    E(sched_get_priority_min(SCHED_FIFO));
    E(sched_get_priority_max(SCHED_FIFO));
    E(sched_get_priority_min(SCHED_RR));
    E(sched_get_priority_max(SCHED_RR));
    E(sched_get_priority_max(SCHED_BATCH));
    E(sched_get_priority_max(99));
    E(sched_rr_get_interval(0, &t));
    E(sched_rr_get_interval(99999999, &t));
    E(sched_yield());
}

static void niceness(void)
{
    SECTION("priorities");
    E((errno = 0, getpriority(PRIO_PROCESS, 0)));
    E(setpriority(PRIO_PROCESS, 0, 5));
    E(getpriority(PRIO_PROCESS, 0));
    E(syscall(SYS_getpriority, PRIO_PROCESS, 0)); /* 20 - nice */
    E(nice(3));
    E(setpriority(PRIO_PROCESS, 0, 100));
    E(getpriority(PRIO_PROCESS, 0));
    E(setpriority(PRIO_PROCESS, 0, 0)); /* root may */
    E(getpriority(PRIO_PROCESS, 0));
    E(setpriority(77, 0, 0));
    E(getpriority(77, 0));
    E(setpriority(PRIO_PROCESS, 99999999, 0));
    E(syscall(SYS_getpriority, PRIO_PROCESS, 99999999));
}

/* Equal threads on one CPU all get on. */
static volatile int stop;

static void *spin(void *arg)
{
    volatile long *count = arg;

    while (!stop)
        (*count)++;
    return NULL;
}

static void fairness(void)
{
    volatile long counts[3] = {0, 0, 0};
    cpu_set_t one, all;
    pthread_t t[3];

    SECTION("three that spin and one that sleeps");
    sched_getaffinity(0, sizeof(all), &all);
    CPU_ZERO(&one);
    CPU_SET(sched_getcpu(), &one);
    sched_setaffinity(0, sizeof(one), &one);
    for (int i = 0; i < 3; i++)
        pthread_create(&t[i], NULL, spin, (void *)&counts[i]);
    for (int i = 0; i < 10; i++)
        sleep_ms(20);
    stop = 1;
    for (int i = 0; i < 3; i++)
        pthread_join(t[i], NULL);
    SAY("all have run", counts[0] > 0 && counts[1] > 0 && counts[2] > 0);
    sched_setaffinity(0, sizeof(all), &all);
}

int main(void)
{
    watchdog();
    affinity();
    policies();
    niceness();
    fairness();
    return 0;
}
