/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Host version of the guest's mm/heap.h over malloc, so that ASan watches
 * every byte. shim_fail_alloc makes allocations fail.
 */
#pragma once

#include "lib/types.h"

/* shim.c */
void *kmalloc(size_t size) __must_check;
void *kzalloc(size_t size) __must_check;
void *krealloc(void *ptr, size_t size) __must_check;
void kfree(void *ptr);

/* The n-th allocation from now (1 = next) and all after it fail; 0 = none. */
extern long shim_fail_alloc;
/* Bytes allocated at this moment, and the most there were. */
extern size_t shim_bytes, shim_peak_bytes;
