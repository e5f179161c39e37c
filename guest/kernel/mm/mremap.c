/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * mremap(2): growing, shrinking and moving one mapping. Pages move by their
 * table entries, never by copying. Locks: mm->lock throughout.
 */
#include "lib/errno.h"
#include "lib/printk.h"
#include "mm/internal.h"

#define MREMAP_MAYMOVE 1
#define MREMAP_FIXED 2
#define MREMAP_DONTUNMAP 4

struct remap {
    vaddr_t old, new_addr;
    size_t old_len, new_len;
    int flags;
};

static int check_remap(struct remap *r)
{
    if (r->flags & ~(MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP))
        return -EINVAL;
    if (r->flags & (MREMAP_FIXED | MREMAP_DONTUNMAP) &&
        !(r->flags & MREMAP_MAYMOVE))
        return -EINVAL;
    if (r->flags & MREMAP_DONTUNMAP && r->old_len != r->new_len)
        return -EINVAL;
    if (r->old & (PAGE_SIZE - 1) || r->new_len == 0 ||
        r->new_len > USER_TOP || r->old_len > USER_TOP)
        return -EINVAL;
    r->old_len = ALIGN_UP(r->old_len, PAGE_SIZE);
    r->new_len = ALIGN_UP(r->new_len, PAGE_SIZE);
    if (r->flags & MREMAP_FIXED) {
        if (r->new_addr & (PAGE_SIZE - 1) || r->new_len > USER_TOP ||
            r->new_addr > USER_TOP - r->new_len)
            return -EINVAL;
        if (r->old + r->old_len > r->new_addr &&
            r->new_addr + r->new_len > r->old)
            return -EINVAL;
        if (r->new_addr < MMAP_MIN_ADDR)
            return -EPERM;
    }
    return 0;
}

/* The VMA that holds all of the old range. */
static int find_old(struct mm *mm, const struct remap *r, struct vma **out)
{
    struct vma *v = vma_find(mm->vma_root, r->old);

    if (!v || v->start > r->old)
        return -EFAULT;
    if (v->flags & VM_KERNEL ||
        (r->old_len == 0 && !(v->flags & VM_SHARED)))
        return -EINVAL;
    if (r->old_len > v->end - r->old)
        return -EFAULT;
    *out = v;
    return 0;
}

/* The old range appears at new_addr, which is free. */
static int move_locked(struct gather *g, const struct remap *r,
                       vaddr_t new_addr)
{
    struct mm *mm = g->mm;
    size_t len = MIN(r->old_len, r->new_len);
    struct vma *v, *n;
    int err = find_old(mm, r, &v);

    if (!err)
        err = pt_split_at(mm, r->old);
    if (!err)
        err = pt_split_at(mm, r->old + len);
    if (err)
        return err;
    n = vma_create(mm, v->flags, v->file, v->inode,
                   v->inode ? v->offset + (r->old - v->start) : 0);
    if (!n)
        return -ENOMEM;
    n->start = new_addr;
    n->end = new_addr + r->new_len;
    n->name = v->name;
    mm_insert_vma_locked(mm, n);
    err = pt_move(g, r->old, new_addr, len);
    if (err) {
        /* Back: needs no memory, the tables of the old place are there. */
        if (pt_move(g, new_addr, r->old, len))
            klog(LOG_ERROR, "mremap: pages lost at %lx", r->old);
        pt_zap(g, n->start, n->end);
        mm_remove_vma_locked(g, n);
        return err;
    }
    if (!(r->flags & MREMAP_DONTUNMAP) && r->old_len)
        err = mm_unmap_locked(g, r->old, r->old + r->old_len);
    vma_merge_locked(g, n);
    return err;
}

static int grow_in_place_locked(struct gather *g, const struct remap *r,
                                struct vma *v)
{
    struct mm *mm = g->mm;
    vaddr_t new_end = r->old + r->new_len;

    if (r->old + r->old_len != v->end || r->old_len == 0 ||
        new_end < r->old || new_end > USER_TOP ||
        (v->next && vma_start_gap(v->next) < new_end))
        return -ENOMEM;
    mm_resize_vma_locked(mm, v, v->start, new_end);
    vma_merge_locked(g, v);
    return 0;
}

static int64_t remap_locked(struct gather *g, struct remap *r, bool *locked)
{
    struct mm *mm = g->mm;
    bool must_move = r->flags & (MREMAP_FIXED | MREMAP_DONTUNMAP);
    struct vma *v = vma_find(mm->vma_root, r->old);
    uint64_t grown;
    int err;

    if (!v || v->start > r->old)
        return -EFAULT;
    if (r->flags & MREMAP_FIXED) {
        err = mm_unmap_locked(g, r->new_addr, r->new_addr + r->new_len);
        if (err)
            return err;
    }
    if (r->new_len < r->old_len) {
        err = mm_unmap_locked(g, r->old + r->new_len, r->old + r->old_len);
        if (err)
            return err;
        r->old_len = r->new_len;
    }
    if (r->new_len == r->old_len && !must_move)
        return (int64_t)r->old;
    err = find_old(mm, r, &v);
    if (err)
        return err;
    *locked = (v->flags & VM_LOCKED) != 0;
    grown = r->flags & MREMAP_DONTUNMAP ? r->new_len
                                        : r->new_len - r->old_len;
    err = mm_may_grow_locked(mm, v->flags, grown >> PAGE_SHIFT);
    if (err)
        return err;
    if (!must_move && grow_in_place_locked(g, r, v) == 0)
        return (int64_t)r->old;
    if (!(r->flags & MREMAP_MAYMOVE))
        return -ENOMEM;
    if (!(r->flags & MREMAP_FIXED)) {
        bool align = !v->inode && (r->new_len & (LARGE_SIZE - 1)) == 0;
        err = mm_find_room_locked(mm, r->flags & MREMAP_DONTUNMAP
                                          ? r->new_addr : 0,
                                  r->new_len, 0, align, &r->new_addr);
    }
    if (!err)
        err = move_locked(g, r, r->new_addr);
    return err ? err : (int64_t)r->new_addr;
}

int64_t mm_mremap(struct mm *mm, vaddr_t old, size_t old_len, size_t new_len,
                  int flags, vaddr_t new_addr)
{
    struct remap r = {old, new_addr, old_len, new_len, flags};
    struct gather g;
    bool is_locked = false;
    int64_t result = check_remap(&r);

    if (result)
        return result;
    mutex_lock(&mm->lock);
    gather_init(&g, mm);
    result = remap_locked(&g, &r, &is_locked);
    gather_finish_unlock(&g);
    if (result > 0 && is_locked && r.new_len > r.old_len)
        (void)mm_populate(mm, (vaddr_t)result + r.old_len,
                          r.new_len - r.old_len, false);
    return result;
}
