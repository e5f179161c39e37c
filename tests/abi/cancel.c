/* SPDX-License-Identifier: BSD-2-Clause */
/* Cancelling threads, clean-up handlers, specific data, exit of threads. */
#include "abi.h"

#include <poll.h>
#include <semaphore.h>
#include <sys/epoll.h>

static pthread_key_t key, key2;
static int rounds;
static int fds[2];
static sem_t sem;
static volatile pid_t tid;
static pthread_mutex_t m = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t c = PTHREAD_COND_INITIALIZER;

static void drop(void *value)
{
    printf("  destructor %ld\n", (long)value);
    if (rounds++ < 2)
        pthread_setspecific(key, (void *)((long)value + 1));
}

static void cleanup(void *arg)
{
    printf("  clean-up %s\n", (char *)arg);
}

static void unlock_it(void *arg)
{
    SAY("the mutex is held in the clean-up", pthread_mutex_trylock(&m) != 0);
    pthread_mutex_unlock(&m);
}

static void *with_data(void *arg)
{
    E(pthread_getspecific(key));
    pthread_setspecific(key, arg);
    E(pthread_getspecific(key));
    pthread_cleanup_push(cleanup, "outer");
    pthread_cleanup_push(cleanup, "inner");
    pthread_exit((void *)9);
    pthread_cleanup_pop(0);
    pthread_cleanup_pop(0);
    return NULL;
}

static void specific(void)
{
    pthread_t t;
    void *r;

    SECTION("specific data");
    P(pthread_key_create(&key, drop));
    P(pthread_key_create(&key2, NULL));
    pthread_create(&t, NULL, with_data, (void *)100);
    P(pthread_join(t, &r));
    E(r);
    P(pthread_key_delete(key2));
    P(pthread_setspecific(key2, &t));
    int n = 0;
    pthread_key_t k;
    while (n < 2000 && pthread_key_create(&k, NULL) == 0)
        n++;
    YES(n > 1000 && n < 1024);
}

enum where { READ, POLL, SLEEP, SEM, COND, EPOLL, PAUSE, SIGWAIT, SPIN, TEST };
static const char *const names[] = {"read",  "poll",  "sleep",   "sem_wait",
                                    "cond",  "epoll", "pause",   "sigwait",
                                    "async", "testcancel"};

static void *blocked(void *arg)
{
    struct pollfd p = {fds[0], POLLIN, 0};
    struct epoll_event ev;
    sigset_t set;
    int sig, ep = epoll_create1(0);
    char x;

    pthread_cleanup_push(cleanup, (void *)names[(long)arg]);
    tid = (pid_t)syscall(SYS_gettid);
    switch ((enum where)(long)arg) {
    case READ:
        x = (char)read(fds[0], &x, 1);
        break;
    case POLL:
        poll(&p, 1, -1);
        break;
    case SLEEP:
        sleep(100);
        break;
    case SEM:
        sem_wait(&sem);
        break;
    case COND:
        pthread_mutex_lock(&m);
        pthread_cleanup_push(unlock_it, NULL);
        pthread_cond_wait(&c, &m);
        pthread_cleanup_pop(0);
        break;
    case EPOLL:
        epoll_wait(ep, &ev, 1, -1);
        break;
    case PAUSE:
        pause();
        break;
    case SIGWAIT:
        sigemptyset(&set);
        sigaddset(&set, SIGUSR2);
        sigwait(&set, &sig);
        break;
    case SPIN:
        pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, NULL);
        for (volatile long i = 0;; i++)
            ;
    case TEST:
        for (;;)
            pthread_testcancel();
    }
    printf("  came back\n");
    pthread_cleanup_pop(0);
    return NULL;
}

static volatile int may_go;

static void *disabled(void *arg)
{
    int old;

    P(pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &old));
    YES(old == PTHREAD_CANCEL_ENABLE);
    tid = (pid_t)syscall(SYS_gettid);
    while (!may_go)
        sleep_ms(1);
    pthread_testcancel();
    printf("  not yet cancelled\n");
    P(pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, &old));
    pthread_testcancel();
    printf("  never here\n");
    return NULL;
}

static void cancelling(void)
{
    pthread_t t;
    void *r;

    SECTION("cancelling");
    MUST(pipe(fds));
    sem_init(&sem, 0, 0);
    for (long i = READ; i <= TEST; i++) {
        tid = 0;
        pthread_create(&t, NULL, blocked, (void *)i);
        while (tid == 0)
            sleep_ms(1);
        if (i < SPIN)
            wait_asleep(tid);
        else
            sleep_ms(10);
        int sent = pthread_cancel(t);
        pthread_join(t, &r);
        P(sent);
        SAY(names[i], r == PTHREAD_CANCELED);
    }
    SAY("the mutex is free", pthread_mutex_trylock(&m) == 0);
    tid = 0;
    pthread_create(&t, NULL, disabled, NULL);
    while (tid == 0)
        sleep_ms(1);
    pthread_cancel(t);
    may_go = 1;
    pthread_join(t, &r);
    YES(r == PTHREAD_CANCELED);
    P(pthread_setcancelstate(77, NULL));
    P(pthread_setcanceltype(77, NULL));
}

/* main leaves by pthread_exit; the last thread ends the process with 0. */
static void *last(void *arg)
{
    pthread_join(*(pthread_t *)arg, NULL);
    SAY("main has ended", true);
    return (void *)77;
}

int main(void)
{
    static pthread_t self;
    pthread_t t;

    watchdog();
    specific();
    cancelling();
    SECTION("main ends first");
    self = pthread_self();
    pthread_create(&t, NULL, last, &self);
    pthread_exit(NULL);
}
