// SPDX-License-Identifier: BSD-2-Clause
/*
 * What depends on the program counter in or near a system call: a backtrace from a signal handler,
 * and cancellation, which runs cleanup handlers by unwinding (glibc) or compares the counter with a
 * range (musl). Prints the same lines whether linked as native-pc or not; a linked program may be
 * caught in a stub once in a while, which costs one backtrace (in `read` always: class P, whose
 * `syscall` is in the stub of that flavour; so there is no read in the storm).
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

#ifdef __GLIBC__
#include <execinfo.h>

static atomic_ulong caught, truncated;
static void *low, *high;

static void on_alarm(int signal)
{
    (void)signal;
    void *frames[32];
    int n = backtrace(frames, 32), found = 0;
    for (int i = 0; i < n; i++)
        found |= frames[i] >= low && frames[i] < high;
    caught++;
    truncated += !found;
}

/* Make calls for a while; the addresses after its calls are in [low, high). */
__attribute__((noinline)) static void storm(void)
{
    static char buf[4096];
    int zero = open("/dev/zero", O_RDONLY), null = open("/dev/null", O_WRONLY);
    struct timespec start, now, none = {0, 1};
    clock_gettime(CLOCK_MONOTONIC, &start);
    do {
        for (int i = 0; i < 50; i++) {
            if (pread(zero, buf, sizeof(buf), 0) < 0 || write(null, buf, sizeof(buf)) < 0)
                fail("read or write");
            syscall(SYS_getppid);
            getuid();
        }
        nanosleep(&none, NULL);
        clock_gettime(CLOCK_MONOTONIC, &now);
    } while (now.tv_sec * 10 + now.tv_nsec / 100000000 <
             start.tv_sec * 10 + start.tv_nsec / 100000000 + 12);
}

__attribute__((noinline)) static void signals(void)
{
    low = (void *)signals;
    high = (char *)low + 256;
    void *frame[1];
    backtrace(frame, 1); /* loads libgcc_s now, not in the handler */
    struct sigaction action = {.sa_handler = on_alarm, .sa_flags = SA_RESTART};
    struct itimerval every = {{0, 200}, {0, 200}}, never = {{0, 0}, {0, 0}};
    sigaction(SIGALRM, &action, NULL);
    setitimer(ITIMER_REAL, &every, NULL);
    storm();
    setitimer(ITIMER_REAL, &never, NULL);
    printf("signals: %s, truncated backtraces: %s\n", caught > 500 ? "many" : "too few",
           truncated * 50 < caught ? "(nearly) none" : "too many");
    fprintf(stderr, "%lu signals, %lu truncated\n", caught, truncated);
}
#else
static void signals(void)
{
}
#endif

static atomic_int cleaned;
static int pipe_fds[2], sock_fds[2];
static sem_t sem;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;

static void clean(void *arg)
{
    (void)arg;
    cleaned++;
}

static void unlock(void *arg)
{
    pthread_mutex_unlock(arg);
}

static void in_read(void)
{
    char c;
    if (read(pipe_fds[0], &c, 1) >= 0)
        fail("read");
}

static void in_poll(void)
{
    struct pollfd fd = {pipe_fds[0], POLLIN, 0};
    poll(&fd, 1, -1);
}

static void in_pause(void)
{
    pause();
}

static void in_sleep(void)
{
    sleep(1000);
}

static void in_sem(void)
{
    sem_wait(&sem);
}

static void in_cond(void)
{
    pthread_mutex_lock(&mutex);
    pthread_cleanup_push(unlock, &mutex);
    for (;;)
        pthread_cond_wait(&cond, &mutex);
    pthread_cleanup_pop(1);
}

static void in_recv(void)
{
    char c;
    recv(sock_fds[0], &c, 1, 0);
}

static void (*const blocking[])(void) = {in_read, in_poll, in_pause, in_sleep,
                                         in_sem,  in_cond, in_recv};
#define NR_BLOCKING (sizeof(blocking) / sizeof(blocking[0]))

struct job {
    void (*block)(void);
    int type;
};

static void *run(void *arg)
{
    struct job *job = arg;
    pthread_setcanceltype(job->type, NULL);
    pthread_cleanup_push(clean, NULL);
    job->block();
    pthread_cleanup_pop(0);
    return NULL;
}

static void cancellation(int type, const char *name)
{
    int cancelled = 0;
    cleaned = 0;
    for (size_t i = 0; i < NR_BLOCKING; i++) {
        struct job job = {blocking[i], type};
        pthread_t thread;
        void *result;
        if (pthread_create(&thread, NULL, run, &job))
            fail("pthread_create");
        usleep(20000);
        pthread_cancel(thread);
        pthread_join(thread, &result);
        cancelled += result == PTHREAD_CANCELED;
    }
    printf("%s: %d of %d cancelled, %d cleaned up\n", name, cancelled, (int)NR_BLOCKING, cleaned);
}

int main(void)
{
    alarm(0);
    if (pipe(pipe_fds) || socketpair(AF_UNIX, SOCK_STREAM, 0, sock_fds) || sem_init(&sem, 0, 0))
        fail("pipe, socketpair, sem_init");
    signals();
    cancellation(PTHREAD_CANCEL_DEFERRED, "deferred");
    cancellation(PTHREAD_CANCEL_ASYNCHRONOUS, "asynchronous");
    return 0;
}
