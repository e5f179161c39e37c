/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Program memory touched from outside: populate, pinned pages, copies in and
 * out of any address space.
 *
 * All take mm->lock per step and fault pages in with mm_fault, so they may
 * sleep; none touches a program address directly.
 */
#include "lib/errno.h"
#include "lib/string.h"
#include "mm/internal.h"
#include "sched/thread.h"

/* The entry of addr if it allows the access, under mm->lock. */
static pte_t *usable_pte(struct mm *mm, vaddr_t addr, bool write, bool *large)
{
    pte_t *pte = pt_walk(mm, addr, large);

    if (!pte || !(*pte & PTE_P) || (write && !(*pte & PTE_W)))
        return NULL;
    return pte;
}

/* Makes one page usable and fills what is empty behind it. *next: where to
 * go on. */
static int populate_step(struct mm *mm, vaddr_t addr, vaddr_t end, bool write,
                         vaddr_t *next)
{
    bool large, done;
    struct vma *v;
    int err = 0;

    mutex_lock(&mm->lock);
    done = usable_pte(mm, addr, write, &large) != NULL;
    *next = done && large ? ALIGN_DOWN(addr, LARGE_SIZE) + LARGE_SIZE
                          : addr + PAGE_SIZE;
    v = vma_find(mm->vma_root, addr);
    if (!done && v && v->start <= addr && !v->inode &&
        v->flags & (write ? VM_WRITE : VM_ACCESS) &&
        !(v->flags & VM_KERNEL)) {
        vaddr_t stop = ALIGN_DOWN(addr, LARGE_SIZE) + LARGE_SIZE;
        stop = MIN(MIN(stop, end), v->end);
        err = anon_fill_locked(mm, v, addr, (stop - addr) >> PAGE_SHIFT);
        done = !err && usable_pte(mm, addr, write, &large) != NULL;
    }
    mutex_unlock(&mm->lock);
    if (done)
        return 0;
    return mm_fault(mm, addr, write ? FAULT_WRITE : 0);
}

int mm_populate(struct mm *mm, vaddr_t addr, size_t len, bool write)
{
    vaddr_t end;
    int err = 0;

    if (addr > USER_TOP || len > USER_TOP - addr)
        return -EFAULT;
    end = ALIGN_UP(addr + len, PAGE_SIZE);
    addr = ALIGN_DOWN(addr, PAGE_SIZE);
    while (addr < end && !err) {
        err = populate_step(mm, addr, end, write, &addr);
        sched_yield_point();
    }
    return err;
}

int mm_get_page(struct mm *mm, vaddr_t addr, bool write, struct page **out)
{
    for (int tries = 0; tries < 16; tries++) {
        bool large;
        pte_t *pte;
        int err = 0;

        mutex_lock(&mm->lock);
        pte = usable_pte(mm, addr, write, &large);
        if (pte && large)
            err = pt_split(mm, addr);
        if (pte && !large && *pte & PTE_KERNEL)
            err = -EFAULT;
        if (pte && !large && !err) {
            *out = pte_page(*pte);
            page_get(*out);
            mutex_unlock(&mm->lock);
            return 0;
        }
        mutex_unlock(&mm->lock);
        if (!pte && !err)
            err = mm_fault(mm, addr, write ? FAULT_WRITE : 0);
        if (err)
            return err;
    }
    return -EFAULT;
}

/* Copies within one page; 0 or -errno. */
static int access_page(struct mm *mm, vaddr_t addr, void *buf, size_t len,
                       bool write)
{
    for (int tries = 0; tries < 16; tries++) {
        bool large;
        pte_t *pte;
        int err;

        mutex_lock(&mm->lock);
        pte = usable_pte(mm, addr, write, &large);
        if (pte) {
            uint64_t mask = large ? LARGE_SIZE - 1 : PAGE_SIZE - 1;
            char *p = phys_to_virt((*pte & PTE_FRAME & ~mask) |
                                   (addr & mask));
            if (write)
                memcpy(p, buf, len);
            else
                memcpy(buf, p, len);
        }
        mutex_unlock(&mm->lock);
        if (pte)
            return 0;
        err = mm_fault(mm, addr, write ? FAULT_WRITE : 0);
        if (err)
            return err;
    }
    return -EFAULT;
}

ssize_t mm_access(struct mm *mm, vaddr_t addr, void *buf, size_t len,
                  bool write)
{
    size_t done = 0;

    while (done < len) {
        vaddr_t a = addr + done;
        size_t n = MIN(len - done, PAGE_SIZE - (a & (PAGE_SIZE - 1)));
        int err = a < USER_TOP ? access_page(mm, a, (char *)buf + done, n,
                                             write) : -EFAULT;
        if (err)
            return done ? (ssize_t)done : -EFAULT;
        done += n;
    }
    return (ssize_t)done;
}
