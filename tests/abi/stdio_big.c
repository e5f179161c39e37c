/* SPDX-License-Identifier: BSD-2-Clause */
/* A megabyte to stdout, by stdio in all its buffer modes and by bare write,
 * from one thread and from several that take turns. */
#include "abi.h"

static pthread_mutex_t turn = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t next = PTHREAD_COND_INITIALIZER;
static int whose;

static void lines(int from, int to)
{
    for (int i = from; i < to; i++)
        printf("line %d of the text, which goes on for a while: %x\n", i,
               (unsigned)i * 2654435761u);
}

static void raw(int from, int to)
{
    static char text[70000];
    size_t at = 0, len;

    for (int i = from; i < to; i++)
        at += (size_t)snprintf(text + at, sizeof(text) - at, "raw %d %08x\n",
                               i, (unsigned)i * 40503u);
    for (len = at, at = 0; at < len;) {
        ssize_t n = write(1, text + at, len - at);
        if (n <= 0)
            exit(9);
        at += (size_t)n;
    }
}

static void *taking_turns(void *arg)
{
    int me = (int)(long)arg;

    for (int i = 0; i < 200; i++) {
        pthread_mutex_lock(&turn);
        while (whose != me)
            pthread_cond_wait(&next, &turn);
        printf("thread %d round %d ........................\n", me, i);
        whose = (me + 1) % 4;
        pthread_cond_broadcast(&next);
        pthread_mutex_unlock(&turn);
    }
    return NULL;
}

int main(void)
{
    static char buffer[100000], bytes[256 * 40];
    pthread_t t[4];

    alarm(20);
    setvbuf(stdout, buffer, _IOFBF, sizeof(buffer));
    lines(0, 6000);
    fflush(stdout);
    raw(0, 4000);
    setvbuf(stdout, buffer, _IOFBF, 777);
    lines(6000, 10000);
    fflush(stdout);
    for (int i = 0; i < 20; i++) {
        lines(10000 + i * 10, 10010 + i * 10);
        fflush(stdout);
        raw(4000 + i * 10, 4010 + i * 10);
    }
    setvbuf(stdout, NULL, _IOLBF, 4096);
    lines(11000, 11500);
    setvbuf(stdout, NULL, _IONBF, 0);
    lines(12000, 12050);
    for (int i = 0; i < COUNT(bytes); i++)
        bytes[i] = (char)i; /* every value, as it is */
    struct iovec iov[3] = {{bytes, 100}, {bytes + 100, 0}, {bytes + 100,
                           sizeof(bytes) - 100}};
    if (writev(1, iov, 3) != sizeof(bytes))
        return 8;
    for (long i = 0; i < 4; i++)
        pthread_create(&t[i], NULL, taking_turns, (void *)i);
    for (int i = 0; i < 4; i++)
        pthread_join(t[i], NULL);
    setvbuf(stdout, buffer, _IOFBF, sizeof(buffer));
    lines(20000, 22000); /* flushed at exit */
    return 0;
}
