/* SPDX-License-Identifier: BSD-2-Clause */
/* TCP, as the rest of the stack sees it. The program's side is tcp.h. */
#pragma once

#include "net/netstack.h"

/* tcp_conn.c */
int tcp_init(struct netstack *net) __must_check;
void tcp_destroy(struct netstack *net);
/* tcp_hash.c: true when a connection took the frame. Any context. */
bool tcp_classify(struct netstack *net, struct frame *f);
/* tcp_listen.c */
void tcp_stack_input(struct netstack *net, struct frame *f); /* takes f */
/* tcp_icmp.c */
void tcp_icmp(struct netstack *net, const struct frame *quoted, int error,
              uint32_t mtu);
