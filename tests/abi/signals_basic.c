/* SPDX-License-Identifier: BSD-2-Clause */
/* sigaction and its flags, masks, pending, waiting, queues, alarms. */
#include "abi.h"

static volatile int hits, depth, deepest;

static const char *sig_name(int sig)
{
    static char text[16];

    if (sig >= SIGRTMIN)
        snprintf(text, sizeof(text), "RT+%d", sig - SIGRTMIN);
    else
        return sigabbrev_np(sig) ? sigabbrev_np(sig) : "?";
    return text;
}

static void tell(int sig, siginfo_t *i, void *uc)
{
    printf("  %s code %d value %d mine %d\n", sig_name(sig), i->si_code,
           i->si_code == SI_QUEUE ? i->si_value.sival_int : 0,
           i->si_pid == getpid());
    hits++;
}

static void count(int sig, siginfo_t *i, void *uc)
{
    hits++;
}

static void set_of(sigset_t *set, int a, int b)
{
    sigemptyset(set);
    if (a)
        sigaddset(set, a);
    if (b)
        sigaddset(set, b);
}

static void actions(void)
{
    struct sigaction sa, old;

    SECTION("sigaction");
    E(sigaction(SIGUSR1, NULL, &old));
    YES(old.sa_handler == SIG_DFL && old.sa_flags == 0);
    on_signal(SIGUSR1, tell, SA_RESTART | SA_NODEFER);
    E(sigaction(SIGUSR1, NULL, &old));
    printf("flags %x, ours %d\n", old.sa_flags, old.sa_sigaction == tell);
    raise(SIGUSR1);
    kill(getpid(), SIGUSR1);
    syscall(SYS_tkill, syscall(SYS_gettid), SIGUSR1);
    sigqueue(getpid(), SIGUSR1, (union sigval){.sival_int = 5});
    sa = (struct sigaction){.sa_handler = SIG_IGN};
    E(sigaction(SIGUSR1, &sa, NULL));
    raise(SIGUSR1);
    E(sigaction(SIGKILL, &sa, NULL));
    E(sigaction(SIGSTOP, &sa, NULL));
    E(sigaction(SIGKILL, NULL, &old));
    E(sigaction(0, NULL, &old));
    E(sigaction(65, NULL, &old));
    E(syscall(SYS_rt_sigaction, SIGUSR1, NULL, &old, 4));
    E(syscall(SYS_rt_sigaction, SIGUSR1, (void *)8, NULL, 8));
    SECTION("ignored by default: no end");
    E(raise(SIGCHLD));
    E(raise(SIGURG));
    E(raise(SIGWINCH));
    E(raise(SIGCONT));
}

static void resets(int sig, siginfo_t *i, void *uc)
{
    struct sigaction sa;

    sigaction(sig, NULL, &sa);
    printf("  in the handler: default %d\n", sa.sa_handler == SIG_DFL);
}

static void nests(int sig, siginfo_t *i, void *uc)
{
    if (++depth > deepest)
        deepest = depth;
    if (hits++ < 3)
        raise(sig);
    depth--;
}

static void masks_seen(int sig, siginfo_t *i, void *context)
{
    sigset_t now;

    sigprocmask(SIG_BLOCK, NULL, &now);
    printf("  blocked inside: USR1 %d USR2 %d HUP %d\n",
           sigismember(&now, SIGUSR1), sigismember(&now, SIGUSR2),
           sigismember(&now, SIGHUP));
    raise(SIGUSR2); /* waits until we are done */
    printf("  leaving, hits %d\n", hits);
}

static void flags(void)
{
    struct sigaction sa;

    SECTION("flags");
    on_signal(SIGUSR2, resets, (int)SA_RESETHAND);
    raise(SIGUSR2);
    hits = 0;
    on_signal(SIGUSR2, nests, SA_NODEFER);
    raise(SIGUSR2);
    printf("with SA_NODEFER %d deep\n", deepest);
    deepest = depth = hits = 0;
    on_signal(SIGUSR2, nests, 0);
    raise(SIGUSR2);
    printf("without %d\n", deepest);
    hits = 0;
    on_signal(SIGUSR2, count, 0);
    sa = (struct sigaction){.sa_sigaction = masks_seen,
                            .sa_flags = SA_SIGINFO};
    set_of(&sa.sa_mask, SIGUSR2, SIGHUP);
    sigaction(SIGUSR1, &sa, NULL);
    raise(SIGUSR1);
    printf("afterwards %d\n", hits);
}

static void pending(void)
{
    sigset_t set, old, got;

    SECTION("masks and pending");
    on_signal(SIGUSR1, tell, 0);
    on_signal(SIGUSR2, tell, 0);
    on_signal(SIGRTMIN, tell, 0);
    set_of(&set, SIGUSR1, SIGUSR2);
    sigaddset(&set, SIGRTMIN);
    E(sigprocmask(SIG_BLOCK, &set, &old));
    E(sigprocmask(77, &set, NULL));
    raise(SIGUSR1);
    raise(SIGUSR1);
    kill(getpid(), SIGUSR1);
    for (int i = 1; i <= 3; i++)
        sigqueue(getpid(), SIGRTMIN, (union sigval){.sival_int = i});
    E(sigpending(&got));
    printf("pending %d %d %d\n", sigismember(&got, SIGUSR1),
           sigismember(&got, SIGUSR2), sigismember(&got, SIGRTMIN));
    on_signal(SIGRTMIN, tell, 0);
    /* Setting SIG_IGN throws what pends away. */
    signal(SIGUSR1, SIG_IGN);
    E(sigpending(&got));
    E(sigismember(&got, SIGUSR1));
    on_signal(SIGUSR1, tell, 0);
    E(sigprocmask(SIG_SETMASK, &old, NULL));
    sigfillset(&set);
    E(sigprocmask(SIG_BLOCK, &set, &old));
    E(sigprocmask(SIG_BLOCK, NULL, &got));
    printf("KILL %d STOP %d TERM %d\n", sigismember(&got, SIGKILL),
           sigismember(&got, SIGSTOP), sigismember(&got, SIGTERM));
    E(sigprocmask(SIG_SETMASK, &old, NULL));
}

static void *kill_later(void *arg)
{
    sleep_ms(40);
    kill(getpid(), (int)(long)arg);
    return NULL;
}

static void waiting(void)
{
    struct timespec soon = {0, 20 * MS}, now = {0, 0}, bad = {0, -1};
    sigset_t set, none, old;
    siginfo_t info;
    pthread_t t;

    SECTION("waiting");
    set_of(&set, SIGUSR1, SIGRTMIN);
    sigemptyset(&none);
    sigprocmask(SIG_BLOCK, &set, &old);
    E(sigtimedwait(&set, &info, &now));
    E(sigtimedwait(&set, &info, &soon));
    E(sigtimedwait(&set, &info, &bad));
    sigqueue(getpid(), SIGRTMIN, (union sigval){.sival_int = 9});
    raise(SIGUSR1);
    E(sigtimedwait(&set, &info, &soon)); /* the lower number first */
    printf("  code %d\n", info.si_code);
    E(sigwaitinfo(&set, &info) == SIGRTMIN);
    printf("  code %d value %d uid %d\n", info.si_code,
           info.si_value.sival_int, (int)info.si_uid);
    pthread_create(&t, NULL, kill_later, (void *)SIGUSR1);
    E(sigwaitinfo(&set, NULL));
    pthread_join(t, NULL);
    sigaddset(&set, SIGUSR2);
    on_signal(SIGHUP, tell, SA_RESTART);
    sigset_t hup;
    set_of(&hup, SIGHUP, 0);
    pthread_sigmask(SIG_BLOCK, &hup, NULL);
    raise(SIGHUP);
    raise(SIGUSR1);
    sigset_t all_but_hup;
    sigfillset(&all_but_hup);
    sigdelset(&all_but_hup, SIGHUP);
    E(sigsuspend(&all_but_hup));
    E(sigtimedwait(&set, NULL, &now));
    pthread_sigmask(SIG_UNBLOCK, &hup, NULL);
    sigprocmask(SIG_SETMASK, &old, NULL);
    E(syscall(SYS_rt_sigsuspend, &none, 4));
    E(kill(getpid(), 0));
    E(kill(getpid(), 99));
    E(kill(99999999, 0));
    E(syscall(SYS_tgkill, getpid(), 99999999, 0));
    E(syscall(SYS_tgkill, -1, 1, 0));
    E(syscall(SYS_tgkill, getpid(), syscall(SYS_gettid), 0));
    info.si_code = SI_USER;
    E(syscall(SYS_rt_sigqueueinfo, 99999999, SIGUSR1, &info));
}

static void alarms(void)
{
    struct itimerval it = {{0, 5000}, {0, 5000}}, old;

    SECTION("alarm and setitimer");
    E(alarm(0) > 0); /* the watchdog's */
    E(alarm(100));
    E(alarm(0) > 90);
    on_signal(SIGALRM, count, 0);
    hits = 0;
    E(setitimer(ITIMER_REAL, &it, NULL));
    while (hits < 5)
        pause();
    E(getitimer(ITIMER_REAL, &old));
    YES(old.it_interval.tv_usec == 5000);
    it.it_value = it.it_interval = (struct timeval){0, 0};
    E(setitimer(ITIMER_REAL, &it, &old));
    YES(old.it_interval.tv_usec == 5000);
    it.it_value.tv_usec = 1000000;
    E(setitimer(ITIMER_REAL, &it, NULL));
    E(setitimer(9, &it, NULL));
    E(setitimer(ITIMER_REAL, (void *)8, NULL));
    E(getitimer(9, &old));
    signal(SIGALRM, SIG_DFL);
    alarm(20);
}

int main(void)
{
    watchdog();
    actions();
    flags();
    pending();
    waiting();
    alarms();
    return 0;
}
