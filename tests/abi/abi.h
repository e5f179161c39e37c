/* SPDX-License-Identifier: BSD-2-Clause */
/* What the programs in tests/abi/ share: printing results so that the host's
 * and the guest's output can be compared byte for byte, a private scratch
 * directory, a watchdog.
 *
 * - E(expr) prints the expression, its value, and the name of errno for -1.
 * - OK(expr) does the same without a value other than -1 ("ok").
 * - P(expr) is for calls that return the error (pthread_...).
 * - R(expr) is for raw results: -errno for a failure.
 * - YES(condition) prints the condition and yes or no.
 * - Never print addresses, ids, times, or sizes that differ between kernels.
 */
#pragma once
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

/* Bad arguments are the point here. */
#pragma GCC diagnostic ignored "-Wpragmas"
#pragma GCC diagnostic ignored "-Wstringop-overflow"
#pragma GCC diagnostic ignored "-Wstringop-overread"
#pragma GCC diagnostic ignored "-Wnonnull"

#define UNUSED __attribute__((unused))
#define NOINLINE __attribute__((noinline))
#define COUNT(array) ((int)(sizeof(array) / sizeof((array)[0])))
#define MS 1000000l /* nanoseconds */

/* The name of an error; glibc has it only from 2.32 on. */
UNUSED static const char *errno_name(int e)
{
    static char buf[4][24];
    static int turn;
    const char *name = strerrorname_np(e);

    if (name != NULL)
        return name;
    turn = (turn + 1) % 4;
    snprintf(buf[turn], sizeof(buf[turn]), "errno %d", e);
    return buf[turn];
}

UNUSED static long abi_show(const char *text, long r, int e, bool has_value)
{
    if (r == -1)
        printf("%s: -1 %s\n", text, errno_name(e));
    else if (has_value)
        printf("%s: %ld\n", text, r);
    else
        printf("%s: ok\n", text);
    return r;
}

UNUSED static int abi_show_error(const char *text, int e)
{
    printf("%s: %s\n", text, e == 0 ? "0" : errno_name(e));
    return e;
}

#define E(expr)                                    \
    ({                                             \
        errno = 0;                                 \
        long r_ = (long)(expr);                    \
        abi_show(#expr, r_, errno, true);          \
    })
#define OK(expr)                                   \
    ({                                             \
        errno = 0;                                 \
        long r_ = (long)(expr);                    \
        abi_show(#expr, r_, errno, false);         \
    })
#define P(expr) abi_show_error(#expr, (expr))
#define R(expr)                                                         \
    ({                                                                  \
        long r_ = (long)(expr);                                         \
        abi_show(#expr, r_ < 0 && r_ > -4096 ? -1 : r_, (int)-r_, true); \
    })
#define YES(cond) printf("%s: %s\n", #cond, (cond) ? "yes" : "no")
/* The same with words of one's own. */
#define SAY(words, cond) printf("%s: %s\n", words, (cond) ? "yes" : "no")
#define SECTION(name) printf("-- %s\n", name)

/* A step of the set-up that has to work. */
#define MUST(expr)                                                        \
    ({                                                                    \
        errno = 0;                                                        \
        long r_ = (long)(expr);                                           \
        if (r_ == -1) {                                                   \
            printf("SET-UP FAILED: %s: %s\n", #expr, errno_name(errno)); \
            exit(99);                                                     \
        }                                                                 \
        r_;                                                               \
    })

UNUSED static int64_t now_ns(clockid_t clock)
{
    struct timespec t = {0, 0};

    clock_gettime(clock, &t);
    return t.tv_sec * 1000000000ll + t.tv_nsec;
}

UNUSED static struct timespec to_timespec(int64_t ns)
{
    return (struct timespec){ns / 1000000000, ns % 1000000000};
}

UNUSED static void sleep_ms(int ms)
{
    struct timespec t = to_timespec(ms * MS);

    while (nanosleep(&t, &t) != 0 && errno == EINTR)
        ;
}

/* Waits (up to 10 s) until thread tid sleeps in a system call. */
UNUSED static void wait_asleep(pid_t tid)
{
    char path[64], text[512], *p;

    for (int i = 0; i < 2000; i++) {
        snprintf(path, sizeof(path), "/proc/self/task/%d/stat", tid);
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        ssize_t n = fd >= 0 ? read(fd, text, sizeof(text) - 1) : 0;

        if (fd < 0)
            break;
        close(fd);
        text[n > 0 ? n : 0] = 0;
        p = strrchr(text, ')');
        if (p != NULL && p[1] == ' ' && p[2] == 'S')
            return;
        sleep_ms(5);
    }
    sleep_ms(60); /* no such file: give it time instead */
}

/* --- the scratch directory: private, current, removed at exit --- */

static char abi_scratch[64];
static pid_t abi_owner;

UNUSED static void remove_tree(int at, const char *name)
{
    int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    struct dirent *d;

    while (dir != NULL && (d = readdir(dir)) != NULL) {
        if (strcmp(d->d_name, ".") == 0 || strcmp(d->d_name, "..") == 0)
            continue;
        if (unlinkat(fd, d->d_name, 0) != 0)
            remove_tree(fd, d->d_name);
    }
    if (dir != NULL)
        closedir(dir);
    unlinkat(at, name, AT_REMOVEDIR);
}

UNUSED static void scratch_end(void)
{
    if (abi_scratch[0] == 0 || getpid() != abi_owner)
        return;
    if (chdir("/") == 0)
        remove_tree(AT_FDCWD, abi_scratch);
    abi_scratch[0] = 0;
}

UNUSED static void scratch_begin(void)
{
    strcpy(abi_scratch, "/tmp/abi-XXXXXX");
    if (mkdtemp(abi_scratch) == NULL || chdir(abi_scratch) != 0) {
        printf("SET-UP FAILED: no scratch directory: %s\n",
               errno_name(errno));
        exit(99);
    }
    abi_owner = getpid();
    umask(022);
    atexit(scratch_end);
}

/* Creates a file with this text. */
UNUSED static void put_file(const char *path, const char *text)
{
    int fd = (int)MUST(open(path, O_CREAT | O_TRUNC | O_WRONLY, 0644));

    MUST(write(fd, text, strlen(text)));
    close(fd);
}

/* --- the watchdog: a program that hangs dies of SIGALRM --- */

UNUSED static void watchdog(void)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    alarm(20);
}

UNUSED static void on_signal(int sig, void (*f)(int, siginfo_t *, void *),
                             int flags)
{
    struct sigaction sa = {.sa_sigaction = f, .sa_flags = SA_SIGINFO | flags};

    sigemptyset(&sa.sa_mask);
    MUST(sigaction(sig, &sa, NULL));
}
