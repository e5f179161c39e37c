/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * DEBUG builds: is there an order in which mutexes are taken? Mutexes made by
 * the same mutex_init call form a class. Taking one while another is held is an
 * edge between their classes; an edge that closes a circle is a deadlock that
 * only needs the right moment: panic, with the two places.
 *
 * Within a class nothing is checked (inodes are taken in order of address); a
 * trylock cannot deadlock and makes no edge. Classes past 63 are not checked.
 */
#pragma once

#include "lib/types.h"

#define LOCKORDER_MAX_HELD 12

#ifdef DEBUG
struct thread;

uint8_t lockorder_class(const void *init_site); /* 0: not checked */
/* Before waiting for a mutex of this class. */
void lockorder_check(const struct thread *t, uint8_t class);
void lockorder_took(struct thread *t, uint8_t class);
void lockorder_gave(struct thread *t, uint8_t class);
#endif
