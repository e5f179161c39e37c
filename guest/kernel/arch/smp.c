/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * More than one CPU: starting them, interrupting them, TLB shootdown.
 *
 * Start-up is a chain: the boot CPU starts the first one, each starts the next
 * when it is up, so nobody waits. A CPU must be started once only: a second
 * INIT resets it in the middle of whatever it runs.
 *
 * Shootdown: a CPU that has the mm loaded gets IPI_TLB and flushes everything;
 * the sender waits for all of them with interrupts on (it may be a target of
 * another sender). A halted or idle CPU is not interrupted: it reloads CR3
 * when it next runs the mm (mm->active_cpus loses its bit when idle starts).
 */
#include "arch/machine.h"
#include "lib/atomic.h"
#include "lib/printk.h"
#include "lib/string.h"
#include "mm/mm.h"
#include "sched/sched.h"

extern char boot_ap_trampoline[], boot_ap_trampoline_end[];
extern uint32_t boot_ap_params[];
extern uint64_t ap_pml4_phys[];

#define TRAMPOLINE 0x8000

static unsigned cpus_wanted = 1;
static struct spinlock tlb_lock;
static uint64_t tlb_pending; /* atomic: CPUs that have not flushed yet */

static void start_next(void)
{
    unsigned id = nr_cpus;
    struct page *p;
    struct cpu_area *area;
    uint32_t *params = boot_ap_params;

    if (id >= cpus_wanted)
        return;
    p = page_alloc(2, PAGE_ZERO);
    if (!p)
        return;
    area = page_to_virt(p);
    area->cpu.id = area->cpu.apic_id = id;
    void *stack = sched_prepare_cpu(&area->cpu);
    if (!stack)
        return;
    params[0] = (uint32_t)(uint64_t)ap_pml4_phys;
    params[1] = (uint32_t)virt_to_phys(area);
    params[2] = (uint32_t)virt_to_phys(stack);
    cpus[id] = &area->cpu;
    memcpy(phys_to_virt(TRAMPOLINE), boot_ap_trampoline,
           (size_t)(boot_ap_trampoline_end - boot_ap_trampoline));
    apic_start_ap(id, TRAMPOLINE);
}

void smp_start(unsigned wanted)
{
    cpus_wanted = MIN(wanted, (unsigned)MAX_CPUS);
    start_next();
}

void smp_cpu_online(struct cpu *c)
{
    atomic_store_release(&c->online, 1u);
    atomic_store_release(&nr_cpus, c->id + 1);
    start_next();
}

void smp_ipi(struct cpu *c, uint32_t work)
{
    if (!(atomic_or(&c->ipi_work, work) & work))
        apic_ipi(c->apic_id, VEC_IPI);
}

static void flush_local(void)
{
    uint64_t cr3;
    __asm__ volatile("mov %%cr3, %0; mov %0, %%cr3" : "=r"(cr3)::"memory");
}

static void stop_self(void)
{
    for (;;) {
        irq_off();
        if (host_is_pvm)
            cpu_relax();
        else
            __asm__ volatile("hlt");
    }
}

void smp_handle_ipi(void)
{
    struct cpu *c = this_cpu();
    uint32_t work = atomic_xchg(&c->ipi_work, 0u);

    if (work & IPI_STOP)
        stop_self();
    if (work & IPI_TLB) {
        flush_local();
        atomic_and(&tlb_pending, ~(1ul << c->id));
    }
    if (work & IPI_RESCHED)
        sched_ipi();
}

void smp_stop_others(void)
{
    struct cpu *me = this_cpu();

    for (unsigned i = 0; i < nr_cpus; i++) {
        if (cpus[i] != me && cpus[i]->online)
            smp_ipi(cpus[i], IPI_STOP);
    }
}

void tlb_flush(struct mm *mm, vaddr_t start, size_t nr_pages)
{
    struct cpu *me = this_cpu();
    uint64_t others;

    atomic_add(&mm->tlb_gen, 1ul);
    count_event(COUNT_TLB_FLUSHES);
    if (me->mm == mm) {
        if (nr_pages <= 1)
            __asm__ volatile("invlpg (%0)" ::"r"(start) : "memory");
        else
            flush_local();
    }
    smp_mb(); /* pairs with the switch's atomic_or on active_cpus */
    others = atomic_load_relaxed(&mm->active_cpus) & ~(1ul << me->id);
    if (!others)
        return;
    while (!spin_trylock(&tlb_lock))
        cpu_relax();
    others = atomic_load_relaxed(&mm->active_cpus) & ~(1ul << me->id);
    atomic_store_seq(&tlb_pending, others);
    for (unsigned i = 0; i < nr_cpus; i++) {
        if (others >> i & 1)
            smp_ipi(cpus[i], IPI_TLB);
    }
    while (atomic_load_acquire(&tlb_pending)) {
        cpu_relax();
        if (atomic_load_relaxed(&me->ipi_work) && !irq_enabled())
            smp_handle_ipi();
    }
    spin_unlock(&tlb_lock);
}
