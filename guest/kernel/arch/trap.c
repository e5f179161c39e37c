/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Events in C: classification, faults, interrupts, and the work that is due
 * before a thread goes back to its program.
 *
 * trap_dispatch runs on the thread's kernel stack with interrupts off; a page
 * fault turns them on again (it may sleep on I/O). Kernel code that touches
 * program memory is listed in .extable: when mm_fault cannot help, it resumes
 * at its fix-up.
 */
#include "arch/machine.h"
#include "lib/errno.h"
#include "lib/printk.h"
#include "exec/exec.h"
#include "linux/syscall.h"
#include "linux/task.h"
#include "mm/mm.h"
#include "sched/sched.h"

extern char isr_stubs[], idle_begin[], idle_end[];
extern uint64_t boot_gdt[];
extern const struct extable_entry {
    uint64_t fault, fixup;
} extable_start[], extable_end[];

#define FLAG_TF 0x100ul
#define FLAG_AC 0x40000ul

struct gate {
    uint16_t offset0, selector;
    uint8_t ist, type;
    uint16_t offset1;
    uint32_t offset2, zero;
};

struct tss {
    uint32_t r0;
    uint64_t rsp[3], r1, ist[7], r2;
    uint16_t r3, iomap;
} __packed;

#define NR_VECTORS 128
static struct gate idt[NR_VECTORS] __aligned(16);
static struct tss tss[MAX_CPUS];

static unsigned ist_of(unsigned vec)
{
    switch (vec) {
    case 1:
    case 3:
        return 2;
    case 2:
    case 8:
    case 18:
        return 3;
    default:
        return 1;
    }
}

static void idt_fill(void)
{
    for (unsigned i = 0; i < NR_VECTORS; i++) {
        uint64_t h = (uint64_t)isr_stubs + 16 * i;
        idt[i] = (struct gate){(uint16_t)h, 0x10, (uint8_t)ist_of(i),
                               i == 3 ? 0xee : 0x8e, (uint16_t)(h >> 16),
                               (uint32_t)(h >> 32), 0};
    }
}

void idt_load(struct cpu *c)
{
    struct cpu_area *area = container_of(c, struct cpu_area, cpu);
    struct tss *t = &tss[c->id];
    uint64_t *gdt = boot_gdt;
    uint64_t base = (uint64_t)t;

    if (c->id == 0)
        idt_fill();
    /* ist[2] and ist[3] together are one stack of 4 KiB for NMI and #DF. */
    static const uint8_t top_of[3] = {1, 2, 4};
    for (int i = 0; i < 3; i++) {
        uint64_t top = (uint64_t)area->ist + 2048ul * top_of[i] - 16;
        *(struct cpu **)top = c;
        t->ist[i] = top;
    }
    t->iomap = sizeof(*t);
    gdt[8 + 2 * c->id] = (sizeof(*t) - 1) | (base & 0xffffff) << 16 |
                         0x89ul << 40 | (base >> 24 & 0xff) << 56;
    gdt[9 + 2 * c->id] = base >> 32;
    struct {
        uint16_t len;
        uint64_t base;
    } __packed d = {sizeof(idt) - 1, (uint64_t)idt};
    __asm__ volatile("lidt %0; ltr %w1" ::"m"(d), "r"(0x40 + 16 * c->id));
}

bool rip_is_program(uint64_t rip)
{
    return !(rip >> 63);
}

static bool fixup(struct regs *r)
{
    for (const struct extable_entry *e = extable_start; e < extable_end; e++) {
        if (e->fault == r->rip) {
            r->rip = e->fixup;
            return true;
        }
    }
    return false;
}

static const char *const names[32] = {
    [0] = "divide error",      [1] = "debug",
    [2] = "NMI",               [3] = "breakpoint",
    [6] = "invalid opcode",    [8] = "double fault",
    [13] = "general protection", [14] = "page fault",
};

static void kernel_fault(struct regs *r, uint64_t cr2)
{
    static uint32_t reporting;
    const char *name = r->vec < 32 && names[r->vec] ? names[r->vec] : "trap";

    if (atomic_xchg(&reporting, 1u))
        machine_exit(1); /* the report itself faulted, or another CPU's */
    printk("\nkernel %s (vector %lu, error %lx) at %lx, address %lx\n", name,
           r->vec, r->error, r->rip, cr2);
    printk("rax %lx rbx %lx rcx %lx rdx %lx rsi %lx rdi %lx\n", r->rax, r->rbx,
           r->rcx, r->rdx, r->rsi, r->rdi);
    printk("rbp %lx rsp %lx r8 %lx r9 %lx r10 %lx r11 %lx\n", r->rbp, r->rsp,
           r->r8, r->r9, r->r10, r->r11);
    printk("r12 %lx r13 %lx r14 %lx r15 %lx cr3 mm %p\n", r->r12, r->r13,
           r->r14, r->r15, (void *)this_cpu()->mm);
    backtrace_print(r->rip, r->rbp);
    panic("%s in the kernel", name);
}

/* Linux signal and code for an mm_fault error. */
static void program_segv(struct regs *r, uint64_t addr, int err)
{
    if (err == -EIO || err == -ENXIO)
        signal_fault(7, 2, addr, r); /* SIGBUS, BUS_ADRERR */
    else if (err == -ENOMEM)
        signal_fault(9, 0x80, addr, r); /* out of memory: killed */
    else
        signal_fault(11, err == -EACCES ? 2 : 1, addr, r);
}

static void page_fault(struct regs *r, uint64_t addr, bool program)
{
    struct thread *t = current_thread();
    struct mm *mm = t ? t->mm : NULL;
    int err = -EFAULT;

    if (!program && !(r->rflags & 0x200)) {
        if (!fixup(r))
            kernel_fault(r, addr);
        return;
    }
    if (mm && addr < USER_TOP) {
        irq_on();
        err = mm_fault(mm, addr, (uint32_t)r->error);
        irq_off();
        if (!err)
            return;
    }
    if (!program) {
        if (!fixup(r))
            kernel_fault(r, addr);
        return;
    }
    irq_on();
    program_segv(r, addr, err);
    irq_off();
}

static void program_exception(struct regs *r)
{
    static const struct {
        uint8_t sig, code;
    } table[32] = {
        [0] = {8, 1},  [1] = {5, 2},  [3] = {5, 0x80}, [4] = {11, 0x80},
        [5] = {11, 0x80}, [6] = {4, 2}, [7] = {8, 0}, [11] = {7, 0x80},
        [12] = {7, 0x80}, [13] = {11, 0x80}, [16] = {8, 0}, [17] = {7, 1},
        [19] = {8, 0},
    };
    unsigned vec = r->vec & 31;

    irq_on();
    if (vec == VEC_BREAKPOINT && link_is_trap(r->rip - 1)) {
        r->rip--;
        vec = VEC_PROTECTION;
    }
    if (vec != VEC_BREAKPOINT) /* its address is that behind it */
        r->rip = rip_to_original(r->rip);
    signal_fault(table[vec].sig ? table[vec].sig : 11, table[vec].code,
                 vec == VEC_PROTECTION ? 0 : r->rip, r);
    irq_off();
}

static void interrupt(struct regs *r)
{
    struct cpu *c = this_cpu();

    if (r->rip >= (uint64_t)idle_begin && r->rip < (uint64_t)idle_end)
        r->rip = (uint64_t)idle_end;
    c->nr_events[r->vec >> 3 & 31]++;
    count_event(COUNT_INTERRUPTS);
    switch (r->vec) {
    case VEC_TIMER:
        apic_eoi((unsigned)r->vec);
        sched_timer_interrupt();
        break;
    case VEC_IPI:
        apic_eoi((unsigned)r->vec);
        smp_handle_ipi();
        break;
    case 0x7f:
        break; /* spurious: no EOI */
    default:
        apic_eoi((unsigned)r->vec);
        if (r->vec >= VEC_DEVICE)
            apic_device_interrupt((unsigned)r->vec - VEC_DEVICE);
    }
}

/* A call by a jump brings the program's flags along: single step and alignment
 * check hit the kernel. They come back with the saved flags. */
static bool drop_program_flag(struct regs *r)
{
    uint64_t flag = r->vec == 1 ? FLAG_TF : r->vec == 17 ? FLAG_AC : 0;

    if (!(r->rflags & flag))
        return false;
    r->rflags &= ~flag;
    return true;
}

void trap_dispatch(struct regs *r)
{
    uint64_t cr2 = 0;
    bool program = rip_is_program(r->rip);

    if (r->vec == VEC_PAGE_FAULT) {
        count_event(COUNT_FAULTS);
        __asm__ volatile("mov %%cr2, %0" : "=r"(cr2));
        page_fault(r, cr2, program);
    } else if (r->vec >= 32) {
        interrupt(r);
    } else if (program) {
        program_exception(r);
    } else if (!drop_program_flag(r) && !fixup(r)) {
        kernel_fault(r, 0);
    }
    if (program)
        exit_to_program(r);
}

void trap_paranoid(struct regs *r)
{
    if (r->vec == 2)
        return; /* NMI: nothing here uses it yet */
    kernel_fault(r, 0);
}

/* Called and left with interrupts off. */
void exit_to_program(struct regs *r)
{
    struct thread *t = current_thread();

    for (;;) {
        uint32_t work = atomic_load_relaxed(&t->work);
        if (likely(!(work & (WORK_RESCHED | WORK_SIGNAL))))
            return;
        irq_on();
        if (work & WORK_RESCHED)
            schedule();
        if (work & WORK_SIGNAL)
            signal_work_hook(r);
        irq_off();
    }
}

/* From LSTAR, interrupts off. Returns 0 when the quick way out will do. */
uint64_t syscall_enter(struct regs *r)
{
    struct thread *t = current_thread();
    uint32_t work;

    irq_on();
    syscall_dispatch(r);
    irq_off();
    work = atomic_load_relaxed(&t->work);
    if (likely(!(work & (WORK_RESCHED | WORK_SIGNAL | WORK_FULL))))
        return 0;
    exit_to_program(r);
    atomic_and(&t->work, ~WORK_FULL);
    return 1;
}
