/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The ABI's times and our nanoseconds.
 *
 * A deadline is a point on clock_monotonic(); 0 means none, so a computed one
 * is never 0, and far ones saturate.
 */
#pragma once

#include "arch/arch.h"
#include "lib/types.h"

#define NSEC_MAX INT64_MAX

/* time.c */
/* Reads a struct timespec: 0, -EFAULT, -EINVAL (negative, or not a time).
 * Saturates at NSEC_MAX. */
int timespec_from_user(uint64_t addr, nsec_t *out);
int timespec_to_user(uint64_t addr, nsec_t t);
/* struct timeval */
int timeval_from_user(uint64_t addr, nsec_t *out);
/* rel nanoseconds from now. */
nsec_t deadline_after(nsec_t rel);
/* An absolute time of `clock` (CLOCK_*) as a deadline. */
nsec_t deadline_on_clock(int clock, nsec_t at);
/* 0 or -EINVAL, -EOPNOTSUPP (thread CPU clocks and the like). */
int clock_read(int clock, nsec_t *out);
/* A clock a thread can sleep on? */
bool clock_is_timeline(int clock);
