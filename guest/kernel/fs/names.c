/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * names.c: changes to directories. Each change holds the lock of the inodes
 * of the directories it changes; rename between two takes rename_lock first.
 */
#include "fs/fs_internal.h"
#include "linux/task.h"

static int may_change_dir(struct inode *dir)
{
    if (dir->nlink == 0)
        return -ENOENT;
    return inode_permission(dir, MAY_WRITE | MAY_EXEC);
}

/* The sticky bit: only owners delete (man 2 unlink, EPERM). */
static int may_delete(struct inode *dir, struct inode *victim)
{
    int err = inode_permission(dir, MAY_WRITE | MAY_EXEC);

    if (!err && (dir->mode & 01000) && !inode_owner_or_root(victim) &&
        !inode_owner_or_root(dir))
        err = -EPERM;
    return err;
}

/* Puts inode i under a name that is free (negative or unknown). Takes i. */
static int name_attach(struct dentry *dir, const char *name, size_t len,
                       struct inode *i, struct dentry **out)
{
    struct dentry *d;

    if (dcache_find(dir, name, len, &d) == DC_NEGATIVE) {
        dentry_set_inode(d, i);
    } else {
        d = dentry_alloc(dir, name, len);
        if (!d) {
            inode_put(i);
            return -ENOMEM;
        }
        d->inode = i;
        dentry_add(d);
    }
    dentry_get(d);
    *out = d;
    return 0;
}

/* With dir->inode->lock held; the name does not exist. */
int vfs_create_locked(struct dentry *dir, const char *name, size_t len,
                      uint32_t mode, uint64_t rdev, const char *target,
                      struct dentry **out)
{
    struct inode *i;
    int err = may_change_dir(dir->inode);

    if (err)
        return err;
    if (!dir->inode->ops->create)
        return S_ISREG(mode) ? -EACCES : -EPERM;
    err = dir->inode->ops->create(dir->inode, name, len, mode, rdev, target,
                                  &i);
    return err ? err : name_attach(dir, name, len, i, out);
}

static int create_at(struct dentry *base, const char *path, uint32_t mode,
                     uint64_t rdev, const char *target, struct dentry **out)
{
    struct last_name *last = kmalloc(sizeof(*last));
    struct dentry *dir, *d;
    int err = -ENOMEM;

    if (!last)
        return err;
    err = path_parent(base, path, 0, &dir, last);
    if (err)
        goto out_last;
    mutex_lock(&dir->inode->lock);
    err = -EEXIST;
    if (last->kind == LAST_NORMAL)
        err = dentry_child_locked(dir, last->name, last->len, &d);
    if (!err) {
        dentry_put(d);
        err = -EEXIST;
    } else if (err == -ENOENT && last->trailing_slash && !S_ISDIR(mode)) {
        err = -ENOENT;
    } else if (err == -ENOENT) {
        err = vfs_create_locked(dir, last->name, last->len, mode, rdev,
                                target, out);
    }
    mutex_unlock(&dir->inode->lock);
    dentry_put(dir);
out_last:
    kfree(last);
    return err;
}

int vfs_mknod(struct dentry *base, const char *path, uint32_t mode,
              uint64_t rdev, struct dentry **out)
{
    struct process *p = fs_process();

    if (p)
        mode &= ~(p->umask & 0777);
    return create_at(base, path, mode, rdev, NULL, out);
}

int vfs_symlink(struct dentry *base, const char *path, const char *target)
{
    struct dentry *d;

    if (!*target)
        return -ENOENT;
    int err = create_at(base, path, S_IFLNK | 0777, 0, target, &d);
    if (!err)
        dentry_put(d);
    return err;
}

static int link_locked(struct dentry *dir, struct last_name *last,
                       struct inode *i)
{
    struct dentry *d;
    int err = dentry_child_locked(dir, last->name, last->len, &d);

    if (!err)
        dentry_put(d);
    if (err != -ENOENT)
        return err ? err : -EEXIST;
    if (last->trailing_slash)
        return -ENOENT;
    err = may_change_dir(dir->inode);
    if (err)
        return err;
    if (!dir->inode->ops->link)
        return -EPERM;
    err = dir->inode->ops->link(dir->inode, last->name, last->len, i);
    if (err)
        return err;
    inode_get(i);
    err = name_attach(dir, last->name, last->len, i, &d);
    if (!err)
        dentry_put(d);
    return err;
}

int vfs_link(struct dentry *target, struct dentry *base, const char *path)
{
    struct last_name *last = kmalloc(sizeof(*last));
    struct dentry *dir;
    int err = -ENOMEM;

    if (!last)
        return err;
    err = path_parent(base, path, 0, &dir, last);
    if (err)
        goto out_last;
    if (dir->inode->sb != target->inode->sb)
        err = -EXDEV;
    else if (S_ISDIR(target->inode->mode))
        err = -EPERM;
    else if (last->kind != LAST_NORMAL)
        err = -EEXIST;
    if (!err) {
        mutex_lock(&dir->inode->lock);
        err = link_locked(dir, last, target->inode);
        mutex_unlock(&dir->inode->lock);
    }
    dentry_put(dir);
out_last:
    kfree(last);
    return err;
}

/* Takes d out of dir and leaves a whiteout when the pool has the name. */
static int name_detach(struct dentry *dir, struct dentry *d)
{
    struct dentry *white = NULL;

    if ((d->flags & DENTRY_FROM_LOWER) &&
        (dir->inode->iflags & INODE_LOWER_DIR)) {
        white = dentry_alloc(dir, d->name, d->name_len);
        if (!white)
            return -ENOSPC;
        white->flags |= DENTRY_FROM_LOWER;
    }
    dentry_drop(d);
    if (white)
        dentry_add(white);
    return 0;
}

/* Is the directory empty? Its inode's lock is held. */
static int dir_is_empty(struct dentry *d)
{
    struct dentry *c;

    if (d->inode->iflags & INODE_LOWER_DIR) {
        /* Make all names known. */
        int err = memfs_merge(d);
        if (err)
            return err;
    }
    list_for_each(c, &d->children, child_link)
        if (c->inode || (c->flags & DENTRY_LAZY))
            return -ENOTEMPTY;
    return 0;
}

static int unlink_locked(struct dentry *dir, struct last_name *last,
                         bool is_rmdir)
{
    struct dentry *d;
    int err = dentry_child_locked(dir, last->name, last->len, &d);

    if (err)
        return err;
    struct inode *i = d->inode;
    bool is_dir = S_ISDIR(i->mode);
    err = may_delete(dir->inode, i);
    if (!err && is_rmdir && !is_dir)
        err = -ENOTDIR;
    else if (!err && !is_rmdir && is_dir)
        err = -EISDIR;
    else if (!err && last->trailing_slash && !is_dir)
        err = -ENOTDIR;
    else if (!err && d->mount)
        err = -EBUSY;
    else if (!err && !dir->inode->ops->unlink)
        err = -EPERM;
    if (err)
        goto out;
    mutex_lock(&i->lock);
    if (is_dir)
        err = dir_is_empty(d);
    if (!err)
        err = name_detach(dir, d);
    if (!err)
        err = dir->inode->ops->unlink(dir->inode, last->name, last->len, i);
    mutex_unlock(&i->lock);
out:
    dentry_put(d);
    return err;
}

int vfs_unlink(struct dentry *base, const char *path, bool is_rmdir)
{
    struct last_name *last = kmalloc(sizeof(*last));
    struct dentry *dir;
    int err = -ENOMEM;

    if (!last)
        return err;
    err = path_parent(base, path, 0, &dir, last);
    if (err)
        goto out_last;
    if (last->kind == LAST_DOT)
        err = is_rmdir ? -EINVAL : -EISDIR;
    else if (last->kind == LAST_DOTDOT)
        err = is_rmdir ? -ENOTEMPTY : -EISDIR;
    else if (last->kind == LAST_ROOT)
        err = is_rmdir ? -EBUSY : -EISDIR;
    if (!err) {
        mutex_lock(&dir->inode->lock);
        err = unlink_locked(dir, last, is_rmdir);
        mutex_unlock(&dir->inode->lock);
    }
    dentry_put(dir);
out_last:
    kfree(last);
    return err;
}

/* --- rename --- */
struct renaming {
    struct dentry *old_dir, *new_dir; /* owned */
    struct dentry *moved, *replaced;  /* owned; replaced may be NULL */
    struct last_name old_last, new_last;
    uint32_t flags;
};

static int rename_check_types(struct renaming *r)
{
    bool is_dir = S_ISDIR(r->moved->inode->mode);

    if (!is_dir && (r->old_last.trailing_slash ||
                    (!(r->flags & RENAME_EXCHANGE) &&
                     r->new_last.trailing_slash)))
        return -ENOTDIR;
    if (!r->replaced || (r->flags & RENAME_EXCHANGE))
        return 0;
    if (is_dir && !S_ISDIR(r->replaced->inode->mode))
        return -ENOTDIR;
    if (!is_dir && S_ISDIR(r->replaced->inode->mode))
        return -EISDIR;
    return 0;
}

static int rename_check(struct renaming *r)
{
    int err;

    if (r->replaced && (r->flags & RENAME_NOREPLACE))
        return -EEXIST;
    if (!r->replaced && (r->flags & RENAME_EXCHANGE))
        return -ENOENT;
    /* A directory must not move below itself. */
    if (dentry_is_below(r->new_dir, r->moved))
        return -EINVAL;
    if (r->replaced && dentry_is_below(r->old_dir, r->replaced))
        return r->flags & RENAME_EXCHANGE ? -EINVAL : -ENOTEMPTY;
    err = may_delete(r->old_dir->inode, r->moved->inode);
    if (!err)
        err = r->replaced ? may_delete(r->new_dir->inode, r->replaced->inode)
                          : may_change_dir(r->new_dir->inode);
    if (!err)
        err = rename_check_types(r);
    if (!err && (r->moved->mount || (r->replaced && r->replaced->mount)))
        err = -EBUSY;
    if (!err && !r->old_dir->inode->ops->rename)
        err = -EPERM;
    return err;
}

static int rename_exchange(struct renaming *r)
{
    struct inode *from = r->old_dir->inode, *to = r->new_dir->inode;
    int delta = S_ISDIR(r->moved->inode->mode) -
                S_ISDIR(r->replaced->inode->mode);

    dentry_exchange(r->moved, r->replaced);
    if (from != to) {
        from->nlink -= delta;
        to->nlink += delta;
    }
    inode_touch(from, ATTR_MTIME | ATTR_CTIME);
    inode_touch(to, ATTR_MTIME | ATTR_CTIME);
    return 0;
}

/* The name at the target becomes free: *is_lower says that the pool has it. */
static int rename_clear_target(struct renaming *r, bool *is_lower)
{
    struct dentry *d;
    struct last_name *n = &r->new_last;

    if (r->replaced) {
        struct inode *i = r->replaced->inode;
        int err = 0;
        mutex_lock(&i->lock);
        if (S_ISDIR(i->mode))
            err = dir_is_empty(r->replaced);
        mutex_unlock(&i->lock);
        if (err)
            return err;
        *is_lower = (r->replaced->flags & DENTRY_FROM_LOWER) != 0;
        dentry_drop(r->replaced);
    } else if (dcache_find(r->new_dir, n->name, n->len, &d) == DC_NEGATIVE) {
        *is_lower = (d->flags & DENTRY_FROM_LOWER) != 0;
        dentry_drop(d);
    }
    return 0;
}

static int rename_move(struct renaming *r)
{
    struct last_name *n = &r->new_last;
    char *copy = kmalloc(n->len + 1);
    struct dentry *white = NULL;
    bool is_lower = false, leaves_white;
    int err;

    leaves_white = (r->moved->flags & DENTRY_FROM_LOWER) &&
                   (r->old_dir->inode->iflags & INODE_LOWER_DIR);
    if (leaves_white)
        white = dentry_alloc(r->old_dir, r->moved->name, r->moved->name_len);
    err = copy && (white || !leaves_white) ? 0 : -ENOSPC;
    if (!err)
        err = rename_clear_target(r, &is_lower);
    if (err) {
        kfree(copy);
        if (white)
            dentry_put(white);
        return err;
    }
    memcpy(copy, n->name, n->len + 1);
    dentry_move(r->moved, r->new_dir, n->name, n->len, copy);
    r->moved->flags &= ~DENTRY_FROM_LOWER;
    if (is_lower)
        r->moved->flags |= DENTRY_FROM_LOWER;
    if (white) {
        white->flags |= DENTRY_FROM_LOWER;
        dentry_add(white);
    }
    return r->old_dir->inode->ops->rename(
        r->old_dir->inode, r->old_last.name, r->old_last.len,
        r->new_dir->inode, n->name, n->len, r->moved->inode,
        r->replaced ? r->replaced->inode : NULL);
}

static int rename_locked(struct renaming *r)
{
    struct last_name *o = &r->old_last, *n = &r->new_last;
    int err = dentry_child_locked(r->old_dir, o->name, o->len, &r->moved);

    if (err)
        return err;
    err = dentry_child_locked(r->new_dir, n->name, n->len, &r->replaced);
    if (err && err != -ENOENT)
        return err;
    if (err)
        r->replaced = NULL;
    if (r->replaced && r->replaced->inode == r->moved->inode)
        return r->flags & RENAME_NOREPLACE ? -EEXIST : 0;
    err = rename_check(r);
    if (err)
        return err;
    return r->flags & RENAME_EXCHANGE ? rename_exchange(r) : rename_move(r);
}

/* Both directories, an ancestor first. rename_lock keeps the tree in shape. */
static int rename_with_locks(struct renaming *r)
{
    struct dentry *first = r->old_dir, *second = r->new_dir;
    int err;

    mutex_lock(&rename_lock);
    if (dentry_is_below(first, second) ||
        (!dentry_is_below(second, first) && first > second)) {
        first = r->new_dir;
        second = r->old_dir;
    }
    mutex_lock(&first->inode->lock);
    if (first != second)
        mutex_lock(&second->inode->lock);
    err = rename_locked(r);
    if (first != second)
        mutex_unlock(&second->inode->lock);
    mutex_unlock(&first->inode->lock);
    mutex_unlock(&rename_lock);
    return err;
}

int vfs_rename(struct dentry *old_base, const char *old_path,
               struct dentry *new_base, const char *new_path, uint32_t flags)
{
    struct renaming *r = kzalloc(sizeof(*r));
    int err = -ENOMEM;

    if (!r)
        return err;
    r->flags = flags;
    err = path_parent(old_base, old_path, 0, &r->old_dir, &r->old_last);
    if (!err)
        err = path_parent(new_base, new_path, 0, &r->new_dir, &r->new_last);
    if (!err && r->old_dir->inode->sb != r->new_dir->inode->sb)
        err = -EXDEV;
    if (!err && (r->old_last.kind != LAST_NORMAL ||
                 r->new_last.kind != LAST_NORMAL))
        err = -EBUSY;
    if (!err)
        err = rename_with_locks(r);
    if (r->moved)
        dentry_put(r->moved);
    if (r->replaced)
        dentry_put(r->replaced);
    if (r->old_dir)
        dentry_put(r->old_dir);
    if (r->new_dir)
        dentry_put(r->new_dir);
    kfree(r);
    return err;
}
