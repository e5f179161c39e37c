/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Physical page frames: a buddy allocator over sections whose page structs
 * are built on first use, so nothing is proportional to RAM at boot. Frames
 * are handed out compactly and last-in first-out: a cold 2 MiB of host memory
 * costs milliseconds (core.md 12).
 *
 * - page_alloc never sleeps; it may call the reclaim hook (which may drop
 *   clean page-cache pages) unless PAGE_ATOMIC is given or interrupts are off:
 *   whom a handler interrupted may hold the hook's locks. What could not be
 *   had then is made up for by page_reclaim_pending, soon, by a thread.
 * - Contents are undefined unless PAGE_ZERO.
 * - Pages are refcounted (1 at allocation); page_put frees the last one.
 */
#pragma once

#include "arch/arch.h"
#include "lib/types.h"

#define PAGE_ZERO 1u
#define PAGE_ATOMIC 2u /* do not reclaim */
#define MAX_ORDER 9    /* 2 MiB */

/* page.flags, atomic */
#define PG_FREE 1u
#define PG_CACHE 2u   /* in a page cache: mapping, index valid */
#define PG_DIRTY 4u   /* must not be dropped */
#define PG_READY 8u   /* contents valid */
#define PG_SLAB 16u
#define PG_RESERVED 32u
#define PG_TABLE 64u /* of the pool in table.c */

struct inode;

struct page {
    uint32_t refcount; /* atomic */
    uint32_t flags;    /* atomic, PG_* */
    uint8_t order;     /* of the block, first page only */
    uint8_t pad[3];
    uint32_t mapcount; /* atomic: page-table entries that map it */
    union {
        struct { /* PG_FREE: protected by the allocator's lock */
            struct page *next, *prev;
        } free;
        struct { /* PG_CACHE: protected by the cache's lock */
            struct inode *inode;
            uint64_t index; /* in pages */
        } cache;
        uint64_t priv[2];
    };
    struct page *lru_next, *lru_prev; /* page cache list */
};

/* page.c */
struct page *page_alloc(unsigned order, uint32_t flags); /* NULL: no memory */
void page_free(struct page *p, unsigned order);
/* Drops page-cache pages if an allocation with interrupts off found none.
 * Interrupts are on, no spinlock is held. */
void page_reclaim_pending(void);
/* Would less than a small share of memory be free with `more` bytes taken? Who
 * can do without more should: the rest is for page faults. Asks for reclaim.
 * Any context. */
bool page_is_short(uint64_t more);
void page_get(struct page *p);
void page_put(struct page *p); /* order-0 blocks only */
/* Makes 2^order independent order-0 pages out of one block. */
void page_split(struct page *p, unsigned order);
paddr_t page_to_phys(const struct page *p);
struct page *phys_to_page(paddr_t p); /* NULL when it is not RAM of ours */
void *page_to_virt(const struct page *p);
struct page *virt_to_page(const void *v);

/* table.c: page tables lie together, apart from all else. Freed with page_free
 * or page_put. */
struct page *table_alloc(void); /* zeroed; NULL: no memory */
size_t table_nr_free(void);
/* For the allocator: a frame into the pool; out of it, NULL if there is none. */
void table_give(struct page *p);
struct page *table_take(void);

struct memory_stats {
    uint64_t total_pages, free_pages, cache_pages;
};
void memory_stats(struct memory_stats *out);
/* Called without locks when memory is short; frees what it can, returns
 * the number of pages freed. Set by the page cache. */
extern size_t (*page_reclaim_hook)(size_t nr_wanted);
