/* SPDX-License-Identifier: BSD-2-Clause */
/* eventfd: counting, semaphores, overflow, blocking, poll. */
#include "abi.h"

#include <poll.h>
#include <sys/eventfd.h>

static void take(int fd)
{
    uint64_t v = 0;
    ssize_t n = read(fd, &v, sizeof(v));

    if (n != sizeof(v))
        printf("  read: %zd %s\n", n, errno_name(errno));
    else
        printf("  read: %llu\n", (unsigned long long)v);
}

static void give(int fd, uint64_t v)
{
    ssize_t n = write(fd, &v, sizeof(v));

    printf("  write %llx: %zd %s\n", (unsigned long long)v, n,
           n < 0 ? errno_name(errno) : "");
}

static void state(int fd)
{
    struct pollfd p = {fd, POLLIN | POLLOUT, 0};

    poll(&p, 1, 0);
    printf("  poll:%s%s%s\n", p.revents & POLLIN ? " IN" : "",
           p.revents & POLLOUT ? " OUT" : "",
           p.revents & POLLERR ? " ERR" : "");
}

/* These do not print: main may be faster. */
static void *later(void *arg)
{
    uint64_t v = 5;

    sleep_ms(30);
    MUST(write(*(int *)arg, &v, sizeof(v)));
    return NULL;
}

static void *drain(void *arg)
{
    static uint64_t v;

    sleep_ms(30);
    MUST(read(*(int *)arg, &v, sizeof(v)));
    return &v;
}

int main(void)
{
    uint64_t v[2] = {1, 2};
    struct iovec iov[2] = {{v, 4}, {(char *)v + 4, 4}};
    uint64_t *drained;
    pthread_t t;
    int fd;

    watchdog();
    SECTION("a counter");
    E(syscall(SYS_eventfd2, 0, 0x123));
    fd = (int)E(eventfd(3, EFD_NONBLOCK | EFD_CLOEXEC));
    printf("%x %d\n", fcntl(fd, F_GETFL), fcntl(fd, F_GETFD));
    state(fd);
    take(fd);
    state(fd);
    take(fd);
    give(fd, 4);
    give(fd, 0);
    give(fd, 6);
    take(fd);
    give(fd, 0);
    take(fd);
    give(fd, UINT64_MAX);
    give(fd, UINT64_MAX - 1);
    state(fd);
    give(fd, 1);
    take(fd);
    E(read(fd, v, 7));
    E(write(fd, v, 7));
    E(read(fd, v, 16));
    take(fd);
    E(read(fd, (void *)8, 8));
    E(write(fd, (void *)8, 8));
    E(pread(fd, v, 8, 0));
    give(fd, 9);
    E(readv(fd, iov, 2));
    printf("  %llu\n", (unsigned long long)v[0]);
    close(fd);

    SECTION("a semaphore");
    fd = (int)E(eventfd(0, EFD_SEMAPHORE | EFD_NONBLOCK));
    give(fd, 2);
    take(fd);
    state(fd);
    take(fd);
    take(fd);
    state(fd);
    close(fd);

    SECTION("blocking");
    fd = (int)E(syscall(SYS_eventfd, 0));
    pthread_create(&t, NULL, later, &fd);
    take(fd);
    pthread_join(t, NULL);
    give(fd, UINT64_MAX - 1);
    pthread_create(&t, NULL, drain, &fd);
    v[0] = 7;
    E(write(fd, v, 8)); /* waits for room */
    pthread_join(t, (void **)&drained);
    YES(*drained == UINT64_MAX - 1);
    take(fd);
    pthread_create(&t, NULL, later, &fd);
    struct pollfd p = {fd, POLLIN, 0};
    E(poll(&p, 1, 5000));
    pthread_join(t, NULL);
    take(fd);
    close(fd);
    return 0;
}
