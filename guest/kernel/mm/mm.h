/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Address spaces: VMAs, page tables, faults, and how the kernel touches
 * program memory.
 *
 * - `struct mm` is an object, never a global (design.md 10). All functions
 *   take it; the current thread's is current_mm().
 * - mm->lock (a mutex) protects the VMA tree and the low half of the page tables.
 *   Page faults take it; so user copies must not be made while it is held.
 * - copy_from_user/copy_to_user check the range against the low half and
 *   survive any fault: -EFAULT. They may sleep: no spinlock across.
 * - All mappings carry the U bit (required on kvm_pvm).
 */
#pragma once

#include "arch/arch.h"
#include "lib/types.h"
#include "mm/page.h"
#include "sched/mutex.h"

/* man 2 mmap */
#define PROT_READ 1
#define PROT_WRITE 2
#define PROT_EXEC 4
#define MAP_SHARED 0x01
#define MAP_PRIVATE 0x02
#define MAP_SHARED_VALIDATE 0x03
#define MAP_FIXED 0x10
#define MAP_ANONYMOUS 0x20
#define MAP_32BIT 0x40
#define MAP_GROWSDOWN 0x100
#define MAP_DENYWRITE 0x800
#define MAP_EXECUTABLE 0x1000
#define MAP_LOCKED 0x2000
#define MAP_NORESERVE 0x4000
#define MAP_POPULATE 0x8000
#define MAP_NONBLOCK 0x10000
#define MAP_STACK 0x20000
#define MAP_HUGETLB 0x40000
#define MAP_SYNC 0x80000
#define MAP_FIXED_NOREPLACE 0x100000

struct file;
struct vma;

struct mm {
    /* --- set once --- */
    paddr_t pml4;
    /* --- atomic --- */
    uint32_t refcount;
    uint64_t active_cpus; /* bit per CPU that runs it */
    uint64_t tlb_gen;     /* counts flushes (smp.c, run.c) */
    uint64_t nr_pages;    /* resident */
    /* --- protected by lock --- */
    struct mutex lock;
    struct vma *vma_root; /* the tree's type is private to mm/vma.c */
    struct vma *vma_cache;
    uint64_t total_vm_pages, nr_vmas;
    uint64_t data_vm_pages; /* private writable */
    uint64_t locked_pages;  /* in VMAs with VM_LOCKED */
    uint64_t seq;           /* counts changes of the map */
    uint32_t def_flags;     /* mlockall(MCL_FUTURE): VM_LOCKED */
    uint32_t membarrier;    /* registered commands, membarrier(2) */
    int mempolicy;          /* set_mempolicy(2): remembered, one node */
    vaddr_t mmap_base;    /* mappings grow down from here */
    vaddr_t brk_start, brk;
    vaddr_t stack_top;
    /* --- set by exec, read by procfs --- */
    vaddr_t arg_start, arg_end, env_start, env_end, vdso;
    vaddr_t code_start, code_end;
    struct file *exe;     /* owned reference */
    uint64_t auxv[48];
    size_t auxv_words;
    /* --- set at creation --- */
    uint64_t limit_as, limit_data, limit_stack; /* bytes, ~0 = none */
};

struct mm *current_mm(void);

/* mm.c */
int __must_check mm_create(struct mm **out); /* Returns owned */
void mm_get(struct mm *mm);
void mm_put(struct mm *mm); /* destroys with the last reference */
/* Drops every mapping and draws a new layout (exec). */
void mm_clear(struct mm *mm);
/* A copy-on-write copy (fork). Returns owned. */
int __must_check mm_clone(struct mm *old, struct mm **out);
/* Chooses mmap_base from limit_stack; random unless told not to be. Before
 * anything is mapped. */
void mm_layout(struct mm *mm, bool randomize);
/* Where a position-independent program and the heap go (exec). */
vaddr_t mm_pie_base(struct mm *mm);
vaddr_t mm_random_brk(vaddr_t end_of_program, bool is_pie);

/* mmap.c: semantics of the system calls; 0 or -errno, addresses >= 0. */
/* file may be NULL; Borrows it (a reference of its own is taken). */
int64_t mm_mmap(struct mm *mm, vaddr_t addr, size_t len, int prot, int flags,
                struct file *file, uint64_t offset);
int mm_munmap(struct mm *mm, vaddr_t addr, size_t len);
int mm_mprotect(struct mm *mm, vaddr_t addr, size_t len, int prot);
int64_t mm_mremap(struct mm *mm, vaddr_t old, size_t old_len, size_t new_len,
                  int flags, vaddr_t new_addr);
int mm_madvise(struct mm *mm, vaddr_t addr, size_t len, int advice);
int mm_msync(struct mm *mm, vaddr_t addr, size_t len, int flags);
int mm_mincore(struct mm *mm, vaddr_t addr, size_t len, uint8_t __user *vec);
int64_t mm_brk(struct mm *mm, vaddr_t brk);
/* lock: what mlock does, else munlock. Both leave rights alone. */
int mm_mlock(struct mm *mm, vaddr_t addr, size_t len, bool lock,
             bool populate);
#define MCL_CURRENT 1u
#define MCL_FUTURE 2u
#define MCL_ONFAULT 4u
int mm_mlockall(struct mm *mm, uint32_t flags); /* MCL_*; 0: unlock all */
/* Maps kernel pages (vDSO) at addr: read-only, shared with the kernel. */
int mm_map_kernel_pages(struct mm *mm, vaddr_t addr, void *kernel,
                        size_t nr_pages, int prot, const char *name);
/* An inode's pages from index on (to the end) are gone: unmap them everywhere
 * (truncate). Called by fs without the page-cache lock. */
void mm_unmap_inode(struct inode *inode, uint64_t from_index);
/* For /proc/self/maps: the VMA that contains or follows addr. false: none. */
struct vma_info {
    vaddr_t start, end;
    uint64_t offset;
    int prot;
    bool shared;
    struct file *file;   /* borrowed: valid until mm->lock is released */
    const char *name;    /* "[stack]", "[heap]", "[vdso]" or NULL */
    struct inode *inode; /* borrowed: also of shared anonymous memory */
    bool is_locked;
    /* Resident pages: counted only for a walk from VMA to VMA (addr <= start),
     * since it reads the page tables; ~0 otherwise. */
    uint64_t rss_pages;
};
/* The caller may hold mm->lock (then file and inode stay valid). */
bool mm_vma_at(struct mm *mm, vaddr_t addr, struct vma_info *out);
/* Resident pages in a range (smaps): walks page tables. */
uint64_t mm_rss_pages(struct mm *mm, vaddr_t start, vaddr_t end);
/* Stack of the main thread: grows down to limit_stack. */
int mm_setup_stack(struct mm *mm, vaddr_t top, size_t max_len);

/* fault.c */
/* From trap.c with interrupts on. 0: retry; else a signal for the program:
 * -EFAULT SEGV_MAPERR, -EACCES SEGV_ACCERR, -EIO/-ENXIO SIGBUS, -ENOMEM. */
int mm_fault(struct mm *mm, vaddr_t addr, uint32_t error);
/* Makes [addr, addr+len) present with the rights asked for, or fails. */
int mm_populate(struct mm *mm, vaddr_t addr, size_t len, bool write);
/* A pinned page of program memory (futex keys, device I/O): refcount taken.*/
/* query.c: what the page tables say of an address now. -EFAULT: unmapped. */
struct mm_page {
    paddr_t physical; /* of the byte */
    uint32_t size;    /* of the translation; 0: not present, rest is 0 */
    bool is_writable, is_executable, is_file, is_shared;
};
int mm_query_page(struct mm *mm, vaddr_t addr, struct mm_page *out);
int mm_get_page(struct mm *mm, vaddr_t addr, bool write, struct page **out);
/* Read/write another (or the own) address space by walking it. */
ssize_t mm_access(struct mm *mm, vaddr_t addr, void *buf, size_t len,
                  bool write);
/* Unmaps clean file pages so that the page cache can drop them: called when
 * memory is out, without locks. False: nothing was found. */
bool mm_shrink(struct mm *mm);

/* usercopy.S / usercopy.c: 0 or -EFAULT. */
int __must_check copy_from_user(void *dst, const void __user *src, size_t n);
int __must_check copy_to_user(void __user *dst, const void *src, size_t n);
int __must_check clear_user(void __user *dst, size_t n);
/* The number of bytes that could NOT be copied (0 = all). */
size_t copy_from_user_partial(void *dst, const void __user *src, size_t n);
size_t copy_to_user_partial(void __user *dst, const void *src, size_t n);
/* Length without the NUL, -EFAULT, or -ENAMETOOLONG when >= size. */
ssize_t __must_check strncpy_from_user(char *dst, const char __user *src,
                                       size_t size);
static inline bool user_range_ok(const void __user *p, size_t n)
{
    vaddr_t a = (vaddr_t)p;
    return a <= USER_TOP && n <= USER_TOP - a;
}
/* 32-bit atomics on program memory for futexes; -EFAULT on a bad address. */
int user_load32(const uint32_t __user *p, uint32_t *out);
int user_cmpxchg32(uint32_t __user *p, uint32_t old, uint32_t new_value,
                   uint32_t *seen);
#define get_user(dst, ptr) copy_from_user(&(dst), (ptr), sizeof(dst))
#define put_user(ptr, value)                                  \
    ({                                                        \
        __typeof__(*(ptr)) put_user_ = (value);               \
        copy_to_user((ptr), &put_user_, sizeof(put_user_));   \
    })
