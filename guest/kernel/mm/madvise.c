/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * madvise, msync, mincore, mlock: what a program may say or ask about memory
 * it has mapped. Locks: mm->lock, dropped for file operations and for copies
 * to the program.
 */
#include "fs/fs_internal.h"
#include "fs/vfs.h"
#include "lib/errno.h"
#include "mm/internal.h"
#include "sched/thread.h"

/* man 2 madvise */
enum {
    MADV_NORMAL = 0,
    MADV_RANDOM = 1,
    MADV_SEQUENTIAL = 2,
    MADV_WILLNEED = 3,
    MADV_DONTNEED = 4,
    MADV_FREE = 8,
    MADV_REMOVE = 9,
    MADV_DONTFORK = 10,
    MADV_DOFORK = 11,
    MADV_MERGEABLE = 12,
    MADV_UNMERGEABLE = 13,
    MADV_HUGEPAGE = 14,
    MADV_NOHUGEPAGE = 15,
    MADV_DONTDUMP = 16,
    MADV_DODUMP = 17,
    MADV_WIPEONFORK = 18,
    MADV_KEEPONFORK = 19,
    MADV_COLD = 20,
    MADV_PAGEOUT = 21,
    MADV_POPULATE_READ = 22,
    MADV_POPULATE_WRITE = 23,
    MADV_DONTNEED_LOCKED = 24,
};

#define MS_ASYNC 1
#define MS_INVALIDATE 2
#define MS_SYNC 4

/* Advice that is a flag of the VMA. */
static const struct flag_advice {
    int advice;
    uint32_t set, clear;
} flag_advice[] = {
    {MADV_NORMAL, 0, VM_RANDOM | VM_SEQ},
    {MADV_RANDOM, VM_RANDOM, VM_SEQ},
    {MADV_SEQUENTIAL, VM_SEQ, VM_RANDOM},
    {MADV_DONTFORK, VM_DONTFORK, 0},
    {MADV_DOFORK, 0, VM_DONTFORK},
    {MADV_HUGEPAGE, VM_HUGE, VM_NOHUGE},
    {MADV_NOHUGEPAGE, VM_NOHUGE, VM_HUGE},
    {MADV_DONTDUMP, VM_DONTDUMP, 0},
    {MADV_DODUMP, 0, VM_DONTDUMP},
    {MADV_WIPEONFORK, VM_WIPEONFORK, 0},
    {MADV_KEEPONFORK, 0, VM_WIPEONFORK},
};

static int flags_one(struct gather *g, struct vma *v, vaddr_t start,
                     vaddr_t end, void *arg)
{
    const struct flag_advice *a = arg;
    uint32_t flags = (v->flags & ~a->clear) | a->set;

    if (a->advice == MADV_WIPEONFORK && v->inode)
        return -EINVAL;
    if (a->advice == MADV_DODUMP && v->flags & VM_KERNEL)
        return -EINVAL;
    if (flags != v->flags)
        mm_set_flags_locked(g->mm, v, flags);
    return 0;
}

static int zap_one(struct gather *g, struct vma *v, vaddr_t start,
                   vaddr_t end, void *arg)
{
    int advice = *(int *)arg, err;

    if (v->flags & VM_KERNEL ||
        (v->flags & VM_LOCKED && advice != MADV_DONTNEED_LOCKED))
        return -EINVAL;
    if (advice == MADV_FREE) {
        if (v->inode)
            return -EINVAL;
        /* Freeing may wait until memory is wanted, and with enough of it
         * that is never: the next touch costs nothing then. */
        if (memory_is_plentiful((end - start) >> PAGE_SHIFT))
            return 0;
    }
    err = pt_split_at(g->mm, start);
    if (!err)
        err = pt_split_at(g->mm, end);
    if (!err)
        pt_zap(g, start, end);
    return err;
}

/* Only looks whether all of it is mapped. */
static int nothing_one(struct gather *g, struct vma *v, vaddr_t start,
                       vaddr_t end, void *arg)
{
    return 0;
}

static int populate_advised(struct mm *mm, vaddr_t start, vaddr_t end,
                            bool write)
{
    int err = mm_populate(mm, start, end - start, write);

    switch (err) {
    case -EFAULT:
        return -ENOMEM; /* a hole */
    case -EACCES:
        return -EINVAL;
    case -ENXIO:
    case -EIO:
        return -EFAULT;
    default:
        return err;
    }
}

/* MADV_REMOVE: zeroes what is behind shared mappings. */
static int remove_range(struct mm *mm, vaddr_t start, vaddr_t end)
{
    int err = 0;

    while (start < end && !err) {
        struct inode *inode = NULL;
        uint64_t from = 0, to = 0;
        struct vma *v;

        mutex_lock(&mm->lock);
        v = vma_find(mm->vma_root, start);
        if (!v || v->start > start)
            err = -ENOMEM;
        else if (!v->inode || v->flags & VM_LOCKED)
            err = -EINVAL;
        else if ((v->flags & (VM_SHARED | VM_MAYWRITE)) !=
                 (VM_SHARED | VM_MAYWRITE))
            err = -EACCES;
        if (!err) {
            inode = v->inode;
            inode_get(inode);
            from = v->offset + (start - v->start);
            to = from + MIN(end, v->end) - start;
            start = MIN(end, v->end);
        }
        mutex_unlock(&mm->lock);
        if (inode) {
            mutex_lock(&inode->lock);
            err = pagecache_punch(inode, from, MIN(to, inode->size));
            mutex_unlock(&inode->lock);
            inode_put(inode);
        }
    }
    return err;
}

static int advise_locked(struct gather *g, vaddr_t start, vaddr_t end,
                         int advice)
{
    for (size_t i = 0; i < ARRAY_SIZE(flag_advice); i++) {
        if (flag_advice[i].advice == advice)
            return mm_for_range_locked(g, start, end, true, flags_one,
                                       (void *)&flag_advice[i]);
    }
    if (advice == MADV_DONTNEED || advice == MADV_FREE ||
        advice == MADV_DONTNEED_LOCKED)
        return mm_for_range_locked(g, start, end, false, zap_one, &advice);
    /* The others are hints without an effect here. */
    return mm_for_range_locked(g, start, end, false, nothing_one, NULL);
}

int mm_madvise(struct mm *mm, vaddr_t addr, size_t len, int advice)
{
    struct gather g;
    vaddr_t end;
    int err;

    if (advice < MADV_NORMAL || advice > MADV_DONTNEED_LOCKED ||
        (advice > MADV_DONTNEED && advice < MADV_FREE))
        return -EINVAL;
    if (addr & (PAGE_SIZE - 1) || len > ~0ul - PAGE_SIZE)
        return -EINVAL;
    end = addr + ALIGN_UP(len, PAGE_SIZE);
    if (end < addr)
        return -EINVAL;
    if (end == addr)
        return 0;
    if (end > USER_TOP)
        return -ENOMEM;
    if (advice == MADV_POPULATE_READ || advice == MADV_POPULATE_WRITE)
        return populate_advised(mm, addr, end, advice == MADV_POPULATE_WRITE);
    if (advice == MADV_REMOVE)
        return remove_range(mm, addr, end);
    mutex_lock(&mm->lock);
    gather_init(&g, mm);
    err = advise_locked(&g, addr, end, advice);
    gather_finish_unlock(&g);
    return err;
}

/* --- msync --- */

int mm_msync(struct mm *mm, vaddr_t addr, size_t len, int flags)
{
    vaddr_t end;
    int err = 0, hole = 0;

    if (flags & ~(MS_ASYNC | MS_INVALIDATE | MS_SYNC) ||
        addr & (PAGE_SIZE - 1) ||
        (flags & (MS_ASYNC | MS_SYNC)) == (MS_ASYNC | MS_SYNC))
        return -EINVAL;
    if (len > ~0ul - PAGE_SIZE ||
        addr + ALIGN_UP(len, PAGE_SIZE) < addr)
        return -ENOMEM;
    end = addr + ALIGN_UP(len, PAGE_SIZE);
    while (addr < end && !err) {
        struct file *file = NULL;
        struct vma *v;
        mutex_lock(&mm->lock);
        v = vma_find(mm->vma_root, addr);
        if (!v || v->start >= end) {
            mutex_unlock(&mm->lock);
            return -ENOMEM;
        }
        if (v->start > addr)
            hole = -ENOMEM;
        if (flags & MS_INVALIDATE && v->flags & VM_LOCKED)
            err = -EBUSY;
        if (!err && flags & MS_SYNC && v->flags & VM_SHARED && v->file) {
            file = v->file;
            file_get(file);
        }
        addr = v->end;
        mutex_unlock(&mm->lock);
        if (file) {
            if (file->ops->fsync)
                err = file->ops->fsync(file);
            file_put(file);
        }
    }
    return err ? err : hole;
}

/* --- mincore --- */

/* Residency of up to `max` pages of one VMA; -ENOMEM for a hole. */
static int mincore_some(struct mm *mm, vaddr_t addr, size_t max, uint8_t *vec,
                        size_t *nr)
{
    struct vma *v;
    size_t n;

    mutex_lock(&mm->lock);
    v = vma_find(mm->vma_root, addr);
    if (!v || v->start > addr) {
        mutex_unlock(&mm->lock);
        return -ENOMEM;
    }
    n = MIN(max, (v->end - addr) >> PAGE_SHIFT);
    for (size_t i = 0; i < n; i++, addr += PAGE_SIZE) {
        bool large;
        pte_t *pte = pt_walk(mm, addr, &large);
        vec[i] = pte && *pte;
        if (!vec[i] && v->inode) {
            struct page *p = pagecache_peek(
                v->inode, (v->offset + (addr - v->start)) >> PAGE_SHIFT);
            vec[i] = p != NULL;
            if (p)
                page_put(p);
        }
    }
    mutex_unlock(&mm->lock);
    *nr = n;
    return 0;
}

int mm_mincore(struct mm *mm, vaddr_t addr, size_t len, uint8_t __user *vec)
{
    uint8_t buf[128];
    size_t nr_pages, nr;

    if (addr & (PAGE_SIZE - 1))
        return -EINVAL;
    if (addr > USER_TOP || len > USER_TOP - addr)
        return -ENOMEM;
    nr_pages = ALIGN_UP(len, PAGE_SIZE) >> PAGE_SHIFT;
    if (!user_range_ok(vec, nr_pages))
        return -EFAULT;
    while (nr_pages > 0) {
        int err = mincore_some(mm, addr, MIN(nr_pages, sizeof(buf)), buf,
                               &nr);
        if (!err)
            err = copy_to_user(vec, buf, nr);
        if (err)
            return err;
        addr += nr * PAGE_SIZE;
        vec += nr;
        nr_pages -= nr;
        sched_yield_point();
    }
    return 0;
}

/* --- mlock --- */

static int lock_one(struct gather *g, struct vma *v, vaddr_t start,
                    vaddr_t end, void *arg)
{
    uint32_t flags = (v->flags & ~VM_LOCKED) | *(uint32_t *)arg;

    if (flags != v->flags && !(v->flags & VM_KERNEL))
        mm_set_flags_locked(g->mm, v, flags);
    return 0;
}

/* Makes all mappings in the range present, each with the access it allows. */
static int populate_vmas(struct mm *mm, vaddr_t start, vaddr_t end)
{
    int err = 0;

    while (start < end && !err) {
        bool write, skip;
        vaddr_t stop;
        struct vma *v;
        mutex_lock(&mm->lock);
        v = vma_find(mm->vma_root, start);
        if (!v || v->start >= end) {
            mutex_unlock(&mm->lock);
            break;
        }
        start = MAX(start, v->start);
        stop = MIN(v->end, end);
        skip = (v->flags & VM_KERNEL) != 0;
        write = (v->flags & (VM_WRITE | VM_SHARED)) == VM_WRITE;
        mutex_unlock(&mm->lock);
        if (!skip)
            err = mm_populate(mm, start, stop - start, write);
        start = stop;
    }
    return err ? -ENOMEM : 0;
}

int mm_mlock(struct mm *mm, vaddr_t addr, size_t len, bool lock,
             bool populate)
{
    uint32_t set = lock ? VM_LOCKED : 0;
    vaddr_t start = ALIGN_DOWN(addr, PAGE_SIZE), end;
    struct gather g;
    int err;

    if (len > ~0ul - 2 * PAGE_SIZE)
        return -EINVAL;
    end = start + ALIGN_UP(len + (addr - start), PAGE_SIZE);
    if (end < start)
        return -EINVAL;
    if (end == start)
        return 0;
    mutex_lock(&mm->lock);
    gather_init(&g, mm);
    err = mm_for_range_locked(&g, start, end, true, lock_one, &set);
    gather_finish_unlock(&g);
    if (!err && lock && populate)
        err = populate_vmas(mm, start, end);
    return err;
}

int mm_mlockall(struct mm *mm, uint32_t flags)
{
    struct gather g;
    uint32_t set = flags ? VM_LOCKED : 0;

    mutex_lock(&mm->lock);
    gather_init(&g, mm);
    mm->def_flags = flags & MCL_FUTURE ? VM_LOCKED : 0;
    if (flags & MCL_CURRENT || !flags)
        (void)mm_for_range_locked(&g, MMAP_MIN_ADDR, USER_TOP, true,
                                  lock_one, &set);
    gather_finish_unlock(&g);
    if ((flags & (MCL_CURRENT | MCL_ONFAULT)) == MCL_CURRENT)
        (void)populate_vmas(mm, MMAP_MIN_ADDR, USER_TOP);
    return 0;
}
