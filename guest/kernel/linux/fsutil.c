/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * fsutil.c: see fsutil.h.
 */
#include "linux/fsutil.h"

int user_path_get(struct user_path *p, uint64_t user)
{
    const char __user *u = (const char __user *)user;
    ssize_t n = strncpy_from_user(p->small, u, sizeof(p->small));

    p->name = p->small;
    if (n != -ENAMETOOLONG)
        return n < 0 ? (int)n : 0;
    p->name = kmalloc(PATH_MAX);
    if (!p->name)
        return -ENOMEM;
    n = strncpy_from_user(p->name, u, PATH_MAX);
    if (n < 0) {
        kfree(p->name);
        return n;
    }
    return 0;
}

void user_path_put(struct user_path *p)
{
    if (p->name != p->small)
        kfree(p->name);
}

int at_base(uint64_t dirfd, struct dentry **out)
{
    struct file *f;
    int err = 0;

    *out = NULL;
    if ((int)dirfd == AT_FDCWD)
        return 0;
    f = fd_get((int)dirfd);
    if (!f)
        return -EBADF;
    if (f->dentry) {
        dentry_get(f->dentry);
        *out = f->dentry;
    } else {
        err = -ENOTDIR;
    }
    file_put(f);
    return err;
}

int at_path_get(struct at_path *a, uint64_t dirfd, uint64_t user)
{
    int err = user_path_get(&a->path, user);

    if (err)
        return err;
    a->base = NULL;
    if (a->path.name[0] != '/')
        err = at_base(dirfd, &a->base);
    if (err)
        user_path_put(&a->path);
    return err;
}

void at_path_put(struct at_path *a)
{
    user_path_put(&a->path);
    if (a->base)
        dentry_put(a->base);
}

int at_lookup(uint64_t dirfd, uint64_t user, uint32_t lookup,
              struct dentry **out)
{
    struct at_path a;
    int err = at_path_get(&a, dirfd, user);

    if (err)
        return err;
    err = path_lookup(a.base, a.path.name, lookup, out);
    at_path_put(&a);
    return err;
}

/* The inode of a descriptor itself. */
static int fd_inode(uint64_t fd, struct inode **out)
{
    struct file *f = fd_get((int)fd);

    if (!f)
        return -EBADF;
    inode_get(f->inode);
    *out = f->inode;
    file_put(f);
    return 0;
}

int at_inode(uint64_t dirfd, uint64_t user, uint32_t at_flags,
             struct inode **out)
{
    uint32_t lookup = at_flags & AT_SYMLINK_NOFOLLOW ? 0 : LOOKUP_FOLLOW;
    struct dentry *d;

    if (at_flags & AT_EMPTY_PATH) {
        char first = 0;
        lookup |= LOOKUP_EMPTY;
        /* Linux 6.11: NULL counts as empty. */
        if (user && copy_from_user(&first, (const void __user *)user, 1))
            return -EFAULT;
        if (!first && (int)dirfd != AT_FDCWD)
            return fd_inode(dirfd, out);
        if (!user)
            return -EFAULT;
    }
    int err = at_lookup(dirfd, user, lookup, &d);
    if (err)
        return err;
    inode_get(d->inode);
    *out = d->inode;
    dentry_put(d);
    return 0;
}

int fd_get_io(uint64_t fd, struct file **out)
{
    struct file *f = fd_get((int)fd);

    if (!f)
        return -EBADF;
    if (f->flags & O_PATH) {
        file_put(f);
        return -EBADF;
    }
    *out = f;
    return 0;
}

ssize_t file_read_at_pos(struct file *f, struct iov_iter *it)
{
    off_t pos = 0;
    ssize_t n;

    if (!f->ops->seek)
        return file_read(f, it, &pos);
    mutex_lock(&f->pos_lock);
    n = file_read(f, it, &f->pos);
    mutex_unlock(&f->pos_lock);
    return n;
}

ssize_t file_write_at_pos(struct file *f, struct iov_iter *it)
{
    off_t pos = 0;
    ssize_t n;

    if (!f->ops->seek)
        return file_write(f, it, &pos);
    mutex_lock(&f->pos_lock);
    n = file_write(f, it, &f->pos);
    mutex_unlock(&f->pos_lock);
    return n;
}
