/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Who is bound where: one table for TCP listeners and bound sockets, UDP and
 * ping sockets. It decides conflicts, picks free ports, and finds the socket
 * for a packet.
 *
 * - A socket in the table has its `local` and `remote` changed only through
 *   port_*, under the bucket's lock.
 * - port_find may be called from interrupt handlers.
 * - Connections made by accept are not in here: they are found by their four
 *   numbers (tcp_hash.c).
 *
 * Locks: a bucket's lock (irq-safe), under the socket's lock.
 */
#pragma once

#include "net/sock.h"

#define PORT_FIRST 32768u /* /proc/sys/net/ipv4/ip_local_port_range */
#define PORT_LAST 60999u

enum port_proto { PORT_TCP, PORT_UDP, PORT_PING, PORT_PROTOS };

/* port.c */
int ports_init(struct netstack *net) __must_check;
void ports_destroy(struct netstack *net);
/* Binds to `local`; port 0 picks one. 0, -EADDRINUSE, -EINVAL (bound already).
 * Rules of SO_REUSEADDR and SO_REUSEPORT: man 7 socket. REQUIRES(s->lock) */
int port_bind(struct net_sock *s, enum port_proto proto,
              const struct net_endpoint *local) __must_check;
/* From now on the socket listens; -EADDRINUSE when somebody else does and
 * SO_REUSEPORT was not set by both. REQUIRES(s->lock) */
int port_listen(struct net_sock *s) __must_check;
/* Bound still, but not listening any more. */
void port_unlisten(struct net_sock *s);
/* Sets the peer (UDP, ping: connect), and the local address.
 * REQUIRES(s->lock) */
void port_connect(struct net_sock *s, const struct net_addr *local,
                  const struct net_endpoint *remote);
void port_unbind(struct net_sock *s);
/* Has a program bound the port? */
bool port_is_bound(struct netstack *net, enum port_proto proto,
                   uint32_t port);
/* The socket for a received frame (addresses, ports, nif), or NULL. `nth`
 * spreads over sockets with SO_REUSEPORT. Returns owned. */
struct net_sock *port_find(struct netstack *net, enum port_proto proto,
                           const struct frame *f, uint32_t spread);
/* All sockets a multicast or broadcast frame is for: at most max, owned. */
uint32_t port_find_all(struct netstack *net, enum port_proto proto,
                       const struct frame *f, struct net_sock **out,
                       uint32_t max);
