/* SPDX-License-Identifier: BSD-2-Clause */
/* sigaltstack: which stack a handler runs on, recovery from an overflow. */
#include "abi.h"

static sigjmp_buf back;
static char stack_room[65536];

static bool on_altstack(void)
{
    char here;
    stack_t ss;

    sigaltstack(NULL, &ss);
    printf("  flags %x\n", ss.ss_flags);
    return &here >= stack_room && &here < stack_room + sizeof(stack_room);
}

static void on_other(int sig, siginfo_t *i, void *context)
{
    stack_t ss = {.ss_sp = stack_room, .ss_size = sizeof(stack_room)};

    SAY("  on the other stack", on_altstack());
    if (sig == SIGUSR1)
        E(sigaltstack(&ss, NULL)); /* not while on it */
    if (sig == SIGSEGV)
        siglongjmp(back, 1);
}

NOINLINE static int recurse(volatile char *p)
{
    volatile char big[2000];

    big[0] = p ? p[0] : 0;
    return big[0] == 1 ? 0 : recurse(big) + big[1];
}

int main(void)
{
    stack_t ss = {.ss_sp = stack_room, .ss_size = sizeof(stack_room)}, old;

    watchdog();
    E(sigaltstack(NULL, &old));
    E(old.ss_flags);
    E(sigaltstack(&ss, &old));
    on_signal(SIGUSR1, on_other, SA_ONSTACK);
    raise(SIGUSR1);
    on_signal(SIGUSR2, on_other, 0);
    raise(SIGUSR2);
    on_signal(SIGSEGV, on_other, SA_ONSTACK);
    for (int i = 0; i < 3; i++) {
        if (sigsetjmp(back, 1) == 0)
            recurse(NULL);
        printf("recovered from the overflow\n");
    }
    ss.ss_size = 1000;
    E(sigaltstack(&ss, NULL));
    ss.ss_flags = 77;
    E(sigaltstack(&ss, NULL));
    ss.ss_flags = SS_DISABLE;
    E(sigaltstack(&ss, NULL));
    raise(SIGUSR1);
    E(sigaltstack((void *)8, NULL));
    return 0;
}
