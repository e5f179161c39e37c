/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * open.c: open(2) without the descriptor.
 */
#include "fs/fs_internal.h"
#include "linux/task.h"

static int open_mask(uint32_t oflags)
{
    static const int masks[] = {MAY_READ, MAY_WRITE, MAY_READ | MAY_WRITE, 0};
    int mask = masks[oflags & O_ACCMODE];

    if (oflags & O_TRUNC)
        mask |= MAY_WRITE;
    return mask;
}

/* Checks, truncates, opens. Borrows d. */
static int open_dentry(struct dentry *d, uint32_t oflags, bool is_new,
                       struct file **out)
{
    struct inode *i = d->inode;
    int err = 0;

    if (S_ISLNK(i->mode) && !(oflags & O_PATH))
        return -ELOOP;
    if ((oflags & O_DIRECTORY) && !S_ISDIR(i->mode))
        return -ENOTDIR;
    if (oflags & O_PATH)
        return file_open_inode(i, d, oflags, out);
    if (S_ISDIR(i->mode) &&
        ((oflags & O_ACCMODE) != O_RDONLY || (oflags & O_CREAT)))
        return -EISDIR;
    if (!is_new)
        err = inode_permission(i, open_mask(oflags));
    if (!err && (oflags & O_NOATIME) && !inode_owner_or_root(i))
        err = -EPERM;
    if (err)
        return err;
    err = file_open_inode(i, d, oflags & ~(O_CREAT | O_EXCL | O_NOCTTY |
                                           O_TRUNC | O_CLOEXEC), out);
    if (!err && (oflags & O_TRUNC) && !is_new && S_ISREG(i->mode) &&
        i->ops->truncate) {
        err = i->ops->truncate(i, 0);
        if (err)
            file_put(*out);
    }
    return err;
}

/* The last component of an O_CREAT open. *link: set when it is a symlink to
 * follow. */
static int open_create(struct dentry *dir, struct last_name *last,
                       uint32_t oflags, uint32_t mode, struct dentry **found,
                       bool *is_new)
{
    struct inode *i = dir->inode;
    int err;

    if (last->kind != LAST_NORMAL)
        return -EISDIR;
    if (last->trailing_slash)
        return -EISDIR;
    *is_new = false;
    err = dentry_child(dir, last->name, last->len, found);
    if (err == -ENOENT) {
        mutex_lock(&i->lock);
        err = dentry_child_locked(dir, last->name, last->len, found);
        if (err == -ENOENT) {
            err = vfs_create_locked(dir, last->name, last->len,
                                    S_IFREG | (mode & 07777), 0, NULL, found);
            *is_new = !err;
        }
        mutex_unlock(&i->lock);
    }
    if (err)
        return err;
    if (!*is_new && (oflags & O_EXCL)) {
        dentry_put(*found);
        return -EEXIST;
    }
    dentry_cross_mounts(found);
    return 0;
}

static int open_tmpfile(struct dentry *base, const char *path, uint32_t oflags,
                        uint32_t mode, struct file **out)
{
    struct dentry *dir, *d;
    struct inode *i;
    int err;

    if ((oflags & O_ACCMODE) == O_RDONLY)
        return -EINVAL;
    err = path_lookup(base, path, LOOKUP_FOLLOW | LOOKUP_DIRECTORY, &dir);
    if (err)
        return err;
    err = inode_permission(dir->inode, MAY_WRITE | MAY_EXEC);
    if (!err)
        err = inode_is_memfs(dir->inode)
                  ? memfs_tmpfile(dir->inode, mode, &i) : -EOPNOTSUPP;
    if (err)
        goto out_dir;
    char name[32];
    size_t n = snprintf(name, sizeof(name), "#%lu", (unsigned long)i->ino);
    d = dentry_alloc(dir, name, n);
    if (!d) {
        inode_put(i);
        err = -ENOMEM;
        goto out_dir;
    }
    d->inode = i;
    d->flags |= DENTRY_GONE;
    err = open_dentry(d, oflags & ~(O_TMPFILE | O_CREAT | O_TRUNC), true, out);
    dentry_put(d);
out_dir:
    dentry_put(dir);
    return err;
}

static int open_existing(struct dentry *base, const char *path,
                         uint32_t oflags, uint32_t lookup, struct file **out)
{
    struct dentry *d;

    if (!(oflags & O_NOFOLLOW))
        lookup |= LOOKUP_FOLLOW;
    if (oflags & O_DIRECTORY)
        lookup |= LOOKUP_DIRECTORY;
    int err = path_lookup(base, path, lookup, &d);
    if (err)
        return err;
    err = open_dentry(d, oflags, false, out);
    dentry_put(d);
    return err;
}

/* O_CREAT: a link at the end is followed by starting again below its
 * directory. */
static int open_creating(struct dentry *base, const char *path,
                         uint32_t oflags, uint32_t mode, uint32_t lookup,
                         struct file **out)
{
    struct last_name *last = kmalloc(sizeof(*last));
    struct dentry *dir = base, *d;
    char *link = NULL;
    bool is_new;
    int err = -ENOMEM;

    if (!last)
        return err;
    if (dir)
        dentry_get(dir);
    for (int nr = 0; nr <= MAX_SYMLINKS; nr++) {
        struct dentry *parent;
        err = path_parent(dir, link ? link : path, lookup, &parent, last);
        if (dir)
            dentry_put(dir);
        dir = NULL;
        if (err)
            break;
        dir = parent;
        err = open_create(dir, last, oflags, mode, &d, &is_new);
        if (err)
            break;
        if (!S_ISLNK(d->inode->mode) || (oflags & O_NOFOLLOW)) {
            err = open_dentry(d, oflags, is_new, out);
            dentry_put(d);
            break;
        }
        if (d->inode->ops->follow) {
            struct dentry *to;
            err = d->inode->ops->follow(d->inode, &to);
            if (err != -EOPNOTSUPP) {
                dentry_put(d);
                if (!err) {
                    err = open_dentry(to, oflags, false, out);
                    dentry_put(to);
                }
                break;
            }
        }
        kfree(link);
        link = NULL;
        err = inode_readlink(d->inode, &link);
        dentry_put(d);
        if (err)
            break;
        err = -ELOOP;
    }
    kfree(link);
    kfree(last);
    if (dir)
        dentry_put(dir);
    return err;
}

/* Bits above the O_* ones carry LOOKUP_* of openat2, see linux/open.c. */
int vfs_open_lookup(struct dentry *base, const char *path, uint32_t oflags,
                    uint32_t mode, uint32_t lookup, struct file **out)
{
    struct process *p = fs_process();

    if (p)
        mode &= ~p->umask;
    if (oflags & O_PATH)
        oflags &= O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
    if ((oflags & O_TMPFILE & ~O_DIRECTORY)) {
        if ((oflags & O_TMPFILE) != O_TMPFILE)
            return -EINVAL;
        return open_tmpfile(base, path, oflags, mode, out);
    }
    if ((oflags & O_CREAT) && (oflags & O_DIRECTORY))
        return -EINVAL;
    if (oflags & O_CREAT)
        return open_creating(base, path, oflags, mode, lookup, out);
    return open_existing(base, path, oflags, lookup, out);
}

int vfs_open(struct dentry *base, const char *path, uint32_t oflags,
             uint32_t mode, struct file **out)
{
    return vfs_open_lookup(base, path, oflags, mode, 0, out);
}
