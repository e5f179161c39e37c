/* SPDX-License-Identifier: BSD-2-Clause */
/* epoll: level, edge, one shot, nesting, closed descriptors, many of them. */
#include "abi.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>

static int ep;
static uint64_t one = 1;

static int by_data(const void *a, const void *b)
{
    const struct epoll_event *x = a, *y = b;

    return x->data.u32 < y->data.u32 ? -1 : x->data.u32 > y->data.u32;
}

static void show(int set, int ms)
{
    struct epoll_event ev[8];
    int n = epoll_wait(set, ev, 8, ms);

    printf("  %d:", n);
    if (n > 0)
        qsort(ev, n, sizeof(ev[0]), by_data);
    for (int i = 0; i < n; i++)
        printf(" [%u:%s%s%s%s%s%s]", ev[i].data.u32,
               ev[i].events & EPOLLIN ? " IN" : "",
               ev[i].events & EPOLLOUT ? " OUT" : "",
               ev[i].events & EPOLLHUP ? " HUP" : "",
               ev[i].events & EPOLLRDHUP ? " RDHUP" : "",
               ev[i].events & EPOLLERR ? " ERR" : "",
               ev[i].events & EPOLLPRI ? " PRI" : "");
    printf("\n");
}

static int ctl(int set, int op, int fd, uint32_t events, uint32_t data)
{
    struct epoll_event ev = {events, {.u64 = data}};

    return epoll_ctl(set, op, fd, &ev);
}

static void errors(void)
{
    struct epoll_event ev;
    int file;

    SECTION("errors");
    put_file("f", "x");
    file = (int)MUST(open("f", O_RDONLY));
    E(epoll_create(0));
    E(epoll_create1(0x123));
    E(ctl(ep, EPOLL_CTL_ADD, file, EPOLLIN, 0));
    E(ctl(ep, EPOLL_CTL_ADD, 99, EPOLLIN, 0));
    E(ctl(99, EPOLL_CTL_ADD, file, EPOLLIN, 0));
    E(ctl(file, EPOLL_CTL_ADD, ep, EPOLLIN, 0));
    E(ctl(ep, EPOLL_CTL_ADD, ep, EPOLLIN, 0));
    E(epoll_wait(ep, &ev, 0, 0));
    E(epoll_wait(ep, &ev, -1, 0));
    E(epoll_wait(file, &ev, 1, 0));
    E(epoll_wait(99, &ev, 1, 0));
    E(epoll_wait(ep, &ev, 1, 0));
    E(epoll_wait(ep, &ev, 1, 20));
    E(fcntl(epoll_create1(EPOLL_CLOEXEC), F_GETFD));
    close(file);
}

static void triggers(void)
{
    int p[2];
    char c[10];

    SECTION("level");
    MUST(pipe2(p, O_NONBLOCK));
    E(ctl(ep, EPOLL_CTL_ADD, p[0], EPOLLIN, 1));
    E(ctl(ep, EPOLL_CTL_ADD, p[0], EPOLLIN, 1));
    show(ep, 0);
    MUST(write(p[1], "ab", 2));
    show(ep, 0);
    show(ep, 0);
    E(read(p[0], c, 1));
    show(ep, 0);
    E(read(p[0], c, 1));
    show(ep, 0);
    SECTION("edge");
    E(ctl(ep, EPOLL_CTL_MOD, p[0], EPOLLIN | EPOLLET, 2));
    show(ep, 0);
    MUST(write(p[1], "a", 1));
    show(ep, 0);
    show(ep, 0);
    MUST(write(p[1], "b", 1));
    show(ep, 0);
    E(read(p[0], c, 1));
    show(ep, 0);
    E(ctl(ep, EPOLL_CTL_MOD, p[0], EPOLLIN | EPOLLET, 3));
    show(ep, 0); /* setting it looks again */
    E(read(p[0], c, 1));
    SECTION("one shot");
    E(ctl(ep, EPOLL_CTL_MOD, p[0], EPOLLIN | EPOLLONESHOT, 4));
    MUST(write(p[1], "a", 1));
    show(ep, 0);
    MUST(write(p[1], "b", 1));
    show(ep, 0);
    E(ctl(ep, EPOLL_CTL_MOD, p[0], EPOLLIN | EPOLLONESHOT, 5));
    show(ep, 0);
    show(ep, 0);
    E(ctl(ep, EPOLL_CTL_DEL, p[0], 0, 0));
    E(ctl(ep, EPOLL_CTL_DEL, p[0], 0, 0));
    E(ctl(ep, EPOLL_CTL_MOD, p[0], EPOLLIN, 0));
    E(ctl(ep, 9, p[0], EPOLLIN, 0));
    SECTION("both ends");
    E(ctl(ep, EPOLL_CTL_ADD, p[0], 0, 6));
    E(ctl(ep, EPOLL_CTL_ADD, p[1], EPOLLOUT, 7));
    show(ep, 0);
    close(p[1]); /* takes its entry along; the other hangs up, unasked */
    show(ep, 0);
    close(p[0]);
    show(ep, 0);
}

static void closing(void)
{
    int e = (int)MUST(eventfd(1, 0)), d;

    SECTION("closed, with a duplicate left");
    E(ctl(ep, EPOLL_CTL_ADD, e, EPOLLIN, 1));
    d = (int)MUST(dup(e));
    E(ctl(ep, EPOLL_CTL_ADD, d, EPOLLIN, 2)); /* another entry */
    show(ep, 0);
    close(e);
    show(ep, 0);
    E(ctl(ep, EPOLL_CTL_DEL, e, 0, 0));
    close(d);
    show(ep, 0);
}

static void nesting(void)
{
    int in = (int)MUST(epoll_create1(0)), e = (int)MUST(eventfd(0, 0));
    int sets[10];

    SECTION("nested");
    E(ctl(ep, EPOLL_CTL_ADD, in, EPOLLIN, 1));
    E(ctl(in, EPOLL_CTL_ADD, e, EPOLLIN, 2));
    show(ep, 0);
    MUST(write(e, &one, 8));
    show(ep, 0);
    show(in, 0);
    E(ctl(in, EPOLL_CTL_ADD, ep, EPOLLIN, 1));
    E(read(e, &one, 8));
    show(ep, 0);
    E(ctl(ep, EPOLL_CTL_DEL, in, 0, 0));
    close(in);
    close(e);
    for (int i = 0; i < 8; i++) {
        sets[i] = (int)MUST(epoll_create1(0));
        if (i > 0)
            printf("  %d: %s\n", i,
                   ctl(sets[i], EPOLL_CTL_ADD, sets[i - 1], EPOLLIN, 0) == 0
                       ? "ok"
                       : errno_name(errno));
    }
    for (int i = 0; i < 8; i++)
        close(sets[i]);
}

static void exclusive(void)
{
    int e = (int)MUST(eventfd(1, 0));

    SECTION("exclusive");
    E(ctl(ep, EPOLL_CTL_ADD, e, EPOLLIN | EPOLLEXCLUSIVE, 1));
    show(ep, 0);
    E(ctl(ep, EPOLL_CTL_MOD, e, EPOLLIN, 1));
    E(ctl(ep, EPOLL_CTL_DEL, e, 0, 0));
    E(ctl(ep, EPOLL_CTL_ADD, e, EPOLLIN, 1));
    E(ctl(ep, EPOLL_CTL_MOD, e, EPOLLIN | EPOLLEXCLUSIVE, 1));
    E(ctl(ep, EPOLL_CTL_DEL, e, 0, 0));
    E(ctl(ep, EPOLL_CTL_ADD, e, EPOLLIN | EPOLLEXCLUSIVE | EPOLLONESHOT, 1));
    close(e);
}

static void *write_later(void *arg)
{
    sleep_ms(30);
    MUST(write((int)(long)arg, &one, 8));
    return NULL;
}

static void waiting(void)
{
    struct timespec t = {0, 20 * MS}, bad = {0, 1000000000};
    int e = (int)MUST(eventfd(0, 0));
    struct epoll_event ev;
    int64_t start;
    pthread_t th;

    SECTION("waiting");
    E(ctl(ep, EPOLL_CTL_ADD, e, EPOLLIN | EPOLLET, 1));
    pthread_create(&th, NULL, write_later, (void *)(long)e);
    show(ep, -1);
    pthread_join(th, NULL);
    start = now_ns(CLOCK_MONOTONIC);
    E(epoll_wait(ep, &ev, 1, 30));
    SAY("waited", now_ns(CLOCK_MONOTONIC) - start >= 30 * MS);
    start = now_ns(CLOCK_MONOTONIC);
    E(syscall(441, ep, &ev, 1, &t, NULL, 0));
    SAY("waited", now_ns(CLOCK_MONOTONIC) - start >= 20 * MS);
    E(syscall(441, ep, &ev, 1, &bad, NULL, 0));
    E(syscall(441, ep, &ev, 1, (void *)8, NULL, 0));
    MUST(write(e, &one, 8));
    E(syscall(441, ep, &ev, 1, NULL, NULL, 0));
    E(syscall(SYS_epoll_pwait, ep, &ev, 1, 0, (void *)8, 8));
    E(syscall(SYS_epoll_pwait, ep, &ev, 1, 0, &t, 4));
    MUST(write(e, &one, 8));
    E(epoll_wait(ep, (void *)8, 1, 0));
    close(e);
}

static void many(void)
{
    enum { N = 300 };
    static struct epoll_event ev[N];
    static int fds[N], seen[N];
    int ok = 0;

    SECTION("many");
    for (int i = 0; i < N; i++) {
        fds[i] = (int)MUST(eventfd(0, 0));
        MUST(ctl(ep, EPOLL_CTL_ADD, fds[i], EPOLLIN, (uint32_t)i));
    }
    E(epoll_wait(ep, ev, N, 0));
    for (int i = 0; i < N; i += 3)
        MUST(write(fds[i], &one, 8));
    E(epoll_wait(ep, ev, N, 0));
    E(epoll_wait(ep, ev, 60, 0));
    for (int i = 0; i < 60; i++)
        seen[ev[i].data.u32]++;
    E(epoll_wait(ep, ev, 60, 0)); /* those left out come first */
    for (int i = 0; i < 60; i++)
        seen[ev[i].data.u32]++;
    for (int i = 0; i < N; i += 3)
        ok += seen[i] > 0;
    printf("all of %d seen in two rounds\n", ok);
    for (int i = 0; i < N; i++)
        close(fds[i]);
    E(epoll_wait(ep, ev, N, 0));
}

int main(void)
{
    watchdog();
    scratch_begin();
    ep = (int)E(epoll_create1(0));
    errors();
    triggers();
    closing();
    nesting();
    exclusive();
    waiting();
    many();
    return 0;
}
