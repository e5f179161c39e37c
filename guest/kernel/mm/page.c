/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The frame allocator: buddy lists over sections of at most 128 MiB.
 *
 * A section has a watermark: frames above it were never handed out, their page
 * structs are not even initialised. Freed blocks go to the front of the buddy
 * lists and are used first, so memory stays compact and warm. The next
 * section (and the direct map of the next GiB) is opened when the last one is
 * used up.
 *
 * The first 2 MiB, where the kernel lies, are mapped by 4 KiB pages: what is
 * left of them serves page tables (table.c), and the last need.
 *
 * Everything is protected by page_lock (irq-safe).
 */
#include "mm/page.h"

#include "arch/machine.h"
#include "lib/lock.h"
#include "lib/printk.h"
#include "lib/string.h"
#include "mm/init.h"

#define SECTION_SHIFT 27
#define SECTION_PAGES (1ul << (SECTION_SHIFT - PAGE_SHIFT))
#define MAX_SECTIONS 512 /* 64 GiB */

extern uint64_t boot_pdpt_direct[];

#define MAX_HOLES 3
/* page_is_short: a sixteenth, at most 16 MiB */
#define RESERVE_SHARE 16u
#define RESERVE_MAX_PAGES (16 * MIB / PAGE_SIZE)
#define PENDING_PAGES 64u /* to drop for one failed allocation */

struct section {
    struct page *map;    /* NULL: not opened */
    uint64_t first, end; /* frame numbers of RAM in it */
    uint64_t fresh;      /* the next frame never handed out */
    struct {
        uint64_t start, end;
    } holes[MAX_HOLES];  /* ascending; kernel image, page structs, no RAM */
    unsigned nr_holes, next_hole;
};

static struct spinlock page_lock;
static struct section sections[MAX_SECTIONS];
static unsigned nr_sections, open_section;
static struct {
    uint64_t start, end;
} low[2]; /* frames below 2 MiB, for table.c */
static unsigned nr_low;
static struct page *free_lists[MAX_ORDER + 1];
static uint64_t total_pages, free_pages;
static uint64_t first_spare_table[512] __aligned(4096);
static uint64_t *spare_table = first_spare_table;

size_t (*page_reclaim_hook)(size_t nr_wanted);
static bool is_reclaim_wanted; /* atomic */
extern uint64_t pagecache_nr_pages;

static struct section *section_of(uint64_t frame)
{
    uint64_t n = frame >> (SECTION_SHIFT - PAGE_SHIFT);

    return n < nr_sections ? &sections[n] : NULL;
}

struct page *phys_to_page(paddr_t p)
{
    uint64_t frame = p >> PAGE_SHIFT;
    struct section *s = section_of(frame);

    if (!s || !s->map || frame < s->first || frame >= s->fresh)
        return NULL;
    return &s->map[frame & (SECTION_PAGES - 1)];
}

/* The map of a section is aligned to its size class, so its index is found
 * through the section that contains the struct. */
paddr_t page_to_phys(const struct page *p)
{
    for (unsigned i = open_section + 1; i-- > 0;) {
        struct section *s = &sections[i];
        if (s->map && p >= s->map && p < s->map + SECTION_PAGES)
            return (((uint64_t)i << (SECTION_SHIFT - PAGE_SHIFT)) +
                    (uint64_t)(p - s->map))
                   << PAGE_SHIFT;
    }
    panic("page_to_phys(%p)", (const void *)p);
}

void *page_to_virt(const struct page *p)
{
    return phys_to_virt(page_to_phys(p));
}

struct page *virt_to_page(const void *v)
{
    return phys_to_page(virt_to_phys(v));
}

static void list_push(struct page *p, unsigned order)
{
    p->flags = PG_FREE;
    p->order = (uint8_t)order;
    p->free.prev = NULL;
    p->free.next = free_lists[order];
    if (p->free.next)
        p->free.next->free.prev = p;
    free_lists[order] = p;
}

static void list_remove(struct page *p)
{
    if (p->free.prev)
        p->free.prev->free.next = p->free.next;
    else
        free_lists[p->order] = p->free.next;
    if (p->free.next)
        p->free.next->free.prev = p->free.prev;
    p->flags = 0;
}

static void free_locked(struct page *p, unsigned order)
{
    uint64_t frame = page_to_phys(p) >> PAGE_SHIFT;

    free_pages += 1ul << order;
    while (order < MAX_ORDER) {
        uint64_t other = frame ^ (1ul << order);
        struct page *buddy = phys_to_page(other << PAGE_SHIFT);
        if (!buddy || !(buddy->flags & PG_FREE) || buddy->order != order)
            break;
        list_remove(buddy);
        frame &= ~(1ul << order);
        p = phys_to_page(frame << PAGE_SHIFT);
        order++;
    }
    list_push(p, order);
}

/* Maps the GiB that contains `frame` in the direct map. */
static bool map_direct(uint64_t frame, uint64_t *table)
{
    uint64_t *pdpt = boot_pdpt_direct;
    uint64_t gib = frame >> (30 - PAGE_SHIFT);

    if (pdpt[gib] & 1)
        return false;
    for (uint64_t i = 0; i < 512; i++)
        table[i] = ((gib << 30) + (i << LARGE_SHIFT)) | 0xe7;
    pdpt[gib] = virt_to_phys(table) | 0x67 | 1ul << 63;
    return true;
}

static void add_hole(struct section *s, uint64_t start, uint64_t end)
{
    if (start < end && s->nr_holes < MAX_HOLES) {
        s->holes[s->nr_holes].start = start;
        s->holes[s->nr_holes++].end = end;
    }
}

/* Where the page structs go: at the section's start. In the first section so
 * that those of the first 8 MiB are the end of its first large frame: all
 * the rest of that frame serves a small program. */
static uint64_t place_map(const struct section *s, uint64_t nr)
{
    uint64_t at = (2 * LARGE_SIZE - 96 * KIB) >> PAGE_SHIFT;
    uint64_t after = s->nr_holes ? s->holes[s->nr_holes - 1].end : s->first;

    if (s != sections || s->first >= at)
        return s->first;
    return MAX(MIN(at, s->end - nr), after);
}

static void skip_hole_locked(struct section *s)
{
    uint64_t end = s->holes[s->next_hole++].end;

    for (; s->fresh < end; s->fresh++) {
        struct page *p = &s->map[s->fresh & (SECTION_PAGES - 1)];
        memset(p, 0, sizeof(*p));
        p->flags = PG_RESERVED;
    }
}

/* Opens sections[open_section]: its page structs come from itself. */
static bool open_locked(struct section *s)
{
    uint64_t index = (uint64_t)(s - sections);
    uint64_t base = index * SECTION_PAGES;
    size_t bytes = (s->end - base) * sizeof(struct page);

    if (s->end <= s->first)
        return false;
    /* When this is needed everything else may be in use: one table is kept
     * for the next GiB, and refilled from it. */
    if (spare_table && map_direct(s->first, spare_table))
        spare_table = NULL;
    if (!(boot_pdpt_direct[s->first >> (30 - PAGE_SHIFT)] & 1))
        return false;
    uint64_t nr = (ALIGN_UP(bytes, PAGE_SIZE)) >> PAGE_SHIFT;
    if (s->first + nr >= s->end)
        return false;
    uint64_t at = place_map(s, nr);
    s->map = phys_to_virt(at << PAGE_SHIFT);
    s->fresh = s->first;
    add_hole(s, at, at + nr);
    free_pages -= nr;
    if (!spare_table) {
        if (s->fresh == at)
            skip_hole_locked(s);
        struct page *p = &s->map[s->fresh & (SECTION_PAGES - 1)];
        memset(p, 0, sizeof(*p));
        p->flags = PG_RESERVED;
        spare_table = phys_to_virt(s->fresh++ << PAGE_SHIFT);
        free_pages--;
    }
    return true;
}

/* The untouched frames up to `frame` become ordinary free blocks. */
static void free_fresh_locked(struct section *s, uint64_t frame)
{
    while (s->fresh < frame) {
        struct page *p = &s->map[s->fresh++ & (SECTION_PAGES - 1)];
        memset(p, 0, sizeof(*p));
        free_pages--; /* counted as free already */
        free_locked(p, 0);
    }
}

/* Takes an aligned block from the untouched part; what alignment skips goes
 * to the free lists. */
static struct page *take_fresh_locked(unsigned order)
{
    for (;;) {
        struct section *s = &sections[open_section];
        uint64_t frame = ALIGN_UP(s->fresh, 1ul << order);
        if (s->map && s->next_hole < s->nr_holes &&
            frame + (1ul << order) > s->holes[s->next_hole].start) {
            free_fresh_locked(s, s->holes[s->next_hole].start);
            skip_hole_locked(s);
            continue;
        }
        if (s->map && frame + (1ul << order) <= s->end) {
            free_fresh_locked(s, frame);
            s->fresh = frame + (1ul << order);
            for (uint64_t i = 0; i < 1ul << order; i++)
                memset(&s->map[(frame + i) & (SECTION_PAGES - 1)], 0,
                       sizeof(struct page));
            return &s->map[frame & (SECTION_PAGES - 1)];
        }
        if (open_section + 1 >= nr_sections)
            return NULL;
        if (s->map)
            free_fresh_locked(s, s->end);
        if (!open_locked(&sections[++open_section]) &&
            open_section + 1 >= nr_sections)
            return NULL;
    }
}

static struct page *take_free_locked(unsigned order)
{
    for (unsigned o = order; o <= MAX_ORDER; o++) {
        struct page *p = free_lists[o];
        if (!p)
            continue;
        list_remove(p);
        while (o > order) {
            o--;
            list_push(p + (1ul << o), o);
        }
        return p;
    }
    return NULL;
}

static struct page *alloc_locked(unsigned order)
{
    struct page *p = take_free_locked(order);

    if (!p)
        p = take_fresh_locked(order);
    if (p)
        free_pages -= 1ul << order;
    return p;
}

static struct page *try_alloc(unsigned order)
{
    bool was_on = spin_lock_irqsave(&page_lock);
    struct page *p = alloc_locked(order);

    if (p) {
        p->flags = 0;
        p->order = (uint8_t)order;
        p->refcount = 1;
        p->mapcount = 0;
        p->lru_next = p->lru_prev = NULL;
    }
    spin_unlock_irqrestore(&page_lock, was_on);
    if (!p && order == 0) {
        p = table_take();
        if (p)
            p->flags = 0;
    }
    return p;
}

static bool may_reclaim(uint32_t flags)
{
    if (flags & PAGE_ATOMIC || !page_reclaim_hook)
        return false;
    if (irq_enabled())
        return true;
    atomic_store_relaxed(&is_reclaim_wanted, true);
    return false;
}

bool page_is_short(uint64_t more)
{
    uint64_t reserve = MIN(total_pages / RESERVE_SHARE, RESERVE_MAX_PAGES);

    if (likely(atomic_load_relaxed(&free_pages) + table_nr_free() >=
               reserve + more / PAGE_SIZE))
        return false;
    atomic_store_relaxed(&is_reclaim_wanted, true);
    return true;
}

void page_reclaim_pending(void)
{
    if (unlikely(atomic_load_relaxed(&is_reclaim_wanted)) &&
        atomic_xchg(&is_reclaim_wanted, false))
        page_reclaim_hook(PENDING_PAGES);
}

struct page *page_alloc(unsigned order, uint32_t flags)
{
    struct page *p = try_alloc(order);

    if (!p && may_reclaim(flags)) {
        for (int tries = 0; !p && tries < 3; tries++) {
            if (!page_reclaim_hook(MAX(1ul << order, 32ul)))
                break;
            p = try_alloc(order);
        }
    }
    if (p && flags & PAGE_ZERO) {
        char *v = page_to_virt(p);
        for (unsigned i = 0; i < 1u << order; i++)
            page_zero(v + i * PAGE_SIZE);
    }
    return p;
}

void page_free(struct page *p, unsigned order)
{
    bool was_on;

#ifdef DEBUG
    memset(page_to_virt(p), 0xdf, PAGE_SIZE << order);
#endif
    if (p->flags & PG_FREE)
        panic("page %p freed twice", (void *)p);
    if (p->flags & PG_TABLE) {
        table_give(p);
        return;
    }
    was_on = spin_lock_irqsave(&page_lock);
    free_locked(p, order);
    spin_unlock_irqrestore(&page_lock, was_on);
}

void page_get(struct page *p)
{
    atomic_add(&p->refcount, 1u);
}

void page_put(struct page *p)
{
    if (atomic_sub(&p->refcount, 1u) == 0)
        page_free(p, 0);
}

void page_split(struct page *p, unsigned order)
{
    for (uint64_t i = 0; i < 1ul << order; i++) {
        p[i].flags = 0;
        p[i].order = 0;
        p[i].refcount = 1;
        p[i].mapcount = 0;
        p[i].lru_next = p[i].lru_prev = NULL;
    }
}

void memory_stats(struct memory_stats *out)
{
    out->total_pages = total_pages;
    out->free_pages = free_pages + table_nr_free();
    out->cache_pages = pagecache_nr_pages;
}

/* A range of RAM from the boot memory map, in ascending order. Called before
 * the first allocation. */
void page_add_memory(paddr_t start, paddr_t end)
{
    uint64_t frame = ALIGN_UP(start, PAGE_SIZE) >> PAGE_SHIFT;
    uint64_t last = end >> PAGE_SHIFT;

    total_pages += frame < last ? last - frame : 0;
    free_pages += frame < last ? last - frame : 0;
    if (frame < (LARGE_SIZE >> PAGE_SHIFT) && frame < last) {
        uint64_t stop = MIN(last, (LARGE_SIZE >> PAGE_SHIFT));
        assert(nr_low < ARRAY_SIZE(low));
        low[nr_low].start = frame;
        low[nr_low++].end = stop;
        frame = stop;
    }
    while (frame < last) {
        uint64_t n = frame >> (SECTION_SHIFT - PAGE_SHIFT);
        uint64_t stop = MIN(last, (n + 1) * SECTION_PAGES);
        if (n >= MAX_SECTIONS)
            return;
        struct section *s = &sections[n];
        if (s->end == 0) {
            s->first = s->fresh = frame;
            s->end = stop;
        } else {
            if (s->nr_holes + 1 == MAX_HOLES)
                return; /* one is kept for the page structs */
            add_hole(s, s->end, frame);
            s->end = stop;
        }
        nr_sections = MAX(nr_sections, (unsigned)n + 1);
        frame = stop;
    }
}

const void *page_map_boot_data(paddr_t p, size_t len)
{
    for (paddr_t at = p; at < p + len; at = ALIGN_DOWN(at, GIB) + GIB) {
        struct page *table;
        if (boot_pdpt_direct[at / GIB] & 1)
            continue;
        table = page_alloc(0, 0);
        if (!table)
            return NULL;
        map_direct(at >> PAGE_SHIFT, page_to_virt(table));
    }
    return phys_to_virt(p);
}

/* The frames below 2 MiB go to the page tables. Their structs lie in the first
 * section's map, whose `first` now includes them. */
static void give_low_frames(void)
{
    struct section *s = &sections[0];

    if (!nr_low || !s->map)
        return;
    memset(s->map, 0, s->first * sizeof(struct page));
    for (uint64_t n = 0; n < s->first; n++)
        s->map[n].flags = PG_RESERVED;
    s->first = low[0].start;
    while (nr_low-- > 0) {
        free_pages -= low[nr_low].end - low[nr_low].start; /* table.c counts */
        for (uint64_t n = low[nr_low].end; n-- > low[nr_low].start;)
            table_give(&s->map[n]);
    }
}

void page_init(void)
{
    while (open_section < nr_sections &&
           !open_locked(&sections[open_section]))
        open_section++;
    if (open_section == nr_sections)
        panic("no memory");
    give_low_frames();
}
