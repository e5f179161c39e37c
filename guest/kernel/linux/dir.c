/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * dir.c: directories and names.
 */
#include "linux/fsutil.h"

#define GETDENTS_MAX (32 * KIB)

/* Both layouts of man 2 getdents, filled into a kernel buffer. */
struct getdents {
    struct dir_context ctx; /* first member */
    char *buf;
    size_t used, size;
    bool is_64;
    bool is_full;
};

static bool getdents_emit(struct dir_context *ctx, const char *name,
                          size_t len, uint64_t ino, uint8_t type,
                          uint64_t next_pos)
{
    struct getdents *g = (struct getdents *)ctx;
    size_t head = g->is_64 ? 19 : 18;
    /* the old layout keeps the type in the last byte */
    size_t size = ALIGN_UP(head + len + 1 + !g->is_64, 8ul);
    char *e = g->buf + g->used;

    if (size > g->size - g->used) {
        g->is_full = true;
        return false;
    }
    memset(e, 0, size);
    uint16_t reclen = size;
    memcpy(e, &ino, 8);
    memcpy(e + 8, &next_pos, 8);
    memcpy(e + 16, &reclen, 2);
    if (g->is_64)
        e[18] = type;
    else
        e[size - 1] = type;
    memcpy(e + head, name, len);
    g->used += size;
    ctx->pos = next_pos;
    return true;
}

static int64_t do_getdents(uint64_t fd, uint64_t user, uint64_t count,
                           bool is_64)
{
    struct getdents g = {.is_64 = is_64, .size = MIN(count, GETDENTS_MAX)};
    struct file *f;
    int64_t err = fd_get_io(fd, &f);

    if (err)
        return err;
    if (!f->ops->readdir) {
        file_put(f);
        return -ENOTDIR;
    }
    g.buf = kmalloc(g.size ? g.size : 1);
    err = -ENOMEM;
    if (!g.buf)
        goto out;
    mutex_lock(&f->pos_lock);
    g.ctx.emit = getdents_emit;
    g.ctx.pos = f->pos;
    err = f->ops->readdir(f, &g.ctx);
    if (!err && g.used == 0 && g.is_full)
        err = -EINVAL;
    if (!err)
        err = copy_to_user((void __user *)user, g.buf, g.used);
    if (!err)
        f->pos = g.ctx.pos;
    mutex_unlock(&f->pos_lock);
    kfree(g.buf);
out:
    file_put(f);
    return err ? err : (int64_t)g.used;
}

int64_t sys_getdents(uint64_t fd, uint64_t buf, uint64_t count, uint64_t d,
                     uint64_t e, uint64_t f)
{
    return do_getdents(fd, buf, (uint32_t)count, false);
}

int64_t sys_getdents64(uint64_t fd, uint64_t buf, uint64_t count, uint64_t d,
                       uint64_t e, uint64_t f)
{
    return do_getdents(fd, buf, (uint32_t)count, true);
}

int64_t sys_getcwd(uint64_t buf, uint64_t size, uint64_t c, uint64_t d,
                   uint64_t e, uint64_t f)
{
    struct process *p = current_process();
    char *path = kmalloc(PATH_MAX);
    int64_t err;

    if (!path)
        return -ENOMEM;
    mutex_lock(&p->fs_lock);
    struct dentry *cwd = p->cwd ? p->cwd : root_dentry();
    dentry_get(cwd);
    mutex_unlock(&p->fs_lock);
    err = cwd->flags & DENTRY_GONE ? -ENOENT
                                   : dentry_path(cwd, path, PATH_MAX);
    dentry_put(cwd);
    if (!err) {
        size_t n = strlen(path) + 1;
        err = n > size ? -ERANGE : copy_to_user((void __user *)buf, path, n);
        if (!err)
            err = n;
    }
    kfree(path);
    return err;
}

/* Takes d. */
static int64_t set_cwd(struct dentry *d)
{
    struct process *p = current_process();
    int err = S_ISDIR(d->inode->mode)
                  ? inode_permission(d->inode, MAY_EXEC) : -ENOTDIR;

    if (err) {
        dentry_put(d);
        return err;
    }
    mutex_lock(&p->fs_lock);
    struct dentry *old = p->cwd;
    p->cwd = d;
    mutex_unlock(&p->fs_lock);
    if (old)
        dentry_put(old);
    return 0;
}

int64_t sys_chdir(uint64_t path, uint64_t b, uint64_t c, uint64_t d,
                  uint64_t e, uint64_t f)
{
    struct dentry *dir;
    int err = at_lookup(AT_FDCWD, path, LOOKUP_FOLLOW | LOOKUP_DIRECTORY,
                        &dir);

    return err ? err : set_cwd(dir);
}

int64_t sys_fchdir(uint64_t fd, uint64_t b, uint64_t c, uint64_t d, uint64_t e,
                   uint64_t g)
{
    struct file *f = fd_get((int)fd);
    struct dentry *dir;

    if (!f)
        return -EBADF;
    dir = f->dentry;
    if (dir)
        dentry_get(dir);
    file_put(f);
    return dir ? set_cwd(dir) : -ENOTDIR;
}

int64_t sys_chroot(uint64_t path, uint64_t b, uint64_t c, uint64_t d,
                   uint64_t e, uint64_t f)
{
    struct process *p = current_process();
    struct dentry *dir, *old;
    int err = at_lookup(AT_FDCWD, path, LOOKUP_FOLLOW | LOOKUP_DIRECTORY,
                        &dir);

    if (err)
        return err;
    if (p->euid != 0) {
        dentry_put(dir);
        return -EPERM;
    }
    mutex_lock(&p->fs_lock);
    old = p->root;
    p->root = dir;
    mutex_unlock(&p->fs_lock);
    if (old)
        dentry_put(old);
    return 0;
}

static int64_t do_mknod(uint64_t dirfd, uint64_t path, uint32_t mode,
                        uint64_t rdev)
{
    struct at_path a;
    struct dentry *d;
    int err;

    switch (mode & S_IFMT) {
    case 0:
        mode |= S_IFREG;
        break;
    case S_IFDIR:
        return -EPERM;
    case S_IFCHR:
    case S_IFBLK:
        if (current_process()->euid != 0)
            return -EPERM;
        break;
    case S_IFREG:
    case S_IFIFO:
    case S_IFSOCK:
        rdev = 0;
        break;
    default:
        return -EINVAL;
    }
    err = at_path_get(&a, dirfd, path);
    if (err)
        return err;
    err = vfs_mknod(a.base, a.path.name, mode & (S_IFMT | 07777), rdev, &d);
    if (!err)
        dentry_put(d);
    at_path_put(&a);
    return err;
}

int64_t sys_mknod(uint64_t path, uint64_t mode, uint64_t rdev, uint64_t d,
                  uint64_t e, uint64_t f)
{
    return do_mknod(AT_FDCWD, path, mode, (uint32_t)rdev);
}

int64_t sys_mknodat(uint64_t dirfd, uint64_t path, uint64_t mode,
                    uint64_t rdev, uint64_t e, uint64_t f)
{
    return do_mknod(dirfd, path, mode, (uint32_t)rdev);
}

static int64_t do_mkdir(uint64_t dirfd, uint64_t path, uint32_t mode)
{
    struct at_path a;
    struct dentry *d;
    int err = at_path_get(&a, dirfd, path);

    if (err)
        return err;
    err = vfs_mknod(a.base, a.path.name, S_IFDIR | (mode & 01777), 0, &d);
    if (!err)
        dentry_put(d);
    at_path_put(&a);
    return err;
}

int64_t sys_mkdir(uint64_t path, uint64_t mode, uint64_t c, uint64_t d,
                  uint64_t e, uint64_t f)
{
    return do_mkdir(AT_FDCWD, path, mode);
}

int64_t sys_mkdirat(uint64_t dirfd, uint64_t path, uint64_t mode, uint64_t d,
                    uint64_t e, uint64_t f)
{
    return do_mkdir(dirfd, path, mode);
}

static int64_t do_unlink(uint64_t dirfd, uint64_t path, bool is_rmdir)
{
    struct at_path a;
    int err = at_path_get(&a, dirfd, path);

    if (err)
        return err;
    err = vfs_unlink(a.base, a.path.name, is_rmdir);
    at_path_put(&a);
    return err;
}

int64_t sys_unlink(uint64_t path, uint64_t b, uint64_t c, uint64_t d,
                   uint64_t e, uint64_t f)
{
    return do_unlink(AT_FDCWD, path, false);
}

int64_t sys_rmdir(uint64_t path, uint64_t b, uint64_t c, uint64_t d,
                  uint64_t e, uint64_t f)
{
    return do_unlink(AT_FDCWD, path, true);
}

int64_t sys_unlinkat(uint64_t dirfd, uint64_t path, uint64_t flags, uint64_t d,
                     uint64_t e, uint64_t f)
{
    if (flags & ~(uint64_t)AT_REMOVEDIR)
        return -EINVAL;
    return do_unlink(dirfd, path, flags != 0);
}

static int64_t do_rename(uint64_t olddir, uint64_t old, uint64_t newdir,
                         uint64_t new_path, uint32_t flags)
{
    struct at_path a, b;
    int err;

    if ((flags & ~(RENAME_NOREPLACE | RENAME_EXCHANGE)) ||
        flags == (RENAME_NOREPLACE | RENAME_EXCHANGE))
        return -EINVAL;
    err = at_path_get(&a, olddir, old);
    if (err)
        return err;
    err = at_path_get(&b, newdir, new_path);
    if (!err) {
        err = vfs_rename(a.base, a.path.name, b.base, b.path.name, flags);
        at_path_put(&b);
    }
    at_path_put(&a);
    return err;
}

int64_t sys_rename(uint64_t old, uint64_t new_path, uint64_t c, uint64_t d,
                   uint64_t e, uint64_t f)
{
    return do_rename(AT_FDCWD, old, AT_FDCWD, new_path, 0);
}

int64_t sys_renameat(uint64_t olddir, uint64_t old, uint64_t newdir,
                     uint64_t new_path, uint64_t e, uint64_t f)
{
    return do_rename(olddir, old, newdir, new_path, 0);
}

int64_t sys_renameat2(uint64_t olddir, uint64_t old, uint64_t newdir,
                      uint64_t new_path, uint64_t flags, uint64_t f)
{
    return do_rename(olddir, old, newdir, new_path, flags);
}

static int64_t do_link(uint64_t olddir, uint64_t old, uint64_t newdir,
                       uint64_t new_path, uint32_t flags)
{
    uint32_t lookup = flags & AT_SYMLINK_FOLLOW ? LOOKUP_FOLLOW : 0;
    struct dentry *target;
    struct at_path b;
    int err;

    if (flags & ~(AT_SYMLINK_FOLLOW | AT_EMPTY_PATH))
        return -EINVAL;
    if (flags & AT_EMPTY_PATH)
        lookup |= LOOKUP_EMPTY;
    err = at_lookup(olddir, old, lookup, &target);
    if (err)
        return err;
    err = at_path_get(&b, newdir, new_path);
    if (!err) {
        err = vfs_link(target, b.base, b.path.name);
        at_path_put(&b);
    }
    dentry_put(target);
    return err;
}

int64_t sys_link(uint64_t old, uint64_t new_path, uint64_t c, uint64_t d,
                 uint64_t e, uint64_t f)
{
    return do_link(AT_FDCWD, old, AT_FDCWD, new_path, 0);
}

int64_t sys_linkat(uint64_t olddir, uint64_t old, uint64_t newdir,
                   uint64_t new_path, uint64_t flags, uint64_t f)
{
    return do_link(olddir, old, newdir, new_path, flags);
}

static int64_t do_symlink(uint64_t target, uint64_t dirfd, uint64_t path)
{
    struct user_path text;
    struct at_path a;
    int err = user_path_get(&text, target);

    if (err)
        return err;
    err = at_path_get(&a, dirfd, path);
    if (!err) {
        err = vfs_symlink(a.base, a.path.name, text.name);
        at_path_put(&a);
    }
    user_path_put(&text);
    return err;
}

int64_t sys_symlink(uint64_t target, uint64_t path, uint64_t c, uint64_t d,
                    uint64_t e, uint64_t f)
{
    return do_symlink(target, AT_FDCWD, path);
}

int64_t sys_symlinkat(uint64_t target, uint64_t dirfd, uint64_t path,
                      uint64_t d, uint64_t e, uint64_t f)
{
    return do_symlink(target, dirfd, path);
}

static int64_t do_readlink(uint64_t dirfd, uint64_t path, uint64_t buf,
                           uint64_t size)
{
    struct dentry *d;
    char *text;
    int64_t err;

    if ((int32_t)size <= 0)
        return -EINVAL;
    err = at_lookup(dirfd, path,
                    (int)dirfd == AT_FDCWD ? 0 : LOOKUP_EMPTY, &d);
    if (err)
        return err;
    err = inode_readlink(d->inode, &text);
    dentry_put(d);
    if (err)
        return err;
    size_t n = MIN(strlen(text), size);
    err = copy_to_user((void __user *)buf, text, n);
    kfree(text);
    return err ? err : (int64_t)n;
}

int64_t sys_readlink(uint64_t path, uint64_t buf, uint64_t size, uint64_t d,
                     uint64_t e, uint64_t f)
{
    return do_readlink(AT_FDCWD, path, buf, size);
}

int64_t sys_readlinkat(uint64_t dirfd, uint64_t path, uint64_t buf,
                       uint64_t size, uint64_t e, uint64_t f)
{
    return do_readlink(dirfd, path, buf, size);
}
