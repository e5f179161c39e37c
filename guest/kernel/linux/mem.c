/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The memory system calls: arguments as the ABI passes them, checked where the
 * check is the call's and not the operation's (mm/mm.h does the rest).
 */
#include "fs/vfs.h"
#include "lib/atomic.h"
#include "lib/errno.h"
#include "lib/string.h"
#include "linux/syscall_protos.h"
#include "linux/task.h"
#include "mm/heap.h"
#include "mm/mm.h"

int64_t sys_mmap(uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e,
                 uint64_t f)
{
    int flags = (int)d;
    struct file *file = NULL;
    int64_t r;

    if (f & (PAGE_SIZE - 1))
        return -EINVAL;
    if (!(flags & MAP_ANONYMOUS)) {
        file = fd_get((int)e);
        if (!file)
            return -EBADF;
        if (flags & MAP_HUGETLB) {
            file_put(file);
            return -EINVAL;
        }
    }
    r = mm_mmap(current_mm(), a, b, (int)c, flags, file, f);
    if (file)
        file_put(file);
    return r;
}

int64_t sys_mprotect(uint64_t a, uint64_t b, uint64_t c, uint64_t d,
                     uint64_t e, uint64_t f)
{
    return mm_mprotect(current_mm(), a, b, (int)c);
}

int64_t sys_munmap(uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e,
                   uint64_t f)
{
    return mm_munmap(current_mm(), a, b);
}

int64_t sys_brk(uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e,
                uint64_t f)
{
    return mm_brk(current_mm(), a);
}

int64_t sys_mremap(uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e,
                   uint64_t f)
{
    return mm_mremap(current_mm(), a, b, c, (int)d, e);
}

int64_t sys_msync(uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e,
                  uint64_t f)
{
    return mm_msync(current_mm(), a, b, (int)c);
}

int64_t sys_mincore(uint64_t a, uint64_t b, uint64_t c, uint64_t d,
                    uint64_t e, uint64_t f)
{
    return mm_mincore(current_mm(), a, b, (uint8_t *)c);
}

int64_t sys_madvise(uint64_t a, uint64_t b, uint64_t c, uint64_t d,
                    uint64_t e, uint64_t f)
{
    return mm_madvise(current_mm(), a, b, (int)c);
}

/* --- mlock --- */

#define MLOCK_ONFAULT 1u

int64_t sys_mlock(uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e,
                  uint64_t f)
{
    return mm_mlock(current_mm(), a, b, true, true);
}

int64_t sys_mlock2(uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e,
                   uint64_t f)
{
    if ((uint32_t)c & ~MLOCK_ONFAULT)
        return -EINVAL;
    return mm_mlock(current_mm(), a, b, true, !(c & MLOCK_ONFAULT));
}

int64_t sys_munlock(uint64_t a, uint64_t b, uint64_t c, uint64_t d,
                    uint64_t e, uint64_t f)
{
    return mm_mlock(current_mm(), a, b, false, false);
}

int64_t sys_mlockall(uint64_t a, uint64_t b, uint64_t c, uint64_t d,
                     uint64_t e, uint64_t f)
{
    uint32_t flags = (uint32_t)a;

    if (!flags || flags & ~(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT) ||
        flags == MCL_ONFAULT)
        return -EINVAL;
    return mm_mlockall(current_mm(), flags);
}

int64_t sys_munlockall(uint64_t a, uint64_t b, uint64_t c, uint64_t d,
                       uint64_t e, uint64_t f)
{
    return mm_mlockall(current_mm(), 0);
}

/* --- memory policy: there is one node, number 0 --- */

#define MPOL_F_NODE 1u
#define MPOL_F_ADDR 2u
#define MPOL_F_MEMS_ALLOWED 4u
#define MPOL_MODE_FLAGS 0xe000
enum { MPOL_DEFAULT, MPOL_PREFERRED, MPOL_BIND, MPOL_INTERLEAVE, MPOL_LOCAL,
       MPOL_PREFERRED_MANY, MPOL_MAX };

/* Reads a node mask; only node 0 may be in it. */
static int read_nodes(const uint64_t __user *mask, uint64_t max_node,
                      bool *has_node)
{
    *has_node = false;
    if (!mask || max_node <= 1)
        return 0;
    max_node--;
    if (max_node > PAGE_SIZE * 8)
        return -EINVAL;
    for (uint64_t i = 0; i * 64 < max_node; i++) {
        uint64_t word;
        if (get_user(word, mask + i))
            return -EFAULT;
        if (max_node - i * 64 < 64)
            word &= (1ul << (max_node - i * 64)) - 1;
        if (word & (i ? ~0ul : ~1ul))
            return -EINVAL;
        *has_node |= word != 0;
    }
    return 0;
}

static int check_policy(int mode, const uint64_t __user *mask,
                        uint64_t max_node)
{
    bool has_node;
    int err = read_nodes(mask, max_node, &has_node);

    if (err)
        return err;
    mode &= ~MPOL_MODE_FLAGS;
    if (mode < 0 || mode >= MPOL_MAX)
        return -EINVAL;
    if ((mode == MPOL_DEFAULT || mode == MPOL_LOCAL) && has_node)
        return -EINVAL;
    if ((mode == MPOL_BIND || mode == MPOL_INTERLEAVE ||
         mode == MPOL_PREFERRED_MANY) && !has_node)
        return -EINVAL;
    return 0;
}

int64_t sys_set_mempolicy(uint64_t a, uint64_t b, uint64_t c, uint64_t d,
                          uint64_t e, uint64_t f)
{
    int err = check_policy((int)a, (const uint64_t *)b, c);

    if (!err)
        current_mm()->mempolicy = (int)a;
    return err;
}

int64_t sys_mbind(uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e,
                  uint64_t f)
{
    struct vma_info v;

    if (f & ~7ul || a & (PAGE_SIZE - 1) || b > ~0ul - PAGE_SIZE ||
        a + ALIGN_UP(b, PAGE_SIZE) < a)
        return -EINVAL;
    for (vaddr_t end = a + ALIGN_UP(b, PAGE_SIZE); a < end; a = v.end) {
        if (!mm_vma_at(current_mm(), a, &v) || v.start > a)
            return -EFAULT;
    }
    return check_policy((int)c, (const uint64_t *)d, e);
}

int64_t sys_get_mempolicy(uint64_t a, uint64_t b, uint64_t c, uint64_t d,
                          uint64_t e, uint64_t f)
{
    int32_t mode = current_mm()->mempolicy;
    uint64_t __user *mask = (uint64_t *)b;
    uint64_t flags = e, nodes = 0;
    struct vma_info v;

    if (flags & ~7ul || (mask && c < 1))
        return -EINVAL;
    if (flags & MPOL_F_MEMS_ALLOWED) {
        if (flags & (MPOL_F_NODE | MPOL_F_ADDR))
            return -EINVAL;
        mode = 0;
        nodes = 1;
    } else if (flags & MPOL_F_ADDR) {
        if (!mm_vma_at(current_mm(), d, &v) || v.start > d)
            return -EFAULT;
        mode = flags & MPOL_F_NODE ? 0 : mode;
    } else if (d || flags & MPOL_F_NODE) {
        return -EINVAL;
    }
    if (mode != MPOL_DEFAULT && mode != MPOL_LOCAL)
        nodes = 1;
    if (a && put_user((int32_t *)a, mode))
        return -EFAULT;
    if (!mask)
        return 0;
    if (c - 1 > PAGE_SIZE * 8)
        return -EINVAL;
    for (uint64_t i = 0; i * 64 < c - 1; i++) {
        if (put_user(mask + i, i ? 0 : nodes))
            return -EFAULT;
    }
    return 0;
}

/* --- membarrier --- */

enum {
    MEMBARRIER_GLOBAL = 1,
    MEMBARRIER_GLOBAL_EXPEDITED = 2,
    MEMBARRIER_REGISTER_GLOBAL_EXPEDITED = 4,
    MEMBARRIER_PRIVATE_EXPEDITED = 8,
    MEMBARRIER_REGISTER_PRIVATE_EXPEDITED = 16,
    MEMBARRIER_SYNC_CORE = 32,
    MEMBARRIER_REGISTER_SYNC_CORE = 64,
    MEMBARRIER_ALL = 127,
};

/* Interrupts every other CPU that runs the program and waits for it: the
 * interrupt is a barrier, and its return serializes the instruction stream.
 * CPUs inside the kernel pass one on their way out. */
static void barrier_everywhere(struct mm *mm)
{
    smp_mb();
    if (atomic_load_relaxed(&mm->active_cpus) & ~(1ul << this_cpu()->id))
        tlb_flush(mm, USER_BOTTOM, 1);
}

int64_t sys_membarrier(uint64_t a, uint64_t b, uint64_t c, uint64_t d,
                       uint64_t e, uint64_t f)
{
    struct mm *mm = current_mm();
    int cmd = (int)a;

    if ((uint32_t)b)
        return -EINVAL;
    switch (cmd) {
    case 0:
        return MEMBARRIER_ALL;
    case MEMBARRIER_REGISTER_GLOBAL_EXPEDITED:
    case MEMBARRIER_REGISTER_PRIVATE_EXPEDITED:
    case MEMBARRIER_REGISTER_SYNC_CORE:
        atomic_or(&mm->membarrier, (uint32_t)cmd);
        return 0;
    case MEMBARRIER_PRIVATE_EXPEDITED:
    case MEMBARRIER_SYNC_CORE:
        if (!(atomic_load_relaxed(&mm->membarrier) & (uint32_t)cmd << 1))
            return -EPERM;
        barrier_everywhere(mm);
        return 0;
    case MEMBARRIER_GLOBAL:
    case MEMBARRIER_GLOBAL_EXPEDITED:
        barrier_everywhere(mm);
        return 0;
    default:
        return -EINVAL;
    }
}

/* --- process_vm_readv, process_vm_writev --- */

#define MAX_IOV 1024u
#define COPY_CHUNK PAGE_SIZE

/* A copy of an iovec array of the program. Returns owned (kfree). */
static int read_iov(const void __user *p, uint64_t nr, struct iovec64 **out)
{
    struct iovec64 *v;

    if (nr > MAX_IOV)
        return -EINVAL;
    v = kmalloc(MAX(nr, 1ul) * sizeof(*v));
    if (!v)
        return -ENOMEM;
    if (copy_from_user(v, p, nr * sizeof(*v))) {
        kfree(v);
        return -EFAULT;
    }
    for (uint64_t i = 0; i < nr; i++) {
        if ((ssize_t)v[i].len < 0) {
            kfree(v);
            return -EINVAL;
        }
    }
    *out = v;
    return 0;
}

struct iov_pos {
    struct iovec64 *v;
    uint64_t nr, i;
    size_t done; /* of v[i] */
};

/* Bytes that are left of the current element; 0: the end. */
static size_t iov_left(struct iov_pos *p)
{
    while (p->i < p->nr && p->done == p->v[p->i].len) {
        p->i++;
        p->done = 0;
    }
    return p->i < p->nr ? p->v[p->i].len - p->done : 0;
}

static ssize_t copy_between(struct mm *mm, struct iov_pos *local,
                            struct iov_pos *remote, char *buf, bool write)
{
    ssize_t total = 0;
    size_t nl, nr;

    while ((nl = iov_left(local)) != 0 && (nr = iov_left(remote)) != 0) {
        size_t n = MIN(MIN(nl, nr), COPY_CHUNK);
        char *l = (char *)local->v[local->i].base + local->done;
        vaddr_t r = (vaddr_t)remote->v[remote->i].base + remote->done;
        ssize_t got;

        if (write) {
            if (copy_from_user(buf, l, n))
                return total ? total : -EFAULT;
            got = mm_access(mm, r, buf, n, true);
        } else {
            got = mm_access(mm, r, buf, n, false);
            if (got > 0 && copy_to_user(l, buf, (size_t)got))
                return total ? total : -EFAULT;
        }
        if (got > 0)
            total += got;
        if (got != (ssize_t)n)
            return total ? total : -EFAULT;
        local->done += n;
        remote->done += n;
        sched_yield_point();
    }
    return total;
}

static int64_t process_vm_rw(uint64_t pid, uint64_t liov, uint64_t nr_l,
                             uint64_t riov, uint64_t nr_r, uint64_t flags,
                             bool write)
{
    struct iov_pos local = {.nr = nr_l}, remote = {.nr = nr_r};
    struct task *t = NULL;
    struct mm *mm = NULL;
    char *buf = NULL;
    int64_t r;

    if (flags)
        return -EINVAL;
    r = read_iov((const void *)liov, nr_l, &local.v);
    if (r)
        return r;
    r = read_iov((const void *)riov, nr_r, &remote.v);
    if (r)
        goto out;
    if (!iov_left(&local) || !iov_left(&remote))
        goto out;
    t = task_find((int)pid);
    r = t ? 0 : -ESRCH;
    if (r)
        goto out;
    mm = t->thread.mm; /* held by the thread, which we hold */
    buf = kmalloc(COPY_CHUNK);
    r = !mm ? -EPERM : !buf ? -ENOMEM
                            : copy_between(mm, &local, &remote, buf, write);
out:
    kfree(buf);
    if (t)
        thread_put(&t->thread);
    kfree(remote.v);
    kfree(local.v);
    return r;
}

int64_t sys_process_vm_readv(uint64_t a, uint64_t b, uint64_t c, uint64_t d,
                             uint64_t e, uint64_t f)
{
    return process_vm_rw(a, b, c, d, e, f, false);
}

int64_t sys_process_vm_writev(uint64_t a, uint64_t b, uint64_t c, uint64_t d,
                              uint64_t e, uint64_t f)
{
    return process_vm_rw(a, b, c, d, e, f, true);
}
