/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * proc_fd.c: /proc/PID/fd and fdinfo.
 */
#include "fs/fdtable.h"
#include "fs/procfs.h"
#include "linux/task.h"

static int fd_file(struct synth_inode *i, struct file **out)
{
    struct process *p;
    int err = proc_process(i, &p);

    if (err)
        return err;
    *out = fdtable_get_file(p->fds, i->fd);
    process_put(p);
    return *out ? 0 : -ENOENT;
}

/* The permission bits tell how it is open. */
static uint32_t fd_mode(struct synth_inode *i)
{
    struct file *f;
    uint32_t mode = S_IFLNK;

    if (fd_file(i, &f))
        return mode | 0700;
    if ((f->flags & O_ACCMODE) != O_WRONLY)
        mode |= 0500;
    if ((f->flags & O_ACCMODE) != O_RDONLY)
        mode |= 0300;
    if (f->flags & O_PATH)
        mode = S_IFLNK;
    file_put(f);
    return mode;
}

int proc_fd_next(struct synth_inode *i, int from)
{
    struct process *p;

    if (proc_process(i, &p))
        return -1;
    int fd = fdtable_next_open(p->fds, from);
    process_put(p);
    return fd;
}

/* "pipe:[7]", "socket:[7]", "anon_inode:[eventfd]": length. */
static int anon_name(struct file *f, char *buf, size_t size)
{
    uint32_t type = f->inode->mode & S_IFMT;
    unsigned long ino = f->inode->ino;

    if (type == S_IFIFO)
        return snprintf(buf, size, "pipe:[%lu]", ino);
    if (type == S_IFSOCK)
        return snprintf(buf, size, "socket:[%lu]", ino);
    if (type == S_IFCHR)
        return snprintf(buf, size, "/dev/console");
    return snprintf(buf, size, "anon_inode:%s",
                    f->ops->name ? f->ops->name : "[unknown]");
}

static int fd_readlink(struct synth_inode *i, char *buf, size_t size)
{
    struct file *f;
    int n = fd_file(i, &f);

    if (n)
        return n;
    if (f->dentry) {
        n = dentry_path(f->dentry, buf, size);
        if (!n)
            n = strlen(buf);
    } else {
        n = anon_name(f, buf, size);
    }
    file_put(f);
    return n;
}

/* A name of its own for a file that has none; it keeps the file open. */
static int anon_dentry(struct file *f, struct dentry **out)
{
    char name[64];
    int n = anon_name(f, name, sizeof(name));
    struct dentry *d = dentry_alloc(NULL, name, n);

    if (!d)
        return -ENOMEM;
    inode_get(f->inode);
    d->inode = f->inode;
    file_get(f);
    d->fs_priv = f;
    d->flags |= DENTRY_FILE;
    *out = d;
    return 0;
}

static int fd_follow(struct synth_inode *i, struct dentry **out)
{
    struct file *f;
    int err = fd_file(i, &f);

    if (err)
        return err;
    if (f->dentry) {
        dentry_get(f->dentry);
        *out = f->dentry;
    } else {
        err = anon_dentry(f, out);
    }
    file_put(f);
    return err;
}

const struct synth_node proc_fd_node = {
    .name = "", .mode = S_IFLNK | 0700, .readlink = fd_readlink,
    .follow = fd_follow, .get_mode = fd_mode,
};

static int show_fdinfo(struct synth_inode *i, struct sbuf *s)
{
    struct process *p;
    struct file *f;
    int err = fd_file(i, &f);

    if (err)
        return err;
    uint32_t flags = f->flags;
    if (proc_process(i, &p) == 0) {
        if (fdtable_is_cloexec(p->fds, i->fd))
            flags |= O_CLOEXEC;
        process_put(p);
    }
    sbuf_printf(s, "pos:\t%ld\nflags:\t0%o\nmnt_id:\t%lu\nino:\t%lu\n",
                (long)f->pos, flags,
                (unsigned long)(f->inode->sb ? f->inode->sb->dev : 0),
                (unsigned long)f->inode->ino);
    file_put(f);
    return 0;
}

const struct synth_node proc_fdinfo_node = {
    .name = "", .mode = S_IFREG | 0400, .show = show_fdinfo,
};
