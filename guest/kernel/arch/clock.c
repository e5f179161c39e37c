/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Time from the TSC. Its frequency comes from kvm_pvm's MSR, from kvm-clock's
 * multiplier, or (TCG) from comparing with the local APIC timer, which QEMU
 * counts in nanoseconds. Wall-clock time: KVM's wall clock, else the
 * launcher's `time` parameter.
 *
 * KVM paravirtual clock: Linux Documentation/virt/kvm/x86/msr.rst.
 */
#include "arch/machine.h"
#include "lib/atomic.h"
#include "param.h"

struct clock_params clock_params;
static uint64_t khz;

static struct {
    uint32_t version, pad;
    uint64_t tsc, system_time;
    uint32_t mul;
    int8_t shift;
    uint8_t flags, pad2[2];
} __packed kvm_time __aligned(64);
static struct {
    uint32_t version, sec, nsec;
} __packed kvm_wall __aligned(64);

static inline nsec_t tsc_to_ns(uint64_t delta)
{
    return (nsec_t)((unsigned __int128)delta * clock_params.mult >> 32);
}

nsec_t clock_monotonic(void)
{
    return tsc_to_ns(rdtsc() - clock_params.tsc_base) + clock_params.offset;
}

nsec_t clock_realtime(void)
{
    return clock_monotonic() + clock_params.realtime_offset;
}

void clock_set_realtime(nsec_t now)
{
    clock_params.realtime_offset = now - clock_monotonic();
}

uint64_t tsc_khz(void)
{
    return khz;
}

static uint64_t kvm_clock_khz(void)
{
    uint64_t v;

    wrmsr(MSR_KVM_SYSTEM_TIME, virt_to_phys(&kvm_time) | 1);
    if (!atomic_load_relaxed(&kvm_time.mul))
        return 0;
    v = (1000000ul << 32) / kvm_time.mul;
    return kvm_time.shift < 0 ? v << -kvm_time.shift : v >> kvm_time.shift;
}

static nsec_t kvm_wall_now(void)
{
    if (!host_is_pvm && !kvm_time.mul)
        return 0;
    if (!kvm_time.mul)
        kvm_clock_khz();
    wrmsr(MSR_KVM_WALL_CLOCK, virt_to_phys(&kvm_wall));
    if (!atomic_load_relaxed(&kvm_wall.sec))
        return 0;
    uint64_t delta = rdtsc() - kvm_time.tsc;
    return (nsec_t)kvm_wall.sec * NSEC_PER_SEC + kvm_wall.nsec +
           (nsec_t)kvm_time.system_time + tsc_to_ns(delta);
}

/* TCG: 2 ms against the APIC timer (apic.c has divide-by-1 set). */
static uint64_t measure_khz(void)
{
    volatile uint32_t *apic = phys_to_virt(0xfee00000);
    uint32_t start, left;
    uint64_t t0, t1;

    apic[0x3e0 / 4] = 0xb;
    apic[0x320 / 4] = 1u << 16;
    apic[0x380 / 4] = 0xffffffff;
    start = apic[0x390 / 4];
    t0 = rdtsc();
    do {
        left = apic[0x390 / 4];
        t1 = rdtsc();
    } while (start - left < 2000000);
    apic[0x380 / 4] = 0;
    apic[0x320 / 4] = VEC_TIMER; /* as apic_init_cpu left it */
    return (t1 - t0) * 1000000 / (start - left);
}

void clock_init(void)
{
    bool is_tcg = host_kind()[0] == 't';

    if (host_is_pvm)
        khz = rdmsr(MSR_PVM_KHZ);
    else if (!is_tcg)
        khz = kvm_clock_khz();
    if (!khz)
        khz = measure_khz();
    clock_params.mult = (1000000ul << 32) / khz;
    clock_params.tsc_base = rdtsc();
    clock_params.usable = 1;
    nsec_t wall = is_tcg ? 0 : kvm_wall_now();
    if (!wall)
        wall = boot_params.time;
    clock_set_realtime(wall);
}
