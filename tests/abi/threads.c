/* SPDX-License-Identifier: BSD-2-Clause */
/* Threads: creation, TLS, cancellation, exit orders, vector registers. */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

static __thread int tls = 5;
static pthread_key_t key;
static pthread_barrier_t barrier;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static sem_t sem;
static long total, destroyed;

static void at_exit(void *v)
{
    __atomic_add_fetch(&destroyed, (long)v, __ATOMIC_SEQ_CST);
}

static void *simple(void *arg)
{
    tls += (int)(long)arg;
    pthread_setspecific(key, arg);
    pthread_barrier_wait(&barrier);
    return (void *)(long)tls;
}

static void *nothing(void *arg)
{
    return arg;
}

static void many(void)
{
    enum { N = 50 };
    pthread_t t[N];
    long sum = 0;
    void *r;

    pthread_barrier_init(&barrier, NULL, N);
    pthread_key_create(&key, at_exit);
    for (long i = 0; i < N; i++)
        if (pthread_create(&t[i], NULL, simple, (void *)(i + 1)) != 0)
            printf("create failed\n");
    for (int i = 0; i < N; i++) {
        pthread_join(t[i], &r);
        sum += (long)r;
    }
    printf("sum %ld, destructors %ld, mine %d\n", sum, destroyed, tls);
    for (int i = 0; i < 500; i++) {
        pthread_create(&t[0], NULL, nothing, NULL);
        pthread_detach(t[0]);
        if (i % 50 == 0)
            usleep(1000);
    }
}

static void *ping(void *arg)
{
    int me = (int)(long)arg;

    for (int i = 0; i < 2000; i++) {
        pthread_mutex_lock(&mutex);
        while (total % 2 != me)
            pthread_cond_wait(&cond, &mutex);
        total++;
        pthread_cond_broadcast(&cond);
        pthread_mutex_unlock(&mutex);
    }
    return NULL;
}

static void ping_pong(void)
{
    pthread_t a, b;

    total = 0;
    pthread_create(&a, NULL, ping, (void *)0);
    pthread_create(&b, NULL, ping, (void *)1);
    pthread_join(a, NULL);
    pthread_join(b, NULL);
    printf("ping-pong %ld\n", total);
}

static void cleanup(void *arg)
{
    printf("  cleanup %s\n", (char *)arg);
}

static int fds[2];

static void *blocked(void *arg)
{
    char c;

    pthread_cleanup_push(cleanup, arg);
    switch (((char *)arg)[0]) {
    case 'r':
        if (read(fds[0], &c, 1) < 0)
            perror("read");
        break;
    case 's':
        sleep(100);
        break;
    case 'w':
        sem_wait(&sem);
        break;
    case 'p':
        pause();
        break;
    case 'a':
        pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, NULL);
        for (;;)
            ;
    }
    pthread_cleanup_pop(0);
    return NULL;
}

static void cancel(void)
{
    static char *const where[] = {"read", "sleep", "wait", "pause", "async"};
    pthread_t t;
    void *r;

    sem_init(&sem, 0, 0);
    if (pipe(fds) != 0)
        return;
    for (int i = 0; i < 5; i++) {
        pthread_create(&t, NULL, blocked, where[i]);
        usleep(30000);
        int c = pthread_cancel(t);
        pthread_join(t, &r);
        printf("cancel %d\n", c);
        printf("%s: cancelled %d\n", where[i], r == PTHREAD_CANCELED);
    }
}

static void *floats(void *arg)
{
    double x[4], seed = (double)(long)arg;
    long bad = 0;

    for (int round = 0; round < 200; round++) {
        for (int i = 0; i < 4; i++)
            x[i] = seed * (i + 1);
        sched_yield();
        for (int i = 0; i < 200; i++)
            for (int k = 0; k < 4; k++)
                x[k] = x[k] * 2.0 / 2.0;
        for (int i = 0; i < 4; i++)
            bad += x[i] != seed * (i + 1);
    }
    return (void *)bad;
}

static void vectors(void)
{
    pthread_t t[8];
    long bad = 0;
    void *r;

    for (long i = 0; i < 8; i++)
        pthread_create(&t[i], NULL, floats, (void *)(i + 3));
    for (int i = 0; i < 8; i++) {
        pthread_join(t[i], &r);
        bad += (long)r;
    }
    printf("wrong vector values %ld\n", bad);
}

static void *about_me(void *arg)
{
    char name[16];

    prctl(PR_SET_NAME, "a-very-long-thread-name");
    prctl(PR_GET_NAME, name);
    printf("name %s\n", name);
    printf("tid differs %d, pid same %d\n",
           syscall(SYS_gettid) != getpid(), getpid() == *(pid_t *)arg);
    printf("tgkill other process: %ld %s\n",
           syscall(SYS_tgkill, 1, syscall(SYS_gettid), 0), strerror(ESRCH));
    return NULL;
}

static void *last_one(void *arg)
{
    usleep(50000);
    printf("the last thread ends the process\n");
    fflush(stdout);
    return arg;
}

int main(void)
{
    pid_t pid = getpid();
    pthread_t t;

    many();
    ping_pong();
    cancel();
    vectors();
    pthread_create(&t, NULL, about_me, &pid);
    pthread_join(t, NULL);
    pthread_create(&t, NULL, last_one, NULL);
    pthread_exit(NULL);
}
