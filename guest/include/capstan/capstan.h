/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * libcapstan: what a program can ask of the guest beyond Linux.
 *
 *     gcc server.c $(capstan sdk --flags)
 *
 * - A program linked with it still runs on Linux: capstan_version() is 0 there and
 *   the other functions return -ENOSYS (capstan_clock_ns: the system's clock).
 * - Calls are jumps into the guest, no system calls. All are thread-safe, and
 *   safe in a signal handler.
 * - Functions return 0 or a negative errno value; errno is not touched.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The newest interface this header knows. */
#define CAPSTAN_VERSION 2

/* The interface the running guest has; 0 when this is not a capstan guest. */
int capstan_version(void);

/* Nanoseconds since the guest's start, as CLOCK_MONOTONIC: about 10 ns. */
uint64_t capstan_clock_ns(void);

/* --- pages --- */

#define CAPSTAN_PAGE_PRESENT 1u
#define CAPSTAN_PAGE_WRITABLE 2u
#define CAPSTAN_PAGE_EXECUTABLE 4u
#define CAPSTAN_PAGE_FILE 8u    /* a page of the file cache, shared */
#define CAPSTAN_PAGE_SHARED 16u /* private memory that others map too */

struct capstan_page {
    uint64_t physical; /* of the byte asked for; 0 when not present */
    uint32_t size;     /* of the translation: 4096 or 2097152; 0 not present */
    uint32_t flags;    /* CAPSTAN_PAGE_* */
};

/* What the page tables say of an address. The answer may be old when it comes:
 * it is a fact only for memory that is locked (man 2 mlock) or just touched.
 * -EFAULT: the address is not in any mapping, or `out` cannot be written. */
int capstan_page_query(const void *address, struct capstan_page *out);

/* --- what the guest did --- */

/* Totals since start, over all CPUs. What leaves for the host (an exit) is
 * the expensive part of any operation: devices, timers, IPIs, halts, and on
 * some hosts trapped calls, faults and TLB flushes. */
struct capstan_counters {
    uint64_t trapped_calls; /* system calls by the `syscall` instruction */
    uint64_t calls;         /* system calls in all */
    uint64_t page_faults;
    uint64_t interrupts;
    uint64_t device_accesses; /* device registers read or written */
    uint64_t timers;          /* timer settings */
    uint64_t ipis;            /* sent to other CPUs */
    uint64_t halts;
    uint64_t tlb_flushes;
    uint64_t switches;        /* from one thread to another */
    uint64_t signal_returns;  /* always among the trapped calls */
    uint64_t notifications;   /* of devices, about requests in a queue */
    uint64_t notify_cycles;   /* TSC cycles they took: exits */
    /* TSC cycles from a frame's leaving the card's ring to the CPU's next rest,
     * all that was done meanwhile but notifications: ring to ring. */
    uint64_t net_cycles;
};

/* Fills the first `size` bytes; fields a guest does not know stay 0. */
int capstan_counters(struct capstan_counters *out, size_t size);

#ifdef __cplusplus
}
#endif
