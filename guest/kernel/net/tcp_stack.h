/* SPDX-License-Identifier: BSD-2-Clause */
/* TCP, as the rest of the stack sees it. The program's side is tcp.h. */
#pragma once

#include "net/netstack.h"

/* tcp_conn.c */
int tcp_init(struct netstack *net) __must_check;
void tcp_destroy(struct netstack *net);
struct tcp_totals {
    uint32_t nr_conns; /* with a program or without, not TIME_WAIT */
    uint32_t nr_half_open, nr_time_wait;
};
/* tcp_hash.c: true when a connection took the frame. Any context. */
bool tcp_classify(struct netstack *net, struct frame *f);
/* tcp_listen.c */
void tcp_totals(struct netstack *net, struct tcp_totals *out);
void tcp_stack_input(struct netstack *net, struct frame *f); /* takes f */
/* tcp_icmp.c */
void tcp_icmp(struct netstack *net, const struct frame *quoted, int error,
              uint32_t mtu);
