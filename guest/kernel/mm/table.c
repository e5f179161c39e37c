/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Frames for page tables, kept together.
 *
 * A host that shadows page tables write-protects each table, so it cannot map
 * the 2 MiB around it by one large page: one table in a frame of 2 MiB costs
 * a fault (20 us on kvm_pvm) for every few pages of that frame. So tables
 * come from the first 2 MiB, which 4 KiB pages map anyway, then from blocks of
 * 64 KiB, and go back to this pool when they are freed.
 *
 * table_lock is a leaf below page_lock's users: page_alloc is never called
 * with it held.
 */
#include "lib/lock.h"
#include "lib/string.h"
#include "mm/init.h"
#include "mm/page.h"

#define BLOCK_ORDER 4u

static struct spinlock table_lock;
/* --- protected by table_lock --- */
static struct page *table_list;
static size_t nr_free_tables;

void table_give(struct page *p)
{
    bool was_on = spin_lock_irqsave(&table_lock);

    p->flags = PG_TABLE | PG_FREE;
    p->order = MAX_ORDER + 1; /* never a buddy */
    p->free.next = table_list;
    table_list = p;
    nr_free_tables++;
    spin_unlock_irqrestore(&table_lock, was_on);
}

struct page *table_take(void)
{
    bool was_on = spin_lock_irqsave(&table_lock);
    struct page *p = table_list;

    if (p) {
        table_list = p->free.next;
        nr_free_tables--;
        p->flags = PG_TABLE;
        p->order = 0;
        p->refcount = 1;
        p->mapcount = 0;
        memset(p->priv, 0, sizeof(p->priv));
        p->lru_next = p->lru_prev = NULL;
    }
    spin_unlock_irqrestore(&table_lock, was_on);
    return p;
}

size_t table_nr_free(void)
{
    return nr_free_tables;
}

/* Fills the pool. Returns a page as table_take does, or NULL. */
static struct page *table_refill(void)
{
    struct page *p = page_alloc(BLOCK_ORDER, PAGE_ATOMIC);

    if (!p)
        return page_alloc(0, 0);
    page_split(p, BLOCK_ORDER);
    for (unsigned i = 0; i < 1u << BLOCK_ORDER; i++)
        table_give(p + i);
    return table_take();
}

struct page *table_alloc(void)
{
    struct page *p = table_take();

    if (!p)
        p = table_refill();
    if (p)
        page_zero(page_to_virt(p));
    return p;
}
