/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Page faults: making program memory present.
 *
 * - A fault costs 13,000-50,000 cycles, a page table entry about 100: a fault
 *   maps a window of pages. Anonymous windows double while the program walks
 *   through memory and end in 2 MiB pages; all shrink with free memory.
 * - mm->lock is held throughout, except while a file page is read: then the
 *   inode is pinned, the lock dropped, and the map validated again by mm->seq
 *   and the file's size. inode->size is set before mm_unmap_inode is called,
 *   so a page that was truncated meanwhile is never mapped.
 * - Anonymous frames with more than one reference are copy-on-write.
 */
#include "arch/arch.h"
#include "fs/vfs.h"
#include "lib/atomic.h"
#include "lib/errno.h"
#include "lib/string.h"
#include "mm/internal.h"

#define ANON_BASE 8u     /* pages of a first anonymous window */
#define ANON_MAX 64u     /* ... of a sequential one; then 2 MiB pages, */
#define BIG_AREA (32 * MIB) /* touched at its start: will be walked through */
#define COPY_BASE 2u     /* the same for copies of private file pages */
#define COPY_MAX 16u     /* an area no larger (.data) is copied at once */
#define STACK_WINDOW 4u
#define AROUND 32u       /* file pages around a fault: one record */

bool memory_is_plentiful(uint64_t nr_pages)
{
    struct memory_stats stats;

    memory_stats(&stats);
    return stats.free_pages / 64 >= nr_pages;
}

/* Pages to map for a fault at addr, by what the last fault in v was. */
static size_t next_window(struct vma *v, vaddr_t addr, unsigned base,
                          unsigned max)
{
    struct memory_stats stats;
    size_t nr = base;

    memory_stats(&stats);
    if (addr == v->next_fault && v->window)
        nr = MIN(v->window * 2, max);
    if (v->flags & VM_RANDOM)
        nr = 1;
    nr = MIN(nr, stats.free_pages / 128);
    nr = MAX(nr, 1ul);
    v->window = (uint32_t)nr;
    nr = MIN(nr, (v->end - addr) >> PAGE_SHIFT);
    nr = MIN(nr, (LARGE_SIZE - (addr & (LARGE_SIZE - 1))) >> PAGE_SHIFT);
    v->next_fault = addr + nr * PAGE_SIZE;
    return nr;
}

/* --- anonymous memory --- */

/* Is this the first touch of an area so big, and so small against the memory
 * there is, that 2 MiB pages are right from the start? */
static bool starts_big_area(const struct vma *v, vaddr_t addr)
{
    struct memory_stats stats;
    size_t size = v->end - v->start;

    if (addr != v->start || size < BIG_AREA)
        return false;
    memory_stats(&stats);
    return stats.free_pages / 2 >= size >> PAGE_SHIFT;
}

/* A 2 MiB page at addr, and the next ones while the program streams through
 * memory: each time twice as many. */
static bool fill_larges(struct mm *mm, struct vma *v, vaddr_t addr)
{
    size_t wanted = starts_big_area(v, addr) ? 4 : 1, done;

    if (addr == v->next_fault)
        wanted = MAX(v->window / PAGES_PER_LARGE * 2, 1u);
    done = large_fill_locked(mm, v, ALIGN_DOWN(addr, LARGE_SIZE), wanted);
    if (!done)
        return false;
    v->window = (uint32_t)(done * PAGES_PER_LARGE);
    v->next_fault = ALIGN_DOWN(addr, LARGE_SIZE) + done * LARGE_SIZE;
    return true;
}

/* Within one 2 MiB; -ENOMEM only when not even the first page was to be had. */
static int fill_small(struct mm *mm, struct vma *v, vaddr_t addr, size_t nr)
{
    bool large;
    pte_t *pte = pt_walk(mm, addr, &large);
    pte_t rights = pte_rights(v, true);
    size_t done = 0;
    int err = 0;

    if (large)
        return 0;
    if (!pte)
        pte = pt_make(mm, addr);
    if (!pte)
        return -ENOMEM;
    for (size_t i = 0; i < nr; i++) {
        struct page *p;
        if (pte[i])
            continue;
        p = page_alloc(0, i ? PAGE_ZERO | PAGE_ATOMIC : PAGE_ZERO);
        if (!p) {
            err = i ? 0 : -ENOMEM;
            break;
        }
        pte[i] = page_to_phys(p) | rights;
        done++;
    }
    atomic_add(&mm->nr_pages, done);
    return err;
}

int anon_fill_locked(struct mm *mm, struct vma *v, vaddr_t addr, size_t nr)
{
    vaddr_t end = addr + nr * PAGE_SIZE;

    while (addr < end) {
        vaddr_t stop = ALIGN_DOWN(addr, LARGE_SIZE) + LARGE_SIZE;
        int err;
        stop = MIN(stop, end);
        if (stop - addr == LARGE_SIZE && large_fill_locked(mm, v, addr, 1)) {
            addr = stop;
            continue;
        }
        err = fill_small(mm, v, addr, (stop - addr) >> PAGE_SHIFT);
        if (err)
            return err;
        addr = stop;
    }
    return 0;
}

static int fault_anon(struct mm *mm, struct vma *v, vaddr_t addr)
{
    bool was_streaming = addr == v->next_fault && v->window >= ANON_MAX / 2;
    size_t nr;

    if (v->flags & VM_STACK) { /* used downwards */
        vaddr_t low = ALIGN_DOWN(addr, LARGE_SIZE);
        if (!memory_is_plentiful(STACK_WINDOW))
            return fill_small(mm, v, addr, 1);
        low = MAX(MAX(low, v->start),
                  addr - MIN(addr, (STACK_WINDOW - 1) * PAGE_SIZE));
        return fill_small(mm, v, low, ((addr - low) >> PAGE_SHIFT) + 1);
    }
    if ((v->flags & VM_HUGE || starts_big_area(v, addr) ||
         (was_streaming && (addr & (LARGE_SIZE - 1)) == 0)) &&
        fill_larges(mm, v, addr))
        return 0;
    nr = next_window(v, addr, ANON_BASE, ANON_MAX);
    return fill_small(mm, v, addr, nr);
}

/* --- copy on write --- */

/* Replaces the page of *pte by a copy. `old` stays mapped until the flush. */
static int copy_page_locked(struct gather *g, struct vma *v, vaddr_t addr,
                            pte_t *pte, uint32_t alloc_flags)
{
    pte_t old = *pte;
    struct page *p = page_alloc(0, alloc_flags);

    if (!p)
        return -ENOMEM;
    page_copy(page_to_virt(p), phys_to_virt(old & PTE_FRAME));
    *pte = 0;
    /* Another CPU must not read the old page once the new one is written. */
    if (atomic_load_relaxed(&g->mm->active_cpus) & ~(1ul << this_cpu()->id))
        tlb_flush(g->mm, addr, 1);
    *pte = page_to_phys(p) | pte_rights(v, true);
    g->start = MIN(g->start, addr);
    g->end = MAX(g->end, addr + PAGE_SIZE);
    if (g->nr_shared == NR_GATHER)
        gather_flush(g);
    g->shared[g->nr_shared++] =
        (uintptr_t)pte_page(old) | (old & PTE_FILE ? 1 : 0);
    return 0;
}

/* May the page be copied before its own write? Only while nobody changes the
 * file: until then the program must see changes in pages it has not written. */
static bool may_copy_ahead(const struct vma *v, const struct page *p)
{
    return v->inode->ops->read_pages &&
           !(atomic_load_relaxed(&p->flags) & PG_DIRTY);
}

static bool may_copy_pte(const struct vma *v, pte_t e)
{
    return (e & (PTE_P | PTE_FILE | PTE_W)) == (PTE_P | PTE_FILE) &&
           may_copy_ahead(v, pte_page(e));
}

/* Is the area so small that a write to one page means writes to all? */
static bool is_copied_whole(const struct vma *v)
{
    return v->end - v->start <= COPY_MAX * PAGE_SIZE &&
           (v->start ^ (v->end - 1)) < LARGE_SIZE && /* one page table */
           memory_is_plentiful(COPY_MAX);
}

/* A write to private memory whose page is present but not writable. */
static int fault_copy(struct gather *g, struct vma *v, vaddr_t addr,
                      pte_t *pte)
{
    bool is_file = (*pte & PTE_FILE) != 0;
    vaddr_t first = addr;
    size_t nr = 1;
    int err;

    if (!is_file && atomic_load_relaxed(&pte_page(*pte)->refcount) == 1) {
        *pte |= PTE_W; /* the other owner is gone */
        return 0;
    }
    err = copy_page_locked(g, v, addr, pte, 0);
    if (is_file && is_copied_whole(v)) {
        first = v->start;
        nr = (v->end - first) >> PAGE_SHIFT;
        pte -= (addr - first) >> PAGE_SHIFT;
    } else if (is_file) {
        nr = next_window(v, addr, COPY_BASE, COPY_MAX);
    }
    for (size_t i = 0; i < nr && !err; i++) {
        if (may_copy_pte(v, pte[i]) &&
            copy_page_locked(g, v, first + i * PAGE_SIZE, &pte[i],
                             PAGE_ATOMIC))
            break;
    }
    return err;
}

/* --- file pages --- */

struct file_fault {
    struct inode *inode;  /* pinned */
    uint64_t seq;         /* of the mm, when looked up */
    uint64_t offset;      /* of the faulting page in the file */
    vaddr_t addr, first;  /* the page, the first page of the window */
    size_t nr;            /* window */
    bool write;           /* for writing */
    bool shared;
    bool all_writable; /* memory without a backing store: dirty by nature */
    struct page *pages[AROUND]; /* with references */
};

static void plan_window(struct file_fault *f, struct vma *v)
{
    vaddr_t first = ALIGN_DOWN(f->addr, AROUND * PAGE_SIZE);
    vaddr_t end = first + AROUND * PAGE_SIZE;

    if (f->all_writable) {
        first = f->addr;
        end = first + next_window(v, first, ANON_BASE, AROUND) * PAGE_SIZE;
    } else if (v->flags & VM_RANDOM || (f->write && f->shared)) {
        first = f->addr;
        end = first + PAGE_SIZE;
    }
    f->first = MAX(first, v->start);
    f->nr = (MIN(end, v->end) - f->first) >> PAGE_SHIFT;
}

/* Without mm->lock: reads the page, picks up its neighbours. */
static int read_window(struct file_fault *f)
{
    uint64_t index = f->offset >> PAGE_SHIFT;
    size_t at = (f->addr - f->first) >> PAGE_SHIFT;
    bool for_write = f->write && f->shared;
    int err = pagecache_get(f->inode, index, for_write, &f->pages[at]);

    if (err)
        return err;
    for (size_t i = 0; i < f->nr; i++) {
        if (i == at)
            continue;
        if (!f->all_writable)
            f->pages[i] = pagecache_peek(f->inode, index - at + i);
        else if (pagecache_get(f->inode, index - at + i, true, &f->pages[i]))
            break; /* the end of the file, or of memory */
    }
    return 0;
}

static void put_window(struct file_fault *f)
{
    for (size_t i = 0; i < f->nr; i++) {
        if (f->pages[i])
            page_put(f->pages[i]);
    }
}

/* Is the VMA at the address still what it was? */
static struct vma *revalidate(struct mm *mm, const struct file_fault *f)
{
    struct vma *v = vma_find(mm->vma_root, f->addr);

    if (mm->seq == f->seq)
        return v;
    if (!v || v->start > f->first || v->inode != f->inode ||
        v->end < f->first + f->nr * PAGE_SIZE ||
        v->offset + (f->addr - v->start) != f->offset ||
        ((v->flags & VM_SHARED) != 0) != f->shared)
        return NULL;
    if (!(v->flags & (f->write ? VM_WRITE : VM_ACCESS)))
        return NULL;
    return v;
}

/* Puts the page into an empty entry; takes the reference if it does. */
static bool map_file_page(struct mm *mm, struct vma *v, pte_t *pte,
                          struct page *p, bool writable)
{
    if (*pte)
        return false;
    atomic_add(&p->mapcount, 1u);
    *pte = page_to_phys(p) | PTE_FILE | pte_rights(v, writable);
    atomic_add(&mm->nr_pages, 1ul);
    return true;
}

/* Private memory is written: its page comes into being as a copy. */
static int map_copy(struct mm *mm, struct vma *v, pte_t *pte, struct page *p,
                    uint32_t alloc_flags)
{
    struct page *copy;

    if (*pte)
        return 0;
    copy = page_alloc(0, alloc_flags);
    if (!copy)
        return -ENOMEM;
    page_copy(page_to_virt(copy), page_to_virt(p));
    *pte = page_to_phys(copy) | pte_rights(v, true);
    atomic_add(&mm->nr_pages, 1ul);
    return 0;
}

/* Under mm->lock again: enters the pages. */
static int map_window(struct gather *g, struct vma *v, struct file_fault *f)
{
    struct mm *mm = g->mm;
    size_t at = (f->addr - f->first) >> PAGE_SHIFT;
    size_t copy_from = at, copy_end = at; /* pages to copy */
    /* File windows are aligned and smaller: they share a page table. */
    pte_t *pte = pt_make(mm, f->first);
    int err = 0;

    if (!pte)
        return -ENOMEM;
    if (f->write && f->shared && pte[at] & PTE_FILE) {
        if ((pte[at] & PTE_FRAME) == page_to_phys(f->pages[at])) {
            pte[at] |= pte_rights(v, true) & PTE_W;
            return 0;
        }
        pt_zap(g, f->addr, f->addr + PAGE_SIZE);
        gather_flush(g);
    }
    if (f->write && !f->shared && !pte[at])
        copy_end = at + next_window(v, f->addr, COPY_BASE, COPY_MAX);
    if (copy_end > at && is_copied_whole(v)) {
        copy_from = 0;
        copy_end = f->nr;
    }
    for (size_t i = 0; i < f->nr; i++) {
        struct page *p = f->pages[i];
        if (!p)
            continue;
        if (i >= copy_from && i < copy_end &&
            (i == at || may_copy_ahead(v, p))) {
            int e = map_copy(mm, v, &pte[i], p, i == at ? 0 : PAGE_ATOMIC);
            if (i == at)
                err = e;
        } else if (map_file_page(mm, v, &pte[i], p,
                                 f->write && f->shared &&
                                     (i == at || f->all_writable))) {
            f->pages[i] = NULL;
        }
    }
    return err;
}

/* Is entered with mm->lock, which it releases. */
static int fault_file_unlock(struct mm *mm, struct vma *v, vaddr_t addr,
                             bool write)
{
    struct file_fault f = {
        .inode = v->inode,
        .seq = mm->seq,
        .offset = v->offset + (addr - v->start),
        .addr = addr,
        .write = write,
        .shared = (v->flags & VM_SHARED) != 0,
    };
    struct gather g;
    int err;

    /* One fault, not two, where nobody asks which pages are dirty. */
    if (f.shared && v->flags & VM_WRITE && !v->inode->ops->read_pages)
        f.write = f.all_writable = true;
    plan_window(&f, v);
    inode_get(f.inode);
    mutex_unlock(&mm->lock);
    err = read_window(&f);
    if (!err) {
        mutex_lock(&mm->lock);
        gather_init(&g, mm);
        v = revalidate(mm, &f);
        if (v && f.offset >= atomic_load_relaxed(&f.inode->size))
            err = -ENXIO;
        else if (v)
            err = map_window(&g, v, &f);
        gather_finish_unlock(&g);
        put_window(&f);
    }
    inode_put(f.inode);
    return err;
}

/* --- the fault --- */

int stack_grow_locked(struct mm *mm, struct vma *v, vaddr_t addr)
{
    vaddr_t start = ALIGN_DOWN(addr, PAGE_SIZE);
    struct vma *prev = v->prev;
    uint64_t nr = (v->start - start) >> PAGE_SHIFT;

    if (start < MMAP_MIN_ADDR || v->end - start > mm->limit_stack)
        return -EFAULT;
    if (prev && prev->end > start)
        return -EFAULT;
    if (prev && !(prev->flags & VM_GROWSDOWN) && prev->flags & VM_ACCESS &&
        start - prev->end < STACK_GUARD_GAP)
        return -EFAULT;
    if (mm_may_grow_locked(mm, v->flags, nr))
        return -EFAULT;
    if (v->inode)
        return -EFAULT;
    mm_resize_vma_locked(mm, v, start, v->end);
    return 0;
}

/* The VMA that allows the access, or an error. */
static int find_for_fault(struct mm *mm, vaddr_t addr, uint32_t access,
                          struct vma **out)
{
    struct vma *v = mm->vma_cache;

    if (!v || addr < v->start || addr >= v->end) {
        v = vma_find(mm->vma_root, addr);
        if (!v)
            return -EFAULT;
        if (addr < v->start) {
            int err = v->flags & VM_GROWSDOWN
                          ? stack_grow_locked(mm, v, addr) : -EFAULT;
            if (err)
                return err;
        }
        mm->vma_cache = v;
    }
    *out = v;
    return v->flags & access ? 0 : -EACCES;
}

/* The entry is used: it must be made to allow the access. */
static int fault_present(struct gather *g, struct vma *v, vaddr_t addr,
                         pte_t *pte, bool large, bool write)
{
    pte_t want = pte_rights(v, write);

    if (*pte & PTE_KERNEL && write)
        return -EACCES;
    if (write && !(*pte & PTE_W)) {
        if (large) { /* only ever ours alone */
            *pte |= PTE_W;
            return 0;
        }
        return fault_copy(g, v, addr, pte);
    }
    /* Rights were added by another CPU, or the CPU has an old entry. */
    *pte = (*pte & ~(PTE_NX | PTE_NONE)) | (want & (PTE_NX | PTE_P));
    g->start = MIN(g->start, addr);
    g->end = MAX(g->end, addr + PAGE_SIZE);
    return 0;
}

static int fault_once(struct mm *mm, vaddr_t addr, uint32_t access)
{
    bool write = access == VM_WRITE, large;
    struct gather g;
    struct vma *v;
    pte_t *pte;
    int err;

    mutex_lock(&mm->lock);
    gather_init(&g, mm);
    err = find_for_fault(mm, addr, access, &v);
    if (!err) {
        pte = pt_walk(mm, addr, &large);
        if (pte && *pte) {
            bool must_fetch = v->flags & VM_SHARED && write &&
                              !(*pte & (PTE_W | PTE_KERNEL));
            if (must_fetch)
                return fault_file_unlock(mm, v, addr, true);
            err = fault_present(&g, v, addr, pte, large, write);
        } else if (v->inode) {
            return fault_file_unlock(mm, v, addr, write);
        } else if (v->flags & VM_KERNEL) {
            err = -EFAULT;
        } else {
            err = fault_anon(mm, v, addr);
        }
    }
    gather_finish_unlock(&g);
    return err;
}

bool mm_shrink(struct mm *mm)
{
    struct gather g;
    size_t nr = 0;

    mutex_lock(&mm->lock);
    gather_init(&g, mm);
    for (struct vma *v = vma_first(mm->vma_root); v; v = v->next) {
        if (v->inode && v->inode->ops->read_pages &&
            !(v->flags & VM_LOCKED))
            nr += pt_zap_clean_files(&g, v->start, v->end);
    }
    gather_finish_unlock(&g);
    return page_reclaim_hook && page_reclaim_hook(MAX(nr, 32ul)) > 0;
}

int mm_fault(struct mm *mm, vaddr_t addr, uint32_t error)
{
    uint32_t access = VM_ACCESS;

    if (addr >= USER_TOP || mutex_is_mine(&mm->lock))
        return -EFAULT;
    if (error & FAULT_WRITE)
        access = VM_WRITE;
    else if (error & FAULT_EXEC)
        access = VM_EXEC;
    addr = ALIGN_DOWN(addr, PAGE_SIZE);
    for (int tries = 0;; tries++) {
        int err = fault_once(mm, addr, access);
        if (err != -ENOMEM || tries == 3 || !mm_shrink(mm))
            return err;
    }
}
