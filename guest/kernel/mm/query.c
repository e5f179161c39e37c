/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Looking at page tables for the program (libcapstan).
 */
#include "lib/errno.h"
#include "mm/internal.h"

static void describe(pte_t e, bool large, vaddr_t addr, struct mm_page *out)
{
    size_t size = large ? LARGE_SIZE : PAGE_SIZE;

    out->size = (uint32_t)size;
    out->physical = (e & PTE_FRAME & ~(size - 1)) | (addr & (size - 1));
    out->is_writable = (e & PTE_W) != 0;
    out->is_executable = !(e & PTE_NX);
    out->is_file = (e & PTE_FILE) != 0;
    out->is_shared = !(e & (PTE_FILE | PTE_KERNEL)) &&
                     atomic_load_relaxed(&pte_page(e)->refcount) > 1;
}

int mm_query_page(struct mm *mm, vaddr_t addr, struct mm_page *out)
{
    bool large;

    *out = (struct mm_page){0};
    mutex_lock(&mm->lock);
    const struct vma *v = vma_find(mm->vma_root, addr);
    if (v && v->start > addr)
        v = NULL;
    const pte_t *e = v ? pt_walk(mm, addr, &large) : NULL;
    if (e && *e & PTE_P)
        describe(*e, large, addr, out);
    mutex_unlock(&mm->lock);
    return v ? 0 : -EFAULT;
}
