/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * radix.c: see pagecache.h. Recursion is bounded by the height, at most 9
 * for 52-bit page indices.
 */
#include "fs/pagecache.h"

#include "fs/fs_internal.h"

#define SHIFT 6u
#define SLOTS 64u

struct radix_node {
    void *slot[SLOTS];
};

static bool radix_covers(uint32_t height, uint64_t index)
{
    return height * SHIFT >= 64 || index >> (height * SHIFT) == 0;
}

static unsigned radix_slot(uint64_t index, uint32_t level)
{
    return (index >> (level * SHIFT)) % SLOTS;
}

struct page *radix_find(struct inode *i, uint64_t index)
{
    void *n = i->cache_tree;

    if (!radix_covers(i->cache_height, index))
        return NULL;
    for (uint32_t level = i->cache_height; n && level-- > 0;)
        n = ((struct radix_node *)n)->slot[radix_slot(index, level)];
    return n;
}

int radix_insert(struct inode *i, uint64_t index, struct page *p)
{
    void **place;

    while (!radix_covers(i->cache_height, index)) {
        if (i->cache_tree) {
            struct radix_node *n = kzalloc(sizeof(*n));
            if (!n)
                return -ENOMEM;
            n->slot[0] = i->cache_tree;
            i->cache_tree = n;
        }
        i->cache_height++;
    }
    place = &i->cache_tree;
    for (uint32_t level = i->cache_height; level-- > 0;) {
        if (!*place) {
            *place = kzalloc(sizeof(struct radix_node));
            if (!*place)
                return -ENOMEM;
        }
        place = &((struct radix_node *)*place)->slot[radix_slot(index, level)];
    }
    *place = p;
    i->nr_cached++;
    return 0;
}

void radix_remove(struct inode *i, uint64_t index)
{
    void **place = &i->cache_tree;

    if (!radix_covers(i->cache_height, index))
        return;
    for (uint32_t level = i->cache_height; *place && level-- > 0;)
        place = &((struct radix_node *)*place)->slot[radix_slot(index, level)];
    if (*place) {
        *place = NULL;
        i->nr_cached--;
    }
}

struct page *radix_next(struct inode *i, uint64_t from)
{
    while (radix_covers(i->cache_height, from)) {
        void *n = i->cache_tree;
        uint32_t level = i->cache_height;

        while (n && level > 0) {
            level--;
            n = ((struct radix_node *)n)->slot[radix_slot(from, level)];
        }
        if (n)
            return n;
        /* Nothing below this slot: go to the next one of its level. */
        if (!i->cache_tree || level * SHIFT >= 64)
            return NULL;
        uint64_t next = ((from >> (level * SHIFT)) + 1) << (level * SHIFT);
        if (next <= from)
            return NULL;
        from = next;
    }
    return NULL;
}

static void radix_free_node(void *n, uint32_t height)
{
    if (!n || height == 0)
        return;
    for (unsigned s = 0; height > 1 && s < SLOTS; s++)
        radix_free_node(((struct radix_node *)n)->slot[s], height - 1);
    kfree(n);
}

void radix_free(struct inode *i)
{
    radix_free_node(i->cache_tree, i->cache_height);
    i->cache_tree = NULL;
    i->cache_height = 0;
}
