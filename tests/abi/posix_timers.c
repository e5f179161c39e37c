/* SPDX-License-Identifier: BSD-2-Clause */
/* timer_create and relatives: signals, threads, overruns, errors. */
#include "abi.h"

static volatile int hits, last_value, last_code, thread_hits;

static void on_timer(int sig, siginfo_t *info, void *uc)
{
    hits++;
    last_value = info->si_value.sival_int;
    last_code = info->si_code;
}

static void in_thread(union sigval v)
{
    thread_hits++;
    last_value = v.sival_int;
}

static int set(timer_t t, int flags, int64_t value, int64_t interval)
{
    struct itimerspec it = {to_timespec(interval), to_timespec(value)};

    return timer_settime(t, flags, &it, NULL);
}

static bool eventually(volatile int *what, int n)
{
    for (int i = 0; i < 5000 && *what < n; i++)
        sleep_ms(1);
    return *what >= n;
}

static void errors(void)
{
    struct sigevent ev = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = 99};
    struct itimerspec it = {{0, 0}, {0, 1000000000}};
    timer_t t;

    SECTION("errors");
    E(timer_create(77, NULL, &t));
    E(timer_create(CLOCK_MONOTONIC, &ev, &t));
    ev = (struct sigevent){.sigev_notify = 77, .sigev_signo = SIGUSR1};
    E(timer_create(CLOCK_MONOTONIC, &ev, &t));
    ev.sigev_notify = SIGEV_NONE;
    E(timer_create(CLOCK_MONOTONIC, &ev, &t));
    E(timer_gettime(t, &it));
    printf("  %ld %ld\n", it.it_value.tv_sec, it.it_interval.tv_sec);
    it.it_value.tv_nsec = 1000000000;
    E(timer_settime(t, 0, &it, NULL));
    E(timer_getoverrun(t));
    E(set(t, 0, 100000 * MS, 7000 * MS));
    E(timer_gettime(t, &it));
    YES(it.it_value.tv_sec > 90 && it.it_value.tv_sec <= 100);
    E(it.it_interval.tv_sec);
    E(timer_delete(t));
    E(syscall(SYS_timer_delete, 12345));
    E(syscall(SYS_timer_gettime, 12345, &it));
    E(syscall(SYS_timer_getoverrun, 12345));
    E(syscall(SYS_timer_settime, 12345, 0, &it, NULL));
    E(syscall(SYS_timer_create, CLOCK_MONOTONIC, (void *)8, &t));
    E(syscall(SYS_timer_create, CLOCK_MONOTONIC, NULL, (void *)8));
}

static void signals(clockid_t clock)
{
    struct sigevent ev = {.sigev_notify = SIGEV_SIGNAL,
                          .sigev_signo = SIGRTMIN + 1};
    struct itimerspec it;
    sigset_t block;
    timer_t t;

    printf("clock %d\n", clock);
    ev.sigev_value.sival_int = 42;
    on_signal(SIGRTMIN + 1, on_timer, SA_RESTART);
    hits = 0;
    E(timer_create(clock, &ev, &t));
    int64_t start = now_ns(CLOCK_MONOTONIC);
    E(set(t, 0, 20 * MS, 0));
    SAY("came", eventually(&hits, 1));
    SAY("not early", now_ns(CLOCK_MONOTONIC) - start >= 19 * MS);
    printf("  value %d code %d\n", last_value, last_code);
    sleep_ms(30);
    printf("  once: %d\n", hits);
    E(timer_gettime(t, &it));
    printf("  left %ld %ld\n", it.it_value.tv_sec, it.it_value.tv_nsec);
    E(set(t, TIMER_ABSTIME, now_ns(clock) + 20 * MS, 0));
    SAY("absolute", eventually(&hits, 2));
    E(set(t, TIMER_ABSTIME, 5, 0));
    SAY("long past", eventually(&hits, 3));
    E(set(t, 0, 5 * MS, 5 * MS));
    SAY("periodic", eventually(&hits, 8));
    E(timer_gettime(t, &it));
    E(it.it_interval.tv_nsec);
    sigemptyset(&block);
    sigaddset(&block, SIGRTMIN + 1);
    sigprocmask(SIG_BLOCK, &block, NULL);
    sleep_ms(60);
    hits = 0;
    siginfo_t info;
    E(sigwaitinfo(&block, &info) == SIGRTMIN + 1);
    SAY("overruns in the information", info.si_overrun >= 5);
    SAY("overruns asked for", timer_getoverrun(t) >= 5);
    E(set(t, 0, 0, 0));
    struct timespec now = {0, 0};
    sigtimedwait(&block, NULL, &now);
    sleep_ms(20);
    SAY("quiet when off", sigtimedwait(&block, NULL, &now) < 0);
    sigprocmask(SIG_UNBLOCK, &block, NULL);
    E(timer_delete(t));
}

static volatile pid_t who;

static void on_me(int sig, siginfo_t *info, void *uc)
{
    who = (pid_t)syscall(SYS_gettid);
    hits++;
}

static void *own_timer(void *arg)
{
    struct sigevent ev = {.sigev_notify = SIGEV_THREAD_ID,
                          .sigev_signo = SIGUSR2};
    timer_t t;

    on_signal(SIGUSR2, on_me, 0);
    hits = 0;
    ev._sigev_un._tid = (pid_t)syscall(SYS_gettid);
    E(timer_create(CLOCK_MONOTONIC, &ev, &t));
    E(set(t, 0, 10 * MS, 0));
    SAY("came", eventually(&hits, 1));
    SAY("to this thread", who == syscall(SYS_gettid));
    E(timer_delete(t));
    return arg;
}

static void threads(void)
{
    struct sigevent ev = {.sigev_notify = SIGEV_THREAD,
                          .sigev_notify_function = in_thread};
    pthread_t th;
    timer_t t;

    SECTION("SIGEV_THREAD_ID");
    pthread_create(&th, NULL, own_timer, NULL);
    pthread_join(th, NULL);
    SECTION("SIGEV_THREAD");
    ev.sigev_value.sival_int = 7;
    E(timer_create(CLOCK_MONOTONIC, &ev, &t));
    E(set(t, 0, 10 * MS, 10 * MS));
    SAY("came three times", eventually(&thread_hits, 3));
    printf("  value %d\n", last_value);
    E(timer_delete(t));
}

static void cpu_timer(void)
{
    struct sigevent ev = {.sigev_notify = SIGEV_SIGNAL,
                          .sigev_signo = SIGRTMIN + 1};
    timer_t t;
    int64_t end = now_ns(CLOCK_MONOTONIC) + 8000 * MS;

    SECTION("CPU time");
    hits = 0;
    E(timer_create(CLOCK_PROCESS_CPUTIME_ID, &ev, &t));
    E(set(t, 0, 30 * MS, 0));
    while (hits == 0 && now_ns(CLOCK_MONOTONIC) < end)
        ;
    SAY("came", hits == 1);
    E(timer_delete(t));
}

int main(void)
{
    watchdog();
    errors();
    SECTION("signals");
    signals(CLOCK_MONOTONIC);
    signals(CLOCK_REALTIME);
    signals(CLOCK_BOOTTIME);
    threads();
    cpu_timer();
    return 0;
}
