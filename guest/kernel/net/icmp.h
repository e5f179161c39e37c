/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * ICMP and ICMPv6: echo, errors in and out (RFC 792, 1122, 4443, 5927).
 *
 * - Errors are sent within a budget, never about errors, fragments other than
 *   the first, multicast or broadcast (RFC 1122 3.2.2).
 * - An error that arrives is believed only when what it quotes is something we
 *   sent: the socket is found by its addresses and ports, and TCP checks the
 *   sequence number as well.
 */
#pragma once

#include "net/ip.h"

#define ICMP_PER_SECOND 1000u
#define ECHO_HEADROOM 64u /* a reply's headers, and the device's */

/* icmp.c */
void icmp_input(struct netstack *net, struct frame *f); /* takes f */
/* Sends an error about f (borrowed, l3 set). */
void icmp_error(struct netstack *net, struct frame *f, enum ip_error e,
                uint32_t extra);
/* Tells the socket that sent `quoted` (as sent: src is ours). `mtu` not 0:
 * too big, error EMSGSIZE. */
void icmp_tell_socket(struct netstack *net, const struct frame *quoted,
                      int error, uint32_t mtu);
/* icmp6.c */
void icmp6_input(struct netstack *net, struct frame *f); /* takes f */
void icmp6_error(struct netstack *net, struct frame *f, enum ip_error e,
                 uint32_t extra);
/* Fills in the checksum and sends an ICMPv6 message. Takes f. */
void icmp6_output(const struct net_route *r, struct frame *f);
