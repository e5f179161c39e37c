/* SPDX-License-Identifier: BSD-2-Clause */
/* How a program ends: atexit, destructors, flushing; status modulo 256. */
#include "abi.h"

static void first(void)
{
    printf("registered first, runs last\n");
}

static void second(void)
{
    printf("registered second, runs first\n");
}

static void with_status(int status, void *arg)
{
    printf("on_exit: status %d, argument %s\n", status, (char *)arg);
}

__attribute__((constructor)) static void before(void)
{
    printf("constructor\n");
}

__attribute__((destructor)) static void after(void)
{
    printf("destructor; this text has no newline and is flushed");
}

static void *sleeper(void *arg)
{
    sleep(100);
    printf("never\n");
    return arg;
}

int main(int argc, char **argv)
{
    pthread_t t;

    watchdog();
    printf("argc %d\n", argc);
    SAY("the list of arguments ends", argv[argc] == NULL);
    atexit(first);
    atexit(second);
    on_exit(with_status, "text");
    pthread_create(&t, NULL, sleeper, NULL); /* does not keep us */
    return 0x12300 + 37;
}
