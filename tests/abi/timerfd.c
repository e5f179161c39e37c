/* SPDX-License-Identifier: BSD-2-Clause */
/* timerfd: one shot, periodic, absolute, errors. */
#include "abi.h"

#include <poll.h>
#include <sys/timerfd.h>

static int set(int fd, int flags, int64_t value, int64_t interval)
{
    struct itimerspec it = {to_timespec(interval), to_timespec(value)};

    return timerfd_settime(fd, flags, &it, NULL);
}

static void take(int fd)
{
    uint64_t v = 0;
    ssize_t n = read(fd, &v, sizeof(v));

    if (n != sizeof(v))
        printf("  read: %zd %s\n", n, errno_name(errno));
    else
        printf("  read: %llu\n", (unsigned long long)v);
}

static bool ready(int fd, int ms)
{
    struct pollfd p = {fd, POLLIN | POLLOUT, 0};

    return poll(&p, 1, ms) == 1 && p.revents == POLLIN;
}

static void clocks(void)
{
    static const int ids[] = {CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_BOOTTIME};

    for (int i = 0; i < COUNT(ids); i++) {
        int fd = (int)MUST(timerfd_create(ids[i], 0));
        int64_t start = now_ns(CLOCK_MONOTONIC), waited;
        printf("clock %d\n", ids[i]);
        E(set(fd, 0, 40 * MS, 0));
        take(fd);
        waited = now_ns(CLOCK_MONOTONIC) - start;
        SAY("not early", waited >= 40 * MS);
        SAY("not very late", waited < 4000 * MS);
        start = now_ns(CLOCK_MONOTONIC);
        E(set(fd, TFD_TIMER_ABSTIME, now_ns(ids[i]) + 40 * MS, 0));
        take(fd);
        SAY("not early", now_ns(CLOCK_MONOTONIC) - start >= 39 * MS);
        E(set(fd, TFD_TIMER_ABSTIME, 1, 0)); /* long ago */
        take(fd);
        close(fd);
    }
}

int main(void)
{
    struct itimerspec it, old;
    uint64_t v;
    int fd;

    watchdog();
    SECTION("create");
    E(timerfd_create(CLOCK_PROCESS_CPUTIME_ID, 0));
    E(timerfd_create(77, 0));
    E(timerfd_create(CLOCK_MONOTONIC, 0x123));
    fd = (int)E(timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC));
    printf("%x %d\n", fcntl(fd, F_GETFL), fcntl(fd, F_GETFD));
    take(fd);
    E(ready(fd, 0));
    E(timerfd_gettime(fd, &it));
    printf("  %ld %ld\n", it.it_value.tv_sec, it.it_interval.tv_sec);
    SECTION("set");
    E(set(fd, 0, 1000000 * MS, 50000 * MS));
    E(timerfd_gettime(fd, &it));
    YES(it.it_value.tv_sec >= 980 && it.it_value.tv_sec <= 1000);
    E(it.it_interval.tv_sec);
    it = (struct itimerspec){{0, 0}, {500, 0}};
    E(timerfd_settime(fd, 0, &it, &old));
    YES(old.it_value.tv_sec >= 980 && old.it_value.tv_sec <= 1000);
    E(old.it_interval.tv_sec);
    it.it_value.tv_nsec = 1000000000;
    E(timerfd_settime(fd, 0, &it, NULL));
    it.it_value = (struct timespec){-1, 0};
    E(timerfd_settime(fd, 0, &it, NULL));
    E(timerfd_settime(fd, 0x80, &it, NULL));
    E(timerfd_settime(fd, 0, (void *)8, NULL));
    it.it_value = (struct timespec){1, 0};
    E(timerfd_settime(99, 0, &it, NULL));
    E(timerfd_settime(1, 0, &it, NULL));
    E(timerfd_gettime(1, &it));
    E(timerfd_gettime(fd, (void *)8));
    SECTION("one shot");
    E(set(fd, 0, 20 * MS, 0));
    take(fd);
    E(ready(fd, 5000));
    take(fd);
    take(fd);
    E(timerfd_gettime(fd, &it));
    printf("  %ld %ld\n", it.it_value.tv_sec, it.it_value.tv_nsec);
    SECTION("periodic");
    E(set(fd, 0, 10 * MS, 10 * MS));
    sleep_ms(105);
    E(read(fd, &v, sizeof(v)));
    SAY("at least ten", v >= 10 && v < 1000);
    E(ready(fd, 5000));
    E(read(fd, &v, 4));
    E(read(fd, &v, 16));
    E(set(fd, 0, 0, 0)); /* off; what had come is gone too */
    take(fd);
    E(set(fd, 0, 1 * MS, 0));
    sleep_ms(20);
    E(set(fd, 0, 1000000 * MS, 0)); /* setting again forgets it */
    take(fd);
    E(ready(fd, 0));
    E(write(fd, &v, 8));
    close(fd);
    clocks();
    return 0;
}
