/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The Internet checksum (RFC 1071) and the keyed hash the stack uses for
 * everything a stranger must not predict (SipHash-2-4). No state.
 *
 * - Sums are 64 bits wide while they grow and in memory order; csum_fold
 *   gives the 16 bits as they are stored on the wire (inverted).
 */
#pragma once

#include "net/frame.h"

/* checksum.c */

/* Adds n bytes; an odd n is padded, so only the last piece may be odd. */
uint64_t csum_add(uint64_t sum, const void *data, size_t n);
/* The value to store: inverted, in memory order (store it with memcpy). */
uint16_t csum_fold(uint64_t sum);
void csum_store(void *to, uint64_t sum);
/* The pseudo header of TCP, UDP and ICMPv6 for `len` bytes of payload. */
uint64_t csum_pseudo(const struct net_addr *src, const struct net_addr *dst,
                     uint32_t proto, uint32_t len);
/* Adds n bytes of a frame from offset `off`, pieces of any length. */
uint64_t csum_add_frame(uint64_t sum, struct frame *f, uint32_t off,
                        uint32_t n);
/* Is the transport checksum of f right (data at the transport header)?
 * Trusts FRAME_CSUM_OK. */
bool csum_check_transport(struct frame *f);

/* siphash.c */
struct siphash_key {
    uint64_t k[2];
};
uint64_t siphash(const struct siphash_key *key, const void *data, size_t n);
/* Of a connection's addresses and ports, and one number more. */
uint64_t siphash_tuple(const struct siphash_key *key,
                       const struct net_endpoint *local,
                       const struct net_endpoint *remote, uint64_t extra);
