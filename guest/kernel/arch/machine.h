/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Private to arch/: registers, descriptor tables, the local APIC.
 */
#pragma once

#include "arch/arch.h"

#define MSR_PVM_PAGE 0x4b564d10u
#define MSR_PVM_KHZ 0x4b564d13u
#define PVM_SIGNATURE 0x4d5650u
#define MSR_KVM_WALL_CLOCK 0x4b564d00u
#define MSR_KVM_SYSTEM_TIME 0x4b564d01u
#define MSR_APIC_BASE 0x1bu
#define MSR_TSC_DEADLINE 0x6e0u
#define MSR_STAR 0xc0000081u
#define MSR_LSTAR 0xc0000082u
#define MSR_SFMASK 0xc0000084u

/* struct cpu, then its IST stacks (see trap.S). */
struct cpu_area {
    struct cpu cpu __aligned(4096);
    uint8_t ist[4][2048] __aligned(2048);
} __aligned(4096);

extern struct cpu_area cpu0_area;
extern uint32_t host_is_pvm;
extern uint32_t cpuid1_ecx; /* as the virtual machine shows it */

static inline uint64_t rdtsc(void)
{
    uint32_t a, d;
    __asm__ volatile("rdtsc" : "=a"(a), "=d"(d)::"memory");
    return a | (uint64_t)d << 32;
}

static inline uint64_t rdmsr(uint32_t msr)
{
    uint32_t a, d;
    __asm__ volatile("rdmsr" : "=a"(a), "=d"(d) : "c"(msr) : "memory");
    return a | (uint64_t)d << 32;
}

static inline void wrmsr(uint32_t msr, uint64_t v)
{
    __asm__ volatile("wrmsr" ::"c"(msr), "a"((uint32_t)v),
                     "d"((uint32_t)(v >> 32))
                     : "memory");
}

static inline void outb(uint16_t port, uint8_t v)
{
    __asm__ volatile("outb %0, %1" ::"a"(v), "Nd"(port));
}

static inline void outw(uint16_t port, uint16_t v)
{
    __asm__ volatile("outw %0, %1" ::"a"(v), "Nd"(port));
}

static inline uint8_t inb(uint16_t port)
{
    uint8_t v;
    __asm__ volatile("inb %1, %0" : "=a"(v) : "Nd"(port));
    return v;
}

static inline void cpuid(uint32_t leaf, uint32_t sub, uint32_t out[4])
{
    __asm__ volatile("cpuid"
                     : "=a"(out[0]), "=b"(out[1]), "=c"(out[2]), "=d"(out[3])
                     : "0"(leaf), "2"(sub));
}

/* cpu.c */
void arch_entry(struct cpu *c, uint32_t signature, uint32_t ecx1);
/* trap.c */
void idt_load(struct cpu *c);
void trap_dispatch(struct regs *r);
void trap_paranoid(struct regs *r);
uint64_t syscall_enter(struct regs *r);
void exit_to_program(struct regs *r);
/* apic.c */
void apic_init_cpu(void);
/* Ends the interrupt in service, which is `vec`. */
void apic_eoi(unsigned vec);
void apic_ipi(uint32_t apic_id, uint32_t vector);
void apic_start_ap(uint32_t apic_id, paddr_t page);
void apic_timer_arm(nsec_t deadline);
void apic_device_interrupt(unsigned pin);
/* clock.c */
void clock_init(void);
/* fpu.c */
void fpu_init_cpu(void);
void fpu_save(void *area);
void fpu_restore(const void *area);
size_t fpu_area_size(void);
void fpu_area_init(void *area);
/* smp.c */
#define IPI_RESCHED 1u
#define IPI_TLB 2u
#define IPI_STOP 4u
void smp_start(unsigned wanted);
void smp_ipi(struct cpu *c, uint32_t work);
void smp_handle_ipi(void);
void smp_stop_others(void);
