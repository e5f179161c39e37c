/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The tree of VMAs: an AVL tree with parent pointers, threaded in address
 * order and augmented with the largest hole in front of any node of a subtree.
 * Rules and locks: vma.h. No allocation, no dependency but the types.
 */
#include "mm/vma.h"

vaddr_t vma_start_gap(const struct vma *n)
{
    if (!(n->flags & VM_GROWSDOWN))
        return n->start;
    return n->start > STACK_GUARD_GAP ? n->start - STACK_GUARD_GAP : 0;
}

static uint64_t gap_before(const struct vma *n)
{
    vaddr_t from = n->prev ? n->prev->end : 0;
    vaddr_t to = vma_start_gap(n);
    return to > from ? to - from : 0;
}

static int height(const struct vma *n)
{
    return n ? n->height : 0;
}

static uint64_t max_gap(const struct vma *n)
{
    return n ? n->max_gap : 0;
}

static void update(struct vma *n)
{
    uint64_t gap = gap_before(n);
    n->height = 1 + MAX(height(n->left), height(n->right));
    gap = MAX(gap, max_gap(n->left));
    n->max_gap = MAX(gap, max_gap(n->right));
}

static void replace_child(struct vma **root, struct vma *parent,
                          struct vma *old, struct vma *new_child)
{
    if (!parent)
        *root = new_child;
    else if (parent->left == old)
        parent->left = new_child;
    else
        parent->right = new_child;
    if (new_child)
        new_child->parent = parent;
}

/* Lifts the left (or right) child above n; returns it. */
static struct vma *rotate(struct vma **root, struct vma *n, bool lift_left)
{
    struct vma *up = lift_left ? n->left : n->right;
    struct vma *inner = lift_left ? up->right : up->left;

    replace_child(root, n->parent, n, up);
    if (lift_left) {
        n->left = inner;
        up->right = n;
    } else {
        n->right = inner;
        up->left = n;
    }
    if (inner)
        inner->parent = n;
    n->parent = up;
    update(n);
    update(up);
    return up;
}

/* Restores heights, balance and gaps from n up to the root. */
static void fix_up(struct vma **root, struct vma *n)
{
    for (; n; n = n->parent) {
        int balance = height(n->left) - height(n->right);
        update(n);
        if (balance > 1) {
            if (height(n->left->left) < height(n->left->right))
                rotate(root, n->left, false);
            n = rotate(root, n, true);
        } else if (balance < -1) {
            if (height(n->right->right) < height(n->right->left))
                rotate(root, n->right, true);
            n = rotate(root, n, false);
        }
    }
}

struct vma *vma_find(struct vma *root, vaddr_t addr)
{
    struct vma *best = NULL;
    while (root) {
        if (root->end > addr) {
            best = root;
            if (root->start <= addr)
                break;
            root = root->left;
        } else {
            root = root->right;
        }
    }
    return best;
}

struct vma *vma_first(struct vma *root)
{
    while (root && root->left)
        root = root->left;
    return root;
}

void vma_insert(struct vma **root, struct vma *n)
{
    struct vma *parent = NULL, *prev = NULL, *next = NULL;
    struct vma **link = root;

    while (*link) {
        parent = *link;
        if (n->start < parent->start) {
            next = parent;
            link = &parent->left;
        } else {
            prev = parent;
            link = &parent->right;
        }
    }
    n->left = n->right = NULL;
    n->parent = parent;
    n->prev = prev;
    n->next = next;
    if (prev)
        prev->next = n;
    if (next)
        next->prev = n;
    *link = n;
    fix_up(root, n);
    if (next)
        fix_up(root, next);
}

void vma_erase(struct vma **root, struct vma *n)
{
    struct vma *next = n->next, *from;

    if (n->prev)
        n->prev->next = next;
    if (next)
        next->prev = n->prev;
    if (n->left && n->right) {
        /* Its successor is the leftmost of the right subtree. */
        struct vma *s = next;
        from = s->parent == n ? s : s->parent;
        if (s->parent != n) {
            replace_child(root, s->parent, s, s->right);
            s->right = n->right;
            s->right->parent = s;
        }
        replace_child(root, n->parent, n, s);
        s->left = n->left;
        s->left->parent = s;
    } else {
        from = n->parent;
        replace_child(root, n->parent, n, n->left ? n->left : n->right);
    }
    fix_up(root, from);
    if (next)
        fix_up(root, next);
    n->left = n->right = n->parent = n->prev = n->next = NULL;
}

void vma_changed(struct vma **root, struct vma *n)
{
    fix_up(root, n);
    if (n->next)
        fix_up(root, n->next);
}

/* The rightmost node of the subtree with a hole of at least len before it;
 * the caller knows that there is one. */
static struct vma *last_with_gap(struct vma *n, uint64_t len)
{
    for (;;) {
        if (max_gap(n->right) >= len)
            n = n->right;
        else if (gap_before(n) >= len)
            return n;
        else
            n = n->left;
    }
}

/* The nearest node before n with such a hole, or NULL. */
static struct vma *prev_with_gap(struct vma *n, uint64_t len)
{
    if (max_gap(n->left) >= len)
        return last_with_gap(n->left, len);
    for (;;) {
        struct vma *parent = n->parent;
        if (!parent)
            return NULL;
        if (parent->right == n) {
            if (gap_before(parent) >= len)
                return parent;
            if (max_gap(parent->left) >= len)
                return last_with_gap(parent->left, len);
        }
        n = parent;
    }
}

bool vma_find_gap(struct vma *root, vaddr_t low, vaddr_t high, uint64_t len,
                  vaddr_t *out)
{
    struct vma *n, *last = root;

    if (len == 0 || high < low || high - low < len)
        return false;
    while (last && last->right)
        last = last->right;
    /* The hole that contains `high` or lies right below it is clipped. */
    n = vma_find(root, high);
    if (!n) {
        vaddr_t from = MAX(last ? last->end : 0, low);
        if (from <= high && high - from >= len) {
            *out = high - len;
            return true;
        }
        n = last;
    }
    for (; n; n = prev_with_gap(n, len)) {
        vaddr_t from = MAX(n->prev ? n->prev->end : 0, low);
        vaddr_t to = MIN(vma_start_gap(n), high);
        if (to > from && to - from >= len) {
            *out = to - len;
            return true;
        }
        if (n->start < low + len)
            break; /* the others are lower still */
    }
    return false;
}
