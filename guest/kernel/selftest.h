/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Tests that run in the booted kernel (`selftest=NAME` on the command line):
 *   hello    one line about the host, then the end: what `capstan doctor` runs
 *   soak     scheduler, timers, wait queues, allocator on all CPUs for 5 s
 */
#pragma once

#include "lib/types.h"

void selftest_run(const char *name) __noreturn;
