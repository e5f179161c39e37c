/* SPDX-License-Identifier: BSD-2-Clause */
/* A leaf function keeps data below its stack pointer while a timer fires
 * every 200 us, handlers run, and pages are taken and given back. */
#include "abi.h"

static volatile long hits;

static void on_alarm(int sig, siginfo_t *info, void *context)
{
    volatile char fill[2000];

    for (int i = 0; i < COUNT(fill); i++)
        fill[i] = (char)0xee;
    hits++;
}

/* 15 words below rsp, written, left for a while, summed. */
NOINLINE static long leaf(long seed)
{
    long sum;

    __asm__ volatile("mov %1, %%rcx;"
                     "mov %%rcx, -8(%%rsp); inc %%rcx;"
                     "mov %%rcx, -16(%%rsp); inc %%rcx;"
                     "mov %%rcx, -24(%%rsp); inc %%rcx;"
                     "mov %%rcx, -32(%%rsp); inc %%rcx;"
                     "mov %%rcx, -64(%%rsp); inc %%rcx;"
                     "mov %%rcx, -96(%%rsp); inc %%rcx;"
                     "mov %%rcx, -120(%%rsp); inc %%rcx;"
                     "mov %%rcx, -128(%%rsp);"
                     "mov $200, %%ecx;"
                     "1: dec %%ecx; jnz 1b;"
                     "mov -8(%%rsp), %0; add -16(%%rsp), %0;"
                     "add -24(%%rsp), %0; add -32(%%rsp), %0;"
                     "add -64(%%rsp), %0; add -96(%%rsp), %0;"
                     "add -120(%%rsp), %0; add -128(%%rsp), %0"
                     : "=&r"(sum)
                     : "r"(seed)
                     : "rcx", "memory", "cc");
    return sum;
}

/* The same across a page fault: data below rsp, then a touch of new memory. */
NOINLINE static long leaf_with_fault(long seed, volatile char *fresh)
{
    long sum;

    __asm__ volatile("mov %1, -8(%%rsp); mov %1, -72(%%rsp);"
                     "mov %1, -128(%%rsp);"
                     "movb $1, (%2);"
                     "mov -8(%%rsp), %0; add -72(%%rsp), %0;"
                     "add -128(%%rsp), %0"
                     : "=&r"(sum)
                     : "r"(seed), "r"(fresh)
                     : "memory", "cc");
    return sum;
}

/* And across a system call, which leaves the red zone alone too. */
NOINLINE static long leaf_with_call(long seed)
{
    long sum;

    __asm__ volatile("mov %1, -8(%%rsp); mov %1, -56(%%rsp);"
                     "mov %1, -128(%%rsp);"
                     "mov $39, %%eax; syscall;"
                     "mov -8(%%rsp), %0; add -56(%%rsp), %0;"
                     "add -128(%%rsp), %0"
                     : "=&r"(sum)
                     : "r"(seed)
                     : "rax", "rcx", "r11", "memory", "cc");
    return sum;
}

static long storm(bool use_altstack)
{
    static char stack[65536];
    stack_t ss = {.ss_sp = stack, .ss_size = sizeof(stack)};
    struct itimerval it = {{0, 200}, {0, 200}}, off = {{0, 0}, {0, 0}};
    int64_t end = now_ns(CLOCK_MONOTONIC) + 500 * MS;
    size_t size = 256 * 4096;
    long bad = 0, seed = 1;

    hits = 0;
    if (use_altstack)
        sigaltstack(&ss, NULL);
    on_signal(SIGALRM, on_alarm, SA_RESTART | (use_altstack ? SA_ONSTACK : 0));
    setitimer(ITIMER_REAL, &it, NULL);
    do {
        char *fresh = mmap(NULL, size, PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        for (int i = 0; i < 256; i++, seed++) {
            bad += leaf(seed) != 8 * seed + 28;
            bad += leaf_with_fault(seed, fresh + i * 4096) != 3 * seed;
            bad += leaf_with_call(seed) != 3 * seed;
        }
        munmap(fresh, size);
    } while (now_ns(CLOCK_MONOTONIC) < end);
    setitimer(ITIMER_REAL, &off, NULL);
    return bad;
}

int main(void)
{
    long bad;

    watchdog();
    bad = storm(false);
    printf("wrong sums %ld\n", bad);
    SAY("many signals", hits > 50);
    bad = storm(true);
    printf("on another stack: wrong sums %ld\n", bad);
    SAY("many signals", hits > 50);
    return 0;
}
