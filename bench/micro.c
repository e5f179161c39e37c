/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * micro.c: small OS-primitive benchmark, one static binary for every target
 * (host, Nanos, our guest).  Prints "name value unit" lines; exits 0.
 *
 *   gcc -O2 -static -pthread -o micro micro.c
 *   ./micro [scale] [file-for-sequential-read] [only-this-test]
 *
 * scale divides every iteration count (use 20 under TCG).  Every test runs
 * REP times; the best run is printed first, then the median.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define REP 5

static long scale = 1;
static const char *only;
static const char *datafile;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec * 1e-9;
}

static int cmp(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* fn(n) does n operations and returns seconds, or <0 when unsupported. */
static void run(const char *name, double (*fn)(long), long n, const char *unit, double mul)
{
    double v[REP];
    if (only && strcmp(only, name))
        return;
    n = n / scale;
    if (n < 1)
        n = 1;
    for (int i = 0; i < REP; i++) {
        double s = fn(n);
        if (s < 0) {
            printf("%-22s unsupported (errno %d: %s)\n", name, errno, strerror(errno));
            return;
        }
        v[i] = mul < 0 ? -mul * n / s : s / n * mul;    /* mul<0: a rate */
    }
    qsort(v, REP, sizeof v[0], cmp);
    printf("%-22s best %10.1f  median %10.1f  %s\n", name, mul < 0 ? v[REP - 1] : v[0], v[REP / 2], unit);
    fflush(stdout);
}

static double t_getppid(long n)
{
    double t = now();
    for (long i = 0; i < n; i++)
        syscall(SYS_getppid);
    return now() - t;
}

static double t_clock_sys(long n)
{
    struct timespec ts;
    double t = now();
    for (long i = 0; i < n; i++)
        syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &ts);
    return now() - t;
}

static double t_clock_vdso(long n)
{
    struct timespec ts;
    double t = now();
    for (long i = 0; i < n; i++)
        clock_gettime(CLOCK_MONOTONIC, &ts);
    return now() - t;
}

static double t_devzero(long n)
{
    char b[64];
    int fd = open("/dev/zero", O_RDONLY);
    if (fd < 0)
        return -1;
    double t = now();
    for (long i = 0; i < n; i++)
        if (read(fd, b, sizeof b) != sizeof b) {
            close(fd);
            return -1;
        }
    t = now() - t;
    close(fd);
    return t;
}

static int pa[2], pb[2];
static long pp_n;

static void *pp_thread(void *a)
{
    char c;
    (void)a;
    for (long i = 0; i < pp_n; i++) {
        if (read(pa[0], &c, 1) != 1)
            break;
        if (write(pb[1], &c, 1) != 1)
            break;
    }
    return 0;
}

static double t_pipe(long n)
{
    pthread_t th;
    char c = 'x';
    if (pipe(pa) || pipe(pb))
        return -1;
    pp_n = n;
    if (pthread_create(&th, 0, pp_thread, 0))
        return -1;
    double t = now();
    for (long i = 0; i < n; i++) {
        if (write(pa[1], &c, 1) != 1 || read(pb[0], &c, 1) != 1)
            return -1;
    }
    t = now() - t;
    pthread_join(th, 0);
    close(pa[0]); close(pa[1]); close(pb[0]); close(pb[1]);
    return t;
}

static atomic_int turn;
static long fx_n;

static void fwait(atomic_int *p, int v)
{
    syscall(SYS_futex, p, FUTEX_WAIT | FUTEX_PRIVATE_FLAG, v, 0, 0, 0);
}

static void fwake(atomic_int *p)
{
    syscall(SYS_futex, p, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, 1, 0, 0, 0);
}

static void fx_side(int me, long n)
{
    for (long i = 0; i < n; i++) {
        while (atomic_load(&turn) != me)
            fwait(&turn, !me);
        atomic_store(&turn, !me);
        fwake(&turn);
    }
}

static void *fx_thread(void *a)
{
    (void)a;
    fx_side(1, fx_n);
    return 0;
}

static double t_futex(long n)
{
    pthread_t th;
    fx_n = n;
    atomic_store(&turn, 0);
    if (pthread_create(&th, 0, fx_thread, 0))
        return -1;
    double t = now();
    fx_side(0, n);
    pthread_join(th, 0);
    return now() - t;
}

static double t_mmap(long mib)
{
    size_t len = (size_t)mib << 20;
    double t = now();
    char *p = mmap(0, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED)
        return -1;
    for (size_t i = 0; i < len; i += 4096)
        p[i] = 1;
    t = now() - t;
    munmap(p, len);
    return t;
}

static double t_mmap_munmap(long n)
{
    double t = now();
    for (long i = 0; i < n; i++) {
        char *p = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (p == MAP_FAILED)
            return -1;
        *p = 1;
        munmap(p, 4096);
    }
    return now() - t;
}

static void *nop_thread(void *a)
{
    return a;
}

static double t_thread(long n)
{
    pthread_t th;
    double t = now();
    for (long i = 0; i < n; i++) {
        if (pthread_create(&th, 0, nop_thread, 0))
            return -1;
        pthread_join(th, 0);
    }
    return now() - t;
}

static double t_seqread(long mib)
{
    static char buf[1 << 20];
    long left = mib;
    int fd = open(datafile, O_RDONLY);
    if (fd < 0)
        return -1;
    double t = now();
    while (left > 0) {
        ssize_t r = read(fd, buf, sizeof buf);
        if (r <= 0) {
            errno = r ? errno : ENODATA;
            close(fd);
            return -1;
        }
        left--;
    }
    t = now() - t;
    close(fd);
    return t;
}

static double t_spin(long n)
{
    double t = now();
    for (long i = 0; i < n; i++)
        __asm__ volatile("" ::: "memory");
    return now() - t;
}

int main(int argc, char **argv)
{
    setvbuf(stdout, 0, _IOLBF, 0);
    if (argc > 1)
        scale = atol(argv[1]);
    if (argc > 2 && strcmp(argv[2], "-"))
        datafile = argv[2];
    if (argc > 3)
        only = argv[3];
    printf("micro: scale %ld, %d runs each\n", scale, REP);
    run("spin", t_spin, 200000000, "ns/iter", 1e9);
    run("getppid", t_getppid, 2000000, "ns/call", 1e9);
    run("clock_gettime_syscall", t_clock_sys, 2000000, "ns/call", 1e9);
    run("clock_gettime_vdso", t_clock_vdso, 5000000, "ns/call", 1e9);
    run("read_devzero_64", t_devzero, 1000000, "ns/call", 1e9);
    run("pipe_pingpong", t_pipe, 100000, "ns/roundtrip", 1e9);
    run("futex_handoff", t_futex, 100000, "ns/roundtrip", 1e9);
    run("mmap_touch_munmap_4k", t_mmap_munmap, 100000, "ns/op", 1e9);
    run("thread_create_join", t_thread, 20000, "ns/op", 1e9);
    {   /* sizes, not counts: keep them whatever the scale */
        long s = scale;
        scale = 1;
        run("mmap_touch_256MiB", t_mmap, 256, "MiB/s", -1);
        if (datafile)
            run("seqread_256MiB", t_seqread, 256, "MiB/s", -1);
        scale = s;
    }
    puts("micro: done");
    return 0;
}
