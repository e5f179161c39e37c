/* SPDX-License-Identifier: BSD-2-Clause */
/* poll, ppoll, select, pselect. */
#include "abi.h"

#include <poll.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/socket.h>

static void show(struct pollfd *p, int n, int ms)
{
    int r = poll(p, (nfds_t)n, ms);

    printf("  %d:", r);
    for (int i = 0; i < n; i++)
        printf(" [%s%s%s%s%s%s]", p[i].revents & POLLIN ? " IN" : "",
               p[i].revents & POLLOUT ? " OUT" : "",
               p[i].revents & POLLHUP ? " HUP" : "",
               p[i].revents & POLLRDHUP ? " RDHUP" : "",
               p[i].revents & POLLERR ? " ERR" : "",
               p[i].revents & POLLNVAL ? " NVAL" : "");
    printf("\n");
}

static bool waited(int64_t start, int ms)
{
    return now_ns(CLOCK_MONOTONIC) - start >= ms * MS;
}

static void polls(void)
{
    struct pollfd p[4];
    int a[2], s[2];
    int64_t start;

    SECTION("poll");
    MUST(pipe(a));
    MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, s));
    p[0] = (struct pollfd){a[0], POLLIN, 0};
    p[1] = (struct pollfd){a[1], POLLIN | POLLOUT, 0};
    p[2] = (struct pollfd){s[0], POLLIN | POLLOUT | POLLRDHUP, 0};
    p[3] = (struct pollfd){-1, POLLIN, 0x7f};
    show(p, 4, 0);
    MUST(write(a[1], "x", 1));
    show(p, 4, 1000);
    p[3].fd = 99;
    show(p, 4, 0);
    shutdown(s[1], SHUT_WR);
    show(p, 3, 0);
    close(s[1]);
    show(p, 3, 0);
    close(a[1]);
    show(p, 3, 0);
    p[0].events = 0;
    show(p, 1, 0);
    int file = (int)MUST(open("f", O_RDWR | O_CREAT, 0600));
    p[0] = (struct pollfd){file, POLLIN | POLLOUT, 0};
    show(p, 1, -1); /* a file always is ready */
    start = now_ns(CLOCK_MONOTONIC);
    E(poll(NULL, 0, 30));
    E(waited(start, 30));
    E(poll((void *)8, 1, 0));
    struct rlimit l;
    getrlimit(RLIMIT_NOFILE, &l);
    if (l.rlim_cur < 1u << 30)
        E(poll(p, 1u << 31, 0));
    close(file);
    close(a[0]);
    close(s[0]);
}

static volatile int hits;

static void on_usr1(int sig, siginfo_t *info, void *uc)
{
    hits++;
}

static void ppolls(void)
{
    struct timespec t = {0, 20 * MS}, bad = {0, -1};
    struct pollfd p;
    sigset_t none, usr1;
    int64_t start;
    int a[2];

    SECTION("ppoll");
    MUST(pipe(a));
    p = (struct pollfd){a[0], POLLIN, 0};
    start = now_ns(CLOCK_MONOTONIC);
    E(ppoll(&p, 1, &t, NULL));
    E(waited(start, 20));
    printf("  the library keeps the time-out: %ld\n", t.tv_nsec / MS);
    E(ppoll(&p, 1, &bad, NULL));
    E(syscall(SYS_ppoll, &p, 1, &t, &none, 4));
    E(syscall(SYS_ppoll, &p, 1, &t, NULL, 0));
    printf("  the call writes it back: %ld\n", t.tv_nsec);
    sigemptyset(&none);
    sigemptyset(&usr1);
    sigaddset(&usr1, SIGUSR1);
    on_signal(SIGUSR1, on_usr1, SA_RESTART);
    sigprocmask(SIG_BLOCK, &usr1, NULL);
    raise(SIGUSR1);
    t = (struct timespec){5, 0};
    E(hits);
    E(ppoll(&p, 1, &t, &none));
    E(hits);
    raise(SIGUSR1);
    MUST(write(a[1], "x", 1));
    E(ppoll(&p, 1, &t, &none)); /* ready comes before the signal */
    E(hits);
    sigprocmask(SIG_UNBLOCK, &usr1, NULL);
    E(hits);
    close(a[0]);
    close(a[1]);
}

static void show_sets(const char *what, int r, fd_set *in, fd_set *out,
                      int fd)
{
    printf("  %s: %d %s in %d out %d\n", what, r,
           r < 0 ? errno_name(errno) : "", in != NULL && FD_ISSET(fd, in),
           out != NULL && FD_ISSET(fd, out));
}

static void selects(void)
{
    struct timeval tv = {0, 20000}, bad = {0, -1};
    struct timespec ts = {0, 20 * MS};
    fd_set in, out;
    int64_t start;
    int a[2];

    SECTION("select");
    MUST(pipe(a));
    FD_ZERO(&in);
    FD_ZERO(&out);
    FD_SET(a[0], &in);
    FD_SET(a[1], &out);
    show_sets("writer", select(10, &in, &out, NULL, &tv), &in, &out, a[1]);
    FD_SET(a[0], &in);
    tv = (struct timeval){0, 20000};
    start = now_ns(CLOCK_MONOTONIC);
    show_sets("empty", select(10, &in, NULL, NULL, &tv), &in, NULL, a[0]);
    E(waited(start, 20));
    printf("  time left %ld.%06ld\n", (long)tv.tv_sec, (long)tv.tv_usec);
    MUST(write(a[1], "x", 1));
    FD_SET(a[0], &in);
    tv = (struct timeval){1000, 0};
    show_sets("full", select(10, &in, NULL, NULL, &tv), &in, NULL, a[0]);
    YES(tv.tv_sec >= 980 && tv.tv_sec <= 1000);
    FD_SET(a[0], &in);
    show_sets("few", select(a[0], &in, NULL, NULL, &(struct timeval){0, 0}),
              &in, NULL, a[0]);
    FD_ZERO(&in);
    FD_SET(50, &in); /* beyond its table (64 at least) Linux does not look */
    show_sets("closed", select(51, &in, NULL, NULL, NULL), &in, NULL, 50);
    FD_ZERO(&in);
    show_sets("negative", select(-1, &in, NULL, NULL, NULL), &in, NULL, 0);
    show_sets("bad time", select(0, NULL, NULL, NULL, &bad), NULL, NULL, 0);
    E(syscall(SYS_select, 10, (void *)8, NULL, NULL, &tv));
    FD_SET(a[0], &in);
    FD_SET(a[0], &out);
    close(a[1]);
    E(read(a[0], &(char){0}, 1));
    show_sets("end", select(10, &in, NULL, NULL, NULL), &in, NULL, a[0]);
    SECTION("pselect");
    start = now_ns(CLOCK_MONOTONIC);
    show_sets("wait", pselect(0, NULL, NULL, NULL, &ts, NULL), NULL, NULL, 0);
    E(waited(start, 20));
    sigset_t none, usr1;
    sigemptyset(&none);
    sigemptyset(&usr1);
    sigaddset(&usr1, SIGUSR1);
    hits = 0;
    sigprocmask(SIG_BLOCK, &usr1, NULL);
    raise(SIGUSR1);
    ts.tv_sec = 5;
    show_sets("signal", pselect(0, NULL, NULL, NULL, &ts, &none), NULL, NULL,
              0);
    E(hits);
    /* A set that reaches far, with few descriptors. */
    E(dup2(a[0], 900));
    FD_ZERO(&in);
    FD_SET(900, &in);
    show_sets("far", select(901, &in, NULL, NULL, NULL), &in, NULL, 900);
    close(a[0]);
    close(900);
}

int main(void)
{
    watchdog();
    scratch_begin();
    polls();
    ppolls();
    selects();
    return 0;
}
