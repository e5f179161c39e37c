/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the rest of the kernel may ask of the machine. Above this header no
 * line knows whether the host is hardware KVM, kvm_pvm or TCG.
 *
 * Interface rules:
 * - `current` is valid from sched_init on.
 * - Interrupt handlers run with interrupts off and must not sleep.
 * - A program counter is the program's when rip_is_program() says so: there
 *   are no rings here (core.md 3).
 */
#pragma once

#include "arch/irq.h"
#include "arch/regs.h"
#include "lib/types.h"

#define MAX_CPUS 8
#define KERNEL_VIRT 0xffffffff80000000ul
#define DIRECT_MAP 0xffff808000000000ul /* PML4 slot 257 */
#define USER_TOP 0x00007ffffffff000ul   /* first address past the program's */
#define USER_BOTTOM PAGE_SIZE           /* page 0 is never mapped */

static inline void *phys_to_virt(paddr_t p)
{
    return (void *)(p + DIRECT_MAP);
}

/* Direct-map or kernel-image address to physical. */
paddr_t virt_to_phys(const void *v);

struct thread;

/* What is counted per CPU, in the order of struct capstan_counters. */
enum cpu_count {
    COUNT_TRAPPED, /* system calls by the instruction; counted in trap.S */
    COUNT_CALLS,   /* all system calls; counted in trap.S */
    COUNT_FAULTS,
    COUNT_INTERRUPTS,
    COUNT_DEVICE, /* device registers read or written */
    COUNT_TIMERS,
    COUNT_IPIS,
    COUNT_HALTS,
    COUNT_TLB_FLUSHES,
    COUNT_SWITCHES,
    COUNT_SIGRETURNS, /* these always trap */
    COUNT_NOTIFIES,
    COUNT_NOTIFY_CYCLES,
    COUNT_NET_CYCLES,
    NR_COUNTS
};

/* The first bytes are fixed by kvm_pvm and by trap.S. */
struct cpu {
    volatile uint8_t irq_on;      /* +0 */
    volatile uint8_t irq_pending; /* +1 */
    uint8_t pad[6];
    uint64_t kernel_stack;        /* +8: top of current's kernel stack */
    struct thread *current;       /* +16 */
    struct cpu *self;             /* +24 */
    uint64_t scratch[2];          /* +32: trap.S, interrupts off only */
    uint64_t counts[NR_COUNTS];   /* +48: statistics, see count_event */
    uint32_t id, apic_id;
    volatile uint32_t online;
    volatile uint32_t ipi_work;   /* atomic: IPI_* bits asked of this CPU */
    volatile uint32_t idle;       /* 0 busy, 1 polling, 2 halted */
    struct thread *idle_thread;
    struct mm *mm;                /* whose page tables are loaded */
    uint64_t mm_gen;              /* its tlb_gen when they were */
    nsec_t timer_armed;           /* deadline in the hardware, 0 = none */
    uint64_t nr_events[256 / 8];  /* statistics, by vector / 8 */
};

extern struct cpu *cpus[MAX_CPUS];
extern unsigned nr_cpus; /* online */

/* Volatile and ordered: the answer changes across a switch. */
static inline struct cpu *this_cpu(void)
{
    struct cpu *c;
    __asm__ volatile("movq %%gs:24, %0" : "=r"(c)::"memory");
    return c;
}

static inline struct thread *current_thread(void)
{
    struct thread *t;
    __asm__ volatile("movq %%gs:16, %0" : "=r"(t));
    return t;
}

/* One instruction: neither an interrupt nor a migration can come between. */
static inline __attribute__((always_inline)) void count_event(enum cpu_count what)
{
    __asm__ volatile("incq %%gs:%c0" ::"i"(48 + 8 * what) : "memory", "cc");
}
static inline __attribute__((always_inline)) void count_add(enum cpu_count what,
                                                            uint64_t n)
{
    __asm__ volatile("addq %1, %%gs:%c0" ::"i"(48 + 8 * what), "er"(n)
                     : "memory", "cc");
}
/* TSC cycles, for statistics. */
static inline uint64_t cycles_now(void)
{
    uint32_t a, d;
    __asm__ volatile("rdtsc" : "=a"(a), "=d"(d)::"memory");
    return (uint64_t)d << 32 | a;
}
/* cpu.c: the sums over all CPUs. */
void count_totals(uint64_t out[NR_COUNTS]);

/* trap.c: is this program counter the program's (else the kernel's)? */
bool rip_is_program(uint64_t rip);

/* cpu.c: device registers (uncached); NULL when out of the known windows. */
volatile void *arch_mmio_map(paddr_t base, size_t len);

/* apic.c: device interrupts. `handler` runs with interrupts off. */
int irq_register(unsigned ioapic_pin, void (*handler)(void *), void *arg);

/* clock.c: nanoseconds since boot, from the TSC or kvm-clock; cheap. */
nsec_t clock_monotonic(void);
/* Nanoseconds since 1970. */
nsec_t clock_realtime(void);
void clock_set_realtime(nsec_t now);
/* Everything the vDSO needs to compute the same: ns = ((tsc - base) * mult)
 * >> shift, plus offset; valid for all CPUs. */
struct clock_params {
    uint64_t tsc_base;
    uint64_t mult;   /* 32.32 fixed point: (delta * mult) >> 32 */
    nsec_t offset;   /* monotonic ns at tsc_base */
    nsec_t realtime_offset; /* realtime - monotonic */
    uint32_t usable; /* rdtsc may be used by the program */
    uint32_t seq;    /* odd while being changed */
};
extern struct clock_params clock_params;
uint64_t tsc_khz(void);

/* fpu.c: extended state. The kernel never touches vector registers, so at a
 * system call or event they hold the program's values. */
size_t fpu_user_size(void);   /* bytes of a standard-format XSAVE image */
uint64_t fpu_user_mask(void); /* XCR0 bits in it; 0 = FXSAVE only */
/* Write/read the live registers to/from 64-byte aligned memory, which must be
 * present (copy first when it is the program's). restore returns -EINVAL for
 * an image the CPU would refuse. */
void fpu_save_user(void *image);
int __must_check fpu_restore_user(const void *image);
void fpu_reset(void); /* the state a new program starts with */

/* cpu.c */
void cpu_random_seed(uint64_t out[4]); /* RDRAND/TSC jitter, mixed by caller */
/* CPUID as the virtual machine shows it (read before native mode). */
void cpu_features(uint32_t leaf, uint32_t subleaf, uint32_t out[4]);
const char *cpu_vendor(void);
const char *host_kind(void); /* "pvm", "kvm", "tcg" */
extern bool rep_is_fast;     /* false under TCG */

/* FS base of the current thread. */
static inline uint64_t fs_base_read(void)
{
    uint64_t v;
    __asm__ volatile("rdfsbase %0" : "=r"(v));
    return v;
}

static inline void fs_base_write(uint64_t v)
{
    __asm__ volatile("wrfsbase %0" ::"r"(v));
}

/* smp.c: makes every CPU that runs `mm` forget translations of
 * [start, start + nr_pages * 4096) before it returns. May be called with
 * interrupts on only; sleeps never. nr_pages = ~0ul: everything. */
struct mm;
void tlb_flush(struct mm *mm, vaddr_t start, size_t nr_pages);

/* entry.S: leaves the kernel for the program with exactly these registers,
 * from the bottom of the current thread's kernel stack. */
void return_to_program(struct regs *regs) __noreturn;

/* power.c: tells the host and stops. */
void machine_exit(int code) __noreturn; /* 0 orderly, 1 panic */
