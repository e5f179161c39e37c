/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Mapping the vDSO: one data page (struct clock_params), then the code of
 * vdso/image. The kernel writes the data page under a sequence number; only
 * vdso_update() does, serialised by vvar_lock.
 */
#include "exec/exec.h"
#include "lib/lock.h"
#include "lib/string.h"

extern char vdso_start[], vdso_end[]; /* vdso/blob.S */

static union {
    struct clock_params params;
    char page[PAGE_SIZE];
} vvar __aligned(4096);
static struct spinlock vvar_lock;

void vdso_update(void)
{
    bool was_on = spin_lock_irqsave(&vvar_lock);
    uint32_t seq = vvar.params.seq;

    atomic_store_seq(&vvar.params.seq, seq | 1); /* readers try again */
    barrier();
    vvar.params.tsc_base = clock_params.tsc_base;
    vvar.params.mult = clock_params.mult;
    vvar.params.offset = clock_params.offset;
    vvar.params.realtime_offset = clock_params.realtime_offset;
    vvar.params.usable = clock_params.usable;
    barrier();
    atomic_store_release(&vvar.params.seq, (seq | 1) + 1);
    spin_unlock_irqrestore(&vvar_lock, was_on);
}

int vdso_map(struct mm *mm)
{
    size_t nr_pages = (size_t)(vdso_end - vdso_start) / PAGE_SIZE;
    int64_t addr;
    int err;

    vdso_update();
    /* Find a hole, then fill it. */
    addr = mm_mmap(mm, 0, (nr_pages + 1) * PAGE_SIZE, 0,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, NULL, 0);
    if (addr < 0)
        return (int)addr;
    err = mm_munmap(mm, (vaddr_t)addr, (nr_pages + 1) * PAGE_SIZE);
    if (err == 0)
        err = mm_map_kernel_pages(mm, (vaddr_t)addr, &vvar, 1, PROT_READ,
                                  "[vvar]");
    if (err == 0)
        err = mm_map_kernel_pages(mm, (vaddr_t)addr + PAGE_SIZE, vdso_start,
                                  nr_pages, PROT_READ | PROT_EXEC, "[vdso]");
    if (err == 0)
        mm->vdso = (vaddr_t)addr + PAGE_SIZE;
    return err;
}
