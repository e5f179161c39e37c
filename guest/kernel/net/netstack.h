/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The network stack: one object that owns everything, and how it is driven.
 *
 * Layer below: lib, mm/heap. Above: device drivers (net_classify,
 * net_flush), socket glue (net/tcp.h, net/udp.h, net/ping.h), and whoever runs
 * the soft work. Nothing here knows the machine: time, randomness and the
 * number of the current CPU come from `struct net_env`.
 *
 * The way of a packet in (Van Jacobson's channels):
 *   driver -> net_classify: finds the socket, pushes the frame to the socket's
 *   channel, queues the socket as work of this CPU. Any context, interrupts
 *   included. What belongs to no socket goes to the CPU's `input` channel.
 *   Protocol work: in the thread that reads or writes (it empties its channel
 *   first), or in net_softwork, whoever comes first.
 * The way out: a send only appends to the socket's queue and queues the socket
 *   as work; net_softwork builds segments, so that many small writes of one
 *   turn leave as one segment, and all of them with one kick (netif_flush).
 *
 * Whoever drives the stack (the kernel, the simulator) must
 * - call net_softwork(net, cpu) on each CPU: before a thread blocks, when the
 *   CPU idles, on the way back to the program after an interrupt that brought
 *   work; until it returns false, or again soon;
 * - when env->arm asks for it, call net_timer_run and net_softwork at that
 *   time. Both run in a thread or the idle loop, never in an interrupt, and
 *   are not preempted.
 *
 * Lock order, outermost first (a CPU takes them only downwards):
 *   socket lock (a listener's before its child's)
 *   -> port table, half-open table, TIME_WAIT table, reassembly, neighbours
 *   -> hash buckets (irq-safe) -> configuration -> timer wheel
 *   -> frame pool (irq-safe) -> heap
 * No socket lock is held when a socket's event hook is called.
 */
#pragma once

#include "net/checksum.h"
#include "net/net_timer.h"
#include "net/netif.h"

struct net_sock;
struct net_ports;
struct neigh_table;
struct reass_table;
struct route_table;
struct tcp_table;
struct dns_config;

#define NET_MAX_NIFS 8u
/* A small write waits at most this long for its thread to block. */
#define NET_DEFER_NS 100000l
#define NET_TX_BATCH 64u /* frames queued before a flush is forced */

struct net_env {
    nsec_t (*now)(struct net_env *e); /* monotonic, never 0 */
    void (*random)(struct net_env *e, void *buf, size_t n);
    uint32_t (*cpu)(struct net_env *e);
    /* net_timer_run is wanted on this CPU at `deadline`; called when that
     * is earlier than what was asked for before. May be NULL. */
    void (*arm)(struct net_env *e, uint32_t cpu, nsec_t deadline);
    /* Output waits on this CPU, since its last softwork: it wants one soon
     * (flush_by), also if no thread blocks. NULL: `arm` is called. */
    void (*deferred)(struct net_env *e, uint32_t cpu);
    /* Memory is short, or would be with `more` bytes taken: no new data, no
     * new connections. May be NULL. */
    bool (*is_short)(struct net_env *e, uint64_t more);
};

/* What is counted; the names are in netstack.c. */
enum net_counter {
    NET_BAD_FRAME, NET_BAD_CHECKSUM,
    NET_NOT_FOR_US, NET_CHANNEL_FULL, NET_FRAME_NO_MEMORY, NET_NO_ROUTE,
    NET_NEIGH_FAILED, NET_REASS_DONE, NET_REASS_FAILED, NET_ICMP_IN,
    NET_ICMP_OUT, NET_ICMP_LIMITED, NET_UDP_IN, NET_UDP_OUT,
    NET_UDP_NO_PORT, NET_UDP_FULL, NET_TCP_IN, NET_TCP_OUT,
    NET_TCP_RETRANS, NET_TCP_RTO, NET_TCP_TLP, NET_TCP_RECOVERY,
    NET_TCP_PAWS, NET_TCP_CHALLENGE, NET_TCP_OUT_OF_ORDER, NET_TCP_RST_OUT,
    NET_TCP_COOKIE_OUT, NET_TCP_COOKIE_IN, NET_TCP_HALF_FULL,
    NET_TCP_BACKLOG_FULL, NET_TCP_CONNS_FULL, NET_TCP_TW_REUSED, NET_TCP_TW_RECYCLED,
    NET_NR_COUNTERS
};

struct net_cpu {
    /* --- owner CPU only, not in interrupts --- */
    struct frame_list tx; /* built, not yet given to their devices */
    nsec_t armed;         /* what env->arm was told, NET_NO_DEADLINE */
    nsec_t flush_by;      /* deferred output waits, NET_NO_DEADLINE */
    bool is_running;      /* net_softwork is on the stack */
    /* --- atomic --- */
    struct frame *input;       /* newest first */
    struct net_sock *work;     /* newest first */
    uint32_t nr_input;
    uint64_t counters[NET_NR_COUNTERS]; /* relaxed; own CPU adds */
    /* --- own locks --- */
    struct frame_pool pool;
    struct net_wheel wheel;
};

/* A budget of things per second. */
struct net_rate {
    struct spinlock lock;
    /* --- protected by lock --- */
    nsec_t last;
    uint32_t tokens;
};

struct netstack {
    /* --- set once --- */
    struct net_env *env;
    uint32_t nr_cpus;
    struct net_cpu *cpus;
    uint64_t mem_max; /* bytes in frames */
    uint32_t pool_keep[FRAME_CLASSES]; /* free frames, of each CPU */
    uint32_t conns_max; /* TCP connections that listeners may have made */
    struct siphash_key secret;
    struct net_ports *ports;
    struct neigh_table *neighs;
    struct reass_table *reass;
    struct route_table *routes;
    struct tcp_table *tcp;
    struct dns_config *dns;
    /* --- own locks --- */
    struct net_rate icmp_rate, rst_rate;
    struct net_rate challenge_rate; /* for those without a connection */
    /* --- atomic --- */
    uint64_t mem_used;
    uint32_t ip_id;
    uint32_t nr_nifs;
    struct netif *nifs[NET_MAX_NIFS]; /* [0] is loopback */
};

struct net_config {
    struct net_env *env; /* kept */
    uint32_t nr_cpus;
    uint64_t mem_max;
    uint32_t conns_max; /* 0: no limit */
};

static inline nsec_t net_now(struct netstack *net)
{
    return net->env->now(net->env);
}

static inline struct net_cpu *net_this_cpu(struct netstack *net)
{
    return &net->cpus[net->env->cpu(net->env)];
}

static inline bool net_is_short(struct netstack *net, uint64_t more)
{
    return net->env->is_short && net->env->is_short(net->env, more);
}

/* No more received data may be kept; `is_first`: of a socket that keeps none. */
static inline bool net_is_full(struct netstack *net, bool is_first)
{
    uint64_t limit = is_first ? net->mem_max : net->mem_max / 8 * 7;
    return atomic_load_relaxed(&net->mem_used) > limit;
}

static inline void net_count(struct netstack *net, enum net_counter c)
{
    uint64_t *n = &net_this_cpu(net)->counters[c];
    atomic_store_relaxed(n, atomic_load_relaxed(n) + 1);
}

/* netstack.c */

/* Returns owned. 0, -ENOMEM, -EINVAL. */
int net_create(const struct net_config *config, struct netstack **out)
    __must_check;
/* All sockets must be closed; for tests, a kernel keeps its stack. */
void net_destroy(struct netstack *net);
/* One thing more, of at most per_second (bursts of as many)? */
bool net_rate_allows(struct netstack *net, struct net_rate *r,
                     uint32_t per_second);
uint32_t net_random32(struct netstack *net);
uint64_t net_counter_sum(struct netstack *net, enum net_counter c);
const char *net_counter_name(enum net_counter c);

/* softwork.c */

/* Takes f; see above. */
void net_input_queue(struct netstack *net, struct frame *f);
/* True: there is more to do. */
bool net_softwork(struct netstack *net, uint32_t cpu);
bool net_work_pending(struct netstack *net, uint32_t cpu);
/* Fires timers that are due; softwork usually follows. */
void net_timer_run(struct netstack *net, uint32_t cpu);
/* When net_timer_run is wanted next; NET_NO_DEADLINE: not at all. */
nsec_t net_next_deadline(struct netstack *net, uint32_t cpu);
/* Arms on this CPU's wheel. */
void net_arm(struct netstack *net, struct net_timer *t, nsec_t deadline);
/* Output was deferred: softwork within NET_DEFER_NS or when env->deferred
 * sees to it. */
void net_defer(struct netstack *net);

/* classify.c */

/* Takes f: data at the Ethernet header, the headers linear. The device may
 * have set FRAME_CSUM_OK, FRAME_CSUM_PARTIAL and gso_size. Any context. */
void net_classify(struct netif *nif, struct frame *f);
