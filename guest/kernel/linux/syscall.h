/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The system-call table (linux/syscalls.def) and its uses.
 *
 * syscalls.def has one row per call of the x86-64 ABI:
 *   SYSCALL(number, name, handler, LEVEL, nr_args, "formats", "note")
 * name is a bare word. LEVEL: FULL, PARTIAL (note says what is missing), NOOP (accepted, no effect: note says
 * why that is honest), ABSENT (handler sys_absent: -ENOSYS, counted and named at exit).
 * formats: one letter per argument for --strace: d int, u unsigned, x hex,
 * p pointer, s string, o octal, f descriptor, a AT_ descriptor, b buffer(+next
 * argument is its length), - unused.
 * Dispatch, strace, `capstan syscalls` and the docs page come from it.
 *
 * Handlers: int64_t sys_NAME(uint64_t a, ... up to six), registers as the ABI
 * passes them; they return the value or -errno. A handler that needs or
 * replaces the program's registers uses thread_regs(current_thread()).
 */
#pragma once

#include "arch/regs.h"
#include "lib/types.h"

typedef int64_t (*syscall_fn)(uint64_t, uint64_t, uint64_t, uint64_t, uint64_t,
                              uint64_t);

enum syscall_level { SYS_FULL, SYS_PARTIAL, SYS_NOOP, SYS_ABSENT };

#define NR_SYSCALLS 463

struct syscall_info { /* name NULL: no row, so ABSENT */
    const char *name, *formats;
    uint8_t level, nr_args;
};
extern const struct syscall_info syscall_table[NR_SYSCALLS]; /* dispatch.c */

/* dispatch.c: called by entry.S with interrupts on. */
void syscall_dispatch(struct regs *regs);
int64_t sys_absent(uint64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t);
/* For ABSENT rows programs only probe for and do well without: never named. */
int64_t sys_absent_quiet(uint64_t, uint64_t, uint64_t, uint64_t, uint64_t,
                         uint64_t);
/* Counts something the program wanted under a name of its own ("fork",
 * "ptrace"); `what` is a string literal. */
void syscall_count_missing(const char *what);
const char *syscall_name(uint64_t nr); /* NULL: not in the table */
uint64_t syscall_total(void);          /* calls made, DEBUG builds only */
/* strace.c: before the call (strings it may overwrite) and after it. */
void strace_enter(uint64_t nr, const uint64_t args[6]);
void strace_call(struct regs *regs, uint64_t nr, const uint64_t args[6],
                 int64_t result);
/* capstan_calls.c: numbers from CAPSTAN_CALL_BASE on; -ENOSYS for others. */
int64_t capstan_call(uint64_t nr, const uint64_t args[6]);
/* capstan_channel.c: those of loops and channels. */
int64_t capstan_channel_call(uint64_t nr, const uint64_t args[6]);
void stats_report(void); /* sends the `stats` line, at exit */
/* Sends one `message` line per absent call that was made; at exit. */
void syscall_report_absent(void);
