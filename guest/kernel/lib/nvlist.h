/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Reading name-value lists in XDR form (RFC 4506 integers and strings), the
 * configuration format of ZFS labels.
 *
 * - Nothing is copied: a `struct nvlist` is a window into the caller's buffer
 *   and is valid as long as that.
 * - A list is: version, flags, then pairs {encoded size, decoded size, name,
 *   type, number of elements, value}, then two zero words.
 * - Walks look at one level; nested lists are opened by the caller, so there
 *   is no recursion. Damaged lists give -EINVAL.
 */
#pragma once

#include "lib/types.h"

enum nv_type {
    NV_BOOLEAN = 1,
    NV_UINT64 = 8,
    NV_STRING = 9,
    NV_NVLIST = 19,
    NV_NVLIST_ARRAY = 20,
};

struct nvlist {
    const uint8_t *pos, *end; /* pairs not yet walked */
};

struct nvpair {
    const char *name; /* not NUL-terminated */
    uint32_t name_len, type, count;
    const uint8_t *value, *value_end;
};

/* nvlist.c */

/* Opens a packed list (with its 4-byte encoding header). */
int nvlist_open(struct nvlist *nv, const void *buf, size_t len) __must_check;
/* Steps to the next pair; -ENOENT at the end. */
int nvlist_next(struct nvlist *nv, struct nvpair *pair) __must_check;
/* Finds a pair by name and type; does not move nv. */
int nvlist_find(const struct nvlist *nv, const char *name, enum nv_type type,
                struct nvpair *pair) __must_check;
int nvlist_find_u64(const struct nvlist *nv, const char *name,
                    uint64_t *out) __must_check;
/* *out borrows from the buffer, *len bytes, not NUL-terminated. */
int nvlist_find_string(const struct nvlist *nv, const char *name,
                       const char **out, uint32_t *len) __must_check;
/* Opens a nested list, or the first one of an array of lists. */
int nvlist_find_nvlist(const struct nvlist *nv, const char *name,
                       enum nv_type type, struct nvlist *out) __must_check;
