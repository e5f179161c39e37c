/* SPDX-License-Identifier: BSD-2-Clause */
/* A thread ends the process by _exit while others wait and compute. */
#include "abi.h"

static void *waits(void *arg)
{
    pause();
    return arg;
}

static void *computes(void *arg)
{
    for (volatile long i = 0;; i++)
        ;
    return arg;
}

static void *ends(void *arg)
{
    sleep_ms(20);
    printf("this is lost, for _exit does not flush");
    MUST(write(1, "the end\n", 8));
    _exit(93);
}

static void never(void)
{
    MUST(write(1, "atexit ran\n", 11));
}

int main(void)
{
    pthread_t t;

    alarm(20);
    setvbuf(stdout, NULL, _IOFBF, 4096);
    atexit(never);
    for (int i = 0; i < 3; i++) {
        pthread_create(&t, NULL, waits, NULL);
        pthread_create(&t, NULL, computes, NULL);
    }
    pthread_create(&t, NULL, ends, NULL);
    for (;;)
        pause();
}
