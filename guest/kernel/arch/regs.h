/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The saved state of an interrupted or calling thread: one layout for system
 * calls, interrupts and exceptions, at the top of the thread's kernel stack
 * when it came from the program.
 */
#pragma once

#include "lib/types.h"

struct regs {
    uint64_t r15, r14, r13, r12, rbp, rbx;
    uint64_t r11, r10, r9, r8, rax, rcx, rdx, rsi, rdi;
    uint64_t vec;      /* event vector; VEC_SYSCALL for system calls */
    uint64_t error;    /* error code; for system calls the call number */
    uint64_t rip, cs, rflags, rsp, ss;
};

#define VEC_SYSCALL 0x100
#define VEC_BREAKPOINT 3
#define VEC_PROTECTION 13
#define VEC_PAGE_FAULT 14
#define VEC_TIMER 0x40
#define VEC_IPI 0x41     /* reschedule, TLB and stop requests */
#define VEC_DEVICE 0x50  /* + IOAPIC pin */
#define VEC_SPURIOUS 0xff

/* Page-fault error code bits (the U bit is not reliable, hosts.md 3). */
#define FAULT_PRESENT 1
#define FAULT_WRITE 2
#define FAULT_EXEC 16
