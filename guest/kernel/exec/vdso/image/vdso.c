/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The vDSO: code the program runs to read the time and its CPU without a
 * system call. Built as a shared object of its own (guest/vdso.mk) and mapped
 * by exec/vdso.c; the page before it holds struct clock_params.
 *
 * - Runs as program code: any stack (Go calls it on small ones), no kernel
 *   memory but the per-CPU block, which GS always points to (core.md 1).
 * - Names and version as Linux' (man 7 vdso).
 */
#include "arch/arch.h"
#include "capstan_link.h"

#define EXPORT __attribute__((visibility("default")))
#define NSEC 1000000000ul
#define NR_CLOCK_GETTIME 228
#define NR_CLOCK_GETRES 229
#define NR_GETTIMEOFDAY 96
#define NR_TIME 201

extern const struct clock_params vvar_page
    __attribute__((visibility("hidden")));

struct timespec {
    int64_t sec, nsec;
};

long __vdso_clock_gettime(int clock, struct timespec *ts);
long __vdso_clock_getres(int clock, struct timespec *ts);
long __vdso_gettimeofday(struct timespec *tv, void *tz);
long __vdso_time(int64_t *out);
long __vdso_getcpu(unsigned *cpu, unsigned *node, void *unused);

static inline long call2(long nr, long a, long b)
{
    long r;

    /* As a linked site calls: see capstan_link.h. */
    __asm__ volatile("lea 1f(%%rip), %%rcx\n\t"
                     "jmp *%c[cell]\n\t"
                     "syscall\n"
                     "1:"
                     : "=a"(r)
                     : "0"(nr), "D"(a), "S"(b), [cell] "i"(CAPSTAN_CELLS)
                     : "rcx", "r11", "memory");
    return r;
}

static inline uint64_t tsc(void)
{
    uint32_t lo, hi;

    __asm__ volatile("lfence; rdtsc" : "=a"(lo), "=d"(hi)::"memory");
    return lo | (uint64_t)hi << 32;
}

/* Nanoseconds now; false: ask the kernel. */
static inline bool now_ns(bool realtime, uint64_t *out)
{
    const volatile struct clock_params *p = &vvar_page;
    uint32_t seq;
    uint64_t ns;

    do {
        seq = p->seq;
        __asm__ volatile("" ::: "memory");
        if (!p->usable)
            return false;
        ns = (uint64_t)((unsigned __int128)(tsc() - p->tsc_base) * p->mult >>
                        32) +
             (uint64_t)p->offset;
        if (realtime)
            ns += (uint64_t)p->realtime_offset;
        __asm__ volatile("" ::: "memory");
    } while ((seq & 1) || seq != p->seq);
    *out = ns;
    return true;
}

EXPORT long __vdso_clock_gettime(int clock, struct timespec *ts)
{
    uint64_t ns;
    bool realtime = clock == 0 || clock == 5 || clock == 11;

    /* REALTIME MONOTONIC RAW the coarse ones BOOTTIME TAI */
    if ((unsigned)clock > 11 || !(0x8f3u >> clock & 1) ||
        !now_ns(realtime, &ns))
        return call2(NR_CLOCK_GETTIME, clock, (long)ts);
    ts->sec = (int64_t)(ns / NSEC);
    ts->nsec = (int64_t)(ns % NSEC);
    return 0;
}

EXPORT long __vdso_gettimeofday(struct timespec *tv, void *tz)
{
    uint64_t ns;

    if (tz != NULL || !now_ns(true, &ns))
        return call2(NR_GETTIMEOFDAY, (long)tv, (long)tz);
    if (tv != NULL) {
        tv->sec = (int64_t)(ns / NSEC);
        tv->nsec = (int64_t)(ns % NSEC / 1000);
    }
    return 0;
}

EXPORT long __vdso_time(int64_t *out)
{
    uint64_t ns;
    long t;

    if (!now_ns(true, &ns))
        return call2(NR_TIME, (long)out, 0);
    t = (long)(ns / NSEC);
    if (out != NULL)
        *out = t;
    return t;
}

EXPORT long __vdso_clock_getres(int clock, struct timespec *ts)
{
    return call2(NR_CLOCK_GETRES, clock, (long)ts);
}

EXPORT long __vdso_getcpu(unsigned *cpu, unsigned *node, void *unused)
{
    unsigned id;

    (void)unused;
    __asm__ volatile("movl %%gs:%c1, %0"
                     : "=r"(id)
                     : "i"(offsetof(struct cpu, id)));
    if (cpu != NULL)
        *cpu = id;
    if (node != NULL)
        *node = 0;
    return 0;
}

#define ALIAS(name) \
    extern __typeof__(__vdso_##name) name \
        __attribute__((weak, alias("__vdso_" #name), visibility("default")))
ALIAS(clock_gettime);
ALIAS(clock_getres);
ALIAS(gettimeofday);
ALIAS(time);
ALIAS(getcpu);
