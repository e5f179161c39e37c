/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * From the first C line on the boot CPU to the program: the order in which
 * the parts come up. kmain runs on the boot stack, which becomes the idle
 * thread's; everything that may sleep happens in the thread `init`.
 *
 * PVH start information: Xen public/arch-x86/hvm/start_info.h.
 */
#include "main.h"

#include "arch/machine.h"
#include "drivers/drivers.h"
#include "fs/vfs.h"
#include "lib/printk.h"
#include "lib/string.h"
#include "linux/task.h"
#include "mm/heap.h"
#include "mm/init.h"
#include "net/kernel.h"
#include "param.h"
#include "sched/sched.h"
#include "selftest.h"

struct pvh_start_info {
    uint32_t magic, version, flags, nr_modules;
    uint64_t modlist, cmdline, rsdp, memmap;
    uint32_t memmap_entries, reserved;
};
struct pvh_module {
    uint64_t paddr, size, cmdline, reserved;
};
struct pvh_memory {
    uint64_t addr, size;
    uint32_t type, reserved;
};
#define PVH_MAGIC 0x336ec578u
#define PVH_RAM 1

extern uint32_t boot_start_info[];
extern char kernel_end[];

static struct pvh_start_info *start_info(void)
{
    uint32_t at = boot_start_info[0];
    struct pvh_start_info *si = phys_to_virt(at);

    if (si->magic != PVH_MAGIC)
        panic("not started by the PVH protocol (%x)", si->magic);
    return si;
}

static void find_memory(const struct pvh_start_info *si)
{
    const struct pvh_memory *m = phys_to_virt(si->memmap);
    paddr_t after_kernel = virt_to_phys(kernel_end);
    paddr_t low_end = 0xa0000;

    for (uint32_t i = 0; i < si->memmap_entries; i++) {
        paddr_t start = m[i].addr, end = start + m[i].size;
        if (m[i].type != PVH_RAM)
            continue;
        /* Low memory from 64 KiB: below are the AP trampoline and what the
         * firmware left for us. */
        if (start < low_end)
            page_add_memory(MAX(start, 64 * KIB), MIN(end, low_end));
        start = MAX(start, after_kernel);
        if (start < end)
            page_add_memory(start, end);
    }
    page_init();
}

/* The parameters lie where the firmware put them, in memory that will be
 * handed out: copy first. */
static void read_parameters(const struct pvh_start_info *si)
{
    const char *why = NULL;

    if (si->cmdline) {
        const char *text = phys_to_virt(si->cmdline);
        char *copy = kstrdup(text);
        if (copy)
            param_parse_cmdline(copy);
    }
    if (!si->nr_modules)
        return;
    const struct pvh_module *mod = phys_to_virt(si->modlist);
    const char *text = page_map_boot_data(mod->paddr, mod->size);
    char *blob = text ? kmemdup(text, mod->size) : NULL;
    if (!blob || param_parse(blob, mod->size, &why))
        panic("parameters: %s", why ? why : "out of memory");
}

static void init_thread(void *arg)
{
    if (boot_params.selftest)
        selftest_run(boot_params.selftest);
    boot_mark("init thread");
    int err = rootfs_mount();
    if (err) { /* the first `failed` counts: a reason may have been said */
        control_send("failed 125 the image cannot be mounted (error %d)", -err);
        machine_exit(0);
    }
    boot_mark("root mounted");
    net_kernel_start();
    init_process_run();
    for (;;)
        sleep_until(clock_monotonic() + 3600 * NSEC_PER_SEC, false);
}

void kmain(void)
{
    struct pvh_start_info *si = start_info();

    boot_mark("kmain");
    find_memory(si);
    sched_init();
    read_parameters(si);
    boot_mark("parameters read");
    apic_init_cpu();
    clock_init();
    boot_mark("clock and APIC");
    random_init();
    virtio_init();
    net_kernel_init();
    boot_mark("devices");
    klog(LOG_DEBUG, "capstan guest on %s, %lu kHz, %u cpus wanted",
         host_kind(), tsc_khz(), boot_params.cpus);
    if (!kthread_create("init", init_thread, NULL))
        panic("no memory for the first thread");
    if (boot_params.cpus > 1)
        smp_start(boot_params.cpus);
    sched_start_cpu();
}
