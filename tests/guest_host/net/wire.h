/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * One stack and a wire that a test holds in its hand: it sends packets byte by
 * byte and looks at each one that comes back. Time is set by the test.
 *
 * We are 10.0.0.1 and fd00::1; the peer 10.0.0.2 and fd00::2 (its link address
 * is known beforehand). Addresses of other peers: any in those networks.
 */
#pragma once

#include "net/host.h"

#include "net/tcp_internal.h"

struct wire_packet {
    struct wire_packet *next;
    uint32_t len;
    uint8_t data[]; /* Ethernet header first */
};

struct wire {
    struct netif nif; /* first member */
    struct host_env env;
    struct netstack *net;
    struct wire_packet *sent, *last;
    bool is_v4, must_answer;
    bool keep_questions; /* ARP and NDP are for the test to answer */
};

/* A TCP segment, in or out. */
struct seg {
    uint32_t seq, ack, flags, wnd, len;
    uint16_t sport, dport, mss;
    int wscale; /* -1: none */
    bool sack_ok, has_ts;
    uint32_t ts_val, ts_ecr, nr_sacks, sacks[4][2];
    const uint8_t *payload;
};

/* wire.c */
void wire_init(struct wire *w, uint32_t caps);
void wire_done(struct wire *w); /* checks that nothing is left in memory */
/* Lets the stack do what it has to do now. */
void wire_run(struct wire *w);
/* Lets time pass, timers fire on the way. */
void wire_wait(struct wire *w, nsec_t ns);
/* The next packet that was sent, or NULL; the caller frees it. */
struct wire_packet *wire_take(struct wire *w);
void wire_drop_all(struct wire *w);
/* An Ethernet frame to us. */
void wire_put(struct wire *w, const void *data, uint32_t len);
/* An IP packet from the peer: header is made here. */
void wire_put_ip(struct wire *w, uint32_t proto, const void *data,
                 uint32_t len);
/* A TCP segment from the peer. */
void wire_put_seg(struct wire *w, const struct seg *s);
/* The next packet must be a TCP segment; false: none was sent. */
bool wire_get_seg(struct wire *w, struct seg *s);
struct net_addr wire_us(const struct wire *w);
struct net_addr wire_peer(const struct wire *w);
