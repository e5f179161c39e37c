/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * pagecache.c: file contents in memory, by inode and 4 KiB index.
 *
 * - inode->cache_lock (a mutex) protects the tree and is held while pages are
 *   read from the backing store, never while program memory is touched.
 * - A page may be dropped only when it is clean, has a backing store, is
 *   unmapped and nobody else holds a reference. Such pages are in the LRU list.
 * - A missing page of an inode without backing store is a hole: zeros.
 * - Bytes past the end of the file in the last page are zero.
 * - Writers hold inode->lock; size is published after the data.
 *
 * Lock order: inode->lock -> cache_lock -> lru_lock. The reclaimer starts at
 * lru_lock and therefore only tries cache_lock.
 */
#include "fs/pagecache.h"

#include "fs/fs_internal.h"

#define FILL_PAGES 32u /* one 128 KiB record */
#define FILL_ORDER 5u
#define RUN_PAGES 32u
#define PG_ACCESSED 256u /* used since the reclaimer looked */

static struct {
    struct spinlock lock;
    struct page head; /* only lru_next, lru_prev */
    uint64_t nr;
} lru;
uint64_t pagecache_nr_pages; /* atomic: of all inodes; memory_stats */

/* Memory is fragmented before it is full, and a record needs two buffers of
 * its size (as stored, as read): these are kept for then. */
static struct {
    struct mutex lock;
    struct page *target, *spare; /* FILL_ORDER blocks or NULL */
} reserve;
#define RESERVE_FROM_PAGES 1024u /* cached: small programs do without */

static bool has_backing(struct inode *i)
{
    return i->ops && i->ops->read_pages;
}

static uint64_t size_in_pages(struct inode *i)
{
    uint64_t size = atomic_load_relaxed(&i->size);

    return (size >> PAGE_SHIFT) + (size % PAGE_SIZE != 0);
}

static void lru_add(struct page *p)
{
    spin_lock(&lru.lock);
    p->lru_prev = lru.head.lru_prev;
    p->lru_next = &lru.head;
    lru.head.lru_prev->lru_next = p;
    lru.head.lru_prev = p;
    lru.nr++;
    spin_unlock(&lru.lock);
}

static void lru_del_locked(struct page *p)
{
    if (!p->lru_next)
        return;
    p->lru_prev->lru_next = p->lru_next;
    p->lru_next->lru_prev = p->lru_prev;
    p->lru_next = p->lru_prev = NULL;
    lru.nr--;
}

static void lru_del(struct page *p)
{
    spin_lock(&lru.lock);
    lru_del_locked(p);
    spin_unlock(&lru.lock);
}

static int cache_insert(struct inode *i, uint64_t index, struct page *p)
{
    int err = radix_insert(i, index, p);

    if (err)
        return err;
    atomic_add(&pagecache_nr_pages, 1ul);
    p->cache.inode = i;
    p->cache.index = index;
    p->lru_next = p->lru_prev = NULL;
    atomic_or(&p->flags, PG_CACHE | PG_READY);
    if (has_backing(i))
        lru_add(p);
    return 0;
}

/* Takes p out of the tree and drops the cache's reference. */
static void cache_remove(struct inode *i, struct page *p)
{
    radix_remove(i, p->cache.index);
    atomic_sub(&pagecache_nr_pages, 1ul);
    lru_del(p);
    atomic_and(&p->flags, ~(PG_CACHE | PG_DIRTY | PG_ACCESSED));
    page_put(p);
}

static void mark_dirty(struct page *p)
{
    if (atomic_load_relaxed(&p->flags) & PG_DIRTY)
        return;
    atomic_or(&p->flags, PG_DIRTY);
    lru_del(p);
}

static void mark_accessed(struct page *p)
{
    if (!(atomic_load_relaxed(&p->flags) & PG_ACCESSED))
        atomic_or(&p->flags, PG_ACCESSED);
}

/* A single zero page for a hole, or past the end for a writer. */
static int fill_zero(struct inode *i, uint64_t index, struct page **out)
{
    struct page *p = page_alloc(0, PAGE_ZERO);

    if (!p)
        return -ENOMEM;
    int err = cache_insert(i, index, p);
    if (err) {
        page_put(p);
        return err;
    }
    *out = p;
    return 0;
}

/* Allocates the block that holds `index`, as large as useful and possible. */
static struct page *fill_alloc(uint64_t index, uint64_t nr_in_file,
                               uint64_t *start, unsigned *order)
{
    for (unsigned o = FILL_ORDER;; o--) {
        uint64_t first = ALIGN_DOWN(index, 1ul << o);
        bool is_oversized = o > 0 && nr_in_file - first <= 1ul << (o - 1) &&
                            index - first < 1ul << (o - 1);
        struct page *p = is_oversized ? NULL : page_alloc(o, 0);
        if (p) {
            *start = first;
            *order = o;
            return p;
        }
        if (o == 0)
            return NULL;
    }
}

static void reserve_fill(void)
{
    if (likely(reserve.target && reserve.spare) ||
        atomic_load_relaxed(&pagecache_nr_pages) < RESERVE_FROM_PAGES)
        return;
    mutex_lock(&reserve.lock);
    if (!reserve.target)
        reserve.target = page_alloc(FILL_ORDER, PAGE_ATOMIC);
    if (!reserve.spare)
        reserve.spare = page_alloc(FILL_ORDER, PAGE_ATOMIC);
    mutex_unlock(&reserve.lock);
}

/* Copies the page at `index`, and others of its record as long as there is
 * memory, out of the buffer. */
static int fill_copy(struct inode *i, uint64_t start, uint64_t nr,
                     uint64_t index, struct page **out)
{
    const char *from = page_to_virt(reserve.target);
    struct page *p = page_alloc(0, 0);

    if (!p)
        return -ENOMEM;
    page_copy(page_to_virt(p), from + (index - start) * PAGE_SIZE);
    if (cache_insert(i, index, p)) {
        page_put(p);
        return -ENOMEM;
    }
    *out = p;
    for (uint64_t n = 0; n < nr; n++) {
        if (radix_find(i, start + n))
            continue;
        p = page_alloc(0, PAGE_ATOMIC);
        if (!p)
            break;
        page_copy(page_to_virt(p), from + n * PAGE_SIZE);
        if (cache_insert(i, start + n, p)) {
            page_put(p);
            break;
        }
    }
    return 0;
}

/* When there was no memory: through the reserve. The spare block is given
 * back so that the file system below finds a buffer, and taken again. */
static int fill_from_reserve(struct inode *i, uint64_t index,
                             struct page **out)
{
    uint64_t start = ALIGN_DOWN(index, (uint64_t)FILL_PAGES);
    uint64_t nr = MIN((uint64_t)FILL_PAGES, size_in_pages(i) - start);
    int err = -ENOMEM;

    mutex_lock(&reserve.lock);
    if (reserve.target && reserve.spare) {
        page_free(reserve.spare, FILL_ORDER);
        err = i->ops->read_pages(i, start, page_to_virt(reserve.target), nr);
        reserve.spare = page_alloc(FILL_ORDER, 0);
        if (!err)
            err = fill_copy(i, start, nr, index, out);
    }
    mutex_unlock(&reserve.lock);
    return err;
}

/* Reads the record around `index`; *out is the page, reference the cache's. */
static int fill_backing(struct inode *i, uint64_t index, struct page **out)
{
    uint64_t nr_in_file = size_in_pages(i), start, nr;
    unsigned order;

    reserve_fill();
    struct page *block = fill_alloc(index, nr_in_file, &start, &order);

    if (!block)
        return fill_from_reserve(i, index, out);
    nr = MIN(1ul << order, nr_in_file - start);
    int err = i->ops->read_pages(i, start, page_to_virt(block), nr);
    page_split(block, order);
    struct page *found = NULL;
    for (uint64_t n = 0; n < 1ul << order; n++) {
        struct page *p = block + n;
        bool is_used = !err && n < nr && !radix_find(i, start + n) &&
                       cache_insert(i, start + n, p) == 0;
        if (!is_used)
            page_put(p);
        else if (start + n == index)
            found = p;
    }
    if (err == -ENOMEM)
        err = fill_from_reserve(i, index, &found);
    if (err) {
        struct memory_stats m;
        memory_stats(&m);
        klog(LOG_ERROR, "page cache: object %lu, page %lu: error %d (pages: "
             "%lu free, %lu cached, %lu clean)", (unsigned long)i->ino,
             (unsigned long)start, err, (unsigned long)m.free_pages,
             (unsigned long)m.cache_pages, (unsigned long)lru.nr);
        return err;
    }
    if (!found)
        return -ENOMEM;
    *out = found;
    return 0;
}

static int cache_fill(struct inode *i, uint64_t index, bool may_extend,
                      struct page **out)
{
    if (index >= size_in_pages(i)) {
        if (!may_extend)
            return -ENXIO;
        return fill_zero(i, index, out);
    }
    return has_backing(i) ? fill_backing(i, index, out)
                          : fill_zero(i, index, out);
}

static int cache_get(struct inode *i, uint64_t index, bool for_write,
                     bool may_extend, struct page **out)
{
    int err = 0;

    mutex_lock(&i->cache_lock);
    struct page *p = radix_find(i, index);
    if (!p || (!may_extend && index >= size_in_pages(i)))
        err = cache_fill(i, index, may_extend, &p);
    if (!err) {
        page_get(p);
        mark_accessed(p);
        if (for_write)
            mark_dirty(p);
        *out = p;
    }
    mutex_unlock(&i->cache_lock);
    return err;
}

int pagecache_get(struct inode *i, uint64_t index, bool for_write,
                  struct page **out)
{
    return cache_get(i, index, for_write, false, out);
}

struct page *pagecache_peek(struct inode *i, uint64_t index)
{
    mutex_lock(&i->cache_lock);
    struct page *p = index < size_in_pages(i) ? radix_find(i, index) : NULL;
    if (p)
        page_get(p);
    mutex_unlock(&i->cache_lock);
    return p;
}

uint64_t pagecache_next(struct inode *i, uint64_t from)
{
    mutex_lock(&i->cache_lock);
    struct page *p = radix_next(i, from);
    uint64_t index = p ? p->cache.index : ~0ul;
    mutex_unlock(&i->cache_lock);
    return index;
}

/* Drops all pages from index on. */
static void cache_remove_from(struct inode *i, uint64_t index)
{
    struct page *p;

    mutex_lock(&i->cache_lock);
    while ((p = radix_next(i, index)) != NULL) {
        index = p->cache.index;
        cache_remove(i, p);
    }
    if (i->nr_cached == 0)
        radix_free(i);
    mutex_unlock(&i->cache_lock);
}

/* Drops the pages in [from, to) if nobody has mapped the inode; the lock
 * keeps mappings from appearing meanwhile. False: nothing was done. */
static bool cache_remove_unmapped(struct inode *i, uint64_t from, uint64_t to)
{
    struct page *p;

    mutex_lock(&i->cache_lock);
    bool is_unmapped = list_empty(&i->mappings);
    while (is_unmapped && (p = radix_next(i, from)) != NULL &&
           p->cache.index < to) {
        from = p->cache.index;
        cache_remove(i, p);
    }
    if (i->nr_cached == 0)
        radix_free(i);
    mutex_unlock(&i->cache_lock);
    return is_unmapped;
}

/* Zeroes [from, to), both in the same page. */
static int zero_part(struct inode *i, uint64_t from, uint64_t to)
{
    struct page *p;

    if (from == to)
        return 0;
    int err = cache_get(i, from >> PAGE_SHIFT, true, false, &p);
    if (err)
        return err == -ENXIO ? 0 : err;
    memset((char *)page_to_virt(p) + from % PAGE_SIZE, 0, to - from);
    page_put(p);
    return 0;
}

/* Called with inode->lock after i->size became new_size. */
void pagecache_truncate(struct inode *i, uint64_t new_size)
{
    uint64_t first = (new_size + PAGE_SIZE - 1) >> PAGE_SHIFT;

    if (!list_empty(&i->mappings))
        mm_unmap_inode(i, first);
    cache_remove_from(i, first);
    mutex_lock(&i->cache_lock);
    struct page *p = radix_find(i, new_size >> PAGE_SHIFT);
    if (p && new_size % PAGE_SIZE) {
        mark_dirty(p);
        memset((char *)page_to_virt(p) + new_size % PAGE_SIZE, 0,
               PAGE_SIZE - new_size % PAGE_SIZE);
    }
    mutex_unlock(&i->cache_lock);
}

int pagecache_punch(struct inode *i, uint64_t from, uint64_t to)
{
    uint64_t first = (from + PAGE_SIZE - 1) >> PAGE_SHIFT;
    uint64_t last = to >> PAGE_SHIFT; /* whole pages: [first, last) */
    int err = 0;

    if (first > last)
        return zero_part(i, from, to);
    err = zero_part(i, from, first << PAGE_SHIFT);
    if (!err && !has_backing(i) && cache_remove_unmapped(i, first, last))
        first = last; /* a hole, as on tmpfs */
    for (uint64_t n = first; !err && n < last; n++) {
        struct page *p;
        if (!has_backing(i)) {
            n = pagecache_next(i, n);
            if (n >= last)
                break;
        }
        /* Pages stay: they may be mapped, or hide what is below. */
        err = cache_get(i, n, true, false, &p);
        if (err)
            return err == -ENXIO ? 0 : err;
        page_zero(page_to_virt(p));
        page_put(p);
    }
    return err ? err : zero_part(i, last << PAGE_SHIFT, to);
}

void pagecache_destroy(struct inode *i)
{
    if (!i->cache_tree)
        return;
    cache_remove_from(i, 0);
    /* The reclaimer may still be inside mutex_unlock(&i->cache_lock). */
    spin_lock(&lru.lock);
    spin_unlock(&lru.lock);
}

/* Collects up to RUN_PAGES consecutive pages, each with a reference; 0: a
 * hole of *hole pages. */
static int gather(struct inode *i, uint64_t index, uint64_t nr_wanted,
                  struct page **pages, uint64_t *hole)
{
    unsigned nr = 0;
    int err = 0;

    mutex_lock(&i->cache_lock);
    while (nr < nr_wanted) {
        struct page *p = radix_find(i, index + nr);
        if (!p && nr)
            break;
        if (!p && !has_backing(i)) {
            p = radix_next(i, index);
            *hole = p ? p->cache.index - index : nr_wanted;
            break;
        }
        if (!p)
            err = cache_fill(i, index, false, &p);
        if (err)
            break;
        mark_accessed(p);
        page_get(p);
        pages[nr++] = p;
    }
    mutex_unlock(&i->cache_lock);
    return err ? err : (int)nr;
}

/* Copies n bytes that start `offset` bytes into pages[0]; frames that follow
 * each other in memory are copied at once. Puts the pages. */
static ssize_t copy_pages(struct iov_iter *to, struct page **pages,
                          unsigned nr, size_t offset, size_t n)
{
    ssize_t done = 0;
    bool stop = false;

    for (unsigned a = 0, b; a < nr; a = b) {
        char *virt = page_to_virt(pages[a]);
        for (b = a + 1; b < nr; b++)
            if ((char *)page_to_virt(pages[b]) != virt + (b - a) * PAGE_SIZE)
                break;
        size_t len = MIN((b - a) * PAGE_SIZE - offset, n - done);
        if (!stop) {
            ssize_t r = iter_copy_to(to, virt + offset, len);
            stop = r != (ssize_t)len;
            done = r > 0 ? done + r : done ? done : r;
        }
        offset = 0;
        for (unsigned k = a; k < b; k++)
            page_put(pages[k]);
    }
    return done;
}

ssize_t pagecache_read(struct inode *i, struct iov_iter *to, off_t pos)
{
    struct page *pages[RUN_PAGES];
    ssize_t done = 0;

    for (;;) {
        uint64_t size = atomic_load_relaxed(&i->size), hole = 0;
        if (to->count == 0 || (uint64_t)pos >= size)
            return done;
        size_t offset = pos % PAGE_SIZE, n = MIN(to->count, size - pos);
        uint64_t nr = (offset + n + PAGE_SIZE - 1) / PAGE_SIZE;
        int got = gather(i, pos >> PAGE_SHIFT, MIN(nr, RUN_PAGES), pages,
                         &hole);
        if (got == -ENXIO)
            return done;
        if (got < 0)
            return done ? done : got;
        ssize_t r;
        if (got) {
            n = MIN(n, got * PAGE_SIZE - offset);
            r = copy_pages(to, pages, got, offset, n);
        } else {
            n = MIN(n, hole * PAGE_SIZE - offset);
            r = iter_zero(to, n);
        }
        if (r < 0)
            return done ? done : r;
        done += r;
        pos += r;
        if ((size_t)r < n)
            return done;
        sched_yield_point();
    }
}

/* A whole page that is not cached yet: no need to read what is below.
 * Returns bytes copied, or -EEXIST when somebody else was first. */
static ssize_t write_new_page(struct inode *i, struct iov_iter *from,
                              uint64_t index)
{
    struct page *p = page_alloc(0, 0);
    ssize_t r;

    if (!p)
        return -ENOSPC;
    r = iter_copy_from(from, page_to_virt(p), PAGE_SIZE);
    if (r <= 0) {
        page_put(p);
        return r;
    }
    mutex_lock(&i->cache_lock);
    struct page *there = radix_find(i, index);
    int err = 0;
    if (!there && (size_t)r < PAGE_SIZE)
        err = cache_fill(i, index, true, &there);
    if (there) {
        memcpy(page_to_virt(there), page_to_virt(p), r);
        mark_dirty(there);
    } else if (!err) {
        err = cache_insert(i, index, p);
        if (!err)
            mark_dirty(p);
    }
    if (there || err)
        page_put(p);
    mutex_unlock(&i->cache_lock);
    return err ? -ENOSPC : r;
}

static ssize_t write_page(struct inode *i, struct iov_iter *from, off_t pos,
                          size_t len)
{
    struct page *p;
    uint64_t index = pos >> PAGE_SHIFT;

    if (len == PAGE_SIZE) {
        mutex_lock(&i->cache_lock);
        bool is_cached = radix_find(i, index) != NULL;
        mutex_unlock(&i->cache_lock);
        if (!is_cached)
            return write_new_page(i, from, index);
    }
    int err = cache_get(i, index, true, true, &p);
    if (err)
        return err == -ENOMEM ? -ENOSPC : err;
    ssize_t r = iter_copy_from(from, (char *)page_to_virt(p) +
                               pos % PAGE_SIZE, len);
    page_put(p);
    return r;
}

/* With inode->lock held. */
ssize_t pagecache_write(struct inode *i, struct iov_iter *from, off_t pos)
{
    ssize_t done = 0;

    while (from->count) {
        size_t len = MIN(from->count, PAGE_SIZE - pos % PAGE_SIZE);
        ssize_t r = write_page(i, from, pos, len);
        if (r < 0)
            return done ? done : r;
        pos += r;
        done += r;
        if ((uint64_t)pos > i->size)
            atomic_store_release(&i->size, (uint64_t)pos);
        if ((size_t)r < len)
            break;
        if (pos % (256 * PAGE_SIZE) == 0)
            sched_yield_point();
    }
    return done;
}

uint64_t pagecache_clean_pages(void)
{
    return atomic_load_relaxed(&lru.nr);
}

/* True when p was dropped. Under lru.lock. */
static bool reclaim_page(struct page *p)
{
    struct inode *i = p->cache.inode;
    bool is_dropped = false;

    if (atomic_load_relaxed(&p->mapcount) ||
        atomic_load_relaxed(&p->refcount) != 1)
        return false;
    if (!mutex_trylock(&i->cache_lock))
        return false;
    if (!atomic_load_relaxed(&p->mapcount) &&
        atomic_load_relaxed(&p->refcount) == 1 &&
        !(atomic_load_relaxed(&p->flags) & PG_DIRTY)) {
        radix_remove(i, p->cache.index);
        atomic_sub(&pagecache_nr_pages, 1ul);
        lru_del_locked(p);
        atomic_and(&p->flags, ~PG_CACHE);
        is_dropped = true;
    }
    mutex_unlock(&i->cache_lock);
    if (is_dropped)
        page_put(p);
    return is_dropped;
}

/* Drops what it can of the block of frames around p, so that what is freed can
 * be joined to a buffer for a record. Under lru.lock. */
static size_t reclaim_block(struct page *p)
{
    paddr_t base = ALIGN_DOWN(page_to_phys(p), FILL_PAGES * PAGE_SIZE);
    size_t nr_freed = 0;

    for (unsigned n = 0; n < FILL_PAGES; n++) {
        struct page *q = phys_to_page(base + n * PAGE_SIZE);
        if (!q || !(atomic_load_relaxed(&q->flags) & PG_CACHE) ||
            !q->lru_next)
            continue;
        atomic_and(&q->flags, ~PG_ACCESSED);
        nr_freed += reclaim_page(q);
    }
    return nr_freed;
}

static size_t pagecache_reclaim(size_t nr_wanted)
{
    size_t nr_freed = 0;

    spin_lock(&lru.lock);
    if (nr_wanted < lru.nr / 16)
        nr_wanted = lru.nr / 16; /* not again at once */
    /* Twice round: the first pass may only clear the accessed marks. */
    for (uint64_t left = 2 * lru.nr; left && nr_freed < nr_wanted; left--) {
        struct page *p = lru.head.lru_next;
        if (p == &lru.head)
            break;
        if (!(atomic_load_relaxed(&p->flags) & PG_ACCESSED)) {
            size_t n = reclaim_block(p);
            nr_freed += n;
            if (n && lru.head.lru_next != p)
                continue;
        }
        /* To the back. */
        atomic_and(&p->flags, ~PG_ACCESSED);
        lru_del_locked(p);
        p->lru_prev = lru.head.lru_prev;
        p->lru_next = &lru.head;
        lru.head.lru_prev->lru_next = p;
        lru.head.lru_prev = p;
        lru.nr++;
    }
    spin_unlock(&lru.lock);
    return nr_freed;
}

void pagecache_init(void)
{
    mutex_init(&reserve.lock);
    lru.head.lru_next = lru.head.lru_prev = &lru.head;
    page_reclaim_hook = pagecache_reclaim;
}
