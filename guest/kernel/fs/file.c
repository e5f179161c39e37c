/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * file.c: open file descriptions.
 *
 * Rules: a file whose ops have no `seek` is a stream: it has no position and
 * no lock is held around its read and write.
 */
#include "fs/fs_internal.h"

const struct file_ops path_file_ops;

int file_create(struct inode *inode, struct dentry *dentry,
                const struct file_ops *ops, uint32_t flags, void *priv,
                struct file **out)
{
    struct file *f = kzalloc(sizeof(*f));

    if (!f)
        return -ENOMEM;
    f->refcount = 1;
    f->ops = ops;
    f->inode = inode;
    inode_get(inode);
    if (dentry) {
        f->dentry = dentry;
        dentry_get(dentry);
    }
    f->flags = flags;
    f->priv = priv;
    mutex_init(&f->pos_lock);
    list_init(&f->epoll_links);
    *out = f;
    return 0;
}

void file_get(struct file *f)
{
    atomic_add(&f->refcount, 1u);
}

void file_put(struct file *f)
{
    if (atomic_sub(&f->refcount, 1u) != 0)
        return;
    if (!list_empty(&f->epoll_links))
        epoll_file_gone(f);
    if (f->inode->locks)
        file_release_locks(f);
    if (f->ops->release)
        f->ops->release(f);
    inode_put(f->inode);
    if (f->dentry)
        dentry_put(f->dentry);
    kfree(f);
}

int file_open_inode(struct inode *i, struct dentry *d, uint32_t flags,
                    struct file **out)
{
    struct file *f;
    int err = file_create(i, d, &path_file_ops, flags, NULL, &f);

    if (err)
        return err;
    if (flags & O_PATH) {
        f->flags &= O_PATH | O_DIRECTORY | O_NOFOLLOW;
    } else {
        uint32_t type = i->mode & S_IFMT;
        struct file *same = d && (d->flags & DENTRY_FILE) ? d->fs_priv : NULL;
        if (same && !same->ops->release && same->ops != &path_file_ops) {
            f->ops = same->ops;
            f->priv = same->priv;
        } else if (type == S_IFCHR)
            err = chrdev_open(i, f);
        else if (type == S_IFIFO)
            err = fifo_open(i, f);
        else if (type == S_IFBLK || type == S_IFSOCK || type == S_IFLNK)
            err = type == S_IFLNK ? -ELOOP : -ENXIO;
        else if (i->ops && i->ops->open)
            err = i->ops->open(i, f);
        else
            err = -ENXIO;
    }
    if (err) {
        f->ops = &path_file_ops; /* nothing to release */
        file_put(f);
        return err;
    }
    *out = f;
    return 0;
}

ssize_t file_read(struct file *f, struct iov_iter *to, off_t *pos)
{
    if ((f->flags & O_ACCMODE) == O_WRONLY || (f->flags & O_PATH))
        return -EBADF;
    if (!f->ops->read)
        return S_ISDIR(f->inode->mode) ? -EISDIR : -EINVAL;
    if (to->count > MAX_RW_COUNT)
        to->count = MAX_RW_COUNT;
    return f->ops->read(f, to, pos);
}

ssize_t file_write(struct file *f, struct iov_iter *from, off_t *pos)
{
    if ((f->flags & O_ACCMODE) == O_RDONLY || (f->flags & O_PATH))
        return -EBADF;
    if (!f->ops->write)
        return -EINVAL;
    if (from->count > MAX_RW_COUNT)
        from->count = MAX_RW_COUNT;
    return f->ops->write(f, from, pos);
}

ssize_t file_pread(struct file *f, void *buf, size_t n, off_t pos)
{
    size_t done = 0;

    while (done < n) {
        struct iov_iter it;
        iter_init_kernel(&it, (char *)buf + done, n - done);
        ssize_t r = file_read(f, &it, &pos);
        if (r < 0)
            return done ? (ssize_t)done : r;
        if (r == 0)
            break;
        done += r;
    }
    return done;
}

/* SEEK_SET, SEEK_CUR, SEEK_END with f->pos_lock held. */
off_t generic_seek(struct file *f, off_t offset, int whence, uint64_t end)
{
    off_t base = 0, pos;

    if (whence == SEEK_CUR)
        base = f->pos;
    else if (whence == SEEK_END)
        base = end;
    else if (whence != SEEK_SET)
        return -EINVAL;
    if (__builtin_add_overflow(base, offset, &pos))
        return -EOVERFLOW;
    if (pos < 0)
        return -EINVAL;
    f->pos = pos;
    return pos;
}

bool dir_emit_dots(struct file *f, struct dir_context *ctx)
{
    if (ctx->pos == 0) {
        if (!ctx->emit(ctx, ".", 1, f->inode->ino, DT_DIR, 1))
            return false;
        ctx->pos = 1;
    }
    if (ctx->pos == 1) {
        struct dentry *up = dentry_parent(f->dentry);
        uint64_t ino = up->inode->ino;
        dentry_put(up);
        if (!ctx->emit(ctx, "..", 2, ino, DT_DIR, 2))
            return false;
        ctx->pos = 2;
    }
    return true;
}
