/* SPDX-License-Identifier: BSD-2-Clause */
/* Signals: delivery, information, masks, stacks, restarts, faults. */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

static void show(const char *what, long r)
{
    printf("%s: %ld %s\n", what, r, r < 0 ? strerror(errno) : "");
}

static volatile int hits;
static sigjmp_buf back;
static char *page;
static char altstack[65536];

static void on_info(int sig, siginfo_t *info, void *context)
{
    ucontext_t *uc = context;

    printf("  handler: signal %d code %d mine %d value %d\n", sig,
           info->si_code, info->si_pid == getpid(),
           info->si_code == SI_QUEUE ? info->si_value.sival_int : 0);
    printf("  mask in frame has USR2: %d\n",
           sigismember(&uc->uc_sigmask, SIGUSR2));
    hits++;
}

static void install(int sig, void (*f)(int, siginfo_t *, void *), int flags)
{
    struct sigaction sa = {.sa_sigaction = f, .sa_flags = SA_SIGINFO | flags};

    sigemptyset(&sa.sa_mask);
    if (sigaction(sig, &sa, NULL) != 0)
        printf("sigaction %d: %s\n", sig, strerror(errno));
}

static void basics(void)
{
    struct sigaction sa;
    sigset_t set, old;
    union sigval v = {.sival_int = 42};

    install(SIGUSR1, on_info, 0);
    printf("raise\n");
    raise(SIGUSR1);
    printf("kill\n");
    kill(getpid(), SIGUSR1);
    printf("sigqueue\n");
    sigqueue(getpid(), SIGUSR1, v);
    sigaction(SIGUSR1, NULL, &sa);
    printf("flags %x handler %d\n", sa.sa_flags, sa.sa_sigaction == on_info);
    show("SIGKILL", sigaction(SIGKILL, &sa, NULL));
    show("signal 65", sigaction(65, &sa, NULL));
    printf("kill 0: %d\n", kill(getpid(), 0));
    show("kill -9 nobody", kill(99999999, 9));

    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigaddset(&set, SIGUSR2);
    sigprocmask(SIG_BLOCK, &set, &old);
    kill(getpid(), SIGUSR1);
    kill(getpid(), SIGUSR1);
    sigpending(&set);
    printf("pending %d %d\n", sigismember(&set, SIGUSR1),
           sigismember(&set, SIGUSR2));
    sigprocmask(SIG_SETMASK, &old, NULL);
    printf("hits %d\n", hits);
}

static void on_rt(int sig, siginfo_t *info, void *c)
{
    (void)c;
    printf("  rt %d value %d\n", sig - SIGRTMIN, info->si_value.sival_int);
}

static void realtime(void)
{
    sigset_t set, old;

    sigfillset(&set);
    install(SIGRTMIN, on_rt, 0);
    install(SIGRTMIN + 1, on_rt, 0);
    sigprocmask(SIG_BLOCK, &set, &old);
    for (int i = 0; i < 4; i++)
        sigqueue(getpid(), SIGRTMIN + (i + 1) % 2, (union sigval){i});
    /* One at a time: the order of several handlers' frames is not POSIX'. */
    for (int i = 0; i < 4; i++) {
        siginfo_t info;
        int s = sigwaitinfo(&set, &info);
        printf("waited for %d value %d code %d\n", s - SIGRTMIN,
               info.si_value.sival_int, info.si_code);
    }
    struct timespec t = {0, 10000000};
    int r = sigtimedwait(&set, NULL, &t);
    show("timed out", r);
    sigprocmask(SIG_SETMASK, &old, NULL);
}

static void on_fault(int sig, siginfo_t *info, void *context)
{
    ucontext_t *uc = context;

    printf("  %s code %d address %s trap %lld err %llx\n", strsignal(sig),
           info->si_code,
           info->si_addr == NULL             ? "0"
           : (char *)info->si_addr == page   ? "page"
           : (char *)info->si_addr == page + 4096 ? "page+1"
                                             : "other",
           uc->uc_mcontext.gregs[REG_TRAPNO],
           sig == SIGSEGV ? uc->uc_mcontext.gregs[REG_ERR] & 0x16 : 0);
    siglongjmp(back, 1);
}

#define FAULT(name, code)              \
    do {                               \
        printf("%s\n", name);          \
        fflush(stdout);                \
        if (sigsetjmp(back, 1) == 0) { \
            code;                      \
            printf("no fault\n");      \
        }                              \
    } while (0)

static void faults(void)
{
    volatile int zero = 0, one = 1, sink = 0;
    char name[] = "/tmp/abi-XXXXXX";
    int fd = mkstemp(name);

    page = mmap(NULL, 8192, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    munmap(page + 4096, 4096);
    install(SIGSEGV, on_fault, 0);
    install(SIGBUS, on_fault, 0);
    install(SIGFPE, on_fault, 0);
    install(SIGILL, on_fault, 0);
    FAULT("NULL", sink = *(volatile char *)(uintptr_t)zero);
    FAULT("read-only", *(volatile char *)page = 1);
    FAULT("unmapped", sink = *(volatile char *)(page + 4096));
    FAULT("execute", ((void (*)(void))page)());
    FAULT("divide", sink = one / zero);
    FAULT("ud2", __asm__ volatile("ud2"));
    munmap(page, 4096);
    if (ftruncate(fd, 100) != 0)
        return;
    page = mmap(NULL, 8192, PROT_READ, MAP_SHARED, fd, 0);
    FAULT("past the end of a file", sink = *(volatile char *)(page + 4096));
    unlink(name);
    (void)sink;
}

static void on_alt(int sig, siginfo_t *info, void *context)
{
    char here;

    (void)info;
    (void)context;
    printf("  %s on the alternate stack: %d\n", strsignal(sig),
           &here >= altstack && &here < altstack + sizeof(altstack));
    if (sig == SIGSEGV)
        siglongjmp(back, 1);
}

__attribute__((noinline)) static int deep(volatile char *p)
{
    volatile char big[4096];

    big[0] = p != NULL ? p[0] : 0;
    return big[0] == 1 ? 0 : deep(big) + big[1]; /* it never is 1 */
}

static void stacks(void)
{
    stack_t ss = {.ss_sp = altstack, .ss_size = sizeof(altstack)}, old;

    printf("sigaltstack %d\n", sigaltstack(&ss, &old));
    printf("old flags %d\n", old.ss_flags);
    ss.ss_size = 100;
    show("too small", sigaltstack(&ss, NULL));
    install(SIGUSR2, on_alt, SA_ONSTACK);
    raise(SIGUSR2);
    install(SIGSEGV, on_alt, SA_ONSTACK);
    FAULT("stack overflow", deep(NULL));
}

static void on_quiet(int sig)
{
    (void)sig;
    hits++;
}

static int fds[2];

static void *poke(void *arg)
{
    usleep(50000);
    pthread_kill(*(pthread_t *)arg, SIGUSR1);
    usleep(50000);
    if (write(fds[1], "x", 1) != 1)
        perror("write");
    return NULL;
}

static void restarts(void)
{
    struct sigaction sa = {.sa_handler = on_quiet};
    pthread_t self = pthread_self(), t;
    struct timespec ts = {0, 200000000}, rem;
    sigset_t none;
    char c;

    for (int restart = 0; restart < 2; restart++) {
        sa.sa_flags = restart ? SA_RESTART : 0;
        sigaction(SIGUSR1, &sa, NULL);
        if (pipe(fds) != 0)
            return;
        pthread_create(&t, NULL, poke, &self);
        ssize_t n = read(fds[0], &c, 1);
        printf("read, SA_RESTART %d: %zd %s\n", restart, n,
               n < 0 ? strerror(errno) : "");
        pthread_join(t, NULL);
        pthread_create(&t, NULL, poke, &self);
        int r = nanosleep(&ts, &rem);
        printf("nanosleep, SA_RESTART %d: %d %s\n", restart, r,
               r < 0 ? strerror(errno) : "");
        pthread_join(t, NULL);
        close(fds[0]);
        close(fds[1]);
    }
    if (pipe(fds) != 0)
        return;
    sigemptyset(&none);
    pthread_create(&t, NULL, poke, &self);
    show("sigsuspend", sigsuspend(&none));
    pthread_join(t, NULL);
    pthread_create(&t, NULL, poke, &self);
    show("pause", pause());
    pthread_join(t, NULL);
}

static volatile int depth, max_depth;

static void on_nested(int sig)
{
    if (++depth > max_depth)
        max_depth = depth;
    if (depth < 3)
        raise(sig);
    depth--;
}

static void flags(void)
{
    struct sigaction sa = {.sa_handler = on_nested, .sa_flags = SA_NODEFER};

    sigaction(SIGUSR2, &sa, NULL);
    raise(SIGUSR2);
    printf("SA_NODEFER depth %d\n", max_depth);
    sa.sa_handler = on_quiet;
    sa.sa_flags = (int)SA_RESETHAND;
    sigaction(SIGUSR2, &sa, NULL);
    raise(SIGUSR2);
    sigaction(SIGUSR2, NULL, &sa);
    printf("SA_RESETHAND: default %d\n", sa.sa_handler == SIG_DFL);
}

static void on_vector(int sig)
{
    double junk = sig;

    /* Spoils vector registers; the frame must bring them back. */
    for (int i = 0; i < 1000; i++)
        junk = junk * 1.0001 + i;
    hits += junk > 0;
}

static void vectors(void)
{
    struct sigaction sa = {.sa_handler = on_vector};
    struct itimerval it = {{0, 300}, {0, 300}};
    double x[8], sum = 0;

    sigaction(SIGALRM, &sa, NULL);
    hits = 0;
    setitimer(ITIMER_REAL, &it, NULL);
    for (int i = 0; i < 8; i++)
        x[i] = i;
    while (hits < 200)
        for (int k = 0; k < 8; k++)
            x[k] = x[k] + 1.0 - 1.0;
    memset(&it, 0, sizeof(it));
    setitimer(ITIMER_REAL, &it, NULL);
    for (int i = 0; i < 8; i++)
        sum += x[i];
    printf("sum after 200 signals: %g\n", sum);
}

int main(void)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    basics();
    realtime();
    faults();
    stacks();
    restarts();
    flags();
    vectors();
    printf("abort\n");
    signal(SIGABRT, SIG_DFL);
    abort();
}
