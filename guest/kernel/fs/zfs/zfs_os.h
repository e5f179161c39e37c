/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * All that the ZFS reader needs from its surroundings, in one place.
 *
 * - lib/types.h, lib/errno.h: scalars and Linux' error numbers;
 * - lib/string.h: memcpy, memmove, memset, memcmp, memchr, strlen, strcmp;
 * - mm/heap.h: kmalloc, kzalloc, kfree (blocks up to 16 MiB, never sleep);
 * - sched/mutex.h: struct mutex, mutex_init, mutex_lock, mutex_unlock.
 *
 * The kernel has these headers; the host tests supply the same names over
 * libc in tests/guest_host/shim/. Nothing else may be included by fs/zfs but
 * the pure routines of lib/ (lz4, lzjb, fletcher, sha256, nvlist, le).
 */
#pragma once

#include "lib/errno.h"
#include "lib/string.h"
#include "lib/types.h"
#include "mm/heap.h"
#include "sched/mutex.h"
