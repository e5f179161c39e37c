/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * namei.c: from path names to dentries, and open.
 *
 * The walk is a loop: a symbolic link replaces the rest of the path. Finding a
 * known name takes no lock but its bucket's; an unknown one is looked up with
 * the directory's inode->lock.
 */
#include "fs/fs_internal.h"
#include "linux/task.h"

static struct dentry *the_root; /* of the root file system */

struct dentry *root_dentry(void)
{
    struct process *p = fs_process();

    return p && p->root ? p->root : the_root;
}

static struct dentry *start_dentry(struct dentry *base)
{
    struct process *p = fs_process();
    struct dentry *d = base;

    if (!d && p) {
        mutex_lock(&p->fs_lock);
        d = p->cwd ? p->cwd : root_dentry();
        dentry_get(d);
        mutex_unlock(&p->fs_lock);
        return d;
    }
    if (!d)
        d = the_root;
    dentry_get(d);
    return d;
}

int vfs_mount(const char *where, struct superblock *sb)
{
    struct dentry *d;

    if (!where) {
        the_root = sb->root;
    } else {
        int err = path_lookup(NULL, where, LOOKUP_FOLLOW | LOOKUP_DIRECTORY,
                              &d);
        if (err)
            return err;
        sb->mounted_on = d;
        d->mount = sb;
    }
    superblock_add(sb);
    return 0;
}

void dentry_cross_mounts(struct dentry **d)
{
    while ((*d)->mount) {
        struct dentry *root = (*d)->mount->root;
        dentry_get(root);
        dentry_put(*d);
        *d = root;
    }
}

int inode_readlink(struct inode *i, char **out)
{
    char *buf = kmalloc(PATH_MAX);
    int n = -EINVAL;

    if (!buf)
        return -ENOMEM;
    if (i->ops && i->ops->readlink)
        n = i->ops->readlink(i, buf, PATH_MAX - 1);
    if (n < 0) {
        kfree(buf);
        return n;
    }
    buf[n] = 0;
    *out = buf;
    return 0;
}

static int child_transient(struct dentry *dir, const char *name, size_t len,
                           struct dentry **out)
{
    struct inode *i;
    int err = dir->inode->ops->lookup(dir->inode, name, len, &i);

    if (err)
        return err;
    struct dentry *d = dentry_alloc(dir, name, len);
    if (!d) {
        inode_put(i);
        return -ENOMEM;
    }
    d->inode = i;
    *out = d;
    return 0;
}

/* Asks the file system and makes the name part of the tree. known: the
 * negative or lazy dentry that stands there, or NULL. */
static int child_instantiate(struct dentry *dir, const char *name, size_t len,
                             struct dentry *known, struct dentry **out)
{
    struct inode *i;
    int err = dir->inode->ops->lookup(dir->inode, name, len, &i);

    if (err == -ENOENT && !known && (dir->inode->iflags & INODE_LOWER_DIR))
        dentry_cache_negative(dir, name, len);
    if (err)
        return err;
    struct dentry *d = known;
    if (d) {
        dentry_set_inode(d, i);
    } else {
        d = dentry_alloc(dir, name, len);
        if (!d) {
            inode_put(i);
            return -ENOMEM;
        }
        d->inode = i;
        d->flags |= DENTRY_FROM_LOWER;
        dentry_add(d);
    }
    dentry_get(d);
    *out = d;
    return 0;
}

int dentry_child_locked(struct dentry *dir, const char *name, size_t len,
                        struct dentry **out)
{
    struct inode *i = dir->inode;
    struct dentry *known = NULL;

    if (i->sb->flags & SB_TRANSIENT)
        return child_transient(dir, name, len, out);
    switch (dcache_find(dir, name, len, out)) {
    case DC_FOUND:
        return 0;
    case DC_NEGATIVE:
        return -ENOENT;
    case DC_LAZY:
        known = *out;
        break;
    case DC_MISS:
        if (!(i->iflags & INODE_LOWER_DIR))
            return -ENOENT;
        break;
    }
    return child_instantiate(dir, name, len, known, out);
}

int dentry_child(struct dentry *dir, const char *name, size_t len,
                 struct dentry **out)
{
    struct inode *i = dir->inode;
    int err;

    if (!(i->sb->flags & SB_TRANSIENT)) {
        switch (dcache_find(dir, name, len, out)) {
        case DC_FOUND:
            return 0;
        case DC_NEGATIVE:
            return -ENOENT;
        case DC_MISS: /* a directory of memory only holds nothing else */
            if (!(atomic_load_relaxed(&i->iflags) & INODE_LOWER_DIR))
                return -ENOENT;
            break;
        case DC_LAZY:
            break;
        }
    }
    mutex_lock(&i->lock);
    err = dentry_child_locked(dir, name, len, out);
    mutex_unlock(&i->lock);
    return err;
}

struct walk {
    struct dentry *at;     /* owned */
    struct dentry *root;   /* borrowed: "/" */
    const char *rest;
    char *link_buf;        /* owned: where rest points to after a link */
    uint32_t flags;
    int nr_links;
};

/* The link d was met in w->at; the walk goes on with its text. Takes d. */
static int walk_link(struct walk *w, struct dentry *d)
{
    struct inode *i = d->inode;
    char *target = NULL;
    int err;

    if (++w->nr_links > MAX_SYMLINKS || (w->flags & LOOKUP_NO_SYMLINKS)) {
        dentry_put(d);
        return -ELOOP;
    }
    if (i->ops->follow) {
        struct dentry *to;
        err = w->flags & LOOKUP_NO_MAGIC ? -ELOOP : i->ops->follow(i, &to);
        if (!err) {
            dentry_put(w->at);
            w->at = to;
            dentry_put(d);
            return 0;
        }
        if (err != -EOPNOTSUPP) {
            dentry_put(d);
            return err;
        }
    }
    err = inode_readlink(i, &target);
    dentry_put(d);
    if (err)
        return err;
    size_t n = strlen(target), rest = strlen(w->rest);
    if (n == 0 || n + rest + 2 > 2 * PATH_MAX) {
        kfree(target);
        return n ? -ENAMETOOLONG : -ENOENT;
    }
    char *buf = kmalloc(n + rest + 2);
    if (!buf) {
        kfree(target);
        return -ENOMEM;
    }
    memcpy(buf, target, n);
    memcpy(buf + n, w->rest, rest + 1); /* rest is "" or starts with '/' */
    kfree(target);
    kfree(w->link_buf);
    w->link_buf = buf;
    w->rest = buf;
    if (buf[0] == '/') {
        if (w->flags & LOOKUP_BENEATH)
            return -EXDEV;
        dentry_get(w->root);
        dentry_put(w->at);
        w->at = w->root;
    }
    return 0;
}

static int walk_up(struct walk *w)
{
    struct dentry *up;

    if (w->at == w->root)
        return w->flags & LOOKUP_BENEATH ? -EXDEV : 0;
    up = dentry_parent(w->at);
    if ((w->flags & LOOKUP_NO_XDEV) && up->inode->sb != w->at->inode->sb) {
        dentry_put(up);
        return -EXDEV;
    }
    dentry_put(w->at);
    w->at = up;
    return 0;
}

/* One normal component. is_last: no component follows. */
static int walk_child(struct walk *w, const char *name, size_t len,
                      bool is_last, bool has_slash)
{
    struct dentry *d;
    int err = dentry_child(w->at, name, len, &d);

    if (err)
        return err;
    if ((w->flags & LOOKUP_NO_XDEV) && d->mount) {
        dentry_put(d);
        return -EXDEV;
    }
    dentry_cross_mounts(&d);
    if (S_ISLNK(d->inode->mode) &&
        (!is_last || has_slash || (w->flags & LOOKUP_FOLLOW)))
        return walk_link(w, d);
    dentry_put(w->at);
    w->at = d;
    return 0;
}

static void last_set(struct last_name *last, const char *name, size_t len,
                     bool has_slash)
{
    memcpy(last->name, name, len);
    last->name[len] = 0;
    last->len = len;
    last->trailing_slash = has_slash;
    last->kind = LAST_NORMAL;
    if (len == 1 && name[0] == '.')
        last->kind = LAST_DOT;
    else if (len == 2 && name[0] == '.' && name[1] == '.')
        last->kind = LAST_DOTDOT;
}

/* Walks until the end, or with `last` to the directory of the last one. */
static int walk_run(struct walk *w, struct last_name *last)
{
    for (;;) {
        const char *name = w->rest;
        int err = 0;

        while (*name == '/')
            name++;
        if (!*name) {
            bool has_slash = name != w->rest;
            if (has_slash && !S_ISDIR(w->at->inode->mode))
                return -ENOTDIR;
            if (last)
                last->kind = LAST_ROOT;
            return 0;
        }
        size_t len = 0;
        while (name[len] && name[len] != '/')
            len++;
        if (len > NAME_MAX)
            return -ENAMETOOLONG;
        if (!S_ISDIR(w->at->inode->mode))
            return -ENOTDIR;
        err = inode_permission(w->at->inode, MAY_EXEC);
        if (err)
            return err;
        const char *next = name + len;
        while (*next == '/')
            next++;
        bool is_last = !*next, has_slash = name[len] == '/';
        if (is_last && last) {
            last_set(last, name, len, has_slash);
            return 0;
        }
        w->rest = name + len;
        if (len == 2 && name[0] == '.' && name[1] == '.')
            err = walk_up(w);
        else if (len != 1 || name[0] != '.')
            err = walk_child(w, name, len, is_last, has_slash);
        if (err)
            return err;
    }
}

static int walk_path(struct dentry *base, const char *path, uint32_t flags,
                     struct last_name *last, struct dentry **out)
{
    struct walk w = {.rest = path, .flags = flags, .root = root_dentry()};
    int err;

    if (!*path && !(flags & LOOKUP_EMPTY))
        return -ENOENT;
    if (*path == '/' && (flags & LOOKUP_BENEATH))
        return -EXDEV;
    w.at = start_dentry(*path == '/' && !(flags & LOOKUP_IN_ROOT)
                            ? w.root : base);
    if (flags & (LOOKUP_IN_ROOT | LOOKUP_BENEATH))
        w.root = w.at; /* kept by the caller, or the current directory */
    err = walk_run(&w, last);
    if (!err && (flags & LOOKUP_DIRECTORY) && !S_ISDIR(w.at->inode->mode))
        err = -ENOTDIR;
    kfree(w.link_buf);
    if (err) {
        dentry_put(w.at);
        return err;
    }
    *out = w.at;
    return 0;
}

int path_parent(struct dentry *base, const char *path, uint32_t flags,
                struct dentry **dir, struct last_name *last)
{
    int err = walk_path(base, path, flags & ~LOOKUP_DIRECTORY, last, dir);

    if (!err && !S_ISDIR((*dir)->inode->mode)) {
        dentry_put(*dir);
        return -ENOTDIR;
    }
    return err;
}

int path_lookup(struct dentry *base, const char *path, uint32_t flags,
                struct dentry **out)
{
    if (flags & LOOKUP_PARENT) {
        struct last_name *last = kmalloc(sizeof(*last));
        if (!last)
            return -ENOMEM;
        int err = path_parent(base, path, flags, out, last);
        kfree(last);
        return err;
    }
    return walk_path(base, path, flags, NULL, out);
}
