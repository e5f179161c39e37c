/* SPDX-License-Identifier: BSD-2-Clause */
/* See host.h. */
#include "net/host.h"

#include "check.h"

#include <string.h>
#include <time.h>

_Thread_local uint32_t host_cpu;

static nsec_t host_now(struct net_env *env)
{
    struct host_env *e = (struct host_env *)env;
    struct timespec ts;

    if (e->now)
        return e->now;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (nsec_t)ts.tv_sec * NSEC_PER_SEC + ts.tv_nsec;
}

static void host_random(struct net_env *env, void *buf, size_t n)
{
    static struct spinlock lock;
    struct host_env *e = (struct host_env *)env;
    uint8_t *p = buf;

    spin_lock(&lock);
    while (n--)
        *p++ = (uint8_t)(rng_next(&e->rng) >> 24);
    spin_unlock(&lock);
}

static uint32_t host_this_cpu(struct net_env *env)
{
    (void)env;
    return host_cpu;
}

void host_env_init(struct host_env *e, uint64_t seed, nsec_t now)
{
    memset(e, 0, sizeof(*e));
    e->env.now = host_now;
    e->env.random = host_random;
    e->env.cpu = host_this_cpu;
    e->now = now;
    e->rng = seed * 0x9e3779b97f4a7c15ull + 0x1234567;
}

struct netstack *host_stack(struct host_env *e, uint32_t nr_cpus,
                            uint64_t mem_max)
{
    struct net_config config = {
        .env = &e->env, .nr_cpus = nr_cpus, .mem_max = mem_max};
    struct netstack *net;

    CHECK_EQ(net_create(&config, &net), 0);
    return net;
}

static size_t iter_copy(struct net_iter *it, void *kernel, size_t n)
{
    struct host_iter *h = (struct host_iter *)it;

    CHECK_EQ(spin_held(), 0); /* may sleep: no lock across */
    n = MIN(MIN(n, it->left), h->fault_after);
    if (h->to_program)
        memcpy(h->at, kernel, n);
    else
        memcpy(kernel, h->at, n);
    h->at += n;
    it->left -= n;
    if (h->fault_after != SIZE_MAX)
        h->fault_after -= n;
    return n;
}

static void iter_init(struct host_iter *h, void *data, size_t n)
{
    h->it.copy = iter_copy;
    h->it.left = n;
    h->at = data;
    h->fault_after = SIZE_MAX;
}

void host_iter_from(struct host_iter *h, const void *data, size_t n)
{
    iter_init(h, (void *)(uintptr_t)data, n);
    h->to_program = false;
}

void host_iter_to(struct host_iter *h, void *data, size_t n)
{
    iter_init(h, data, n);
    h->to_program = true;
}

struct net_addr host_addr(const char *text)
{
    struct net_addr a;

    if (addr_from_text(text, &a)) {
        fprintf(stderr, "not an address: %s\n", text);
        exit(2);
    }
    return a;
}

struct net_endpoint host_endpoint(const char *addr, uint32_t port)
{
    return (struct net_endpoint){.addr = host_addr(addr),
                                 .port = (uint16_t)port};
}
