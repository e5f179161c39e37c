/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The local APIC (x2APIC where the machine has it, else memory-mapped), its
 * timer (TSC deadline, else one-shot in nanoseconds, which is how KVM and QEMU
 * count), the IOAPIC, and the vectors of devices: those of its pins, the same
 * on all CPUs, then message-signalled ones, which each CPU has for itself.
 *
 * Intel SDM vol. 3, ch. 11; 82093AA IOAPIC data sheet.
 */
#include "arch/machine.h"
#include "arch/pci.h"
#include "lib/errno.h"
#include "lib/lock.h"

#define APIC_PHYS 0xfee00000ul
#define IOAPIC_PHYS 0xfec00000ul
#define NR_PINS 24
#define VEC_MSI (VEC_DEVICE + NR_PINS)
#define VEC_APIC_SPURIOUS 0x7f
#define NR_MSI (VEC_APIC_SPURIOUS - VEC_MSI)

static bool x2apic;
static bool tsc_deadline;
static struct device_vector {
    void (*handler)(void *); /* atomic; NULL: free */
    void *arg;
} pins[NR_PINS], msis[MAX_CPUS][NR_MSI];
static struct spinlock msi_lock; /* allocation from msis */

/* Interrupts looked at so far, or what that said; see apic_eoi. Atomic. */
static uint32_t eoi_looks;
#define EOI_LOOK_FROM 32u
#define EOI_LOOKS 8u
#define EOI_IS_OURS 0xfffffffeu
#define EOI_IS_THE_HOSTS 0xffffffffu
#define MSR_X2APIC_ISR 0x810u

static void apic_write(uint32_t reg, uint32_t v)
{
    if (x2apic)
        wrmsr(0x800 + (reg >> 4), v);
    else
        *(volatile uint32_t *)phys_to_virt(APIC_PHYS + reg) = v;
}

void apic_init_cpu(void)
{
    x2apic = cpuid1_ecx >> 21 & 1;
    tsc_deadline = cpuid1_ecx >> 24 & 1;
    if (x2apic)
        wrmsr(MSR_APIC_BASE, rdmsr(MSR_APIC_BASE) | 0xc00);
    apic_write(0xf0, 0x100 | VEC_APIC_SPURIOUS); /* enable; spurious vector */
    if (tsc_deadline) {
        apic_write(0x320, VEC_TIMER | 2u << 17);
    } else {
        apic_write(0x3e0, 0xb); /* divide by 1 */
        apic_write(0x320, VEC_TIMER);
    }
}

/* kvm_pvm ends an interrupt itself when it delivers it: then no vector is in
 * service in our handler, and an EOI is an exit (25 us) for nothing. Looking
 * is an exit too, so short runs do not. */
static void eoi_look(unsigned vec)
{
    uint32_t n = atomic_load_relaxed(&eoi_looks);

    if (!x2apic || (n >= EOI_LOOK_FROM &&
                    rdmsr(MSR_X2APIC_ISR + vec / 32) >> vec % 32 & 1))
        n = EOI_IS_OURS;
    else
        n = n + 1 == EOI_LOOK_FROM + EOI_LOOKS ? EOI_IS_THE_HOSTS : n + 1;
    atomic_store_relaxed(&eoi_looks, n);
}

void apic_eoi(unsigned vec)
{
    uint32_t n = atomic_load_relaxed(&eoi_looks);

    if (n == EOI_IS_THE_HOSTS)
        return;
    if (n != EOI_IS_OURS)
        eoi_look(vec);
    apic_write(0xb0, 0);
}

static void apic_icr(uint32_t apic_id, uint32_t command)
{
    if (x2apic) {
        wrmsr(0x830, (uint64_t)apic_id << 32 | command);
        return;
    }
    volatile uint32_t *icr = phys_to_virt(APIC_PHYS + 0x300);
    while (icr[0] & 1u << 12)
        cpu_relax();
    icr[4] = apic_id << 24;
    icr[0] = command;
}

void apic_ipi(uint32_t apic_id, uint32_t vector)
{
    bool was_on = irq_save(); /* the two halves of the xAPIC ICR */
    apic_icr(apic_id, 0x4000 | vector);
    count_event(COUNT_IPIS);
    irq_restore(was_on);
}

void apic_start_ap(uint32_t apic_id, paddr_t page)
{
    apic_icr(apic_id, 0x4500);
    apic_icr(apic_id, 0x4600 | (uint32_t)(page >> PAGE_SHIFT));
}

/* A past deadline fires at once. */
void apic_timer_arm(nsec_t deadline)
{
    nsec_t delta = deadline - clock_monotonic();

    count_event(COUNT_TIMERS);
    delta = MAX(delta, 1000l);
    delta = MIN(delta, 600 * NSEC_PER_SEC); /* looks again then */
    if (tsc_deadline) {
        uint64_t ticks = (uint64_t)delta * tsc_khz() / 1000000;
        wrmsr(MSR_TSC_DEADLINE, rdtsc() + ticks);
    } else {
        apic_write(0x380, (uint32_t)MIN(delta, 0xffffffffl));
    }
}

static void ioapic_write(uint32_t reg, uint32_t v)
{
    volatile uint32_t *io = phys_to_virt(IOAPIC_PHYS);
    io[0] = reg;
    io[4] = v;
}

/* Edge triggered: virtio-mmio raises a level that InterruptACK drops; each
 * rising edge is one batch of completions (drivers re-check after the ACK). */
int irq_register(unsigned pin, void (*handler)(void *), void *arg)
{
    static struct spinlock ioapic_lock;
    bool was_on;

    if (pin >= NR_PINS)
        return -EINVAL;
    pins[pin].arg = arg;
    atomic_store_release(&pins[pin].handler, handler);
    was_on = spin_lock_irqsave(&ioapic_lock); /* register select, then data */
    ioapic_write(0x11 + 2 * pin, cpus[0]->apic_id << 24);
    ioapic_write(0x10 + 2 * pin, VEC_DEVICE + pin);
    spin_unlock_irqrestore(&ioapic_lock, was_on);
    return 0;
}

/* Intel SDM vol. 3, 11.11: fixed delivery to one CPU, edge triggered. */
static bool msi_take_locked(struct cpu *c, void (*handler)(void *), void *arg,
                            struct msi_message *out)
{
    for (unsigned i = 0; i < NR_MSI; i++) {
        struct device_vector *v = &msis[c->id][i];

        if (v->handler)
            continue;
        v->arg = arg;
        atomic_store_release(&v->handler, handler);
        out->address = APIC_PHYS | c->apic_id << 12;
        out->data = VEC_MSI + i;
        return true;
    }
    return false;
}

int msi_alloc(void (*handler)(void *), void *arg, unsigned cpu,
              struct msi_message *out)
{
    unsigned n = atomic_load_acquire(&nr_cpus);
    bool was_on = spin_lock_irqsave(&msi_lock);
    bool ok = false;

    cpu = cpu < n ? cpu : 0;
    for (unsigned i = 0; i < n && !ok; i++)
        ok = msi_take_locked(cpus[(cpu + i) % n], handler, arg, out);
    spin_unlock_irqrestore(&msi_lock, was_on);
    return ok ? 0 : -ENOSPC;
}

/* `n`: the vector less VEC_DEVICE. */
void apic_device_interrupt(unsigned n)
{
    struct device_vector *v = NULL;
    void (*handler)(void *);

    if (n < NR_PINS)
        v = &pins[n];
    else if (n - NR_PINS < NR_MSI)
        v = &msis[this_cpu()->id][n - NR_PINS];
    handler = v ? atomic_load_acquire(&v->handler) : NULL;
    if (handler)
        handler(v->arg);
}
