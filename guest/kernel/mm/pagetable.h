/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Page tables of the low half, and the gathering of what is unmapped.
 *
 * Layer above: mmap.c, fault.c. Everything here needs mm->lock.
 *
 * - Entries always carry U, A and D: nothing in them is written by the CPU,
 *   so a plain store under mm->lock is enough (and on kvm_pvm no A/D exit).
 * - A page that the program may not touch at all (PROT_NONE) keeps its frame
 *   with PTE_NONE instead of P.
 * - 2 MiB entries are anonymous private memory only.
 * - Frames are freed only after every CPU forgot them: entries that go away
 *   pass through a `struct gather`, which flushes once per batch.
 */
#pragma once

#include "mm/mm.h"
#include "mm/vma.h"

typedef uint64_t pte_t;

#define PTE_P 1ul
#define PTE_W 2ul
#define PTE_U 4ul
#define PTE_A 32ul
#define PTE_D 64ul
#define PTE_PS 128ul
#define PTE_FILE (1ul << 9)    /* a page-cache page: mapcount is held */
#define PTE_KERNEL (1ul << 10) /* a page of the kernel: no refcount */
#define PTE_NONE (1ul << 11)   /* PROT_NONE: the frame is kept, P is clear */
#define PTE_NX (1ul << 63)
#define PTE_FRAME 0x000ffffffffff000ul
#define PTE_BASE (PTE_U | PTE_A | PTE_D)

#define PAGES_PER_LARGE (LARGE_SIZE / PAGE_SIZE)
#define NR_GATHER 24

struct gather {
    struct mm *mm;
    vaddr_t start, end;   /* to be flushed; empty when start >= end */
    struct page *chain;   /* frames only we own, linked by priv[0] */
    uintptr_t shared[NR_GATHER]; /* struct page *, bit 0: page-cache page */
    unsigned nr_shared;
    struct vma *dead;     /* removed VMAs, linked by next */
};

/* pagetable.c */
void gather_init(struct gather *g, struct mm *mm);
/* Flushes and frees the frames; under mm->lock. */
void gather_flush(struct gather *g);
/* gather_flush, unlocks mm->lock, then frees the dead VMAs. */
void gather_finish_unlock(struct gather *g);

/* The entry that maps addr or could (4 KiB), or the 2 MiB one (*large); NULL:
 * there is no table. */
pte_t *pt_walk(struct mm *mm, vaddr_t addr, bool *large);
/* The 4 KiB entry of addr, tables made as needed; NULL: no memory. There must
 * be no 2 MiB entry. */
pte_t *pt_make(struct mm *mm, vaddr_t addr);
/* The entry of the 2 MiB around addr if it is empty, else NULL. */
pte_t *pt_make_large(struct mm *mm, vaddr_t addr);
/* The next used entry at or after *addr (moved there), NULL: none < end. */
pte_t *pt_next(struct mm *mm, vaddr_t *addr, vaddr_t end, bool *large);
/* Makes 512 small entries of a 2 MiB one that addr lies inside of. -ENOMEM. */
int __must_check pt_split(struct mm *mm, vaddr_t addr);
/* The same, only if addr is not at its edge. */
int __must_check pt_split_at(struct mm *mm, vaddr_t addr);
/* Rights for a page of v: P or PTE_NONE, NX; W only if `writable`. */
pte_t pte_rights(const struct vma *v, bool writable);
void pt_zap(struct gather *g, vaddr_t start, vaddr_t end);
/* Frees tables that serve [start, end) and nothing outside [floor, ceil). */
void pt_free_tables(struct gather *g, vaddr_t start, vaddr_t end,
                    vaddr_t floor, vaddr_t ceil);
/* Gives all entries of [start, end) the rights v->flags say. */
void pt_protect(struct gather *g, struct vma *v, vaddr_t start, vaddr_t end);
/* Moves entries to another place. -ENOMEM: some are left. */
int __must_check pt_move(struct gather *g, vaddr_t from, vaddr_t to,
                         size_t len);
/* Shares all pages of v with another mm, copy-on-write if private. */
int __must_check pt_clone(struct gather *g, struct vma *v, struct mm *to);
/* Unmaps page-cache pages that are not writable (to make them droppable). */
size_t pt_zap_clean_files(struct gather *g, vaddr_t start, vaddr_t end);

static inline struct page *pte_page(pte_t e)
{
    return phys_to_page(e & PTE_FRAME);
}

static inline unsigned pt_index(vaddr_t addr, unsigned shift)
{
    return addr >> shift & 511;
}
