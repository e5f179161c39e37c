/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Bringing one CPU from boot.S to kmain (the boot CPU) or the idle loop, and
 * facts about the processor and the host.
 */
#include "arch/machine.h"
#include "lib/string.h"
#include "main.h"
#include "param.h"
#include "sched/sched.h"

extern uint64_t boot_pt_kernel[], boot_pd_first[], boot_pml4[], boot_gdt[];
extern char text_start[], text_end[], rodata_end[], kernel_end[];
extern char boot_start[], boot_end[], cells_start[], cells_end[];
extern char lstar_entry[];
extern const struct alt_site {
    uint64_t site;
    uint16_t kind, len;
    uint32_t pad;
} altirq_start[], altirq_end[];

struct cpu_area cpu0_area;
struct cpu *cpus[MAX_CPUS];
unsigned nr_cpus;
uint32_t host_is_pvm;
uint32_t cpuid1_ecx;
bool rep_is_fast = true;
static char host_name[4] = "kvm";
static char vendor[13];

paddr_t virt_to_phys(const void *v)
{
    uint64_t a = (uint64_t)v;
    return a >= KERNEL_VIRT ? a - KERNEL_VIRT : a - DIRECT_MAP;
}

volatile void *arch_mmio_map(paddr_t base, size_t len)
{
    if (base < 0xfea00000 || base + len > 0xff000000)
        return NULL; /* PCI windows: pci.c maps them */
    return phys_to_virt(base);
}

const char *host_kind(void)
{
    return host_name;
}

const char *cpu_vendor(void)
{
    uint32_t f[4];

    cpuid(0, 0, f);
    memcpy(vendor, &f[1], 4);
    memcpy(vendor + 4, &f[3], 4);
    memcpy(vendor + 8, &f[2], 4);
    return vendor;
}

/* CPUID costs an exit: leaf 1, of which many want a bit, is read once. */
void cpu_features(uint32_t leaf, uint32_t subleaf, uint32_t out[4])
{
    static uint32_t leaf1[4];

    if (leaf != 1) {
        cpuid(leaf, subleaf, out);
        return;
    }
    if (!leaf1[0]) {
        cpuid(1, 0, out);
        out[2] |= 1u << 27; /* OSXSAVE follows CR4, set later than the read */
        memcpy(leaf1, out, sizeof(leaf1));
    }
    memcpy(out, leaf1, sizeof(leaf1));
}

void count_totals(uint64_t out[NR_COUNTS])
{
    for (unsigned n = 0; n < NR_COUNTS; n++) {
        out[n] = 0;
        for (unsigned i = 0; i < nr_cpus; i++)
            out[n] += atomic_load_relaxed(&cpus[i]->counts[n]);
    }
}

void cpu_random_seed(uint64_t out[4])
{
    uint32_t f[4];

    cpu_features(1, 0, f);
    for (int i = 0; i < 4; i++) {
        uint64_t v = rdtsc() * 0x9e3779b97f4a7c15ul;
        if (f[2] & 1u << 30) {
            uint64_t r = 0;
            __asm__ volatile("rdrand %0" : "=r"(r)::"cc");
            v ^= r;
        }
        out[i] = v;
    }
}

/* The interrupt-flag sites are assembled for kvm_pvm (arch/irq.h). */
static void patch_irq_sites(void)
{
    for (const struct alt_site *s = altirq_start; s < altirq_end; s++) {
        uint8_t *p = phys_to_virt(s->site - KERNEL_VIRT);
        if (s->kind == ALT_IRQ_OFF) {
            p[0] = 0xfa; /* cli */
        } else {
            p[0] = 0xfb; /* sti; jmp over the check */
            p[1] = 0xeb;
            p[2] = (uint8_t)(s->len - 3);
        }
    }
}

/* W^X for the kernel image, in the image mapping and in the direct map (they
 * share the tables; the direct map adds NX above). A and D are set everywhere:
 * a host that shadows page tables maps ahead only entries that have them. */
static void protect_kernel(void)
{
    const uint64_t nx = 1ul << 63, read = 0x25, write = 0x67;
    uint64_t end = ALIGN_UP(virt_to_phys(kernel_end), LARGE_SIZE);

    for (uint64_t pa = 0; pa < end; pa += PAGE_SIZE) {
        uint64_t va = pa + KERNEL_VIRT, *e = &boot_pt_kernel[pa >> PAGE_SHIFT];
        if (pa >= (uint64_t)boot_start && pa < (uint64_t)boot_end)
            continue;
        if (va >= (uint64_t)text_start && va < (uint64_t)text_end)
            *e = pa | read;
        else if ((va >= (uint64_t)text_end && va < (uint64_t)rodata_end) ||
                 (pa >= (uint64_t)cells_start && pa < (uint64_t)cells_end))
            *e = pa | read | nx;
        else
            *e = pa | write | nx;
    }
    if (end > LARGE_SIZE) /* the direct map of the second large frame */
        boot_pd_first[1] = virt_to_phys(boot_pt_kernel + 512) | write;
    boot_pml4[0] = 0; /* NULL faults */
    __asm__ volatile("mov %0, %%cr3" ::"r"(virt_to_phys(boot_pml4)) : "memory");
}

static void detect_host(uint32_t signature)
{
    uint32_t f[4];

    host_is_pvm = signature == PVM_SIGNATURE;
    if (host_is_pvm) {
        memcpy(host_name, "pvm", 4);
        return;
    }
    cpuid(0x40000000, 0, f);
    if (f[1] != 0x4b4d564b) {
        memcpy(host_name, "tcg", 4);
        rep_is_fast = false;
    }
    patch_irq_sites();
}

void arch_entry(struct cpu *c, uint32_t signature, uint32_t ecx1)
{
    bool is_boot_cpu = virt_to_phys(c) == virt_to_phys(&cpu0_area.cpu);

    if (is_boot_cpu) {
        cpuid1_ecx = ecx1;
        cpus[0] = c;
        nr_cpus = 1;
        c->online = 1;
        detect_host(signature);
    }
    struct {
        uint16_t len;
        uint64_t base;
    } __packed gdt = {0x40 + 16 * MAX_CPUS - 1,
                      (uint64_t)boot_gdt};
    __asm__ volatile("lgdt %0" ::"m"(gdt));
    idt_load(c);
    fpu_init_cpu();
    wrmsr(MSR_STAR, 0x23ul << 48 | 0x10ul << 32);
    wrmsr(MSR_LSTAR, (uint64_t)lstar_entry);
    wrmsr(MSR_SFMASK, 0x47700);
    if (is_boot_cpu) {
        protect_kernel();
        kmain();
    }
    apic_init_cpu();
    smp_cpu_online(c);
    sched_start_cpu();
}
