/* SPDX-License-Identifier: BSD-2-Clause */
/* Thread-local storage: initial values, alignment, size, many threads. */
#include "abi.h"

#include <asm/prctl.h>

struct record {
    char name[16];
    long number;
    double real;
};

static __thread int counter = 7;
static __thread struct record record = {"initial", 123456789, 2.5};
static __thread char big[100000];
static __thread _Alignas(64) char aligned[64] = "aligned";
static __thread _Alignas(4096) char page[16] = "page";
static __thread int zeroed;
extern __thread int visible;
__thread int visible = 99;

static void check(const char *who)
{
    bool empty = true;

    for (int i = 0; i < COUNT(big); i++)
        empty = empty && big[i] == 0;
    printf("%s: %d %s %ld %.1f, big empty %d, %s %d, %s %d, %d %d\n", who,
           counter, record.name, record.number, record.real, empty, aligned,
           (int)((long)aligned % 64), page, (int)((long)page % 4096), zeroed,
           visible);
}

static void spoil(int i)
{
    counter += i;
    snprintf(record.name, sizeof(record.name), "thread %d", i);
    record.number = i;
    record.real *= i;
    memset(big, i, sizeof(big));
    zeroed = i;
    visible -= i;
}

static void *in_thread(void *arg)
{
    int me = (int)(long)arg;

    check("fresh");
    spoil(me);
    for (int i = 0; i < 50; i++) {
        sched_yield();
        if (counter != 7 + me || zeroed != me || big[i * 400] != me)
            printf("mixed up\n");
    }
    return &counter;
}

static pthread_t threads[8];
static void *results[8];

static void *quiet(void *arg)
{
    int me = (int)(long)arg;
    long bad = 0;

    bad += counter != 7 || zeroed != 0 || strcmp(record.name, "initial") != 0;
    spoil(me);
    for (int i = 0; i < 100; i++) {
        errno = me;
        sched_yield();
        bad += errno != me || counter != 7 + me || zeroed != me;
        bad += (long)pthread_self() != (long)threads[me] && threads[me] != 0;
    }
    return (void *)bad;
}

int main(void)
{
    unsigned long fs = 0;
    long bad = 0;
    void *r;

    watchdog();
    check("main");
    spoil(50);
    /* One after the other: each finds the initial image. */
    for (long i = 1; i <= 3; i++) {
        pthread_create(&threads[0], NULL, in_thread, (void *)i);
        pthread_join(threads[0], &r);
        YES(r != &counter);
    }
    memset(threads, 0, sizeof(threads));
    for (long i = 0; i < 8; i++)
        pthread_create(&threads[i], NULL, quiet, (void *)i);
    for (int i = 0; i < 8; i++) {
        pthread_join(threads[i], &results[i]);
        bad += (long)results[i];
    }
    printf("wrong in eight threads %ld\n", bad);
    printf("main's %d %s %d %d\n", counter, record.name, zeroed, visible);
    MUST(syscall(SYS_arch_prctl, ARCH_GET_FS, &fs));
    unsigned long self;
    __asm__("mov %%fs:0, %0" : "=r"(self));
    YES(self == fs);
    YES((unsigned long)&counter < fs);
    YES(fs - (unsigned long)&counter < 1 << 20);
    return 0;
}
