/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the files of mm/ share about program memory; nobody else includes it.
 * Functions named *_locked want mm->lock.
 */
#pragma once

#include "mm/mm.h"
#include "mm/pagetable.h"
#include "mm/vma.h"

#define MMAP_MIN_ADDR 0x10000ul
#define MAX_VMAS 65530u /* vm.max_map_count */

/* mm.c */
/* A node with references to file and inode of its own, linked to the inode.
 * Not in the tree yet. NULL: no memory. */
struct vma *vma_create(struct mm *mm, uint32_t flags, struct file *file,
                       struct inode *inode, uint64_t offset);
void vma_destroy(struct vma *v); /* without mm->lock */
void mm_insert_vma_locked(struct mm *mm, struct vma *v);
/* Out of the tree, onto g->dead. */
void mm_remove_vma_locked(struct gather *g, struct vma *v);
/* Changes v->flags and the counts that depend on them. */
void mm_set_flags_locked(struct mm *mm, struct vma *v, uint32_t flags);
/* Moves the borders of v, which stays between its neighbours. */
void mm_resize_vma_locked(struct mm *mm, struct vma *v, vaddr_t start,
                          vaddr_t end);

/* mmap.c */
/* Makes addr, which lies inside v, a border; *after is the upper part. */
int __must_check vma_split_locked(struct vma *v, vaddr_t addr,
                                  struct vma **after);
/* Joins v with equal neighbours; returns what v became. */
struct vma *vma_merge_locked(struct gather *g, struct vma *v);
int __must_check mm_unmap_locked(struct gather *g, vaddr_t start,
                                 vaddr_t end);
/* May the map grow by this? -ENOMEM. */
int __must_check mm_may_grow_locked(struct mm *mm, uint32_t flags,
                                    uint64_t nr_pages);
/* A free range of len bytes, near `hint` (0: none). -ENOMEM. */
int __must_check mm_find_room_locked(struct mm *mm, vaddr_t hint, size_t len,
                                     int map_flags, bool align_large,
                                     vaddr_t *out);
/* Calls fn for every VMA of [start, end), split to fit, merges afterwards.
 * -ENOMEM when there are holes (after doing all). */
int mm_for_range_locked(struct gather *g, vaddr_t start, vaddr_t end,
                        bool split,
                        int (*fn)(struct gather *g, struct vma *v,
                                  vaddr_t start, vaddr_t end, void *arg),
                        void *arg);

/* large.c: fills up to `wanted` empty 2 MiB from base on with zeroed large
 * pages; returns how many, 0 when there is no room or memory is not plenty. */
size_t large_fill_locked(struct mm *mm, struct vma *v, vaddr_t base,
                         size_t wanted);

/* fault.c */
/* Fills empty entries of anonymous [addr, addr + nr pages) within v. */
int anon_fill_locked(struct mm *mm, struct vma *v, vaddr_t addr, size_t nr);
/* Grows a stack down to addr. */
int stack_grow_locked(struct mm *mm, struct vma *v, vaddr_t addr);
bool memory_is_plentiful(uint64_t nr_pages);
