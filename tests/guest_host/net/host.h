/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the network programs here share: a stack on the host, its environment
 * (a clock that is real or set by hand, a seeded generator), memory as source
 * and target of bytes.
 */
#pragma once

#include "net/netstack.h"
#include "net/sock.h"

struct host_env {
    struct net_env env; /* first member */
    nsec_t now;         /* simulated time; 0: the real clock */
    uint64_t rng;
};

/* Which CPU of the stack the calling thread is. */
extern _Thread_local uint32_t host_cpu;

/* host.c */
void host_env_init(struct host_env *e, uint64_t seed, nsec_t now);
struct netstack *host_stack(struct host_env *e, uint32_t nr_cpus,
                            uint64_t mem_max);

struct host_iter {
    struct net_iter it; /* first member */
    uint8_t *at;
    bool to_program;
    size_t fault_after; /* bytes until a fault, SIZE_MAX = never */
};

/* The program's memory: bytes are read from it, or (to) written to it. */
void host_iter_from(struct host_iter *h, const void *data, size_t n);
void host_iter_to(struct host_iter *h, void *data, size_t n);
/* An endpoint from text; ends the program when it is none. */
struct net_endpoint host_endpoint(const char *addr, uint32_t port);
struct net_addr host_addr(const char *text);
