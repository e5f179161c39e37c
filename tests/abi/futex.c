/* SPDX-License-Identifier: BSD-2-Clause */
/* futex(2): results and errors of every operation, and robust mutexes. */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static uint32_t a, b;

static long futex(void *word, int op, uint32_t v, const void *t, void *w2,
                  uint32_t v3)
{
    long r = syscall(SYS_futex, word, op, v, t, w2, v3);
    return r < 0 ? -errno : r;
}

static void show(const char *what, long r)
{
    printf("%s: %ld%s%s\n", what, r, r < 0 ? " " : "",
           r < 0 ? strerror((int)-r) : "");
}

static void *waiter(void *arg)
{
    long op = (long)arg;
    return (void *)futex(&a, (int)op, 0, NULL, NULL, 1);
}

/* Starts n threads that wait on a, and gives them time to get there. */
static void start(pthread_t *t, int n, long op)
{
    for (int i = 0; i < n; i++)
        pthread_create(&t[i], NULL, waiter, (void *)op);
    usleep(100000);
}

static void join(pthread_t *t, int n)
{
    void *r;
    for (int i = 0; i < n; i++) {
        pthread_join(t[i], &r);
        show("waiter", (long)r);
    }
}

static void errors(void)
{
    struct timespec t = {0, 20000000}, bad = {0, 1000000000}, past = {0, 1000};

    show("wait, other value", futex(&a, FUTEX_WAIT, 1, NULL, NULL, 0));
    show("wait, time-out", futex(&a, FUTEX_WAIT, 0, &t, NULL, 0));
    show("wait, bad time", futex(&a, FUTEX_WAIT, 0, &bad, NULL, 0));
    show("wait, odd address",
         futex((char *)&a + 1, FUTEX_WAIT, 0, &t, NULL, 0));
    show("wait, no memory", futex((void *)64, FUTEX_WAIT, 0, &t, NULL, 0));
    show("wake, no memory", futex((void *)64, FUTEX_WAKE, 1, NULL, NULL, 0));
    show("bitset, past", futex(&a, FUTEX_WAIT_BITSET, 0, &past, NULL, 1));
    show("bitset, past, realtime",
         futex(&a, FUTEX_WAIT_BITSET | FUTEX_CLOCK_REALTIME, 0, &past, NULL,
               1));
    show("bitset 0", futex(&a, FUTEX_WAIT_BITSET, 0, &t, NULL, 0));
    show("wake bitset 0", futex(&a, FUTEX_WAKE_BITSET, 1, NULL, NULL, 0));
    show("wake nobody", futex(&a, FUTEX_WAKE, 1, NULL, NULL, 0));
    show("unknown operation", futex(&a, 99, 0, NULL, NULL, 0));
    show("realtime wake",
         futex(&a, FUTEX_WAKE | FUTEX_CLOCK_REALTIME, 1, NULL, NULL, 0));
    show("cmp_requeue, other value",
         futex(&a, FUTEX_CMP_REQUEUE, 1, (void *)1, &b, 7));
}

static void waking(void)
{
    pthread_t t[4];

    start(t, 4, FUTEX_WAIT | FUTEX_PRIVATE_FLAG);
    show("wake 3", futex(&a, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, 3, 0, 0, 0));
    show("wake rest", futex(&a, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, 9, 0, 0, 0));
    join(t, 4);
    start(t, 2, FUTEX_WAIT_BITSET);
    show("wake other bit", futex(&a, FUTEX_WAKE_BITSET, 9, 0, 0, 2));
    show("wake this bit", futex(&a, FUTEX_WAKE_BITSET, 9, 0, 0, 3));
    join(t, 2);
    start(t, 4, FUTEX_WAIT);
    show("requeue 1 + 2", futex(&a, FUTEX_REQUEUE, 1, (void *)2, &b, 0));
    show("wake moved", futex(&b, FUTEX_WAKE, 9, 0, 0, 0));
    show("wake left", futex(&a, FUTEX_WAKE, 9, 0, 0, 0));
    join(t, 4);
    start(t, 3, FUTEX_WAIT);
    b = 5;
    show("wake_op", futex(&b, FUTEX_WAKE_OP, 1, (void *)2, &a,
                          FUTEX_OP(FUTEX_OP_ADD, 3, FUTEX_OP_CMP_EQ, 0)));
    printf("word %u\n", a);
    a = 0;
    show("wake rest", futex(&a, FUTEX_WAKE, 9, 0, 0, 0));
    join(t, 3);
}

static pthread_mutex_t mutex;

static void *die_holding(void *arg)
{
    pthread_mutex_lock(&mutex);
    return arg;
}

static void *lock_it(void *arg)
{
    long r = pthread_mutex_lock(&mutex);
    if (r == EOWNERDEAD)
        pthread_mutex_consistent(&mutex);
    pthread_mutex_unlock(&mutex);
    return (void *)(r + 0 * (long)arg);
}

static void robust(int protocol, const char *name)
{
    pthread_mutexattr_t attr;
    pthread_t t, u;
    void *r;

    pthread_mutexattr_init(&attr);
    pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST);
    pthread_mutexattr_setprotocol(&attr, protocol);
    pthread_mutex_init(&mutex, &attr);
    pthread_create(&t, NULL, die_holding, NULL);
    pthread_join(t, NULL);
    pthread_create(&u, NULL, lock_it, NULL);
    pthread_join(u, &r);
    printf("%s robust: %s\n", name, strerror((int)(long)r));
    pthread_create(&u, NULL, lock_it, NULL);
    pthread_join(u, &r);
    printf("%s again: %s\n", name, strerror((int)(long)r));
}

static long counter;

static void *count(void *arg)
{
    for (int i = 0; i < 2000; i++) {
        pthread_mutex_lock(&mutex);
        counter++;
        if (i % 100 == 0)
            sched_yield();
        pthread_mutex_unlock(&mutex);
    }
    return arg;
}

static void contention(int protocol, const char *name)
{
    pthread_mutexattr_t attr;
    pthread_t t[4];

    pthread_mutexattr_init(&attr);
    pthread_mutexattr_setprotocol(&attr, protocol);
    pthread_mutex_init(&mutex, &attr);
    counter = 0;
    for (int i = 0; i < 4; i++)
        pthread_create(&t[i], NULL, count, NULL);
    for (int i = 0; i < 4; i++)
        pthread_join(t[i], NULL);
    printf("%s counted %ld\n", name, counter);
}

int main(void)
{
    struct timespec past = {0, 1000};
    uint32_t *shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE,
                            MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    errors();
    waking();
    show("shared memory, time-out",
         futex(shared, FUTEX_WAIT_BITSET, 0, &past, NULL, 1));
    show("trylock_pi", futex(&b, FUTEX_UNLOCK_PI, 0, 0, 0, 0));
    a = 0;
    show("lock_pi", futex(&a, FUTEX_LOCK_PI, 0, 0, 0, 0));
    printf("owner is me: %d\n", a == (uint32_t)syscall(SYS_gettid));
    show("lock_pi again", futex(&a, FUTEX_LOCK_PI, 0, 0, 0, 0));
    show("unlock_pi", futex(&a, FUTEX_UNLOCK_PI, 0, 0, 0, 0));
    show("trylock_pi", futex(&a, FUTEX_TRYLOCK_PI, 0, 0, 0, 0));
    show("unlock_pi", futex(&a, FUTEX_UNLOCK_PI, 0, 0, 0, 0));
    robust(PTHREAD_PRIO_NONE, "plain");
    robust(PTHREAD_PRIO_INHERIT, "pi");
    contention(PTHREAD_PRIO_NONE, "plain");
    contention(PTHREAD_PRIO_INHERIT, "pi");
    return 0;
}
