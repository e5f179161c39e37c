/* SPDX-License-Identifier: BSD-2-Clause */
/* setjmp and longjmp, with and without masks; contexts that are swapped. */
#include "abi.h"

#include <ucontext.h>

static jmp_buf plain;
static sigjmp_buf masked;

static void deeper(int n);
static void (*volatile again)(int) = deeper;

static void deeper(int n)
{
    volatile char room[500];

    room[0] = (char)n;
    if (n > 0) {
        again(n - 1);
        printf("never here, %d\n", room[0]);
    } else {
        longjmp(plain, 42);
    }
}

static bool blocked(int sig)
{
    sigset_t now;

    sigprocmask(SIG_BLOCK, NULL, &now);
    return sigismember(&now, sig) == 1;
}

static void leaves(int sig, siginfo_t *info, void *context)
{
    siglongjmp(masked, 5);
}

static void jumps(void)
{
    volatile int rounds = 0;
    int r;

    SECTION("longjmp");
    r = setjmp(plain);
    printf("returns %d\n", r);
    if (r == 0)
        deeper(50);
    r = setjmp(plain);
    printf("returns %d\n", r);
    if (r == 0)
        longjmp(plain, 0); /* becomes 1 */
    if (setjmp(plain) < 1000)
        longjmp(plain, 1000 + ++rounds);
    printf("rounds %d\n", rounds);
    volatile double kept = 1.5;
    if (setjmp(plain) == 0) {
        kept = 2.5;
        longjmp(plain, 1);
    }
    printf("kept %.1f\n", kept);

    SECTION("masks");
    on_signal(SIGUSR1, leaves, 0);
    r = sigsetjmp(masked, 1);
    printf("returns %d, blocked %d\n", r, blocked(SIGUSR1));
    if (r == 0)
        raise(SIGUSR1);
    r = sigsetjmp(masked, 0);
    printf("returns %d, blocked %d\n", r, blocked(SIGUSR1));
    if (r == 0)
        raise(SIGUSR1);
    sigset_t set;
    sigemptyset(&set);
    sigprocmask(SIG_SETMASK, &set, NULL);
    for (int i = 0; i < 1000; i++)
        if (sigsetjmp(masked, 1) == 0)
            raise(SIGUSR1);
    SAY("a thousand times", true);
}

static ucontext_t main_context, a_context, b_context;
static char a_stack[65536], b_stack[65536];

static void runs_a(int x, int y)
{
    double d = x;

    printf("a starts with %d %d\n", x, y);
    for (int i = 0; i < 3; i++) {
        d *= 1.5;
        printf("a %d\n", i);
        swapcontext(&a_context, &b_context);
    }
    printf("a ends, %.4f\n", d);
}

static void runs_b(void)
{
    double d = 7;

    for (int i = 0; i < 3; i++) {
        d /= 3;
        printf("b %d, blocked %d\n", i, blocked(SIGUSR2));
        swapcontext(&b_context, &a_context);
    }
    printf("never\n");
}

static void contexts(void)
{
    sigset_t set;

    SECTION("contexts");
    E(getcontext(&a_context));
    a_context.uc_stack.ss_sp = a_stack;
    a_context.uc_stack.ss_size = sizeof(a_stack);
    a_context.uc_link = &main_context;
    makecontext(&a_context, (void (*)(void))runs_a, 2, 10, 20);
    E(getcontext(&b_context));
    b_context.uc_stack.ss_sp = b_stack;
    b_context.uc_stack.ss_size = sizeof(b_stack);
    b_context.uc_link = &main_context;
    sigemptyset(&b_context.uc_sigmask);
    sigaddset(&b_context.uc_sigmask, SIGUSR2);
    makecontext(&b_context, runs_b, 0);
    E(swapcontext(&main_context, &a_context));
    printf("back in main, blocked %d\n", blocked(SIGUSR2));
    volatile int rounds = 0;
    getcontext(&main_context);
    if (++rounds < 5)
        setcontext(&main_context);
    printf("rounds %d\n", rounds);
    sigemptyset(&set);
    sigprocmask(SIG_SETMASK, &set, NULL);
}

/* A jump out of a handler on the other stack leaves that stack usable. */
static void from_other_stack(void)
{
    static char room[65536];
    stack_t ss = {.ss_sp = room, .ss_size = sizeof(room)}, now;

    SECTION("from the other stack");
    MUST(sigaltstack(&ss, NULL));
    on_signal(SIGUSR1, leaves, SA_ONSTACK);
    for (int i = 0; i < 3; i++) {
        if (sigsetjmp(masked, 1) == 0)
            raise(SIGUSR1);
        sigaltstack(NULL, &now);
        printf("flags %d\n", now.ss_flags);
    }
}

int main(void)
{
    watchdog();
    jumps();
    contexts();
    from_other_stack();
    return 0;
}
