/* SPDX-License-Identifier: BSD-2-Clause */
/* The thread library on top of the calls: mutexes of every kind, condition
 * variables, rwlocks, barriers, once, specific data, cancellation. */
#include "abi.h"

#include <semaphore.h>

static void *nothing(void *arg)
{
    return arg;
}

static __thread int local = 5;

static void *bump_local(void *arg)
{
    local += (int)(long)arg;
    sleep_ms(10);
    return (void *)(long)local;
}

static void basics(void)
{
    pthread_t t[8];
    pthread_attr_t attr;
    size_t size;
    void *r;

    SECTION("create, join, detach");
    P(pthread_create(&t[0], NULL, nothing, (void *)77));
    P(pthread_join(t[0], &r));
    E(r);
    P(pthread_join(pthread_self(), NULL));
    P(pthread_create(&t[0], NULL, nothing, NULL));
    P(pthread_detach(t[0]));
    pthread_attr_init(&attr);
    P(pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED));
    P(pthread_create(&t[0], &attr, nothing, NULL));
    P(pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_JOINABLE));
    P(pthread_attr_setstacksize(&attr, 1 << 20));
    P(pthread_attr_setstacksize(&attr, 100));
    P(pthread_attr_getstacksize(&attr, &size));
    E(size);
    P(pthread_create(&t[0], &attr, nothing, (void *)5));
    P(pthread_join(t[0], &r));
    pthread_attr_destroy(&attr);
    for (long i = 0; i < 8; i++)
        pthread_create(&t[i], NULL, bump_local, (void *)i);
    for (int i = 0; i < 8; i++) {
        pthread_join(t[i], &r);
        printf(" %ld", (long)r);
    }
    printf("; mine %d\n", local);
    P(pthread_kill(pthread_self(), 0));
    P(pthread_kill(pthread_self(), 99));
    P(pthread_setname_np(pthread_self(), "a-name"));
    P(pthread_setname_np(pthread_self(), "sixteen-letters!"));
    char name[16];
    P(pthread_getname_np(pthread_self(), name, 16));
    printf("%s\n", name);
    void *stack;
    P(pthread_getattr_np(pthread_self(), &attr));
    P(pthread_attr_getstack(&attr, &stack, &size));
    char *low = stack, *here = (char *)&stack;
    YES(here > low && here < low + size);
    pthread_attr_destroy(&attr);
}

static pthread_mutex_t m;

static void *try_other(void *arg)
{
    P(pthread_mutex_trylock(&m));
    P(pthread_mutex_unlock(&m));
    return NULL;
}

static void in_thread(void *(*f)(void *))
{
    pthread_t t;

    pthread_create(&t, NULL, f, NULL);
    pthread_join(t, NULL);
}

static void mutexes(void)
{
    pthread_mutexattr_t a;
    struct timespec soon;

    pthread_mutexattr_init(&a);
    SECTION("error-checking");
    pthread_mutexattr_settype(&a, PTHREAD_MUTEX_ERRORCHECK);
    pthread_mutex_init(&m, &a);
    P(pthread_mutex_unlock(&m));
    P(pthread_mutex_lock(&m));
    P(pthread_mutex_lock(&m));
    P(pthread_mutex_trylock(&m));
    in_thread(try_other);
    P(pthread_mutex_destroy(&m));
    P(pthread_mutex_unlock(&m));
    P(pthread_mutex_destroy(&m));
    SECTION("recursive");
    pthread_mutexattr_settype(&a, PTHREAD_MUTEX_RECURSIVE);
    pthread_mutex_init(&m, &a);
    P(pthread_mutex_lock(&m));
    P(pthread_mutex_lock(&m));
    P(pthread_mutex_unlock(&m));
    in_thread(try_other);
    P(pthread_mutex_unlock(&m));
    P(pthread_mutex_unlock(&m));
    SECTION("timed");
    pthread_mutexattr_settype(&a, PTHREAD_MUTEX_NORMAL);
    pthread_mutex_init(&m, &a);
    P(pthread_mutex_lock(&m));
    soon = to_timespec(now_ns(CLOCK_REALTIME) + 20 * MS);
    P(pthread_mutex_timedlock(&m, &soon));
    soon = to_timespec(now_ns(CLOCK_MONOTONIC) + 20 * MS);
    P(pthread_mutex_clocklock(&m, CLOCK_MONOTONIC, &soon));
    P(pthread_mutex_unlock(&m));
    SECTION("priority inheritance");
    P(pthread_mutexattr_setprotocol(&a, PTHREAD_PRIO_INHERIT));
    P(pthread_mutex_init(&m, &a));
    P(pthread_mutex_lock(&m));
    P(pthread_mutex_unlock(&m));
    pthread_mutexattr_destroy(&a);
}

static void *die_locked(void *arg)
{
    pthread_mutex_lock(&m);
    return NULL;
}

static void robust(void)
{
    pthread_mutexattr_t a;

    SECTION("robust");
    pthread_mutexattr_init(&a);
    pthread_mutexattr_setrobust(&a, PTHREAD_MUTEX_ROBUST);
    pthread_mutex_init(&m, &a);
    in_thread(die_locked);
    P(pthread_mutex_lock(&m));
    P(pthread_mutex_consistent(&m));
    P(pthread_mutex_unlock(&m));
    P(pthread_mutex_lock(&m));
    P(pthread_mutex_unlock(&m));
    in_thread(die_locked);
    P(pthread_mutex_trylock(&m));
    P(pthread_mutex_unlock(&m)); /* not made consistent */
    P(pthread_mutex_lock(&m));
    pthread_mutexattr_destroy(&a);
}

static pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
static int ready, through;

static void *wait_cond(void *arg)
{
    pthread_mutex_lock(&gate);
    ready++;
    pthread_cond_broadcast(&cond);
    while (ready < 100)
        pthread_cond_wait(&cond, &gate);
    through++;
    pthread_mutex_unlock(&gate);
    return NULL;
}

static pthread_rwlock_t rw = PTHREAD_RWLOCK_INITIALIZER;
static pthread_barrier_t barrier;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static int onces, serials, inside, writers_seen, trouble;

static void count_once(void)
{
    sleep_ms(5);
    onces++;
}

static void *mixed(void *arg)
{
    pthread_once(&once, count_once);
    for (int i = 0; i < 50; i++) {
        if (pthread_barrier_wait(&barrier) == PTHREAD_BARRIER_SERIAL_THREAD)
            __atomic_fetch_add(&serials, 1, __ATOMIC_RELAXED);
        if ((i + (int)(long)arg) % 4 == 0) {
            pthread_rwlock_wrlock(&rw);
            if (++inside != 1)
                trouble++;
            writers_seen++;
            inside--;
            pthread_rwlock_unlock(&rw);
        } else {
            pthread_rwlock_rdlock(&rw);
            if (inside != 0)
                trouble++;
            pthread_rwlock_unlock(&rw);
        }
    }
    return NULL;
}

static void together(void)
{
    struct timespec soon;
    pthread_t t[4];

    SECTION("conditions, rwlocks, barriers, once");
    for (int i = 0; i < 4; i++)
        pthread_create(&t[i], NULL, wait_cond, NULL);
    pthread_mutex_lock(&gate);
    while (ready < 4)
        pthread_cond_wait(&cond, &gate);
    soon = to_timespec(now_ns(CLOCK_REALTIME) + 20 * MS);
    int r;
    while ((r = pthread_cond_timedwait(&cond, &gate, &soon)) == 0)
        ;
    P(r);
    ready = 100;
    pthread_cond_broadcast(&cond);
    pthread_mutex_unlock(&gate);
    for (int i = 0; i < 4; i++)
        pthread_join(t[i], NULL);
    E(through);
    P(pthread_barrier_init(&barrier, NULL, 0));
    P(pthread_barrier_init(&barrier, NULL, 4));
    for (long i = 0; i < 4; i++)
        pthread_create(&t[i], NULL, mixed, (void *)i);
    for (int i = 0; i < 4; i++)
        pthread_join(t[i], NULL);
    printf("once %d, serial %d, writers %d, trouble %d\n", onces, serials,
           writers_seen, trouble);
    P(pthread_rwlock_rdlock(&rw));
    P(pthread_rwlock_tryrdlock(&rw));
    P(pthread_rwlock_trywrlock(&rw));
    soon = to_timespec(now_ns(CLOCK_REALTIME) + 10 * MS);
    P(pthread_rwlock_timedwrlock(&rw, &soon));
    sem_t s;
    sem_init(&s, 0, 1);
    E(sem_trywait(&s));
    E(sem_trywait(&s));
    soon = to_timespec(now_ns(CLOCK_REALTIME) + 10 * MS);
    E(sem_timedwait(&s, &soon));
    E(sem_post(&s));
    E(sem_wait(&s));
}

int main(void)
{
    watchdog();
    basics();
    mutexes();
    robust();
    together();
    return 0;
}
