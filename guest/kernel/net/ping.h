/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Sockets for ICMP: echo sockets without privileges (SOCK_DGRAM with
 * IPPROTO_ICMP or ICMPV6). The identifier of the requests is the socket's
 * "port"; only replies to it arrive.
 */
#pragma once

#include "net/udp.h"

/* ping.c: close, shutdown, poll and recv are those of udp.h */
struct udp_sock *ping_create(struct netstack *net, uint32_t family);
int ping_bind(struct udp_sock *u, const struct net_endpoint *local)
    __must_check;
/* Only the address counts; NULL: disconnect. */
int ping_connect(struct udp_sock *u, const struct net_endpoint *remote)
    __must_check;
/* The bytes are an echo request; identifier and checksum are filled in. */
ssize_t ping_send(struct udp_sock *u, const struct udp_send *m);
void ping_input(struct netstack *net, struct frame *f); /* takes f */
void ping_icmp(struct netstack *net, const struct frame *quoted, int error,
               uint32_t mtu);
