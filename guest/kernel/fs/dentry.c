/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * dentry.c: names, their tree and their hash table.
 *
 * - A hashed dentry belongs to the tree, which owns one reference to it: the
 *   tree *is* the directory of memfs. Others live as long as they are used.
 * - Adding, dropping, moving and giving an inode need the lock of the parent's
 *   inode; finding needs nothing. A bucket's lock protects its chain and the
 *   step from negative or lazy to positive.
 * - tree_lock protects parent and name of all dentries against rename.
 *
 * Order: rename_lock -> inode->lock -> tree_lock -> bucket lock.
 */
#include "fs/fs_internal.h"

#define NR_BUCKETS 4096u
#define MAX_NEGATIVE 8192u

struct bucket {
    struct spinlock lock;
    struct dentry *first;
};

static struct bucket buckets[NR_BUCKETS];
static struct spinlock tree_lock;
static uint32_t nr_negative;
struct mutex rename_lock;

static struct bucket *bucket_of(struct dentry *parent, const char *name,
                                size_t len)
{
    uint64_t h = (uintptr_t)parent >> 5;

    for (size_t n = 0; n < len; n++)
        h = (h ^ (uint8_t)name[n]) * 0x100000001b3ul;
    return &buckets[(h ^ h >> 32) % NR_BUCKETS];
}

struct dentry *dentry_alloc(struct dentry *parent, const char *name,
                            size_t len)
{
    struct dentry *d = kzalloc(sizeof(*d));
    char *copy = kmalloc(len + 1);

    if (!d || !copy) {
        kfree(d);
        kfree(copy);
        return NULL;
    }
    memcpy(copy, name, len);
    copy[len] = 0;
    d->refcount = 1;
    d->name = copy;
    d->name_len = len;
    d->parent = parent ? parent : d;
    if (parent)
        dentry_get(parent);
    d->next_cookie = 2;
    list_init(&d->child_link);
    list_init(&d->children);
    return d;
}

void dentry_get(struct dentry *d)
{
    atomic_add(&d->refcount, 1u);
}

/* Freeing a dentry may free its parents: a loop, not recursion. */
void dentry_put(struct dentry *d)
{
    while (atomic_sub(&d->refcount, 1u) == 0) {
        struct dentry *parent = d->parent;
        if (d->inode)
            inode_put(d->inode);
        if (d->flags & DENTRY_FILE)
            file_put(d->fs_priv);
        kfree(d->name);
        bool is_root = parent == d;
        kfree(d);
        if (is_root)
            return;
        d = parent;
    }
}

static void hash_add(struct dentry *d)
{
    struct bucket *b = bucket_of(d->parent, d->name, d->name_len);

    spin_lock(&b->lock);
    d->hash_next = b->first;
    b->first = d;
    d->flags |= DENTRY_HASHED;
    spin_unlock(&b->lock);
}

static void hash_del(struct dentry *d)
{
    struct bucket *b = bucket_of(d->parent, d->name, d->name_len);

    spin_lock(&b->lock);
    for (struct dentry **at = &b->first; *at; at = &(*at)->hash_next) {
        if (*at == d) {
            *at = d->hash_next;
            break;
        }
    }
    d->flags &= ~DENTRY_HASHED;
    spin_unlock(&b->lock);
}

void dentry_add(struct dentry *d)
{
    d->cookie = d->parent->next_cookie++;
    list_add_tail(&d->parent->children, &d->child_link);
    hash_add(d);
}

void dentry_drop(struct dentry *d)
{
    if (!d->inode && !(d->flags & (DENTRY_LAZY | DENTRY_FROM_LOWER)))
        atomic_sub(&nr_negative, 1u);
    hash_del(d);
    list_del(&d->child_link);
    d->flags |= DENTRY_GONE;
    dentry_put(d);
}

void dentry_cache_negative(struct dentry *parent, const char *name, size_t len)
{
    struct dentry *d;

    if (atomic_load_relaxed(&nr_negative) >= MAX_NEGATIVE)
        return;
    d = dentry_alloc(parent, name, len);
    if (!d)
        return;
    atomic_add(&nr_negative, 1u);
    dentry_add(d);
}

enum dcache_result dcache_find(struct dentry *parent, const char *name,
                               size_t len, struct dentry **out)
{
    struct bucket *b = bucket_of(parent, name, len);
    enum dcache_result result = DC_MISS;

    spin_lock(&b->lock);
    for (struct dentry *d = b->first; d; d = d->hash_next) {
        if (d->parent != parent || d->name_len != len ||
            memcmp(d->name, name, len) != 0)
            continue;
        *out = d;
        if (d->inode) {
            dentry_get(d);
            result = DC_FOUND;
        } else {
            result = d->flags & DENTRY_LAZY ? DC_LAZY : DC_NEGATIVE;
        }
        break;
    }
    spin_unlock(&b->lock);
    return result;
}

void dentry_set_inode(struct dentry *d, struct inode *i)
{
    struct bucket *b = bucket_of(d->parent, d->name, d->name_len);

    if (!(d->flags & (DENTRY_LAZY | DENTRY_FROM_LOWER)))
        atomic_sub(&nr_negative, 1u);
    spin_lock(&b->lock);
    d->flags &= ~DENTRY_LAZY;
    d->inode = i;
    spin_unlock(&b->lock);
}

/* rename: d gets a new place. name_copy: Takes a kmalloc'ed copy of name.
 * The locks of both parents' inodes are held. */
void dentry_move(struct dentry *d, struct dentry *parent, const char *name,
                 size_t len, char *name_copy)
{
    struct dentry *old_parent = d->parent;
    char *old_name = d->name;

    dentry_get(parent);
    hash_del(d);
    list_del(&d->child_link);
    spin_lock(&tree_lock);
    d->parent = parent;
    d->name = name_copy;
    d->name_len = len;
    spin_unlock(&tree_lock);
    dentry_add(d);
    kfree(old_name);
    dentry_put(old_parent);
}

void dentry_exchange(struct dentry *a, struct dentry *b)
{
    struct dentry *parent = a->parent;
    char *name = a->name;
    uint32_t len = a->name_len;
    uint32_t lower = (a->flags ^ b->flags) & DENTRY_FROM_LOWER;

    hash_del(a);
    hash_del(b);
    list_del(&a->child_link);
    list_del(&b->child_link);
    spin_lock(&tree_lock);
    a->parent = b->parent;
    a->name = b->name;
    a->name_len = b->name_len;
    b->parent = parent;
    b->name = name;
    b->name_len = len;
    spin_unlock(&tree_lock);
    a->flags ^= lower; /* "from the pool" belongs to the name */
    b->flags ^= lower;
    dentry_add(a);
    dentry_add(b);
}

/* "..": through mount points, not above the root of d's file system. */
struct dentry *dentry_parent(struct dentry *d)
{
    struct dentry *parent;

    spin_lock(&tree_lock);
    while (d->parent == d && d->inode->sb->mounted_on)
        d = d->inode->sb->mounted_on;
    parent = d->parent;
    dentry_get(parent);
    spin_unlock(&tree_lock);
    return parent;
}

bool dentry_is_below(struct dentry *d, struct dentry *ancestor)
{
    bool is_below = false;

    spin_lock(&tree_lock);
    for (;;) {
        if (d == ancestor)
            is_below = true;
        if (is_below)
            break;
        if (d->parent == d) {
            d = d->inode->sb->mounted_on;
            if (!d)
                break;
            continue;
        }
        d = d->parent;
    }
    spin_unlock(&tree_lock);
    return is_below;
}

/* Writes the path backwards into buf; *start = where it begins. */
static int path_build(struct dentry *d, struct dentry *root, char *buf,
                      size_t *start)
{
    while (d != root) {
        if (d->parent == d) {
            struct dentry *up = d->inode ? d->inode->sb->mounted_on : NULL;
            if (up) {
                d = up;
                continue;
            }
            /* The real root has no name, "pipe:[7]" and the like have. */
            if (*start < d->name_len)
                return -ENAMETOOLONG;
            *start -= d->name_len;
            memcpy(buf + *start, d->name, d->name_len);
            if (d->name_len && !(d->flags & DENTRY_FILE) && *start)
                buf[--*start] = '/'; /* "/memfd:name" */
            break;
        }
        if (*start < d->name_len + 1u)
            return -ENAMETOOLONG;
        *start -= d->name_len;
        memcpy(buf + *start, d->name, d->name_len);
        buf[--*start] = '/';
        d = d->parent;
    }
    return 0;
}

int dentry_path(struct dentry *d, char *buf, size_t size)
{
    static const char gone[] = " (deleted)";
    struct dentry *root = root_dentry();
    bool is_gone = (d->flags & DENTRY_GONE) != 0;
    size_t tail = is_gone ? sizeof(gone) : 1, start;
    int err;

    if (size < tail + 1)
        return -ENAMETOOLONG;
    start = size - tail;
    memcpy(buf + start, is_gone ? gone : "", tail);
    spin_lock(&tree_lock);
    err = path_build(d, root, buf, &start);
    spin_unlock(&tree_lock);
    if (err)
        return err;
    if (start == size - tail) {
        if (start == 0)
            return -ENAMETOOLONG;
        buf[--start] = '/';
    }
    memmove(buf, buf + start, size - start);
    return 0;
}
