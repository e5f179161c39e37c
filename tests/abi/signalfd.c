/* SPDX-License-Identifier: BSD-2-Clause */
/* signalfd: reading signals, their fields, masks, poll. */
#include "abi.h"

#include <poll.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>

static void take(int fd)
{
    struct signalfd_siginfo i;
    ssize_t n = read(fd, &i, sizeof(i));

    if (n != sizeof(i))
        printf("  read: %zd %s\n", n, errno_name(errno));
    else
        printf("  signal %d code %d value %d mine %d uid %d errno %d\n",
               i.ssi_signo >= 34 ? (int)i.ssi_signo - SIGRTMIN + 1000
                                 : (int)i.ssi_signo,
               i.ssi_code, i.ssi_int, i.ssi_pid == (uint32_t)getpid(),
               i.ssi_uid, i.ssi_errno);
}

static bool ready(int fd, int ms)
{
    struct pollfd p = {fd, POLLIN | POLLOUT, 0};

    return poll(&p, 1, ms) == 1 && p.revents == POLLIN;
}

static void *kill_later(void *arg)
{
    sleep_ms(30);
    kill(getpid(), SIGUSR2);
    return NULL;
}

/* A signal for one thread is not there for another. */
static void *other_thread(void *arg)
{
    SAY("for another thread, ready", ready(*(int *)arg, 0));
    take(*(int *)arg);
    return NULL;
}

int main(void)
{
    struct signalfd_siginfo many[8];
    sigset_t set, pending;
    union sigval value = {.sival_int = 77};
    pthread_t t;
    int fd, flags;

    watchdog();
    YES(sizeof(struct signalfd_siginfo) == 128);
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigaddset(&set, SIGUSR2);
    sigaddset(&set, SIGRTMIN);
    sigaddset(&set, SIGKILL); /* silently left out */
    sigprocmask(SIG_BLOCK, &set, NULL);
    E(signalfd(99, &set, 0));
    E(signalfd(1, &set, 0));
    E(signalfd(-1, &set, 0x123));
    E(syscall(SYS_signalfd4, -1, &set, 4, 0));
    E(syscall(SYS_signalfd4, -1, (void *)8, 8, 0));
    fd = (int)E(signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC));
    printf("%x %d\n", fcntl(fd, F_GETFL), fcntl(fd, F_GETFD));

    SECTION("reading");
    take(fd);
    E(ready(fd, 0));
    kill(getpid(), SIGUSR1);
    kill(getpid(), SIGUSR1);
    E(ready(fd, 0));
    take(fd);
    take(fd);
    sigqueue(getpid(), SIGUSR2, value);
    take(fd);
    for (int i = 0; i < 3; i++) {
        value.sival_int = i;
        sigqueue(getpid(), SIGRTMIN, value);
    }
    raise(SIGUSR1);
    E(read(fd, many, 100));
    E(read(fd, many, sizeof(many)));
    for (int i = 0; i < 4; i++)
        printf("  signal is USR1 %d, value %d\n", many[i].ssi_signo == SIGUSR1,
               many[i].ssi_int);
    E(sigpending(&pending));
    E(sigismember(&pending, SIGRTMIN));

    SECTION("another mask");
    sigemptyset(&set);
    sigaddset(&set, SIGUSR2);
    flags = (int)(signalfd(fd, &set, 0) == fd);
    E(flags);
    kill(getpid(), SIGUSR1);
    E(ready(fd, 0));
    take(fd);
    kill(getpid(), SIGUSR2);
    take(fd);
    sigaddset(&set, SIGUSR1);
    MUST(signalfd(fd, &set, 0));
    E(ready(fd, 0)); /* it still pends */
    take(fd);

    SECTION("threads");
    pthread_kill(pthread_self(), SIGUSR1);
    pthread_create(&t, NULL, other_thread, &fd);
    pthread_join(t, NULL);
    E(ready(fd, 0));
    take(fd);
    kill(getpid(), SIGUSR1);
    pthread_create(&t, NULL, other_thread, &fd);
    pthread_join(t, NULL);
    take(fd);

    SECTION("waiting");
    E(fcntl(fd, F_SETFL, 0));
    pthread_create(&t, NULL, kill_later, NULL);
    take(fd);
    pthread_join(t, NULL);
    pthread_create(&t, NULL, kill_later, NULL);
    E(ready(fd, 5000));
    take(fd);
    pthread_join(t, NULL);
    int ep = (int)MUST(epoll_create1(0));
    struct epoll_event ev = {EPOLLIN, {.u32 = 5}};
    E(epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev));
    pthread_create(&t, NULL, kill_later, NULL);
    E(epoll_wait(ep, &ev, 1, 5000));
    take(fd);
    pthread_join(t, NULL);
    E(write(fd, many, 128));
    close(fd);
    return 0;
}
