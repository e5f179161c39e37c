/* SPDX-License-Identifier: BSD-2-Clause */
/* Cancels threads at every kind of blocking call, at random moments: usage
 * cancel SECONDS. A thread must end, with its clean-up handler run, in time.
 * The last line has the counts; status 0 when none was lost. */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { READ, POLL, PAUSE, SLEEP, SEM, COND, RECV, EPOLL, KINDS };
static const char *const names[] = {"read", "poll", "pause", "sleep",
                                    "sem",  "cond", "recv",  "epoll"};
static int pipe_fds[2], sockets[2], epoll_fd;
static sem_t never;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;

struct job {
    int kind;
    volatile int started, cleaned, returned;
};

static void cleanup(void *arg)
{
    struct job *j = arg;

    if (j->kind == COND)
        pthread_mutex_unlock(&mutex);
    j->cleaned = 1;
}

static void block(int kind)
{
    struct pollfd p = {pipe_fds[0], POLLIN, 0};
    struct epoll_event e;
    char c;

    switch (kind) {
    case READ:
        (void)!read(pipe_fds[0], &c, 1);
        break;
    case POLL:
        poll(&p, 1, -1);
        break;
    case PAUSE:
        pause();
        break;
    case SLEEP:
        sleep(1000);
        break;
    case SEM:
        sem_wait(&never);
        break;
    case COND:
        for (;;)
            pthread_cond_wait(&cond, &mutex);
    case RECV:
        recv(sockets[0], &c, 1, 0);
        break;
    case EPOLL:
        epoll_wait(epoll_fd, &e, 1, -1);
        break;
    }
}

static void *run(void *arg)
{
    struct job *j = arg;

    pthread_cleanup_push(cleanup, j);
    if (j->kind == COND)
        pthread_mutex_lock(&mutex);
    j->started = 1;
    block(j->kind);
    j->returned = 1;
    pthread_cleanup_pop(1);
    return NULL;
}

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void cancel_one(int kind, unsigned *seed)
{
    struct job j = {.kind = kind};
    struct timespec t = {0, rand_r(seed) % 100000};
    pthread_t thread;
    void *result;

    pthread_create(&thread, NULL, run, &j);
    while (!j.started)
        sched_yield();
    if (rand_r(seed) % 4)
        nanosleep(&t, NULL);
    pthread_cancel(thread);
    pthread_join(thread, &result);
    if (result != PTHREAD_CANCELED || !j.cleaned || j.returned) {
        printf("%s: result %p cleaned %d returned %d\n", names[kind], result,
               j.cleaned, j.returned);
        exit(1);
    }
}

int main(int argc, char **argv)
{
    double end = now() + (argc > 1 ? atof(argv[1]) : 5);
    unsigned seed = 2;
    long counts = 0;

    sem_init(&never, 0, 0);
    epoll_fd = epoll_create1(0);
    if (pipe(pipe_fds) || socketpair(AF_UNIX, SOCK_STREAM, 0, sockets))
        return 2;
    while (now() < end) {
        for (int kind = 0; kind < KINDS; kind++) {
            alarm(20); /* a thread that does not end hangs the join */
            cancel_one(kind, &seed);
            counts++;
        }
    }
    printf("cancelled %ld threads, none lost\n", counts);
    return 0;
}
