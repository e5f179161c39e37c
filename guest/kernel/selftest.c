/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * In-kernel tests; see selftest.h.
 */
#include "selftest.h"

#include "arch/machine.h"
#include "lib/atomic.h"
#include "lib/printk.h"
#include "lib/string.h"
#include "mm/heap.h"
#include "mm/page.h"
#include "param.h"
#include "sched/mutex.h"
#include "sched/sched.h"
#include "sched/timer.h"

#define SOAK_NS (2 * NSEC_PER_SEC)
#define SOAK_THREADS 12

static struct soak {
    struct mutex lock;
    struct waitq queue;
    uint64_t counter, shadow; /* equal outside of the lock */
    uint32_t tokens;          /* atomic */
    uint32_t running;         /* atomic */
    uint32_t errors;          /* atomic */
    uint64_t rounds;          /* atomic */
    nsec_t end;
    struct thread *threads[SOAK_THREADS];
} soak;

static void hello(void)
{
    uint64_t t0 = rdtsc(), n = 2000;

    __asm__ volatile("1: decq %0; jnz 1b" : "+r"(n));
    uint64_t cycles = rdtsc() - t0;
    printk("capstan-selftest: ok cycles=%lu native=%d host=%s\n", cycles,
           cycles < 400000, host_kind());
    machine_exit(0);
}

static void check_heap(uint64_t seed)
{
    size_t n = 1 + seed % 5000;
    uint8_t *p = kmalloc(n);

    if (!p)
        return;
    memset(p, (int)seed, n);
    if (seed & 1)
        sched_yield();
    for (size_t i = 0; i < n; i += 97) {
        if (p[i] != (uint8_t)seed)
            atomic_add(&soak.errors, 1u);
    }
    kfree(p);
}

static bool take_token(void)
{
    uint32_t v = atomic_load_relaxed(&soak.tokens);

    while (v) {
        if (atomic_cmpxchg(&soak.tokens, &v, v - 1))
            return true;
    }
    return false;
}

/* Each round: the lock, a token passed on through the wait queue, a short
 * timed sleep, memory, and now and then another CPU. */
static void soak_thread(void *arg)
{
    uint64_t x = (uint64_t)arg * 7919 + 1, rounds = 0;

    while (clock_monotonic() < soak.end) {
        x = x * 6364136223846793005ul + 1442695040888963407ul;
        mutex_lock(&soak.lock);
        soak.counter++;
        if ((x >> 40) % 16 == 0)
            sched_yield();
        soak.shadow++;
        if (soak.counter != soak.shadow)
            atomic_add(&soak.errors, 1u);
        mutex_unlock(&soak.lock);
        check_heap(x >> 33);
        if (take_token()) {
            if ((x >> 50) % 8 == 0)
                sleep_until(clock_monotonic() + (nsec_t)(x >> 48), false);
            atomic_add(&soak.tokens, 1u);
            wait_wake(&soak.queue, 1);
        } else {
            wait_event(&soak.queue,
                       atomic_load_relaxed(&soak.tokens) != 0,
                       WAIT_EXCLUSIVE, clock_monotonic() + 50000000);
        }
        rounds++;
    }
    atomic_add(&soak.rounds, rounds);
    atomic_sub(&soak.running, 1u);
}

static void soak_run(void)
{
    nsec_t limit;

    mutex_init(&soak.lock);
    waitq_init(&soak.queue);
    soak.tokens = 4;
    soak.end = clock_monotonic() + SOAK_NS;
    limit = soak.end + 5 * NSEC_PER_SEC;
    for (uint64_t i = 0; i < SOAK_THREADS; i++) {
        atomic_add(&soak.running, 1u);
        soak.threads[i] = kthread_create("soak", soak_thread, (void *)i);
        if (!soak.threads[i])
            panic("soak: no memory");
        thread_get(soak.threads[i]);
    }
    while (atomic_load_relaxed(&soak.running) && clock_monotonic() < limit)
        sleep_until(clock_monotonic() + 10000000, false);
    for (int i = 0; soak.running && i < SOAK_THREADS; i++) {
        struct thread *t = soak.threads[i];
        if (t->state == THREAD_DEAD)
            continue;
        printk("thread %u: state %u queued %u on_cpu %u cpu %u work %x\n",
               t->id, t->state, t->queued, t->on_cpu, t->cpu, t->work);
        uint64_t *sp = (uint64_t *)t->saved_rsp;
        if (!t->on_cpu)
            backtrace_print(sp[6], sp[4]);
    }
    if (soak.running)
        sched_dump();
    printk("capstan-selftest: %s rounds=%lu errors=%u hung=%u cpus=%u\n",
           soak.errors || soak.running ? "FAILED" : "ok", soak.rounds,
           soak.errors, soak.running, nr_cpus);
    machine_exit(soak.errors || soak.running ? 1 : 0);
}

void selftest_run(const char *name)
{
    if (!strcmp(name, "hello"))
        hello();
    if (!strcmp(name, "soak"))
        soak_run();
    printk("capstan-selftest: no test named %s\n", name);
    machine_exit(1);
}
