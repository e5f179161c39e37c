/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The half-open table (tcp_listen.c, tcp_accept.c, tcp_cookie.c).
 *
 * Locks: tcp_half_table.lock; taken with no socket's lock, or under one.
 */
#pragma once

#include "net/tcp_internal.h"

#define HALF_BUCKETS 256u
#define HALF_MAX 4096u
#define TCP_RCV_WSCALE 7u /* enough for TCP_RCVBUF_MAX */

/* What an accepted connection starts from. */
struct tcp_birth {
    struct net_endpoint local, remote;
    uint32_t iss, irs, ts_recent, rtt_us;
    struct tcp_syn_options peer; /* what the peer's SYN had */
    uint8_t tos, wscale;         /* ours */
};

struct tcp_half {
    struct tcp_half *next;
    struct tcp_birth b;
    uint32_t sent_us;
    uint32_t retries;
    nsec_t at; /* next SYN-ACK, or the end */
};

struct tcp_half_table {
    struct netstack *net; /* set once */
    struct spinlock lock;
    /* --- protected by lock --- */
    struct tcp_half *buckets[HALF_BUCKETS];
    uint32_t nr; /* read without it, atomic */
    uint32_t next_bucket;
    nsec_t cookies_until; /* cookies sent out may come back */
    bool timer_pending;
    struct net_timer timer;
};

/* tcp_accept.c */

/* Makes the connection, feeds it f, and gives it to the listener (borrowed).
 * Takes f. No lock held. */
void tcp_birth(struct netstack *net, struct tcp_conn *listener,
               const struct tcp_birth *b, struct frame *f);
/* Which of several listeners with SO_REUSEPORT: by the peer's numbers. */
uint32_t tcp_spread(struct netstack *net, const struct frame *f);
/* tcp_cookie.c */

/* Sets b->iss to a cookie, and the options into *ts. */
void tcp_cookie_make(struct netstack *net, struct tcp_birth *b, uint32_t *ts);
/* False: not one of ours. */
bool tcp_cookie_check(struct netstack *net, const struct frame *f,
                      const struct tcp_in *in, struct tcp_birth *b);
