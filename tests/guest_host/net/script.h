/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Scripts for TCP: a listener on port 80, a peer at 10.0.0.2 port 5555 that
 * the test plays by hand. One script at a time; see test_tcp.c.
 */
#pragma once

#include "net/wire.h"

#define US 80u
#define PEER 5555u
#define PEER_ISS 1000u
#define MS 1000000l
#define P(n) (PEER_ISS + 1 + (n)) /* the peer's byte n */
#define U(n) (our_iss + 1 + (n))  /* ours */

extern struct wire w;
extern struct tcp_conn *listener, *conn; /* conn: NULL = none to close */
extern uint32_t our_iss;

struct script_test {
    const char *name;
    void (*run)(void);
};

/* script.c */
struct seg seg(uint32_t flags, uint32_t seq, uint32_t ack, uint32_t len);
void put(uint32_t flags, uint32_t seq, uint32_t ack, uint32_t len);
struct seg get(void);
void nothing(void);
void expect(uint32_t flags, uint32_t seq, uint32_t ack, uint32_t len);
ssize_t send_bytes(const void *data, size_t n);
ssize_t recv_bytes(void *to, size_t n);
void start(uint32_t caps);
void finish(void);
void open_with(const struct seg *options);
void open_plain(void);
void open_sack(void);
/* argv[1]: only the test of this name. Returns main's status. */
int script_run(const struct script_test *tests, uint32_t nr, int argc,
               char **argv);
