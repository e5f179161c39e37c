/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * radix.c: the index of one inode's cached pages: a radix tree of 64-way
 * nodes whose root is inode->cache_tree. Height 0 holds page 0 alone, so a
 * small file needs no node. All functions want inode->cache_lock.
 */
#pragma once

#include "fs/vfs.h"

struct page *radix_find(struct inode *i, uint64_t index);
int radix_insert(struct inode *i, uint64_t index, struct page *p);
void radix_remove(struct inode *i, uint64_t index);
/* First page with index >= from; NULL: none. */
struct page *radix_next(struct inode *i, uint64_t from);
/* Frees the nodes; no page may be left. */
void radix_free(struct inode *i);
