/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * locks.c: see locks.h. One spinlock for all; inode->locks points to the
 * state of an inode once it had a lock, freed with the inode. Deadlocks between
 * processes are not detected (EDEADLK): a waiter can be interrupted.
 */
#include "fs/locks.h"

#include "fs/fs_internal.h"

struct range_lock {
    struct list link;
    struct lock_request r;
};

struct lock_state {
    struct list held;
    struct waitq wait;
};

static struct spinlock locks_lock;

static int state_get(struct inode *i, struct lock_state **out)
{
    struct lock_state *s = atomic_load_acquire((struct lock_state **)&i->locks);

    if (!s) {
        struct lock_state *n = kzalloc(sizeof(*n));
        if (!n)
            return -ENOLCK;
        list_init(&n->held);
        waitq_init(&n->wait);
        spin_lock(&locks_lock);
        s = i->locks;
        if (!s) {
            atomic_store_release((struct lock_state **)&i->locks, n);
            s = n;
            n = NULL;
        }
        spin_unlock(&locks_lock);
        kfree(n);
    }
    *out = s;
    return 0;
}

static bool same_owner(const struct lock_request *a,
                       const struct lock_request *b)
{
    return a->kind == b->kind && a->owner == b->owner;
}

static bool conflicts(const struct lock_request *a,
                      const struct lock_request *b)
{
    if ((a->kind == LOCK_KIND_FLOCK) != (b->kind == LOCK_KIND_FLOCK))
        return false;
    return !same_owner(a, b) && a->start <= b->end && b->start <= a->end &&
           (a->type == F_WRLCK || b->type == F_WRLCK);
}

static struct range_lock *find_conflict(struct lock_state *s,
                                        const struct lock_request *want)
{
    struct range_lock *l;

    list_for_each(l, &s->held, link)
        if (conflicts(&l->r, want))
            return l;
    return NULL;
}

/* Removes [start, end] of want's owner. spare: used when one splits in two;
 * set to NULL then. */
static void cut_range(struct lock_state *s, const struct lock_request *want,
                      struct range_lock **spare, struct list *freed)
{
    struct range_lock *l, *tmp;

    list_for_each_safe(l, tmp, &s->held, link) {
        if (!same_owner(&l->r, want) || l->r.start > want->end ||
            l->r.end < want->start)
            continue;
        bool has_left = l->r.start < want->start;
        bool has_right = l->r.end > want->end;
        if (has_left && has_right) {
            (*spare)->r = l->r;
            (*spare)->r.start = want->end + 1;
            l->r.end = want->start - 1;
            list_add(&l->link, &(*spare)->link);
            *spare = NULL;
            return;
        }
        if (has_left) {
            l->r.end = want->start - 1;
        } else if (has_right) {
            l->r.start = want->end + 1;
        } else {
            list_del(&l->link);
            list_add(freed, &l->link);
        }
    }
}

/* Grows n over ranges of the same owner and type that touch it. */
static void merge_range(struct lock_state *s, struct range_lock *n,
                        struct list *freed)
{
    struct range_lock *l, *tmp;

    list_for_each_safe(l, tmp, &s->held, link) {
        if (l == n || !same_owner(&l->r, &n->r) || l->r.type != n->r.type)
            continue;
        if (l->r.end + 1 == n->r.start)
            n->r.start = l->r.start;
        else if (n->r.end + 1 == l->r.start)
            n->r.end = l->r.end;
        else
            continue;
        list_del(&l->link);
        list_add(freed, &l->link);
    }
}

static void free_list(struct list *freed)
{
    struct range_lock *l, *tmp;

    list_for_each_safe(l, tmp, freed, link)
        kfree(l);
}

static bool lock_try(struct lock_state *s, const struct lock_request *want,
                     struct range_lock **spare)
{
    struct list freed = LIST_INIT(freed);
    bool is_done = true;

    spin_lock(&locks_lock);
    if (want->type != F_UNLCK && find_conflict(s, want)) {
        is_done = false;
    } else {
        cut_range(s, want, &spare[0], &freed);
        if (want->type != F_UNLCK) {
            spare[1]->r = *want;
            list_add_tail(&s->held, &spare[1]->link);
            merge_range(s, spare[1], &freed);
            spare[1] = NULL;
        }
    }
    spin_unlock(&locks_lock);
    free_list(&freed);
    return is_done;
}

int inode_lock_set(struct inode *i, const struct lock_request *want, bool wait)
{
    struct range_lock *spare[2] = {kzalloc(sizeof(**spare)),
                                   kzalloc(sizeof(**spare))};
    struct lock_state *s;
    int err = spare[0] && spare[1] ? state_get(i, &s) : -ENOLCK;

    if (err)
        goto out;
    if (want->kind == LOCK_KIND_FLOCK && want->type != F_UNLCK) {
        /* man 2 flock: a conversion gives up the old lock first. */
        struct lock_request off = *want;
        struct range_lock *held;
        bool is_same = false;
        spin_lock(&locks_lock);
        list_for_each(held, &s->held, link)
            if (same_owner(&held->r, want))
                is_same = held->r.type == want->type;
        spin_unlock(&locks_lock);
        if (is_same)
            goto out;
        off.type = F_UNLCK;
        lock_try(s, &off, spare);
        wait_wake(&s->wait, INT32_MAX);
    }
    bool is_done = lock_try(s, want, spare);
    if (!is_done && wait)
        err = wait_event(&s->wait,
                         is_done || (is_done = lock_try(s, want, spare)),
                         WAIT_INTERRUPTIBLE, NO_DEADLINE);
    else if (!is_done)
        err = -EAGAIN;
    if (is_done) {
        err = 0;
        wait_wake(&s->wait, INT32_MAX); /* less may be locked than before */
    }
    if (err == -EINTR)
        err = -ERESTARTSYS;
out:
    kfree(spare[0]);
    kfree(spare[1]);
    return err;
}

void inode_lock_test(struct inode *i, struct lock_request *want)
{
    struct lock_state *s;
    struct range_lock *l = NULL;

    if (state_get(i, &s) == 0) {
        spin_lock(&locks_lock);
        l = find_conflict(s, want);
        if (l)
            *want = l->r;
        spin_unlock(&locks_lock);
    }
    if (!l)
        want->type = F_UNLCK;
}

static void drop_all(struct inode *i, enum lock_kind kind, void *owner)
{
    struct lock_request all = {
        .kind = kind, .type = F_UNLCK, .end = INT64_MAX, .owner = owner,
    };
    struct lock_state *s = i->locks;
    struct range_lock *none[2] = {NULL, NULL}; /* nothing can split */

    lock_try(s, &all, none);
    if (waitq_active(&s->wait))
        wait_wake(&s->wait, INT32_MAX);
}

/* man 2 fcntl: closing any descriptor of a file drops the record locks. */
void file_close_locks(struct file *f, struct fdtable *t)
{
    if (f->inode->locks)
        drop_all(f->inode, LOCK_KIND_POSIX, t);
}

void file_release_locks(struct file *f)
{
    drop_all(f->inode, LOCK_KIND_OFD, f);
    drop_all(f->inode, LOCK_KIND_FLOCK, f);
}
