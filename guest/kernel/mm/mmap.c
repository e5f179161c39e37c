/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * mmap, munmap, mprotect, brk and the mappings exec makes.
 *
 * All work on the tree happens under mm->lock; what was unmapped is flushed
 * before the lock is released and VMAs are freed after it (pagetable.h).
 * Nothing is proportional to the size of a range nobody touched.
 */
#include "drivers/drivers.h"
#include "fs/vfs.h"
#include "lib/errno.h"
#include "mm/internal.h"

#define PROT_GROWSDOWN 0x01000000
#define PROT_GROWSUP 0x02000000
#define SMALL_POPULATE (64 * KIB)
#define STACK_START_SIZE (132 * KIB) /* what Linux gives a new program */
/* More private memory than RAM plus this at once is an obvious mistake. */
#define OVERCOMMIT_PAGES (64 * MIB / PAGE_SIZE)

/* --- splitting and joining --- */

int vma_split_locked(struct vma *v, vaddr_t addr, struct vma **after)
{
    struct mm *mm = v->mm;
    struct vma *n;

    if (mm->nr_vmas >= MAX_VMAS)
        return -ENOMEM;
    n = vma_create(mm, v->flags, v->file, v->inode,
                   v->inode ? v->offset + (addr - v->start) : 0);
    if (!n)
        return -ENOMEM;
    n->start = addr;
    n->end = v->end;
    n->name = v->name;
    mm_resize_vma_locked(mm, v, v->start, addr);
    mm_insert_vma_locked(mm, n);
    *after = n;
    return 0;
}

static bool can_merge(const struct vma *a, const struct vma *b)
{
    return a->end == b->start && a->flags == b->flags &&
           a->file == b->file && a->inode == b->inode &&
           a->name == b->name && !(a->flags & VM_KERNEL) &&
           (!a->inode || a->offset + (a->end - a->start) == b->offset);
}

static struct vma *merge_prev_locked(struct gather *g, struct vma *v)
{
    struct vma *prev = v->prev;
    vaddr_t end = v->end;

    if (!prev || !can_merge(prev, v))
        return v;
    mm_remove_vma_locked(g, v);
    mm_resize_vma_locked(g->mm, prev, prev->start, end);
    return prev;
}

struct vma *vma_merge_locked(struct gather *g, struct vma *v)
{
    if (v->next)
        merge_prev_locked(g, v->next);
    return merge_prev_locked(g, v);
}

int mm_for_range_locked(struct gather *g, vaddr_t start, vaddr_t end,
                        bool split,
                        int (*fn)(struct gather *g, struct vma *v,
                                  vaddr_t start, vaddr_t end, void *arg),
                        void *arg)
{
    vaddr_t pos = start;
    bool has_hole = false;
    struct vma *v = vma_find(g->mm->vma_root, start), *upper, *last = NULL;

    while (v && v->start < end) {
        int err;
        has_hole |= v->start > pos;
        if (split && v->start < start) {
            err = vma_split_locked(v, start, &v);
            if (err)
                return err;
        }
        if (split && v->end > end) {
            err = vma_split_locked(v, end, &upper);
            if (err)
                return err;
        }
        err = fn(g, v, MAX(v->start, start), MIN(v->end, end), arg);
        /* Backwards only: fn has not seen the next one yet. */
        if (split)
            v = merge_prev_locked(g, v);
        if (err)
            return err;
        pos = v->end;
        last = v;
        v = v->next;
    }
    if (split && last && v)
        merge_prev_locked(g, v);
    return has_hole || pos < end ? -ENOMEM : 0;
}

/* --- unmapping --- */

int mm_unmap_locked(struct gather *g, vaddr_t start, vaddr_t end)
{
    struct mm *mm = g->mm;
    struct vma *v = vma_find(mm->vma_root, start), *upper, *prev;
    int err;

    if (!v || v->start >= end)
        return 0;
    err = pt_split_at(mm, start);
    if (!err)
        err = pt_split_at(mm, end);
    if (!err && v->start < start)
        err = vma_split_locked(v, start, &v);
    if (err)
        return err;
    prev = v->prev;
    while (v && v->start < end) {
        struct vma *next;
        if (v->end > end) {
            err = vma_split_locked(v, end, &upper);
            if (err)
                return err;
        }
        next = v->next;
        pt_zap(g, v->start, v->end);
        mm_remove_vma_locked(g, v);
        v = next;
    }
    pt_free_tables(g, start, end, prev ? prev->end : 0,
                   v ? v->start : 1ul << 47);
    return 0;
}

int mm_munmap(struct mm *mm, vaddr_t addr, size_t len)
{
    struct gather g;
    int err;

    if (addr & (PAGE_SIZE - 1) || len == 0 || addr > USER_TOP ||
        len > USER_TOP - addr)
        return -EINVAL;
    mutex_lock(&mm->lock);
    gather_init(&g, mm);
    err = mm_unmap_locked(&g, addr, ALIGN_UP(addr + len, PAGE_SIZE));
    gather_finish_unlock(&g);
    return err;
}

/* --- limits and room --- */

static bool is_accountable(uint32_t flags)
{
    return (flags & (VM_NORESERVE | VM_SHARED | VM_WRITE)) == VM_WRITE;
}

static int check_commit(uint32_t flags, uint64_t nr_pages)
{
    struct memory_stats stats;

    if (!is_accountable(flags))
        return 0;
    memory_stats(&stats);
    return nr_pages > stats.total_pages + OVERCOMMIT_PAGES ? -ENOMEM : 0;
}

int mm_may_grow_locked(struct mm *mm, uint32_t flags, uint64_t nr_pages)
{
    if (mm->nr_vmas >= MAX_VMAS)
        return -ENOMEM;
    if (nr_pages > (mm->limit_as >> PAGE_SHIFT) ||
        mm->total_vm_pages > (mm->limit_as >> PAGE_SHIFT) - nr_pages)
        return -ENOMEM;
    if ((flags & (VM_WRITE | VM_SHARED | VM_GROWSDOWN)) == VM_WRITE &&
        mm->data_vm_pages + nr_pages > mm->limit_data >> PAGE_SHIFT)
        return -ENOMEM;
    return check_commit(flags, nr_pages);
}

static bool is_free(struct mm *mm, vaddr_t start, size_t len)
{
    struct vma *v;

    if (start < MMAP_MIN_ADDR || start > USER_TOP || len > USER_TOP - start)
        return false;
    v = vma_find(mm->vma_root, start);
    return !v || vma_start_gap(v) >= start + len;
}

int mm_find_room_locked(struct mm *mm, vaddr_t hint, size_t len,
                        int map_flags, bool align_large, vaddr_t *out)
{
    vaddr_t low = MMAP_MIN_ADDR, high = mm->mmap_base;

    if (len > USER_TOP)
        return -ENOMEM;
    hint = ALIGN_DOWN(hint, PAGE_SIZE);
    if (hint) {
        hint = MAX(hint, MMAP_MIN_ADDR);
        if (is_free(mm, hint, len) &&
            (!(map_flags & MAP_32BIT) || hint + len <= 0x80000000ul)) {
            *out = hint;
            return 0;
        }
    }
    if (map_flags & MAP_32BIT)
        return vma_find_gap(mm->vma_root, 0x40000000ul, 0x80000000ul, len,
                            out) ? 0 : -ENOMEM;
    if (align_large && vma_find_gap(mm->vma_root, low, high,
                                    len + LARGE_SIZE - PAGE_SIZE, out)) {
        /* As high as it can be. */
        *out = ALIGN_DOWN(*out + LARGE_SIZE - PAGE_SIZE, LARGE_SIZE);
        return 0;
    }
    if (vma_find_gap(mm->vma_root, low, high, len, out) ||
        vma_find_gap(mm->vma_root, low, USER_TOP, len, out))
        return 0;
    return -ENOMEM;
}

/* --- mmap --- */

/* One request on its way through the steps of mm_mmap. */
struct map_request {
    vaddr_t addr;
    size_t len;
    int map_flags;
    uint32_t vm_flags;
    bool is_anonymous; /* private and without a file */
};

static int check_file(struct map_request *r, int prot, struct file *file,
                      uint64_t offset, bool *anonymous)
{
    uint32_t mode = file->flags & O_ACCMODE;
    bool is_shared = (r->map_flags & 3) != MAP_PRIVATE;

    if (file->flags & O_PATH)
        return -EBADF;
    if (is_shared && prot & PROT_WRITE && mode == O_RDONLY)
        return -EACCES;
    if (mode == O_WRONLY)
        return -EACCES;
    if (!file->ops || !file->ops->mmap)
        return -ENODEV;
    if (r->map_flags & MAP_GROWSDOWN)
        return -EINVAL;
    if (is_shared && mode == O_RDONLY)
        r->vm_flags &= ~VM_MAYWRITE;
    return file->ops->mmap(file, offset, r->len, prot, r->map_flags,
                           anonymous);
}

static int check_request(struct map_request *r, int prot, struct file *file,
                         uint64_t offset)
{
    int type = r->map_flags & 0xf;

    if (r->len == 0)
        return -EINVAL;
    if (r->len > USER_TOP)
        return -ENOMEM;
    r->len = ALIGN_UP(r->len, PAGE_SIZE);
    if (offset & (PAGE_SIZE - 1))
        return -EINVAL;
    if (offset + r->len < offset)
        return -EOVERFLOW;
    if (r->map_flags & MAP_FIXED_NOREPLACE)
        r->map_flags |= MAP_FIXED;
    if (r->map_flags & MAP_FIXED) {
        if (r->addr & (PAGE_SIZE - 1))
            return -EINVAL;
        if (r->len > USER_TOP || r->addr > USER_TOP - r->len)
            return -ENOMEM;
        if (r->addr < MMAP_MIN_ADDR)
            return -EPERM;
    }
    if (type == MAP_SHARED_VALIDATE && file &&
        r->map_flags & ~(0xf | MAP_FIXED | MAP_ANONYMOUS | MAP_32BIT |
                         MAP_GROWSDOWN | MAP_DENYWRITE | MAP_EXECUTABLE |
                         MAP_LOCKED | MAP_NORESERVE | MAP_POPULATE |
                         MAP_NONBLOCK | MAP_STACK | MAP_HUGETLB |
                         MAP_FIXED_NOREPLACE))
        return -ENOTSUP;
    if (type != MAP_SHARED && type != MAP_PRIVATE &&
        !(type == MAP_SHARED_VALIDATE && file))
        return -EINVAL;
    if (r->map_flags & MAP_HUGETLB && !file)
        return -ENOMEM;
    if (!file && type == MAP_SHARED && r->map_flags & MAP_GROWSDOWN)
        return -EINVAL;
    r->vm_flags = ((uint32_t)prot & VM_ACCESS) | VM_MAYWRITE;
    if (type != MAP_PRIVATE)
        r->vm_flags |= VM_SHARED;
    if (r->map_flags & MAP_GROWSDOWN)
        r->vm_flags |= VM_GROWSDOWN | VM_STACK;
    if (r->map_flags & MAP_STACK)
        r->vm_flags |= VM_STACK;
    if (r->map_flags & MAP_NORESERVE)
        r->vm_flags |= VM_NORESERVE;
    if (r->map_flags & MAP_LOCKED)
        r->vm_flags |= VM_LOCKED;
    return 0;
}

static int place_locked(struct gather *g, struct map_request *r,
                        struct vma *v)
{
    struct mm *mm = g->mm;
    uint64_t nr = r->len >> PAGE_SHIFT;
    vaddr_t addr = r->addr;
    int err;

    if (r->map_flags & MAP_FIXED_NOREPLACE) {
        struct vma *old = vma_find(mm->vma_root, addr);
        if (old && old->start < addr + r->len)
            return -EEXIST;
    }
    err = mm_may_grow_locked(mm, v->flags, nr);
    if (err)
        return err;
    if (r->map_flags & MAP_FIXED)
        err = mm_unmap_locked(g, addr, addr + r->len);
    else
        err = mm_find_room_locked(mm, addr, r->len, r->map_flags,
                                  r->is_anonymous &&
                                      v->flags & VM_WRITE &&
                                      !(v->flags & VM_STACK) &&
                                      (r->len & (LARGE_SIZE - 1)) == 0,
                                  &addr);
    if (err)
        return err;
    r->addr = addr;
    v->start = addr;
    v->end = addr + r->len;
    v->flags |= mm->def_flags;
    mm_insert_vma_locked(mm, v);
    v = vma_merge_locked(g, v);
    if (r->is_anonymous && r->len <= SMALL_POPULATE &&
        v->flags & VM_WRITE && !(v->flags & VM_GROWSDOWN) &&
        memory_is_plentiful(nr)) {
        gather_flush(g); /* what was there before */
        (void)anon_fill_locked(mm, v, addr, nr);
    }
    return 0;
}

/* Creates the VMA and puts it into the map. */
static int map_request(struct mm *mm, struct map_request *r,
                       struct file *file, struct inode *inode,
                       uint64_t offset)
{
    struct gather g;
    struct vma *v = vma_create(mm, r->vm_flags, file, inode, offset);
    uint32_t flags;
    int err;

    if (!v)
        return -ENOMEM;
    mutex_lock(&mm->lock);
    gather_init(&g, mm);
    err = place_locked(&g, r, v);
    flags = r->vm_flags | mm->def_flags;
    gather_finish_unlock(&g);
    if (err) {
        vma_destroy(v);
        return err;
    }
    if ((r->map_flags & (MAP_POPULATE | MAP_NONBLOCK)) == MAP_POPULATE ||
        flags & VM_LOCKED)
        (void)mm_populate(mm, r->addr, r->len,
                          (flags & (VM_WRITE | VM_SHARED)) == VM_WRITE);
    return 0;
}

int64_t mm_mmap(struct mm *mm, vaddr_t addr, size_t len, int prot, int flags,
                struct file *file, uint64_t offset)
{
    struct map_request r = {.addr = addr, .len = len, .map_flags = flags};
    struct inode *inode = NULL;
    bool anonymous = !file;
    int err = check_request(&r, prot, file, offset);

    if (!err && file)
        err = check_file(&r, prot, file, offset, &anonymous);
    if (err)
        return err;
    if (anonymous) {
        file = NULL;
        offset = 0;
        r.is_anonymous = !(r.vm_flags & VM_SHARED);
        if (!r.is_anonymous) {
            err = check_commit(VM_WRITE, r.len >> PAGE_SHIFT);
            if (!err)
                err = shmem_inode_create(r.len, &inode);
            if (err)
                return err;
            err = map_request(mm, &r, NULL, inode, 0);
            inode_put(inode); /* the VMA has its own reference */
            return err ? err : (int64_t)r.addr;
        }
    } else {
        inode = file->inode;
    }
    err = map_request(mm, &r, file, inode, offset);
    return err ? err : (int64_t)r.addr;
}

/* --- mprotect --- */

struct protect {
    uint32_t prot;
    vaddr_t pos; /* what comes before is done */
};

static int protect_one(struct gather *g, struct vma *v, vaddr_t start,
                       vaddr_t end, void *arg)
{
    struct protect *p = arg;
    uint32_t prot = p->prot;
    uint32_t flags = (v->flags & ~VM_ACCESS) | prot;
    uint64_t nr = (end - start) >> PAGE_SHIFT;
    int err;

    if (start != p->pos) /* a hole: what is behind it stays as it is */
        return -ENOMEM;
    p->pos = end;
    if (flags == v->flags)
        return 0;
    if (prot & VM_WRITE &&
        (v->flags & VM_KERNEL ||
         (v->flags & VM_SHARED && !(v->flags & VM_MAYWRITE))))
        return -EACCES;
    if (is_accountable(flags) && !is_accountable(v->flags)) {
        if (v->mm->data_vm_pages + nr > v->mm->limit_data >> PAGE_SHIFT ||
            check_commit(flags, nr))
            return -ENOMEM;
    }
    err = pt_split_at(g->mm, start);
    if (!err)
        err = pt_split_at(g->mm, end);
    if (err)
        return err;
    mm_set_flags_locked(g->mm, v, flags);
    pt_protect(g, v, start, end);
    return 0;
}

int mm_mprotect(struct mm *mm, vaddr_t addr, size_t len, int prot)
{
    struct protect p = {.prot = (uint32_t)prot & VM_ACCESS};
    int grows = prot & (PROT_GROWSDOWN | PROT_GROWSUP);
    vaddr_t end;
    struct gather g;
    int err = 0;

    if (addr & (PAGE_SIZE - 1) || grows == (PROT_GROWSDOWN | PROT_GROWSUP) ||
        (uint32_t)prot & ~(VM_ACCESS | 8u /* PROT_SEM */ | PROT_GROWSDOWN |
                           PROT_GROWSUP))
        return -EINVAL;
    if (len == 0)
        return 0;
    if (addr >= USER_TOP || len > USER_TOP - addr)
        return -ENOMEM;
    end = ALIGN_UP(addr + len, PAGE_SIZE);
    mutex_lock(&mm->lock);
    gather_init(&g, mm);
    if (grows) {
        struct vma *v = vma_find(mm->vma_root, addr);
        if (!v || v->start >= end)
            err = -ENOMEM;
        else if (grows == PROT_GROWSUP || !(v->flags & VM_GROWSDOWN))
            err = -EINVAL;
        else
            addr = v->start;
    }
    p.pos = addr;
    if (!err)
        err = mm_for_range_locked(&g, addr, end, true, protect_one, &p);
    gather_finish_unlock(&g);
    return err;
}

/* --- brk --- */

static int grow_heap_locked(struct gather *g, vaddr_t from, vaddr_t to)
{
    struct mm *mm = g->mm;
    uint32_t flags = VM_READ | VM_WRITE | VM_MAYWRITE | mm->def_flags;
    struct vma *next = vma_find(mm->vma_root, from), *v;
    int err = mm_may_grow_locked(mm, flags, (to - from) >> PAGE_SHIFT);

    if (err)
        return err;
    if (to > USER_TOP || (next && vma_start_gap(next) < to + PAGE_SIZE))
        return -ENOMEM;
    v = vma_create(mm, flags, NULL, NULL, 0);
    if (!v)
        return -ENOMEM;
    v->start = from;
    v->end = to;
    mm_insert_vma_locked(mm, v);
    vma_merge_locked(g, v);
    return 0;
}

int64_t mm_brk(struct mm *mm, vaddr_t brk)
{
    struct gather g;
    vaddr_t old_end, new_end;
    int64_t result;
    bool is_locked;
    int err = 0;

    mutex_lock(&mm->lock);
    gather_init(&g, mm);
    old_end = ALIGN_UP(mm->brk, PAGE_SIZE);
    new_end = ALIGN_UP(brk, PAGE_SIZE);
    if (brk < mm->brk_start || brk > USER_TOP || mm->brk_start == 0 ||
        brk - mm->brk_start > mm->limit_data)
        err = -ENOMEM;
    else if (new_end < old_end)
        err = mm_unmap_locked(&g, new_end, old_end);
    else if (new_end > old_end)
        err = grow_heap_locked(&g, old_end, new_end);
    if (!err)
        mm->brk = brk;
    result = (int64_t)mm->brk;
    is_locked = (mm->def_flags & VM_LOCKED) != 0;
    gather_finish_unlock(&g);
    if (!err && is_locked && new_end > old_end)
        (void)mm_populate(mm, old_end, new_end - old_end, true);
    return result;
}

/* --- for exec --- */

int mm_setup_stack(struct mm *mm, vaddr_t top, size_t max_len)
{
    struct map_request r = {
        .len = ALIGN_UP(MIN(max_len, STACK_START_SIZE), PAGE_SIZE),
        .map_flags = MAP_FIXED | MAP_FIXED_NOREPLACE,
        .vm_flags = VM_READ | VM_WRITE | VM_MAYWRITE | VM_GROWSDOWN |
                    VM_STACK,
    };
    int err;

    if (top > USER_TOP || top & (PAGE_SIZE - 1) || r.len == 0)
        return -EINVAL;
    r.addr = top - r.len;
    err = map_request(mm, &r, NULL, NULL, 0);
    if (!err)
        mm->stack_top = top;
    return err;
}

static int map_kernel_locked(struct gather *g, struct vma *v,
                             const char *kernel)
{
    int err = mm_unmap_locked(g, v->start, v->end);

    for (vaddr_t a = v->start; a < v->end && !err; a += PAGE_SIZE) {
        pte_t *pte = pt_make(g->mm, a);
        if (pte)
            *pte = virt_to_phys(kernel + (a - v->start)) | PTE_KERNEL |
                   pte_rights(v, false);
        else
            err = -ENOMEM;
    }
    if (err)
        pt_zap(g, v->start, v->end);
    else
        mm_insert_vma_locked(g->mm, v);
    return err;
}

int mm_map_kernel_pages(struct mm *mm, vaddr_t addr, void *kernel,
                        size_t nr_pages, int prot, const char *name)
{
    struct gather g;
    struct vma *v;
    int err;

    if (addr & (PAGE_SIZE - 1) || addr < MMAP_MIN_ADDR ||
        addr > USER_TOP - nr_pages * PAGE_SIZE)
        return -EINVAL;
    v = vma_create(mm, ((uint32_t)prot & (VM_READ | VM_EXEC)) | VM_KERNEL |
                   VM_NOHUGE, NULL, NULL, 0);
    if (!v)
        return -ENOMEM;
    v->start = addr;
    v->end = addr + nr_pages * PAGE_SIZE;
    v->name = name;
    mutex_lock(&mm->lock);
    gather_init(&g, mm);
    gather_flush(&g);
    err = map_kernel_locked(&g, v, kernel);
    gather_finish_unlock(&g);
    if (err)
        vma_destroy(v);
    return err;
}
