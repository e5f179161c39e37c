/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The kernel heap: one free list per size class, threaded through the free
 * objects of partially used slab pages. A slab page knows its class and how
 * many objects are in use (page->priv); an empty one is given back unless it
 * is the last of its class.
 *
 * Each class has its own lock (irq-safe).
 */
#include "mm/heap.h"

#include "lib/list.h"
#include "lib/lock.h"
#include "lib/printk.h"
#include "lib/string.h"
#include "mm/page.h"

static const uint16_t class_sizes[] = {16,  32,  48,  64,   96,  128, 192,
                                       256, 384, 512, 768, 1024, 2048};
#define NR_CLASSES ARRAY_SIZE(class_sizes)

struct slab { /* lives in page->priv and lru_* */
    void *free;
    uint32_t in_use;
    uint32_t class_idx;
};
_Static_assert(sizeof(struct slab) == 16, "fits page->priv");

static struct size_class {
    struct spinlock lock;
    /* --- protected by lock --- */
    struct page *partial; /* doubly linked through lru_* */
    uint64_t nr_objects, nr_pages; /* in use */
} classes[NR_CLASSES];

static struct slab *slab_of(struct page *p)
{
    return (struct slab *)p->priv;
}

static void partial_push(struct size_class *c, struct page *p)
{
    p->lru_prev = NULL;
    p->lru_next = c->partial;
    if (c->partial)
        c->partial->lru_prev = p;
    c->partial = p;
}

static void partial_remove(struct size_class *c, struct page *p)
{
    if (p->lru_prev)
        p->lru_prev->lru_next = p->lru_next;
    else
        c->partial = p->lru_next;
    if (p->lru_next)
        p->lru_next->lru_prev = p->lru_prev;
}

static unsigned class_for(size_t size)
{
    for (unsigned i = 0; i < NR_CLASSES; i++) {
        if (size <= class_sizes[i])
            return i;
    }
    return NR_CLASSES;
}

static struct page *slab_create(unsigned idx)
{
    struct page *p = page_alloc(0, 0);
    size_t size = class_sizes[idx];

    if (!p)
        return NULL;
    char *base = page_to_virt(p);
    struct slab *s = slab_of(p);
    p->flags = PG_SLAB;
    s->free = NULL;
    s->in_use = 0;
    s->class_idx = idx;
    for (size_t at = PAGE_SIZE / size * size; at >= size; at -= size) {
        void **object = (void **)(base + at - size);
        *object = s->free;
        s->free = object;
    }
    return p;
}

static void *slab_alloc(unsigned idx)
{
    struct size_class *c = &classes[idx];
    bool was_on = spin_lock_irqsave(&c->lock);
    struct page *p = c->partial;

    if (!p) {
        spin_unlock_irqrestore(&c->lock, was_on);
        p = slab_create(idx);
        if (!p)
            return NULL;
        was_on = spin_lock_irqsave(&c->lock);
        c->nr_pages++;
        partial_push(c, p);
        p = c->partial;
    }
    struct slab *s = slab_of(p);
    void **object = s->free;
    s->free = *object;
    s->in_use++;
    c->nr_objects++;
    if (!s->free)
        partial_remove(c, p);
    spin_unlock_irqrestore(&c->lock, was_on);
    return object;
}

static void slab_free(struct page *p, void *ptr)
{
    struct slab *s = slab_of(p);
    struct size_class *c = &classes[s->class_idx];
    bool was_on, release = false;

#ifdef DEBUG
    memset(ptr, 0xdd, class_sizes[s->class_idx]);
#endif
    was_on = spin_lock_irqsave(&c->lock);
    if (!s->free)
        partial_push(c, p);
    *(void **)ptr = s->free;
    s->free = ptr;
    s->in_use--;
    c->nr_objects--;
    if (!s->in_use && (c->partial != p || p->lru_next)) {
        c->nr_pages--;
        partial_remove(c, p);
        release = true;
    }
    spin_unlock_irqrestore(&c->lock, was_on);
    if (release) {
        p->flags = 0;
        page_free(p, 0);
    }
}

static unsigned order_for(size_t size)
{
    unsigned order = 0;

    while (PAGE_SIZE << order < size)
        order++;
    return order;
}

void *kmalloc(size_t size)
{
    unsigned idx = class_for(size);

    if (idx < NR_CLASSES)
        return slab_alloc(idx);
    if (size > PAGE_SIZE << MAX_ORDER)
        return NULL;
    struct page *p = page_alloc(order_for(size), 0);
    return p ? page_to_virt(p) : NULL;
}

void *kzalloc(size_t size)
{
    void *p = kmalloc(size);

    if (p)
        memset(p, 0, size);
    return p;
}

static size_t usable_size(struct page *p)
{
    if (p->flags & PG_SLAB)
        return class_sizes[slab_of(p)->class_idx];
    return PAGE_SIZE << p->order;
}

void *krealloc(void *ptr, size_t size)
{
    void *new;
    size_t old;

    if (!ptr)
        return kmalloc(size);
    old = usable_size(virt_to_page(ptr));
    if (size <= old && size > old / 4)
        return ptr;
    new = kmalloc(size);
    if (!new)
        return NULL;
    memcpy(new, ptr, MIN(old, size));
    kfree(ptr);
    return new;
}

char *kmemdup(const void *p, size_t n)
{
    char *copy = kmalloc(n ? n : 1);

    if (copy)
        memcpy(copy, p, n);
    return copy;
}

char *kstrdup(const char *s)
{
    return kmemdup(s, strlen(s) + 1);
}

void kfree(void *ptr)
{
    struct page *p;

    if (!ptr)
        return;
    p = virt_to_page(ptr);
    if (!p)
        panic("kfree(%p): not from the heap", ptr);
    if (p->flags & PG_SLAB)
        slab_free(p, ptr);
    else
        page_free(p, p->order);
}

bool heap_class(unsigned nr, struct heap_class *out)
{
    struct size_class *c = &classes[nr];
    bool was_on;

    if (nr >= NR_CLASSES)
        return false;
    was_on = spin_lock_irqsave(&c->lock);
    *out = (struct heap_class){class_sizes[nr], c->nr_objects, c->nr_pages};
    spin_unlock_irqrestore(&c->lock, was_on);
    return true;
}
