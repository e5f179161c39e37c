/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The map of an address space: one `struct vma` per range of program memory
 * with the same rights and the same backing.
 *
 * Layer above: mmap.c, fault.c, madvise.c. Layer below: none; vma.c is pure
 * and runs on the host in tests/guest_host/test_vma.c.
 *
 * - An AVL tree ordered by address; neighbours are also linked, and each node
 *   knows the largest hole in front of a node of its subtree, so look-up and
 *   the search for free room are O(log n).
 * - Nodes never overlap. After changing start or end of a node that is in the
 *   tree call vma_changed().
 * - Everything but map_link is protected by mm->lock.
 */
#pragma once

#include "lib/list.h"
#include "lib/types.h"

struct file;
struct inode;
struct mm;

/* vma.flags; the first three are PROT_* */
#define VM_READ 1u
#define VM_WRITE 2u
#define VM_EXEC 4u
#define VM_ACCESS (VM_READ | VM_WRITE | VM_EXEC)
#define VM_SHARED 8u
#define VM_GROWSDOWN 0x10u
#define VM_STACK 0x20u      /* MAP_STACK or grows down: never 2 MiB pages */
#define VM_LOCKED 0x40u
#define VM_NORESERVE 0x80u
#define VM_NOHUGE 0x100u
#define VM_HUGE 0x200u
#define VM_DONTFORK 0x400u
#define VM_WIPEONFORK 0x800u
#define VM_MAYWRITE 0x1000u /* mprotect may add PROT_WRITE */
#define VM_KERNEL 0x2000u   /* pages of the kernel (vDSO): never freed */
#define VM_DONTDUMP 0x4000u
#define VM_RANDOM 0x8000u   /* MADV_RANDOM: no pages around a fault */
#define VM_SEQ 0x10000u     /* MADV_SEQUENTIAL */

#define STACK_GUARD_GAP (256 * PAGE_SIZE) /* below a stack, as Linux */

struct vma {
    struct vma *left, *right, *parent;
    struct vma *prev, *next; /* by address */
    vaddr_t start, end;
    uint64_t max_gap;        /* largest hole before a node of the subtree */
    int32_t height;
    uint32_t flags;          /* VM_* */
    uint64_t offset;         /* of `start` in the file, bytes; 0: anonymous */
    struct file *file;       /* owned, or NULL */
    struct inode *inode;     /* owned; NULL: anonymous private memory */
    const char *name;        /* "[vdso]" or NULL */
    struct mm *mm;           /* borrowed: the mm outlives it */
    vaddr_t next_fault;      /* where a sequential toucher faults next */
    uint32_t window;         /* pages mapped by the last fault */
    struct list map_link;    /* in inode->mappings: under its cache_lock */
};

/* vma.c */
/* The first node that ends after addr (it may start after it), or NULL. */
struct vma *vma_find(struct vma *root, vaddr_t addr);
struct vma *vma_first(struct vma *root);
void vma_insert(struct vma **root, struct vma *n);
void vma_erase(struct vma **root, struct vma *n);
/* n->start, n->end or VM_GROWSDOWN changed, still in order. */
void vma_changed(struct vma **root, struct vma *n);
/* Where n begins for others: below a stack is its guard gap. */
vaddr_t vma_start_gap(const struct vma *n);
/* The highest hole of `len` bytes within [low, high). False: there is none. */
bool vma_find_gap(struct vma *root, vaddr_t low, vaddr_t high, uint64_t len,
                  vaddr_t *out);
