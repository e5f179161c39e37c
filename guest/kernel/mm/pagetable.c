/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Page tables of the low half: walking, zapping, protecting, moving, cloning.
 * Rules and locks: pagetable.h. All loops skip empty levels: nothing is
 * proportional to the size of an untouched range.
 */
#include "mm/pagetable.h"

#include "lib/atomic.h"
#include "lib/errno.h"
#include "lib/printk.h"
#include "lib/string.h"

static pte_t *table_of(pte_t e)
{
    return phys_to_virt(e & PTE_FRAME);
}

void gather_init(struct gather *g, struct mm *mm)
{
    g->mm = mm;
    g->start = ~0ul;
    g->end = 0;
    g->chain = NULL;
    g->nr_shared = 0;
    g->dead = NULL;
}

static void gather_range(struct gather *g, vaddr_t start, vaddr_t end)
{
    g->start = MIN(g->start, start);
    g->end = MAX(g->end, end);
}

void gather_flush(struct gather *g)
{
    if (g->start < g->end)
        tlb_flush(g->mm, g->start, (g->end - g->start) >> PAGE_SHIFT);
    g->start = ~0ul;
    g->end = 0;
    while (g->chain) {
        struct page *p = g->chain;
        g->chain = (struct page *)p->priv[0];
        p->priv[0] = 0;
        if (p->order)
            page_free(p, p->order);
        else
            page_put(p);
    }
    for (unsigned i = 0; i < g->nr_shared; i++) {
        struct page *p = (struct page *)(g->shared[i] & ~1ul);
        if (g->shared[i] & 1)
            atomic_sub(&p->mapcount, 1u);
        page_put(p);
    }
    g->nr_shared = 0;
}

static void gather_own_page(struct gather *g, struct page *p)
{
    p->priv[0] = (uint64_t)g->chain;
    g->chain = p;
}

static void gather_shared_page(struct gather *g, struct page *p, bool is_file)
{
    if (g->nr_shared == NR_GATHER)
        gather_flush(g);
    g->shared[g->nr_shared++] = (uintptr_t)p | (is_file ? 1 : 0);
}

/* The entry was removed: its frame is freed with the next flush. */
static void gather_pte(struct gather *g, pte_t e, vaddr_t addr)
{
    struct page *p;

    gather_range(g, addr, addr + PAGE_SIZE);
    if (e & PTE_KERNEL)
        return;
    atomic_sub(&g->mm->nr_pages, 1ul);
    p = pte_page(e);
    if (!(e & PTE_FILE) && atomic_load_relaxed(&p->refcount) == 1)
        gather_own_page(g, p);
    else
        gather_shared_page(g, p, (e & PTE_FILE) != 0);
}

pte_t *pt_walk(struct mm *mm, vaddr_t addr, bool *large)
{
    pte_t *t = phys_to_virt(mm->pml4);

    *large = false;
    for (unsigned shift = 39; shift > 12; shift -= 9) {
        pte_t *e = &t[pt_index(addr, shift)];
        if (*e == 0)
            return NULL;
        if (*e & PTE_PS) {
            *large = true;
            return e;
        }
        t = table_of(*e);
    }
    return &t[pt_index(addr, 12)];
}

/* The table of level `last_shift` that serves addr. */
static pte_t *make_table(struct mm *mm, vaddr_t addr, unsigned last_shift)
{
    pte_t *t = phys_to_virt(mm->pml4);

    for (unsigned shift = 39; shift > last_shift; shift -= 9) {
        pte_t *e = &t[pt_index(addr, shift)];
        if (*e == 0) {
            struct page *p = table_alloc();
            if (!p)
                return NULL;
            *e = page_to_phys(p) | PTE_P | PTE_W | PTE_U | PTE_A;
        }
        t = table_of(*e);
    }
    return t;
}

pte_t *pt_make(struct mm *mm, vaddr_t addr)
{
    pte_t *t = make_table(mm, addr, 12);
    return t ? &t[pt_index(addr, 12)] : NULL;
}

pte_t *pt_make_large(struct mm *mm, vaddr_t addr)
{
    pte_t *t = make_table(mm, addr, 21);
    if (!t || t[pt_index(addr, 21)] != 0)
        return NULL;
    return &t[pt_index(addr, 21)];
}

pte_t *pt_next(struct mm *mm, vaddr_t *addrp, vaddr_t end, bool *large)
{
    vaddr_t a = *addrp;

    *large = false;
    while (a < end) {
        pte_t *t = phys_to_virt(mm->pml4);
        unsigned shift;
        for (shift = 39; shift > 12; shift -= 9) {
            pte_t *e = &t[pt_index(a, shift)];
            if (*e == 0)
                break;
            if (*e & PTE_PS) {
                *large = true;
                *addrp = a;
                return e;
            }
            t = table_of(*e);
        }
        if (shift > 12) {
            a = ALIGN_DOWN(a, 1ul << shift) + (1ul << shift);
            continue;
        }
        vaddr_t stop = MIN(end, ALIGN_DOWN(a, LARGE_SIZE) + LARGE_SIZE);
        for (; a < stop; a += PAGE_SIZE) {
            if (t[pt_index(a, 12)]) {
                *addrp = a;
                return &t[pt_index(a, 12)];
            }
        }
    }
    return NULL;
}

int pt_split(struct mm *mm, vaddr_t addr)
{
    bool large;
    pte_t *e = pt_walk(mm, addr, &large), old, *t;
    struct page *table;
    vaddr_t base = ALIGN_DOWN(addr, LARGE_SIZE);

    if (!e || !large)
        return 0;
    table = table_alloc();
    if (!table)
        return -ENOMEM;
    old = *e;
    t = page_to_virt(table);
    for (unsigned i = 0; i < PAGES_PER_LARGE; i++)
        t[i] = (old & ~PTE_PS) + i * PAGE_SIZE;
    /* Never two sizes of one translation at a time (SDM 3A 4.10.2). */
    *e = 0;
    tlb_flush(mm, base, PAGES_PER_LARGE);
    page_split(pte_page(old), MAX_ORDER);
    *e = page_to_phys(table) | PTE_P | PTE_W | PTE_U | PTE_A;
    return 0;
}

int pt_split_at(struct mm *mm, vaddr_t addr)
{
    return addr & (LARGE_SIZE - 1) ? pt_split(mm, addr) : 0;
}

pte_t pte_rights(const struct vma *v, bool writable)
{
    pte_t e = v->flags & VM_ACCESS ? PTE_BASE | PTE_P : PTE_BASE | PTE_NONE;

    if (writable && v->flags & VM_WRITE)
        e |= PTE_W;
    if (!(v->flags & VM_EXEC))
        e |= PTE_NX;
    return e;
}

void pt_zap(struct gather *g, vaddr_t start, vaddr_t end)
{
    vaddr_t a = start;
    bool large;
    pte_t *pte;

    while ((pte = pt_next(g->mm, &a, end, &large)) != NULL) {
        pte_t e = *pte;
        *pte = 0;
        if (!large) {
            gather_pte(g, e, a);
            a += PAGE_SIZE;
            continue;
        }
        /* Callers split at the edges: it lies inside as a whole. */
        assert((a & (LARGE_SIZE - 1)) == 0 && end - a >= LARGE_SIZE);
        gather_range(g, a, a + LARGE_SIZE);
        atomic_sub(&g->mm->nr_pages, PAGES_PER_LARGE);
        gather_own_page(g, pte_page(e));
        a += LARGE_SIZE;
    }
}

/* Frees the tables below `table` (whose entries span 1 << shift bytes) that
 * serve [start, end) and lie in [floor, ceil). Depth: three. */
static void free_tables(struct gather *g, pte_t *table, unsigned shift,
                        vaddr_t start, vaddr_t end, vaddr_t floor,
                        vaddr_t ceil)
{
    vaddr_t size = 1ul << shift;

    for (vaddr_t a = ALIGN_DOWN(start, size); a < end; a += size) {
        pte_t *e = &table[pt_index(a, shift)];
        if (*e == 0 || *e & PTE_PS)
            continue;
        if (shift > 21)
            free_tables(g, table_of(*e), shift - 9, MAX(a, start),
                        MIN(a + size, end), floor, ceil);
        if (a >= floor && a + size <= ceil) {
            gather_range(g, a, a + size);
            gather_own_page(g, pte_page(*e));
            *e = 0;
        }
    }
}

void pt_free_tables(struct gather *g, vaddr_t start, vaddr_t end,
                    vaddr_t floor, vaddr_t ceil)
{
    /* A table spans 2 MiB at least. */
    if (ALIGN_UP(floor, LARGE_SIZE) + LARGE_SIZE > ceil)
        return;
    start = MAX(ALIGN_DOWN(start, LARGE_SIZE), ALIGN_UP(floor, LARGE_SIZE));
    end = MIN(ALIGN_UP(end, LARGE_SIZE), ALIGN_DOWN(ceil, LARGE_SIZE));
    free_tables(g, phys_to_virt(g->mm->pml4), 39, start, end, floor, ceil);
}

void pt_protect(struct gather *g, struct vma *v, vaddr_t start, vaddr_t end)
{
    vaddr_t a = start;
    bool large;
    pte_t *pte;

    while ((pte = pt_next(g->mm, &a, end, &large)) != NULL) {
        size_t step = large ? LARGE_SIZE : PAGE_SIZE;
        pte_t old = *pte, new_pte;
        bool writable;

        if (old & PTE_FILE) /* W is granted by the fault that dirties it */
            writable = v->flags & VM_SHARED && old & PTE_W;
        else
            writable = !(old & PTE_KERNEL) &&
                       atomic_load_relaxed(&pte_page(old)->refcount) == 1;
        new_pte = (old & (PTE_FRAME | PTE_FILE | PTE_KERNEL | PTE_PS)) |
                  pte_rights(v, writable);
        if (new_pte != old) {
            *pte = new_pte;
            /* Only a loss of rights must be told to the CPUs. */
            if ((old & ~new_pte) & (PTE_P | PTE_W) ||
                (new_pte & ~old) & PTE_NX)
                gather_range(g, a, a + step);
        }
        a += step;
    }
}

int pt_move(struct gather *g, vaddr_t from, vaddr_t to, size_t len)
{
    vaddr_t a = from;
    bool large;
    pte_t *pte, *target;

    while ((pte = pt_next(g->mm, &a, from + len, &large)) != NULL) {
        vaddr_t b = to + (a - from);
        if (large && (a & (LARGE_SIZE - 1)) == 0 &&
            (b & (LARGE_SIZE - 1)) == 0 && from + len - a >= LARGE_SIZE) {
            target = pt_make_large(g->mm, b);
            if (target) {
                *target = *pte;
                *pte = 0;
                gather_range(g, a, a + LARGE_SIZE);
                a += LARGE_SIZE;
                continue;
            }
        }
        if (large) {
            if (pt_split(g->mm, a))
                return -ENOMEM;
            continue;
        }
        target = pt_make(g->mm, b);
        if (!target)
            return -ENOMEM;
        *target = *pte;
        *pte = 0;
        gather_range(g, a, a + PAGE_SIZE);
        a += PAGE_SIZE;
    }
    return 0;
}

int pt_clone(struct gather *g, struct vma *v, struct mm *to)
{
    vaddr_t a = v->start;
    bool large;
    pte_t *pte, *target;

    while ((pte = pt_next(g->mm, &a, v->end, &large)) != NULL) {
        if (large) {
            if (pt_split(g->mm, a))
                return -ENOMEM;
            continue;
        }
        target = pt_make(to, a);
        if (!target)
            return -ENOMEM;
        if (!(v->flags & VM_SHARED) && *pte & PTE_W) {
            *pte &= ~PTE_W;
            gather_range(g, a, a + PAGE_SIZE);
        }
        *target = *pte;
        if (!(*pte & PTE_KERNEL)) {
            page_get(pte_page(*pte));
            if (*pte & PTE_FILE)
                atomic_add(&pte_page(*pte)->mapcount, 1u);
            atomic_add(&to->nr_pages, 1ul);
        }
        a += PAGE_SIZE;
    }
    return 0;
}

size_t pt_zap_clean_files(struct gather *g, vaddr_t start, vaddr_t end)
{
    size_t nr = 0;
    vaddr_t a = start;
    bool large;
    pte_t *pte;

    while ((pte = pt_next(g->mm, &a, end, &large)) != NULL) {
        pte_t e = *pte;
        if (large) {
            a = ALIGN_DOWN(a, LARGE_SIZE) + LARGE_SIZE;
            continue;
        }
        if (e & PTE_FILE && !(e & PTE_W) &&
            !(pte_page(e)->flags & PG_DIRTY)) {
            *pte = 0;
            gather_pte(g, e, a);
            nr++;
        }
        a += PAGE_SIZE;
    }
    return nr;
}
