/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Address spaces as objects: creation, layout, copy, end; the link between
 * VMAs and the inodes they map.
 *
 * Locks: mm->lock, then inode->cache_lock (for inode->mappings). A VMA is
 * linked to its inode before it enters the tree and unlinked after it left, so
 * mm_unmap_inode, which takes them the other way round one at a time, misses
 * none. File references are dropped without mm->lock (closing takes inode
 * locks, which come first).
 */
#include "mm/mm.h"

#include "arch/arch.h"
#include "drivers/drivers.h"
#include "fs/vfs.h"
#include "lib/atomic.h"
#include "lib/errno.h"
#include "lib/string.h"
#include "mm/heap.h"
#include "mm/internal.h"
#include "sched/thread.h"

extern uint64_t boot_pml4[512];

#define STACK_RANDOM (16 * GIB) /* as far down as exec may put the stack */

struct mm *current_mm(void)
{
    return current_thread()->mm;
}

/* --- VMAs --- */

struct vma *vma_create(struct mm *mm, uint32_t flags, struct file *file,
                       struct inode *inode, uint64_t offset)
{
    struct vma *v = kzalloc(sizeof(*v));

    if (!v)
        return NULL;
    v->mm = mm;
    v->flags = flags;
    v->offset = offset;
    v->file = file;
    v->inode = inode;
    list_init(&v->map_link);
    if (file)
        file_get(file);
    if (inode) {
        inode_get(inode);
        mutex_lock(&inode->cache_lock);
        list_add_tail(&inode->mappings, &v->map_link);
        mutex_unlock(&inode->cache_lock);
    }
    return v;
}

void vma_destroy(struct vma *v)
{
    if (v->inode) {
        mutex_lock(&v->inode->cache_lock);
        list_del(&v->map_link);
        mutex_unlock(&v->inode->cache_lock);
        inode_put(v->inode);
    }
    if (v->file)
        file_put(v->file);
    kfree(v);
}

static bool is_data(uint32_t flags)
{
    return (flags & (VM_WRITE | VM_SHARED | VM_GROWSDOWN)) == VM_WRITE;
}

static void account(struct mm *mm, const struct vma *v, int sign)
{
    int64_t n = (int64_t)((v->end - v->start) >> PAGE_SHIFT) * sign;

    mm->total_vm_pages += n;
    if (is_data(v->flags))
        mm->data_vm_pages += n;
    if (v->flags & VM_LOCKED)
        mm->locked_pages += n;
}

void mm_insert_vma_locked(struct mm *mm, struct vma *v)
{
    vma_insert(&mm->vma_root, v);
    account(mm, v, 1);
    mm->nr_vmas++;
    mm->seq++;
}

void mm_remove_vma_locked(struct gather *g, struct vma *v)
{
    struct mm *mm = g->mm;

    if (mm->vma_cache == v)
        mm->vma_cache = NULL;
    vma_erase(&mm->vma_root, v);
    account(mm, v, -1);
    mm->nr_vmas--;
    mm->seq++;
    v->next = g->dead;
    g->dead = v;
}

void mm_set_flags_locked(struct mm *mm, struct vma *v, uint32_t flags)
{
    account(mm, v, -1);
    v->flags = flags;
    account(mm, v, 1);
    mm->seq++;
}

void mm_resize_vma_locked(struct mm *mm, struct vma *v, vaddr_t start,
                          vaddr_t end)
{
    account(mm, v, -1);
    v->start = start;
    v->end = end;
    account(mm, v, 1);
    vma_changed(&mm->vma_root, v);
    mm->seq++;
}

void gather_finish_unlock(struct gather *g)
{
    gather_flush(g);
    mutex_unlock(&g->mm->lock);
    while (g->dead) {
        struct vma *v = g->dead;
        g->dead = v->next;
        vma_destroy(v);
    }
}

/* --- layout --- */

void mm_layout(struct mm *mm, bool randomize)
{
    uint64_t gap = MAX(mm->limit_stack, 128 * MIB);

    gap = MIN(gap, USER_TOP / 6 * 5);
    gap += STACK_RANDOM + STACK_GUARD_GAP;
    gap = MIN(gap, USER_TOP / 6 * 5);
    if (randomize)
        gap += (random_u64() & 0xfffffff) << PAGE_SHIFT;
    mm->mmap_base = ALIGN_DOWN(USER_TOP - gap, PAGE_SIZE);
}

vaddr_t mm_pie_base(struct mm *mm)
{
    return ALIGN_DOWN(USER_TOP / 3 * 2, PAGE_SIZE) +
           ((random_u64() & 0xfffffff) << PAGE_SHIFT);
}

vaddr_t mm_random_brk(vaddr_t end_of_program, bool is_pie)
{
    uint64_t range = is_pie ? 1 * GIB : 32 * MIB;

    return ALIGN_UP(end_of_program, PAGE_SIZE) +
           ALIGN_DOWN(random_u64() % range, PAGE_SIZE);
}

/* --- life --- */

int mm_create(struct mm **out)
{
    struct mm *mm = kzalloc(sizeof(*mm));
    struct page *p;
    uint64_t *pml4;

    if (!mm)
        return -ENOMEM;
    p = table_alloc();
    if (!p) {
        kfree(mm);
        return -ENOMEM;
    }
    pml4 = page_to_virt(p);
    memcpy(pml4 + 256, boot_pml4 + 256, 256 * sizeof(uint64_t));
    mm->pml4 = page_to_phys(p);
    mm->refcount = 1;
    mutex_init(&mm->lock);
    mm->limit_as = mm->limit_data = ~0ul;
    mm->limit_stack = 8 * MIB;
    mm_layout(mm, true);
    *out = mm;
    return 0;
}

void mm_get(struct mm *mm)
{
    atomic_add(&mm->refcount, 1u);
}

static bool mm_try_get(struct mm *mm)
{
    uint32_t n = atomic_load_relaxed(&mm->refcount);

    while (n != 0) {
        if (atomic_cmpxchg(&mm->refcount, &n, n + 1))
            return true;
    }
    return false;
}

void mm_clear(struct mm *mm)
{
    struct gather g;
    struct vma *v;

    mutex_lock(&mm->lock);
    gather_init(&g, mm);
    while ((v = vma_first(mm->vma_root)) != NULL) {
        pt_zap(&g, v->start, v->end);
        mm_remove_vma_locked(&g, v);
    }
    pt_free_tables(&g, 0, 1ul << 47, 0, 1ul << 47);
    mm->brk_start = mm->brk = mm->stack_top = mm->vdso = 0;
    mm->def_flags = 0;
    mm->membarrier = 0;
    gather_finish_unlock(&g);
    mm_layout(mm, true);
}

void mm_put(struct mm *mm)
{
    if (atomic_sub(&mm->refcount, 1u) != 0)
        return;
    mm_clear(mm);
    if (mm->exe)
        file_put(mm->exe);
    page_put(phys_to_page(mm->pml4));
    kfree(mm);
}

/* Copies one VMA with its pages into `to`, which nobody else knows yet. */
static int clone_vma(struct gather *g, struct vma *v, struct mm *to)
{
    struct vma *copy = vma_create(to, v->flags & ~VM_LOCKED, v->file,
                                  v->inode, v->offset);

    if (!copy)
        return -ENOMEM;
    copy->start = v->start;
    copy->end = v->end;
    copy->name = v->name;
    mm_insert_vma_locked(to, copy);
    return v->flags & VM_WIPEONFORK ? 0 : pt_clone(g, v, to);
}

int mm_clone(struct mm *old, struct mm **out)
{
    struct mm *mm;
    struct gather g;
    int err = mm_create(&mm);

    if (err)
        return err;
    mutex_lock(&old->lock);
    gather_init(&g, old);
    for (struct vma *v = vma_first(old->vma_root); v && !err; v = v->next) {
        if (!(v->flags & VM_DONTFORK))
            err = clone_vma(&g, v, mm);
    }
    mm->mmap_base = old->mmap_base;
    mm->brk_start = old->brk_start;
    mm->brk = old->brk;
    mm->stack_top = old->stack_top;
    mm->arg_start = old->arg_start;
    mm->arg_end = old->arg_end;
    mm->env_start = old->env_start;
    mm->env_end = old->env_end;
    mm->vdso = old->vdso;
    mm->code_start = old->code_start;
    mm->code_end = old->code_end;
    mm->exe = old->exe;
    if (mm->exe)
        file_get(mm->exe);
    memcpy(mm->auxv, old->auxv, sizeof(mm->auxv));
    mm->auxv_words = old->auxv_words;
    mm->limit_as = old->limit_as;
    mm->limit_data = old->limit_data;
    mm->limit_stack = old->limit_stack;
    mm->membarrier = old->membarrier;
    gather_finish_unlock(&g);
    if (err)
        mm_put(mm);
    else
        *out = mm;
    return err;
}

/* --- reverse mapping --- */

/* The address spaces that map the inode, each once, with a reference. */
static size_t mapping_mms(struct inode *inode, struct mm **list, size_t max)
{
    size_t nr = 0;
    struct vma *v;

    mutex_lock(&inode->cache_lock);
    list_for_each(v, &inode->mappings, map_link) {
        bool is_known = false;
        for (size_t i = 0; i < nr && i < max; i++)
            is_known |= list[i] == v->mm;
        if (is_known || (nr < max && !mm_try_get(v->mm)))
            continue;
        if (nr < max)
            list[nr] = v->mm;
        nr++;
    }
    mutex_unlock(&inode->cache_lock);
    return nr;
}

static void unmap_inode_in(struct mm *mm, struct inode *inode, uint64_t from)
{
    struct gather g;

    mutex_lock(&mm->lock);
    gather_init(&g, mm);
    for (struct vma *v = vma_first(mm->vma_root); v; v = v->next) {
        uint64_t first = v->offset >> PAGE_SHIFT;
        uint64_t nr = (v->end - v->start) >> PAGE_SHIFT;
        uint64_t skip = from > first ? from - first : 0;
        if (v->inode == inode && skip < nr)
            pt_zap(&g, v->start + (skip << PAGE_SHIFT), v->end);
    }
    mm->seq++;
    gather_finish_unlock(&g);
}

void mm_unmap_inode(struct inode *inode, uint64_t from_index)
{
    struct mm *few[16], **list = few;
    size_t max = ARRAY_SIZE(few), nr;

    while ((nr = mapping_mms(inode, list, max)) > max) {
        struct mm **bigger;
        for (size_t i = 0; i < max; i++)
            mm_put(list[i]);
        bigger = kmalloc((nr + 16) * sizeof(*list));
        if (!bigger) {
            sched_yield();
            continue;
        }
        if (list != few)
            kfree(list);
        list = bigger;
        max = nr + 16;
    }
    for (size_t i = 0; i < nr; i++) {
        unmap_inode_in(list[i], inode, from_index);
        mm_put(list[i]);
    }
    if (list != few)
        kfree(list);
}

/* --- what procfs shows --- */

static const char *vma_name(struct mm *mm, const struct vma *v)
{
    if (v->name)
        return v->name;
    if (v->inode)
        return v->file ? NULL : "/dev/zero (deleted)";
    if (mm->brk > mm->brk_start && v->start <= mm->brk &&
        v->end > mm->brk_start)
        return "[heap]";
    if (mm->stack_top && v->start < mm->stack_top && v->end >= mm->stack_top)
        return "[stack]";
    return NULL;
}

static uint64_t count_pages(struct mm *mm, vaddr_t start, vaddr_t end)
{
    uint64_t nr = 0;
    vaddr_t a = start;
    bool large;

    while (pt_next(mm, &a, end, &large) != NULL) {
        vaddr_t next = large ? ALIGN_DOWN(a, LARGE_SIZE) + LARGE_SIZE
                             : a + PAGE_SIZE;
        nr += (MIN(next, end) - a) >> PAGE_SHIFT;
        a = next;
    }
    return nr;
}

bool mm_vma_at(struct mm *mm, vaddr_t addr, struct vma_info *out)
{
    bool is_mine = mutex_is_mine(&mm->lock);
    struct vma *v;

    if (!is_mine)
        mutex_lock(&mm->lock);
    v = vma_find(mm->vma_root, addr);
    if (v) {
        out->start = v->start;
        out->end = v->end;
        out->offset = v->offset;
        out->prot = (int)(v->flags & VM_ACCESS);
        out->shared = (v->flags & VM_SHARED) != 0;
        out->file = v->file;
        out->inode = v->inode;
        out->name = vma_name(mm, v);
        out->is_locked = (v->flags & VM_LOCKED) != 0;
        out->rss_pages = addr <= v->start ? count_pages(mm, v->start, v->end)
                                          : ~0ul;
    }
    if (!is_mine)
        mutex_unlock(&mm->lock);
    return v != NULL;
}

uint64_t mm_rss_pages(struct mm *mm, vaddr_t start, vaddr_t end)
{
    bool is_mine = mutex_is_mine(&mm->lock);
    uint64_t nr;

    if (!is_mine)
        mutex_lock(&mm->lock);
    nr = count_pages(mm, start, end);
    if (!is_mine)
        mutex_unlock(&mm->lock);
    return nr;
}
