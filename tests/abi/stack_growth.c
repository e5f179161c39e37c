/* SPDX-License-Identifier: BSD-2-Clause */
/* The stack grows to its limit; beyond it comes SIGSEGV on the other stack,
 * with the address of the touch. Threads have guard pages. */
#include "abi.h"

#include <sys/resource.h>
#include <ucontext.h>

static sigjmp_buf back;
static char *top, *fault, *sp_then;
static int code, overflows;
static __thread char *thread_top;

static void on_fault(int sig, siginfo_t *info, void *context)
{
    ucontext_t *uc = context;

    fault = info->si_addr;
    sp_then = (char *)uc->uc_mcontext.gregs[REG_RSP];
    code = info->si_code;
    overflows++;
    siglongjmp(back, 1);
}

/* Uses `bytes` of stack in steps of 1000, and sums them on the way back. */
NOINLINE static long recurse(long bytes)
{
    volatile char room[1000];

    memset((char *)room, 3, sizeof(room));
    if (bytes <= 0)
        return room[500];
    return recurse(bytes - 1000) + room[999];
}

NOINLINE static long endless(volatile char *p)
{
    volatile char room[3000];

    room[0] = p ? p[0] : 0;
    return room[0] == 1 ? 0 : endless(room) + room[1];
}

static void *in_thread(void *arg)
{
    static char other[2][32768];
    stack_t ss = {.ss_sp = other[(long)arg], .ss_size = 32768};
    char here;

    sigaltstack(&ss, NULL);
    thread_top = &here;
    printf("200 KiB %ld\n", recurse(200 << 10));
    if (sigsetjmp(back, 1) == 0)
        endless(NULL);
    printf("overflow in a thread: code %d\n", code);
    SAY("within 600 KiB", thread_top - fault < 600 << 10 &&
                              thread_top - fault > 400 << 10);
    SAY("near the stack pointer", labs(fault - sp_then) < 8192);
    return NULL;
}

int main(void)
{
    struct rlimit l = {8 << 20, 0}, old;
    static char other[65536];
    stack_t ss = {.ss_sp = other, .ss_size = sizeof(other)};
    pthread_attr_t attr;
    pthread_t t;
    char here;

    watchdog();
    getrlimit(RLIMIT_STACK, &old);
    l.rlim_max = old.rlim_max;
    MUST(setrlimit(RLIMIT_STACK, &l));
    top = &here;
    SECTION("growing");
    printf("1 MiB %ld\n", recurse(1 << 20));
    printf("6 MiB %ld\n", recurse(6 << 20));
    printf("6 MiB again %ld\n", recurse(6 << 20));
    /* A touch far below the stack pointer, but within the limit. */
    volatile char *far = &here - (6 << 20) - 500000;
    *far = 1;
    printf("far below %d\n", *far);
    SECTION("overflow");
    MUST(sigaltstack(&ss, NULL));
    on_signal(SIGSEGV, on_fault, SA_ONSTACK);
    for (int i = 0; i < 3; i++) {
        if (sigsetjmp(back, 1) == 0)
            endless(NULL);
        printf("code is SEGV_MAPERR or _ACCERR %d\n",
               code == SEGV_MAPERR || code == SEGV_ACCERR);
        SAY("more than 7 MiB", top - fault > 7 << 20);
        SAY("at most the limit", top - fault < (8 << 20) + 65536);
        SAY("near the stack pointer", labs(fault - sp_then) < 8192);
        printf("works again %ld\n", recurse(2 << 20));
    }
    SECTION("threads");
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, 512 << 10);
    for (long i = 0; i < 2; i++) {
        pthread_create(&t, &attr, in_thread, (void *)i);
        pthread_join(t, NULL);
    }
    printf("overflows %d\n", overflows);
    SECTION("a lower limit");
    l.rlim_cur = 2 << 20;
    E(setrlimit(RLIMIT_STACK, &l));
    return 0;
}
