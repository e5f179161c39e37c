/* SPDX-License-Identifier: BSD-2-Clause */
/* Clocks, sleeps and timers; prints facts, not times. */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/times.h>
#include <time.h>
#include <unistd.h>

static void show(const char *what, long r)
{
    printf("%s: %ld %s\n", what, r, r < 0 ? strerror(errno) : "");
}

static long long ns(clockid_t c)
{
    struct timespec t = {0, 0};
    clock_gettime(c, &t);
    return t.tv_sec * 1000000000ll + t.tv_nsec;
}

static void clocks(void)
{
    static const clockid_t ids[] = {0, 1, 2, 3, 4, 5, 6, 7, 11};
    struct timespec a, b, r;
    struct timeval tv;

    for (size_t i = 0; i < sizeof(ids) / sizeof(ids[0]); i++) {
        long direct = syscall(SYS_clock_gettime, ids[i], &a);
        int lib = clock_gettime(ids[i], &b);
        int res = clock_getres(ids[i], &r);
        printf("clock %d: %ld %d %d, resolution %ld, goes on %d\n", ids[i],
               direct, lib, res, r.tv_nsec,
               b.tv_sec * 1000000000ll + b.tv_nsec + 8000000 >=
                   a.tv_sec * 1000000000ll + a.tv_nsec);
    }
    show("clock 99", clock_gettime(99, &a));
    gettimeofday(&tv, NULL);
    printf("realtime agrees: %d\n",
           llabs(tv.tv_sec - ns(CLOCK_REALTIME) / 1000000000) <= 1 &&
               llabs(tv.tv_sec - time(NULL)) <= 1);
    printf("after 2024: %d\n", time(NULL) > 1704067200);
    printf("direct time agrees: %d\n",
           llabs(syscall(SYS_time, NULL) - time(NULL)) <= 1);
}

static long long timed(int (*f)(void), int *r)
{
    long long t = ns(CLOCK_MONOTONIC);
    *r = f();
    return ns(CLOCK_MONOTONIC) - t;
}

static int sleep_50ms(void)
{
    struct timespec t = {0, 50000000};
    return nanosleep(&t, NULL);
}

static int sleep_abs(void)
{
    long long t = ns(CLOCK_MONOTONIC) + 50000000;
    struct timespec ts = {t / 1000000000, t % 1000000000};
    return clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL);
}

static int sleep_real(void)
{
    long long t = ns(CLOCK_REALTIME) + 50000000;
    struct timespec ts = {t / 1000000000, t % 1000000000};
    return clock_nanosleep(CLOCK_REALTIME, TIMER_ABSTIME, &ts, NULL);
}

static int sleep_past(void)
{
    struct timespec ts = {0, 1000};
    return clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL);
}

static void sleeps(void)
{
    static int (*const f[])(void) = {sleep_50ms, sleep_abs, sleep_real,
                                     sleep_past};
    struct timespec bad = {0, -1};
    int r;

    for (int i = 0; i < 4; i++) {
        long long t = timed(f[i], &r);
        printf("sleep %d: %d, at least 50 ms %d, not 2 s %d\n", i, r,
               t >= 50000000, t < 2000000000);
    }
    show("bad", nanosleep(&bad, NULL));
    printf("on a thread's clock: %s\n",
           strerror(clock_nanosleep(CLOCK_THREAD_CPUTIME_ID, 0, &bad, NULL)));
}

static volatile int hits, last_value, last_code;

static void on_timer(int sig, siginfo_t *info, void *c)
{
    (void)sig;
    (void)c;
    hits++;
    last_value = info->si_value.sival_int;
    last_code = info->si_code;
}

static void burn(long long limit_ns, int until)
{
    long long end = ns(CLOCK_MONOTONIC) + limit_ns;
    while (hits < until && ns(CLOCK_MONOTONIC) < end)
        ;
}

static void timers(void)
{
    static const clockid_t ids[] = {CLOCK_MONOTONIC, CLOCK_REALTIME,
                                    CLOCK_PROCESS_CPUTIME_ID,
                                    CLOCK_THREAD_CPUTIME_ID};
    struct sigaction sa = {.sa_sigaction = on_timer, .sa_flags = SA_SIGINFO};
    struct sigevent ev = {.sigev_notify = SIGEV_SIGNAL,
                          .sigev_signo = SIGRTMIN};
    struct itimerspec it = {{0, 10000000}, {0, 10000000}}, old;
    timer_t t;

    sigaction(SIGRTMIN, &sa, NULL);
    for (int i = 0; i < 4; i++) {
        hits = 0;
        ev.sigev_value.sival_int = 100 + i;
        printf("timer_create %d\n", timer_create(ids[i], &ev, &t));
        printf("timer_settime %d\n", timer_settime(t, 0, &it, NULL));
        burn(3000000000, 5);
        timer_gettime(t, &old);
        printf("clock %d: hits %d value %d code %d interval %ld armed %d\n",
               ids[i], hits >= 5, last_value, last_code,
               old.it_interval.tv_nsec,
               old.it_value.tv_nsec > 0 && old.it_value.tv_nsec <= 10000000);
        printf("overrun known %d\n", timer_getoverrun(t) >= 0);
        printf("timer_delete %d\n", timer_delete(t));
    }
    show("deleted", syscall(SYS_timer_gettime, 12345, &old));
    show("bad clock", timer_create(99, &ev, &t));
    ev.sigev_notify = SIGEV_NONE;
    timer_create(CLOCK_MONOTONIC, &ev, &t);
    it.it_value.tv_sec = 100;
    timer_settime(t, 0, &it, NULL);
    timer_gettime(t, &old);
    printf("none: %ld s left\n", (long)old.it_value.tv_sec);
    timer_delete(t);
}

static void on_thread(union sigval v)
{
    hits += v.sival_int;
}

static void itimers(void)
{
    struct itimerval it = {{0, 0}, {0, 20000}}, old;
    struct sigaction sa = {.sa_sigaction = on_timer, .sa_flags = SA_SIGINFO};
    struct sigevent ev = {.sigev_notify = SIGEV_THREAD,
                          .sigev_notify_function = on_thread,
                          .sigev_value.sival_int = 7};
    struct itimerspec once = {{0, 0}, {0, 10000000}};
    timer_t t;

    sigaction(SIGALRM, &sa, NULL);
    sigaction(SIGPROF, &sa, NULL);
    hits = 0;
    setitimer(ITIMER_REAL, &it, NULL);
    while (hits == 0)
        pause();
    getitimer(ITIMER_REAL, &old);
    printf("SIGALRM %d, code %d, now off %d\n", hits, last_code,
           old.it_value.tv_usec == 0);
    setitimer(ITIMER_PROF, &it, NULL);
    burn(3000000000, 2);
    printf("SIGPROF %d\n", hits);
    printf("alarm %u", alarm(100));
    printf(" %u", alarm(5));
    printf(" %u\n", alarm(0));
    show("setitimer 7", setitimer(7, &it, NULL));
    hits = 0;
    timer_create(CLOCK_MONOTONIC, &ev, &t);
    timer_settime(t, 0, &once, NULL);
    for (int i = 0; i < 200 && hits == 0; i++)
        usleep(10000);
    printf("SIGEV_THREAD %d\n", hits);
    timer_delete(t);
}

static void *spin(void *arg)
{
    long long end = ns(CLOCK_THREAD_CPUTIME_ID) + 30000000;
    while (ns(CLOCK_THREAD_CPUTIME_ID) < end)
        ;
    return arg;
}

static void cpu_time(void)
{
    struct rusage ru;
    struct tms tms;
    pthread_t t;
    clockid_t c;
    long long before = ns(CLOCK_PROCESS_CPUTIME_ID);

    pthread_create(&t, NULL, spin, NULL);
    printf("getcpuclockid %d\n", pthread_getcpuclockid(t, &c));
    pthread_join(t, NULL);
    printf("thread's time is the process' %d\n",
           ns(CLOCK_PROCESS_CPUTIME_ID) - before >= 30000000);
    getrusage(RUSAGE_SELF, &ru);
    printf("rusage %d\n", ru.ru_utime.tv_usec + ru.ru_utime.tv_sec +
                                  ru.ru_stime.tv_usec > 0);
    printf("times %d\n", times(&tms) != (clock_t)-1 && tms.tms_cutime == 0);
    printf("children %d\n", getrusage(RUSAGE_CHILDREN, &ru));
}

int main(void)
{
    clocks();
    sleeps();
    timers();
    itimers();
    cpu_time();
    return 0;
}
