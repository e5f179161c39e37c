/* SPDX-License-Identifier: BSD-2-Clause */
/* Clocks: resolution, order, agreement of the ways to read them, sleeps. */
#include "abi.h"

#include <sys/resource.h>
#include <sys/times.h>

static const struct {
    clockid_t id;
    const char *name;
} clocks[] = {
    {CLOCK_REALTIME, "realtime"},
    {CLOCK_MONOTONIC, "monotonic"},
    {CLOCK_PROCESS_CPUTIME_ID, "process"},
    {CLOCK_THREAD_CPUTIME_ID, "thread"},
    {CLOCK_MONOTONIC_RAW, "raw"},
    {CLOCK_REALTIME_COARSE, "realtime coarse"},
    {CLOCK_MONOTONIC_COARSE, "monotonic coarse"},
    {CLOCK_BOOTTIME, "boot"},
    {CLOCK_TAI, "tai"},
};

static int64_t raw_ns(clockid_t clock)
{
    struct timespec t = {0, 0};

    syscall(SYS_clock_gettime, clock, &t);
    return t.tv_sec * 1000000000ll + t.tv_nsec;
}

static void each(void)
{
    struct timespec t;

    for (int i = 0; i < COUNT(clocks); i++) {
        clockid_t c = clocks[i].id;
        bool in_order = true, advances = false, agrees = true;
        int64_t slack = strstr(clocks[i].name, "coarse") ? 20 * MS : 0;
        int64_t last = now_ns(c), first = last;

        SECTION(clocks[i].name);
        E(clock_getres(c, &t));
        SAY("resolution fits",
            t.tv_sec == 0 && t.tv_nsec > 0 &&
                (slack ? t.tv_nsec <= 10 * MS : t.tv_nsec <= MS));
        E(syscall(SYS_clock_getres, c, NULL));
        E(clock_gettime(c, &t));
        SAY("normal", t.tv_nsec >= 0 && t.tv_nsec < 1000000000);
        for (int k = 0; k < 20000; k++) {
            int64_t now = k % 2 ? now_ns(c) : k % 20 ? last : raw_ns(c);
            in_order = in_order && now >= last;
            advances = advances || now > first;
            last = now;
        }
        for (int k = 0; k < 100 && !advances; k++) {
            sleep_ms(1);
            advances = now_ns(c) > first;
        }
        for (int k = 0; k < 200; k++) {
            int64_t a = now_ns(c), b = raw_ns(c), d = now_ns(c);
            agrees = agrees && a <= b + slack && b <= d + slack;
        }
        SAY("in order", in_order);
        SAY("advances", advances);
        SAY("library and call agree", agrees);
    }
}

static void agreement(void)
{
    struct timeval tv;
    struct rusage u;
    struct tms tms;
    int64_t a, b;
    time_t t;

    SECTION("agreement");
    a = now_ns(CLOCK_REALTIME);
    gettimeofday(&tv, NULL);
    b = now_ns(CLOCK_REALTIME);
    int64_t g = tv.tv_sec * 1000000000ll + tv.tv_usec * 1000ll;
    SAY("gettimeofday between", a / 1000 * 1000 <= g && g <= b);
    syscall(SYS_gettimeofday, &tv, NULL);
    g = tv.tv_sec * 1000000000ll + tv.tv_usec * 1000ll;
    SAY("the call too",
        b / 1000 * 1000 <= g && g <= now_ns(CLOCK_REALTIME));
    t = time(NULL);
    SAY("time", t >= b / 1000000000 - 1 && t <= b / 1000000000 + 1);
    t = syscall(SYS_time, NULL);
    SAY("its call", t >= b / 1000000000 - 1 && t <= b / 1000000000 + 1);
    SAY("after 2024", t > 1704067200);
    SAY("coarse is near",
        llabs(now_ns(CLOCK_MONOTONIC) - now_ns(CLOCK_MONOTONIC_COARSE)) <
            1000 * MS);
    SAY("boot is not behind",
        now_ns(CLOCK_BOOTTIME) >= now_ns(CLOCK_MONOTONIC) - MS);
    SAY("raw is near", llabs(now_ns(CLOCK_MONOTONIC_RAW) -
                             now_ns(CLOCK_MONOTONIC)) <
                           now_ns(CLOCK_MONOTONIC) / 500 + 1000 * MS);
    a = now_ns(CLOCK_PROCESS_CPUTIME_ID);
    b = now_ns(CLOCK_THREAD_CPUTIME_ID);
    SAY("one thread: nearly the process' time", llabs(a - b) < 200 * MS);
    E(getrusage(RUSAGE_SELF, &u));
    int64_t ru = (u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1000000000ll +
                 (u.ru_utime.tv_usec + u.ru_stime.tv_usec) * 1000ll;
    SAY("getrusage agrees", llabs(ru - a) < 200 * MS);
    SAY("memory is counted", u.ru_maxrss > 100);
    E(getrusage(RUSAGE_THREAD, &u));
    E(getrusage(RUSAGE_CHILDREN, &u));
    E(getrusage(77, &u));
    SAY("times", times(&tms) != -1 && tms.tms_cutime == 0);
    E(sysconf(_SC_CLK_TCK));
    a = now_ns(CLOCK_THREAD_CPUTIME_ID);
    sleep_ms(50);
    b = now_ns(CLOCK_THREAD_CPUTIME_ID);
    SAY("sleeping costs no CPU time", b - a < 40 * MS);
    for (volatile int i = 0; i < 5000000; i++)
        ;
    SAY("working does", now_ns(CLOCK_THREAD_CPUTIME_ID) - b > MS / 10);
    clockid_t mine;
    P(pthread_getcpuclockid(pthread_self(), &mine));
    SAY("a thread's clock", llabs(now_ns(mine) -
                                  now_ns(CLOCK_THREAD_CPUTIME_ID)) < 50 * MS);
    E(clock_getcpuclockid(0, &mine));
    SAY("a process' clock", llabs(now_ns(mine) -
                                  now_ns(CLOCK_PROCESS_CPUTIME_ID)) < 50 * MS);
}

static bool slept(clockid_t clock, int flags, int64_t ns, int64_t least)
{
    struct timespec t = to_timespec(ns);
    int64_t start = now_ns(CLOCK_MONOTONIC), took;
    int r = clock_nanosleep(clock, flags, &t, NULL);

    took = now_ns(CLOCK_MONOTONIC) - start;
    printf("  %s", r ? errno_name(r) : "0");
    return took >= least && took < least + 4000 * MS;
}

static void sleeping(void)
{
    struct timespec bad = {0, 1000000000}, neg = {-1, 0}, zero = {0, 0};

    SECTION("sleeping");
    SAY(" relative", slept(CLOCK_MONOTONIC, 0, 20 * MS, 20 * MS));
    SAY(" realtime", slept(CLOCK_REALTIME, 0, 20 * MS, 19 * MS));
    SAY(" boot", slept(CLOCK_BOOTTIME, 0, 20 * MS, 20 * MS));
    SAY(" absolute", slept(CLOCK_MONOTONIC, TIMER_ABSTIME,
                           now_ns(CLOCK_MONOTONIC) + 20 * MS, 19 * MS));
    SAY(" absolute realtime", slept(CLOCK_REALTIME, TIMER_ABSTIME,
                                    now_ns(CLOCK_REALTIME) + 20 * MS,
                                    18 * MS));
    SAY(" past", slept(CLOCK_MONOTONIC, TIMER_ABSTIME, 5, 0));
    SAY(" short", slept(CLOCK_MONOTONIC, 0, 1, 0));
    P(clock_nanosleep(CLOCK_MONOTONIC, 0, &bad, NULL));
    P(clock_nanosleep(CLOCK_MONOTONIC, 0, &neg, NULL));
    P(clock_nanosleep(CLOCK_THREAD_CPUTIME_ID, 0, &zero, NULL));
    P(clock_nanosleep(CLOCK_MONOTONIC_RAW, 0, &zero, NULL));
    P(clock_nanosleep(99, 0, &zero, NULL));
    E(nanosleep(&bad, NULL));
    E(nanosleep(&zero, NULL));
    E(nanosleep((void *)8, NULL));
    E(usleep(1000));
    E(clock_gettime(99, &zero));
    E(clock_getres(99, &zero));
    E(syscall(SYS_clock_gettime, CLOCK_MONOTONIC, (void *)8));
    E(clock_settime(CLOCK_MONOTONIC, &zero));
    E(clock_settime(CLOCK_REALTIME, &bad));
}

static void *reader(void *arg)
{
    int64_t *shared = arg;
    long bad = 0;

    for (int i = 0; i < 20000; i++) {
        int64_t before = __atomic_load_n(shared, __ATOMIC_ACQUIRE);
        int64_t now = now_ns(CLOCK_MONOTONIC);
        bad += now < before;
        __atomic_store_n(shared, now, __ATOMIC_RELEASE);
        if (i % 1000 == 0)
            sched_yield();
    }
    return (void *)bad;
}

/* What one CPU has read is not in the future of another. */
static void across_cpus(void)
{
    int64_t shared = 0;
    pthread_t t[3];
    long bad = 0;
    void *r;

    SECTION("across CPUs");
    for (int i = 0; i < 3; i++)
        pthread_create(&t[i], NULL, reader, &shared);
    for (int i = 0; i < 3; i++) {
        pthread_join(t[i], &r);
        bad += (long)r;
    }
    printf("backwards %ld\n", bad);
}

int main(void)
{
    watchdog();
    each();
    agreement();
    sleeping();
    across_cpus();
    return 0;
}
