/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * memfs_file.c: open files and directories of memfs.
 */
#include "fs/memfs.h"
#include "linux/task.h"

#define RLIMIT_FSIZE 1
#define SIGXFSZ 25

#define FALLOC_KEEP_SIZE 1u
#define FALLOC_PUNCH_HOLE 2u
#define FALLOC_ZERO_RANGE 16u

/* relatime: as Linux mounts by default. */
static void memfs_accessed(struct file *f)
{
    struct inode *i = f->inode;
    struct timespec64 now;

    if (f->flags & O_NOATIME)
        return;
    if (i->atime.sec > i->mtime.sec && i->atime.sec > i->ctime.sec &&
        clock_realtime() / NSEC_PER_SEC - i->atime.sec < 24 * 3600)
        return;
    now = current_time();
    mutex_lock(&i->lock);
    i->atime = now;
    mutex_unlock(&i->lock);
}

static ssize_t memfs_read(struct file *f, struct iov_iter *to, off_t *pos)
{
    ssize_t n = pagecache_read(f->inode, to, *pos);

    if (n > 0)
        *pos += n;
    if (n >= 0)
        memfs_accessed(f);
    return n;
}

/* RLIMIT_FSIZE: how much of n may be written at pos; 0 with SIGXFSZ sent. */
static size_t memfs_write_limit(off_t pos, size_t n)
{
    struct process *p = fs_process();
    uint64_t limit = p ? p->rlimits[RLIMIT_FSIZE].cur : ~0ul;

    if (limit > INT64_MAX)
        limit = INT64_MAX;
    if ((uint64_t)pos < limit)
        return MIN(n, limit - pos);
    if (p && limit < INT64_MAX) {
        struct siginfo64 info = {.signo = SIGXFSZ};
        signal_send_task(current_task(), &info);
    }
    return 0;
}

static ssize_t memfs_write(struct file *f, struct iov_iter *from, off_t *pos)
{
    struct inode *i = f->inode;
    struct memfs_inode *m = to_memfs(i);
    ssize_t n = 0;

    if (from->count == 0)
        return 0;
    mutex_lock(&i->lock);
    if (f->flags & O_APPEND)
        *pos = i->size;
    size_t allowed = memfs_write_limit(*pos, from->count);
    if (allowed == 0)
        n = -EFBIG;
    else if (m->seals & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE))
        n = -EPERM;
    if (!n && (m->seals & F_SEAL_GROW)) {
        if ((uint64_t)*pos >= i->size)
            n = -EPERM;
        else
            allowed = MIN(allowed, i->size - *pos);
    }
    if (!n) {
        from->count = allowed;
        n = pagecache_write(i, from, *pos);
    }
    if (n > 0) {
        *pos += n;
        m->is_changed = true;
        inode_touch(i, ATTR_MTIME | ATTR_CTIME);
        if (i->mode & 06000) /* man 2 write: set-id bits go */
            i->mode &= ~(i->mode & 010 ? 06000u : 04000u);
    }
    mutex_unlock(&i->lock);
    return n;
}

/* SEEK_DATA, SEEK_HOLE: pages in memory are data; so is what is below. */
static off_t seek_data_hole(struct inode *i, uint64_t pos, bool is_data)
{
    uint64_t size = i->size;

    if (pos >= size)
        return -ENXIO;
    if (i->ops->read_pages)
        return is_data ? (off_t)pos : (off_t)size;
    uint64_t index = pos >> PAGE_SHIFT, next = pagecache_next(i, index);
    if (is_data) {
        if (next == ~0ul || next << PAGE_SHIFT >= size)
            return -ENXIO;
        return next == index ? pos : next << PAGE_SHIFT;
    }
    while (next == index) {
        index++;
        next = pagecache_next(i, index);
    }
    uint64_t hole = index << PAGE_SHIFT;
    return MIN(MAX(hole, pos), size);
}

static off_t memfs_seek(struct file *f, off_t offset, int whence)
{
    if (whence == SEEK_DATA || whence == SEEK_HOLE) {
        if (offset < 0)
            return -ENXIO;
        off_t pos = seek_data_hole(f->inode, offset, whence == SEEK_DATA);
        if (pos >= 0)
            f->pos = pos;
        return pos;
    }
    return generic_seek(f, offset, whence, f->inode->size);
}

static int memfs_fsync(struct file *f)
{
    return 0; /* what is written is in memory; nothing could be lost later */
}

static int memfs_mmap(struct file *f, uint64_t offset, size_t len, int prot,
                      int flags, bool *anonymous)
{
    struct memfs_inode *m = to_memfs(f->inode);
    bool is_shared = (flags & 3) != MAP_PRIVATE;

    if ((f->flags & O_ACCMODE) == O_WRONLY)
        return -EACCES;
    if (is_shared && (prot & PROT_WRITE)) {
        if ((f->flags & O_ACCMODE) != O_RDWR)
            return -EACCES;
        if (m->seals & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE))
            return -EPERM;
        m->is_changed = true;
    }
    return 0;
}

const struct file_ops memfs_file_ops = {
    .read = memfs_read,
    .write = memfs_write,
    .seek = memfs_seek,
    .fsync = memfs_fsync,
    .mmap = memfs_mmap,
};

/* Everything below a page is reserved by touching it, as tmpfs does. */
static int falloc_reserve(struct inode *i, uint64_t from, uint64_t to)
{
    for (uint64_t n = from >> PAGE_SHIFT; n << PAGE_SHIFT < to; n++) {
        struct page *p;
        int err = pagecache_get(i, n, true, &p);
        if (err)
            return err == -ENOMEM ? -ENOSPC : err;
        page_put(p);
        sched_yield_point();
    }
    return 0;
}

int memfs_fallocate(struct file *f, uint32_t mode, uint64_t off, uint64_t len)
{
    struct inode *i = f->inode;
    struct memfs_inode *m = to_memfs(i);
    uint64_t end = off + len, old;
    int err = 0;

    mutex_lock(&i->lock);
    old = i->size;
    m->is_changed = true;
    if (mode & (FALLOC_PUNCH_HOLE | FALLOC_ZERO_RANGE)) {
        if (m->seals & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE))
            err = -EPERM;
        if (!err && off < old)
            err = pagecache_punch(i, off, MIN(end, old));
    }
    if (!err && !(mode & FALLOC_KEEP_SIZE) && end > old) {
        if (m->seals & F_SEAL_GROW)
            err = -EPERM;
        else
            atomic_store_release(&i->size, end);
    }
    if (!err && !(mode & FALLOC_PUNCH_HOLE) && !m->lower)
        err = falloc_reserve(i, off, MIN(end, i->size));
    if (err && i->size != old) {
        atomic_store_release(&i->size, old);
        pagecache_truncate(i, old);
    }
    if (!err)
        inode_touch(i, ATTR_MTIME | ATTR_CTIME);
    mutex_unlock(&i->lock);
    return err;
}

/* --- directories --- */
static int merge_take(void *arg, struct lower_dirent *e)
{
    struct dentry *dir = arg, *d;

    switch (dcache_find(dir, e->name, e->len, &d)) {
    case DC_FOUND:
        dentry_put(d);
        return 0;
    case DC_NEGATIVE:
    case DC_LAZY:
        return 0;
    case DC_MISS:
        break;
    }
    d = dentry_alloc(dir, e->name, e->len);
    if (!d)
        return -ENOMEM;
    d->flags |= DENTRY_LAZY | DENTRY_FROM_LOWER;
    d->lower_type = e->dt_type;
    d->lower_object = e->obj;
    dentry_add(d);
    return 0;
}

/* All names of the pool's directory become dentries. dir->inode->lock held. */
int memfs_merge(struct dentry *dir)
{
    struct inode *i = dir->inode;

    if (!(i->iflags & INODE_LOWER_DIR))
        return 0;
    int err = lower_readdir(to_memfs(i)->lower, merge_take, dir);
    if (!err)
        i->iflags &= ~INODE_LOWER_DIR;
    return err;
}

/* The type of an entry; of one not looked up yet from the pool's record. */
static uint8_t entry_type(struct dentry *d, uint64_t *ino)
{
    struct inode_attr a;

    if (d->inode) {
        *ino = d->inode->ino;
        return MODE_TO_DT(d->inode->mode);
    }
    *ino = d->lower_object;
    if (d->lower_type == DT_UNKNOWN &&
        lower_getattr(d->lower_object, &a) == 0)
        d->lower_type = MODE_TO_DT(a.mode);
    return d->lower_type;
}

static int memfs_readdir(struct file *f, struct dir_context *ctx)
{
    struct inode *i = f->inode;
    struct dentry *dir = f->dentry, *d;
    int err;

    if (i->nlink == 0)
        return -ENOENT;
    if (!dir_emit_dots(f, ctx))
        return 0;
    mutex_lock(&i->lock);
    err = memfs_merge(dir);
    if (err)
        goto out;
    list_for_each(d, &dir->children, child_link) {
        uint64_t ino;
        if (d->cookie < ctx->pos || (!d->inode && !(d->flags & DENTRY_LAZY)))
            continue;
        uint8_t type = entry_type(d, &ino);
        if (!ctx->emit(ctx, d->name, d->name_len, ino, type, d->cookie + 1)) {
            ctx->pos = d->cookie;
            goto out;
        }
    }
    ctx->pos = MAX(ctx->pos, dir->next_cookie);
out:
    mutex_unlock(&i->lock);
    return err;
}

static off_t memfs_dir_seek(struct file *f, off_t offset, int whence)
{
    return generic_seek(f, offset, whence, INT64_MAX);
}

const struct file_ops memfs_dir_ops = {
    .readdir = memfs_readdir,
    .seek = memfs_dir_seek,
    .fsync = memfs_fsync,
};
