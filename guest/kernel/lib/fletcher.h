/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The two Fletcher sums of ZFS over little-endian data (OpenZFS on-disk
 * format, "checksum": four 64-bit words).
 *
 * - fletcher2 takes a multiple of 16 bytes, fletcher4 a multiple of 4; the
 *   rest of a shorter tail is ignored.
 * - fletcher2 cannot tell some damaged blocks; it is here for old pools.
 */
#pragma once

#include "lib/types.h"

/* fletcher.c */
void fletcher2(const void *data, size_t len, uint64_t out[4]);
void fletcher4(const void *data, size_t len, uint64_t out[4]);
