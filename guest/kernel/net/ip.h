/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * IPv4 and IPv6: what is common to packets in and out.
 *
 * - In: net_classify sets l3, src, dst, proto, ttl, tos and cuts the padding;
 *   `data` is at the transport header of IPv4 packets and of IPv6 packets
 *   without extension headers. ip_input does the rest for packets that belong
 *   to no socket yet; whoever takes packets from a socket's channel calls
 *   ip_check first.
 * - Out: the sender fills src, dst, proto, ttl, tos of the frame, puts `data`
 *   at the transport header and sets FRAME_CSUM_PARTIAL when the checksum
 *   field has the pseudo-header sum (csum_start 0). ip_output adds headers,
 *   fragments what is too long, and completes checksums the device cannot.
 */
#pragma once

#include "net/route.h"

/* ip_output flags */
#define IP_DONT_FRAGMENT 1u
#define IP_NO_LOOP 2u /* not even to members of the group on this machine */

enum ip_error {
    IP_ERR_PORT,       /* nobody listens */
    IP_ERR_PROTO,      /* unknown protocol; IPv6: at byte `extra` */
    IP_ERR_REASSEMBLY, /* fragments missing for too long */
    IP_ERR_HEADER,     /* IPv6: bad field at byte `extra` */
    IP_ERR_OPTION,     /* IPv6: unknown option at byte `extra` */
};

/* ip.c */

/* Takes f, from the stack's input channel. */
void ip_input(struct netstack *net, struct frame *f);
/* Takes f: a whole packet for one of our addresses, data at the transport
 * header. */
void ip_deliver(struct netstack *net, struct frame *f);
/* Are the IP header's and the transport's checksums right? Counts. */
bool ip_check(struct netstack *net, struct frame *f);
/* Is it for us, and not from us over a wire (RFC 1122 3.2.1.3)? Marks what is
 * for many. For packets that were found by their ports only. Counts. */
bool ip_accepts(struct frame *f);
/* Checks the transport header of TCP and UDP, fills in the ports. Other
 * protocols pass. (classify.c) */
bool ip_parse_transport(struct frame *f);
/* ip_out.c */

/* Takes f. 0, -EMSGSIZE (too long and must not be cut), -ENOBUFS. */
int ip_output(const struct net_route *r, struct frame *f, uint32_t flags);
/* Puts the pseudo-header sum at `field` and marks the frame. */
void ip_partial_checksum(struct frame *f, uint32_t field_offset);
/* Header bytes of a packet to this address. */
static inline uint32_t ip_header_bytes(const struct net_addr *dst)
{
    return addr_is_v4(dst) ? IPV4_HEADER : IPV6_HEADER;
}

/* ip6.c */

/* Walks extension headers; data at the transport header then. 0: deliver;
 * 1: was taken (fragment, error, dropped). */
int ip6_walk_headers(struct netstack *net, struct frame *f);
