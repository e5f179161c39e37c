/* SPDX-License-Identifier: BSD-2-Clause */
/* futex, raw: sharing, alignment, requeue between threads, wake-op, storms. */
#include "abi.h"

#include <linux/futex.h>

static uint32_t word[4], other;

static long futex(void *w, int op, uint32_t v, const void *t, void *w2,
                  uint32_t v3)
{
    long r = syscall(SYS_futex, w, op, v, t, w2, v3);

    return r < 0 ? -errno : r;
}

static void errors(void)
{
    struct timespec bad = {0, 1000000000}, neg = {-1, 0}, none = {0, 0};

    SECTION("errors");
    R(futex((char *)word + 1, FUTEX_WAIT, 0, NULL, NULL, 0));
    R(futex((char *)word + 2, FUTEX_WAKE, 1, NULL, NULL, 0));
    R(futex((void *)8, FUTEX_WAIT, 0, NULL, NULL, 0));
    R(futex((void *)8, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0));
    R(futex(word, FUTEX_WAIT, 5, NULL, NULL, 0));
    R(futex(word, FUTEX_WAIT_PRIVATE, 0, &none, NULL, 0));
    R(futex(word, FUTEX_WAIT_PRIVATE, 0, &bad, NULL, 0));
    R(futex(word, FUTEX_WAIT_PRIVATE, 0, &neg, NULL, 0));
    R(futex(word, FUTEX_WAIT_PRIVATE, 0, (void *)8, NULL, 0));
    R(futex(word, FUTEX_WAIT_BITSET_PRIVATE, 0, &none, NULL, 0));
    R(futex(word, FUTEX_WAIT_BITSET_PRIVATE, 0, &none, NULL, 1));
    R(futex(word, FUTEX_WAKE_BITSET_PRIVATE, 1, NULL, NULL, 0));
    R(futex(word, FUTEX_WAIT | FUTEX_CLOCK_REALTIME, 0, &none, NULL, 0));
    R(futex(word, FUTEX_WAIT_BITSET | FUTEX_CLOCK_REALTIME, 0, &none, NULL,
            1));
    R(futex(word, FUTEX_WAKE | FUTEX_CLOCK_REALTIME, 0, NULL, NULL, 0));
    R(futex(word, 77, 0, NULL, NULL, 0));
    R(futex(word, FUTEX_REQUEUE, 1, (void *)-1l, &other, 0));
    R(futex(word, FUTEX_CMP_REQUEUE, 1, (void *)1, &other, 5));
    R(futex(word, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0));
}

static void timeouts(void)
{
    struct timespec t = {0, 30 * MS};
    int64_t start = now_ns(CLOCK_MONOTONIC);

    SECTION("time-outs");
    R(futex(word, FUTEX_WAIT_PRIVATE, 0, &t, NULL, 0));
    SAY("waited", now_ns(CLOCK_MONOTONIC) - start >= 30 * MS);
    start = now_ns(CLOCK_MONOTONIC);
    t = to_timespec(start + 30 * MS);
    R(futex(word, FUTEX_WAIT_BITSET_PRIVATE, 0, &t, NULL, 1));
    SAY("waited", now_ns(CLOCK_MONOTONIC) - start >= 30 * MS);
    t = to_timespec(now_ns(CLOCK_REALTIME) + 30 * MS);
    start = now_ns(CLOCK_MONOTONIC);
    R(futex(word, FUTEX_WAIT_BITSET_PRIVATE | FUTEX_CLOCK_REALTIME, 0, &t,
            NULL, 1));
    SAY("waited", now_ns(CLOCK_MONOTONIC) - start >= 28 * MS);
}

struct waiter {
    pthread_t thread;
    uint32_t *word;
    uint32_t bits;
    long result;
    volatile pid_t tid;
    volatile bool is_done;
};

static void *wait_there(void *arg)
{
    struct waiter *w = arg;

    w->tid = (pid_t)syscall(SYS_gettid);
    w->result = futex(w->word, FUTEX_WAIT_BITSET_PRIVATE, 0, NULL, NULL,
                      w->bits);
    w->is_done = true;
    return NULL;
}

static struct waiter all[6];

static void start(int i, uint32_t *w, uint32_t bits)
{
    all[i] = (struct waiter){.word = w, .bits = bits};
    pthread_create(&all[i].thread, NULL, wait_there, &all[i]);
    while (all[i].tid == 0)
        sleep_ms(1);
    wait_asleep(all[i].tid);
}

static void finish(int i)
{
    pthread_join(all[i].thread, NULL);
    printf("  waiter %d: %ld\n", i, all[i].result);
}

static void waking(void)
{
    SECTION("waking");
    for (int i = 0; i < 4; i++)
        start(i, word, i < 2 ? 1u << i : ~0u);
    R(futex(word, FUTEX_WAKE_BITSET_PRIVATE, 10, NULL, NULL, 4));
    finish(2);
    finish(3);
    SAY("others sleep", !all[0].is_done && !all[1].is_done);
    R(futex(word, FUTEX_WAKE_BITSET_PRIVATE, 10, NULL, NULL, 2));
    finish(1);
    R(futex(word, FUTEX_WAKE_PRIVATE, 10, NULL, NULL, 0));
    finish(0);
    SECTION("first come, first woken");
    for (int i = 0; i < 3; i++)
        start(i, word, ~0u);
    for (int i = 0; i < 3; i++) {
        R(futex(word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0));
        finish(i);
    }
    SECTION("a private wake does not meet another word");
    start(0, word + 1, ~0u);
    R(futex(word, FUTEX_WAKE_PRIVATE, 10, NULL, NULL, 0));
    R(futex(word + 1, FUTEX_WAKE_PRIVATE, 10, NULL, NULL, 0));
    finish(0);
}

static void requeueing(void)
{
    SECTION("requeue");
    for (int i = 0; i < 5; i++)
        start(i, word, ~0u);
    R(futex(word, FUTEX_CMP_REQUEUE_PRIVATE, 1, (void *)2, &other, 9));
    R(futex(word, FUTEX_CMP_REQUEUE_PRIVATE, 1, (void *)2, &other, 0));
    finish(0);
    R(futex(&other, FUTEX_WAKE_PRIVATE, 10, NULL, NULL, 0));
    finish(1);
    finish(2);
    R(futex(word, FUTEX_REQUEUE_PRIVATE, 0, (void *)10, &other, 0));
    R(futex(word, FUTEX_WAKE_PRIVATE, 10, NULL, NULL, 0));
    R(futex(&other, FUTEX_WAKE_PRIVATE, 10, NULL, NULL, 0));
    finish(3);
    finish(4);
}

static void wake_op(void)
{
    SECTION("wake-op");
    start(0, word, ~0u);
    start(1, word + 1, ~0u);
    R(futex(word, FUTEX_WAKE_OP_PRIVATE, 1, (void *)1, word + 1,
            FUTEX_OP(FUTEX_OP_ADD, 5, FUTEX_OP_CMP_EQ, 3)));
    finish(0);
    SAY("the second sleeps", !all[1].is_done);
    E(word[1]);
    R(futex(word, FUTEX_WAKE_OP_PRIVATE, 1, (void *)1, word + 1,
            FUTEX_OP(FUTEX_OP_SET, 0, FUTEX_OP_CMP_GT, 3)));
    finish(1);
    E(word[1]);
    R(futex(word, FUTEX_WAKE_OP_PRIVATE, 1, (void *)1, &other,
            FUTEX_OP((FUTEX_OP_OR | FUTEX_OP_OPARG_SHIFT), 4,
                     FUTEX_OP_CMP_NE, 1)));
    E(other);
    R(futex(word, FUTEX_WAKE_OP_PRIVATE, 1, (void *)1, (void *)8, 0));
    other = 0;
}

/* A lock made of a futex, by four threads. */
static uint32_t lock_word;
static long total;

static void lock(void)
{
    uint32_t c = 0;

    if (__atomic_compare_exchange_n(&lock_word, &c, 1, false,
                                    __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
        return;
    while (__atomic_exchange_n(&lock_word, 2, __ATOMIC_ACQUIRE) != 0)
        futex(&lock_word, FUTEX_WAIT_PRIVATE, 2, NULL, NULL, 0);
}

static void unlock(void)
{
    if (__atomic_exchange_n(&lock_word, 0, __ATOMIC_RELEASE) == 2)
        futex(&lock_word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

static void *adder(void *arg)
{
    for (int i = 0; i < 20000; i++) {
        lock();
        total++;
        unlock();
    }
    return arg;
}

static void storm(void)
{
    pthread_t t[4];

    SECTION("storm");
    for (int i = 0; i < 4; i++)
        pthread_create(&t[i], NULL, adder, NULL);
    for (int i = 0; i < 4; i++)
        pthread_join(t[i], NULL);
    E(total);
}

int main(void)
{
    watchdog();
    errors();
    timeouts();
    waking();
    requeueing();
    wake_op();
    storm();
    return 0;
}
