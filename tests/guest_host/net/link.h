/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Two stacks joined by a line that loses, repeats, reorders, delays and
 * damages packets; time is simulated, everything follows from the seed.
 *
 * - The interface does what a device does: completes checksums, cuts large
 *   segments, hands received packets over in one or several buffers.
 * - link_step goes to the next moment something happens and lets it happen.
 */
#pragma once

#include "net/host.h"

#include "net/netif.h"

struct link_params {
    uint32_t loss, dup, reorder, corrupt; /* of 1000 packets */
    nsec_t delay, jitter;
    uint64_t bytes_per_sec; /* 0: no limit */
    uint32_t queue_max;     /* packets waiting for the line */
    uint32_t mtu, caps;
    bool keep_large;        /* large segments arrive whole (large receive) */
    bool lazy;              /* the soft work comes late at times */
    bool no_sack, no_ts, no_wscale; /* a middle box that erases options */
    uint64_t mem_max;
};

struct link;

struct link_side {
    struct netif nif; /* first member */
    struct link *link;
    struct netstack *net;
    uint32_t idx;
    nsec_t line_free; /* when the line has sent what it has */
    uint32_t waiting;
    nsec_t next_work;
};

struct packet {
    struct packet *next;
    nsec_t at;
    uint32_t to, len, gso_size;
    bool csum_ok;
    uint8_t data[];
};

struct link {
    struct host_env env;
    struct link_params p;
    struct link_side side[2];
    struct packet *queue; /* by time */
    uint64_t rng, nr_sent, nr_lost;
    /* Sees every packet; false: drop it. May be NULL. */
    bool (*watch)(struct link *l, uint32_t from, uint8_t *data, uint32_t len);
    void *arg;
    void *pcap; /* FILE, packets as sent */
};

/* link.c */

/* Side i has 10.0.0.(i+1)/24 and fd00::(i+1)/64. */
void link_init(struct link *l, uint64_t seed, const struct link_params *p);
void link_destroy(struct link *l); /* all sockets must be closed */
/* Does what is due now on both sides; false: nothing was. */
bool link_run(struct link *l);
/* When something happens next; NET_NO_DEADLINE: never. */
nsec_t link_next(struct link *l);
/* Runs until `until` or until nothing will happen. */
void link_run_until(struct link *l, nsec_t until);
/* A packet from outside for side `to`, now. */
void link_inject(struct link *l, uint32_t to, const uint8_t *data,
                 uint32_t len);
struct net_addr link_addr(uint32_t side, bool is_v4);

/* invariants.c: ends the program when something is not as it must be */
struct tcp_conn;
void check_conn(struct tcp_conn *c);
void check_stack(struct netstack *net);
