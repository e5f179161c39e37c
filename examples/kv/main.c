/* SPDX-License-Identifier: BSD-2-Clause */
/* Options, loops, threads. See kv.h. */
#include "kv.h"

#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define SECOND 1000000000ull
#define THREADS_MAX 64

struct options {
    int port, udp_port, threads;
    uint64_t memory;
    uint32_t item_max;
};

struct kv **all_kvs;
int nr_kvs;
static struct store store;
static struct capstan_timer second;

static void fail(const char *what, int error)
{
    fprintf(stderr, "kv: %s: %s\n", what, strerror(error));
    exit(1);
}

/* Values are sent from where they are, so they are memory of a loop. */
static void *more_memory(void *arg, size_t bytes)
{
    void *p;

    return capstan_loop_memory(arg, bytes, &p) ? NULL : p;
}

static void *common_memory(void *arg, size_t bytes)
{
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    (void)arg;
    return p == MAP_FAILED ? NULL : p;
}

static void tick(struct capstan_timer *t)
{
    __atomic_store_n(&store.now, store.now + 1, __ATOMIC_RELAXED);
    capstan_timer_start(t->arg, t, SECOND);
}

static void stop(int signal)
{
    (void)signal;
    for (int i = 0; i < nr_kvs; i++)
        capstan_loop_stop(all_kvs[i]->loop);
}

static struct kv *make(const struct options *o)
{
    struct sockaddr_in any = {.sin_family = AF_INET,
                              .sin_port = htons((uint16_t)o->port)};
    const struct sockaddr *a = (const struct sockaddr *)&any;
    int flags = o->threads > 1 ? CAPSTAN_SHARED : 0;
    struct kv *kv = calloc(1, sizeof(*kv));
    int err;

    if (!kv)
        fail("a loop", ENOMEM);
    kv->store = &store;
    err = capstan_loop_create(&kv->loop);
    if (err)
        fail("a loop", -err);
    capstan_loop_on_sent(kv->loop, client_sent, kv);
    if (o->port) {
        err = capstan_listen(kv->loop, a, sizeof(any), flags,
                             &listener_handlers, kv, NULL);
        if (err)
            fail("the TCP port", -err);
    }
    any.sin_port = htons((uint16_t)o->udp_port);
    if (o->udp_port) {
        err = capstan_datagram(kv->loop, a, sizeof(any), flags, &udp_handlers,
                               kv, NULL);
        if (err)
            fail("the UDP port", -err);
    }
    return kv;
}

static void *run(void *arg)
{
    struct kv *kv = arg;
    int err = capstan_loop_run(kv->loop);

    if (err)
        fail("the loop", -err);
    return NULL;
}

static uint64_t number(const char *text, uint64_t min, uint64_t max)
{
    uint64_t v;

    if (!number_u64(text, strlen(text), &v) || v < min || v > max) {
        fprintf(stderr, "kv: %s: a number from %llu to %llu is needed\n", text,
                (unsigned long long)min, (unsigned long long)max);
        exit(2);
    }
    return v;
}

static void read_options(int argc, char **argv, struct options *o)
{
    int c;

    while ((c = getopt(argc, argv, "p:U:m:t:I:")) != -1) {
        switch (c) {
        case 'p':
            o->port = (int)number(optarg, 0, 65535);
            break;
        case 'U':
            o->udp_port = (int)number(optarg, 0, 65535);
            break;
        case 'm':
            o->memory = number(optarg, 8, 1u << 20) << 20;
            break;
        case 't':
            o->threads = (int)number(optarg, 1, THREADS_MAX);
            break;
        case 'I':
            o->item_max = (uint32_t)number(optarg, 1024, 1u << 20);
            break;
        default:
            fprintf(stderr, "usage: kv [-p TCP-PORT] [-U UDP-PORT] [-m MIB] "
                            "[-t THREADS] [-I ITEM-BYTES]\n");
            exit(2);
        }
    }
    if (optind < argc || (!o->port && !o->udp_port)) {
        fprintf(stderr, "kv: %s\n",
                optind < argc ? "only options are understood: see kv -h"
                              : "no port: -p or -U is needed");
        exit(2);
    }
}

int main(int argc, char **argv)
{
    struct options o = {.port = 11211, .memory = 64u << 20,
                        .item_max = 1u << 20,
                        .threads = (int)sysconf(_SC_NPROCESSORS_ONLN)};
    pthread_t thread;
    int err;

    read_options(argc, argv, &o);
    err = store_init(&store, o.memory, o.item_max);
    all_kvs = calloc((size_t)o.threads, sizeof(*all_kvs));
    if (err || !all_kvs)
        fail("the store", ENOMEM);
    store.is_shared = o.threads > 1;
    for (; nr_kvs < o.threads; nr_kvs++)
        all_kvs[nr_kvs] = make(&o);
    store.more = store.is_shared ? common_memory : more_memory;
    store.more_arg = all_kvs[0]->loop;
    second = (struct capstan_timer){.fired = tick, .arg = all_kvs[0]->loop};
    capstan_timer_start(all_kvs[0]->loop, &second, SECOND);
    signal(SIGTERM, stop);
    signal(SIGINT, stop);
    for (int i = 1; i < nr_kvs; i++) {
        err = pthread_create(&thread, NULL, run, all_kvs[i]);
        if (err)
            fail("a thread", err);
        pthread_detach(thread);
    }
    printf("kv: ready, %s\n",
           capstan_loop_is_native(all_kvs[0]->loop) ? "in the guest" : "epoll");
    fflush(stdout);
    run(all_kvs[0]);
    return 0;
}
