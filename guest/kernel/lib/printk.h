/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Kernel messages and the end of the world.
 *
 * - klog(level, ...) writes one line to the serial port when the level is
 *   enabled (parameter `loglevel`). A serial byte costs an exit: keep quiet.
 * - panic() is for a broken invariant of ours only; prints values and a
 *   backtrace on the serial port, stops all CPUs, leaves with code 1.
 * - Bad input (image, ELF, system-call argument) never panics.
 */
#pragma once

#include "lib/types.h"

enum { LOG_PANIC, LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };

/* printk.c */
extern int log_level;
void printk(const char *fmt, ...) __printf(1, 2);
void klog(int level, const char *fmt, ...) __printf(2, 3);
/* Notes that boot got to `where` (a literal) now; at log level 3 and above the
 * list is printed at the end, with times since the first C line. */
void boot_mark(const char *where);
void boot_marks_print(void);
/* panic.c */
void panic(const char *fmt, ...) __printf(1, 2) __noreturn;
void backtrace_print(uint64_t rip, uint64_t rbp);

#define assert(x)                                                       \
    do {                                                                \
        if (unlikely(!(x)))                                             \
            panic("%s:%d: assertion failed: %s", __FILE__, __LINE__, #x); \
    } while (0)
