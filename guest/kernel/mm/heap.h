/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The kernel heap: size classes up to 2 KiB from per-class slabs, whole pages
 * above. Never sleeps. Memory is 16-byte aligned (64 for sizes that are
 * multiples of 64). Freed memory is poisoned in DEBUG builds.
 */
#pragma once

#include "lib/types.h"

/* heap.c; NULL when there is no memory. */
void *kmalloc(size_t size) __must_check;
void *kzalloc(size_t size) __must_check;
void *krealloc(void *ptr, size_t size) __must_check;
char *kstrdup(const char *s) __must_check;
char *kmemdup(const void *p, size_t n) __must_check;
void kfree(void *ptr);

/* What the slabs of one size hold. */
struct heap_class {
    uint32_t object_bytes;
    uint64_t nr_objects, nr_pages; /* in use */
};
/* The `nr`th size, from 0; false: there are no more. */
bool heap_class(unsigned nr, struct heap_class *out);
