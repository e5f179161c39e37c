/* SPDX-License-Identifier: BSD-2-Clause */
/* Descriptors: dup, fcntl, close, close_range, the limit. */
#include "abi.h"

#include <sys/ioctl.h>
#include <sys/resource.h>

static bool is_open(int fd)
{
    return fcntl(fd, F_GETFD) >= 0;
}

static void duplicates(void)
{
    int fds[2];
    char c;

    SECTION("dup");
    E(pipe(fds));
    printf("%d %d\n", fds[0], fds[1]);
    E(dup(fds[1]));
    E(dup(99));
    E(dup2(fds[1], 20));
    E(write(20, "x", 1));
    E(read(fds[0], &c, 1));
    E(dup2(20, 20));
    E(dup2(99, 20));
    E(is_open(20));
    E(dup2(99, 99));
    E(dup2(fds[0], -1));
    E(dup2(fds[0], 1 << 30));
    E(dup3(fds[0], 21, O_CLOEXEC));
    E(fcntl(21, F_GETFD));
    E(dup2(21, 22));
    E(fcntl(22, F_GETFD));
    E(dup3(21, 21, 0));
    E(dup3(21, 23, O_APPEND));
    E(fcntl(3, F_DUPFD, 30));
    E(fcntl(3, F_DUPFD, 30));
    E(fcntl(3, F_DUPFD_CLOEXEC, 30));
    E(fcntl(32, F_GETFD));
    E(fcntl(3, F_DUPFD, -1));
    E(fcntl(3, F_DUPFD, 1 << 30));
    close(fds[0]);
    E(dup(4));
    E(dup(4));
}

static void shared_state(void)
{
    int a, b, c;

    SECTION("what duplicates share");
    put_file("f", "0123456789");
    a = (int)MUST(open("f", O_RDWR));
    b = (int)MUST(dup(a));
    c = (int)MUST(open("f", O_RDWR));
    E(lseek(a, 4, SEEK_SET));
    E(lseek(b, 0, SEEK_CUR));
    E(lseek(c, 0, SEEK_CUR));
    E(fcntl(a, F_SETFL, O_APPEND | O_NONBLOCK));
    printf("%x %x\n", fcntl(b, F_GETFL) & ~0100000,
           fcntl(c, F_GETFL) & ~0100000);
    E(fcntl(a, F_SETFL, O_WRONLY)); /* the access mode stays */
    printf("%x\n", fcntl(b, F_GETFL) & ~0100000);
    E(fcntl(a, F_SETFD, FD_CLOEXEC));
    E(fcntl(a, F_GETFD));
    E(fcntl(b, F_GETFD));
    E(fcntl(a, F_SETFD, 0));
    E(fcntl(a, F_GETFD));
    E(fcntl(99, F_GETFL));
    E(fcntl(a, 9999));
    int on = 1, n = -1;
    E(ioctl(a, FIOCLEX));
    E(fcntl(a, F_GETFD));
    E(ioctl(a, FIONCLEX));
    E(fcntl(a, F_GETFD));
    E(ioctl(a, FIONBIO, &on));
    printf("%x\n", fcntl(b, F_GETFL) & ~0100000);
    E(lseek(a, 3, SEEK_SET));
    E(ioctl(a, FIONREAD, &n));
    printf("%d\n", n);
    E(ioctl(a, TIOCGWINSZ, &n));
    E(isatty(a));
    E(ioctl(99, FIONREAD, &n));
    close(a);
    close(b);
    close(c);
}

static void ranges(void)
{
    SECTION("close_range");
    for (int i = 100; i < 130; i++)
        MUST(dup2(1, i));
    E(syscall(436, 105, 110, 0));
    E(is_open(104));
    E(is_open(105));
    E(is_open(110));
    E(is_open(111));
    E(syscall(436, 115, 118, 4 /* CLOEXEC */));
    E(fcntl(114, F_GETFD));
    E(fcntl(115, F_GETFD));
    E(fcntl(118, F_GETFD));
    E(fcntl(119, F_GETFD));
    E(syscall(436, 10, 5, 0));
    E(syscall(436, 10, 20, 0x80));
    E(syscall(436, 3, ~0u, 0));
    int n = 0;
    for (int i = 0; i < 1000; i++)
        n += is_open(i);
    printf("%d left\n", n);
    E(close(3));
    E(close(-1));
}

static void limit(void)
{
    struct rlimit l = {64, 64}, old;
    int fds[2], n = 0, last = -1, fd;

    SECTION("RLIMIT_NOFILE");
    E(getrlimit(RLIMIT_NOFILE, &old));
    l.rlim_max = old.rlim_max;
    E(dup2(1, 70));
    E(setrlimit(RLIMIT_NOFILE, &l));
    while ((fd = dup(1)) >= 0) {
        n++;
        last = fd;
    }
    printf("%d more, last %d: %s\n", n, last, errno_name(errno));
    E(open("f", O_RDONLY));
    E(pipe(fds));
    close(63);
    E(pipe(fds));
    E(dup(1));
    E(dup2(1, 64));
    E(dup2(1, 63));
    E(is_open(70)); /* beyond the limit, and still there */
    E(fcntl(1, F_DUPFD, 64));
    E(fcntl(1, F_DUPFD, 63));
    l.rlim_cur = 2000;
    E(setrlimit(RLIMIT_NOFILE, &l));
    E(dup2(1, 1999));
    E(dup2(1, 2000));
    E(fcntl(1, F_DUPFD, 1000));
    E(setrlimit(RLIMIT_NOFILE, &old));
}

static void lowest(void)
{
    SECTION("the lowest is taken");
    syscall(436, 3, ~0u, 0);
    for (int i = 0; i < 200; i++)
        MUST(dup(1));
    close(150);
    close(67);
    close(5);
    E(dup(1));
    E(dup(1));
    E(dup(1));
    E(dup(1));
}

int main(void)
{
    watchdog();
    scratch_begin();
    syscall(436, 3, ~0u, 0); /* whatever was inherited */
    duplicates();
    syscall(436, 3, ~0u, 0);
    shared_state();
    ranges();
    limit();
    lowest();
    return 0;
}
