/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * synth.c: see synth.h. Inodes never change but by `store`; the text of an
 * open file is protected by the lock of its inode.
 */
#include "fs/synth.h"

#include "linux/task.h"

#define NUMBER_POS 0x10000u
#define STORE_MAX 4095u

/* --- text --- */
static bool sbuf_room(struct sbuf *s, size_t n)
{
    size_t cap = s->cap ? s->cap : 256;
    char *buf;

    if (s->err)
        return false;
    while (cap < s->len + n + 1)
        cap *= 2;
    if (cap == s->cap)
        return true;
    buf = krealloc(s->buf, cap);
    if (!buf) {
        s->err = -ENOMEM;
        return false;
    }
    s->buf = buf;
    s->cap = cap;
    return true;
}

void sbuf_write(struct sbuf *s, const void *p, size_t n)
{
    if (!sbuf_room(s, n))
        return;
    memcpy(s->buf + s->len, p, n);
    s->len += n;
}

void sbuf_printf(struct sbuf *s, const char *fmt, ...)
{
    va_list args;

    for (size_t want = 64; sbuf_room(s, want);) {
        va_start(args, fmt);
        int n = vsnprintf(s->buf + s->len, s->cap - s->len, fmt, args);
        va_end(args);
        if (s->len + n < s->cap) {
            s->len += n;
            return;
        }
        want = n + 1;
    }
}

/* --- open files --- */
static int synth_generate(struct synth_inode *i, struct sbuf *s)
{
    s->len = 0;
    s->err = 0;
    if (i->node->text) {
        sbuf_write(s, i->node->text, strlen(i->node->text));
        return s->err;
    }
    if (!i->node->show)
        return -EINVAL;
    int err = i->node->show(i, s);
    return err ? err : s->err;
}

static ssize_t synth_read(struct file *f, struct iov_iter *to, off_t *pos)
{
    struct synth_inode *i = to_synth(f->inode);
    struct sbuf *s = f->priv;
    ssize_t n = 0;

    mutex_lock(&f->inode->lock);
    if (*pos == 0 || !s->buf)
        n = synth_generate(i, s);
    if (!n && (uint64_t)*pos < s->len)
        n = iter_copy_to(to, s->buf + *pos, MIN(to->count, s->len - *pos));
    mutex_unlock(&f->inode->lock);
    if (n > 0)
        *pos += n;
    return n;
}

static ssize_t synth_write(struct file *f, struct iov_iter *from, off_t *pos)
{
    struct synth_inode *i = to_synth(f->inode);
    size_t len = from->count;
    char *buf;

    if (!i->node->store)
        return -EINVAL;
    if (len > STORE_MAX)
        return -EINVAL;
    buf = kmalloc(len + 1);
    if (!buf)
        return -ENOMEM;
    ssize_t n = iter_copy_from(from, buf, len);
    if (n == (ssize_t)len) {
        buf[len] = 0;
        int err = i->node->store(i, buf, len);
        n = err ? err : n;
    } else if (n >= 0) {
        n = -EFAULT;
    }
    kfree(buf);
    if (n > 0)
        *pos += n;
    return n;
}

static off_t synth_seek(struct file *f, off_t offset, int whence)
{
    if (whence == SEEK_END)
        return -EINVAL;
    return generic_seek(f, offset, whence, 0);
}

static void synth_release(struct file *f)
{
    struct sbuf *s = f->priv;

    if (s)
        kfree(s->buf);
    kfree(s);
}

static const struct file_ops synth_file_ops = {
    .read = synth_read,
    .write = synth_write,
    .seek = synth_seek,
    .release = synth_release,
};

/* --- directories --- */
static uint64_t synth_ino(const struct synth_node *node, int pid, int tid,
                          int fd, int cpu)
{
    uint64_t h = (uintptr_t)node;

    h = (h ^ (uint32_t)pid) * 0x9e3779b97f4a7c15ul;
    h = (h ^ (uint32_t)tid) * 0x9e3779b97f4a7c15ul;
    h = (h ^ (uint32_t)fd) * 0x9e3779b97f4a7c15ul;
    h = (h ^ (uint32_t)cpu) * 0x9e3779b97f4a7c15ul;
    return 0x80000000ul | (h >> 33);
}

static const struct inode_ops synth_ops;
static const struct inode_ops synth_follow_ops;

static int synth_new(struct superblock *sb, const struct synth_node *node,
                     const struct synth_inode *parent, int number,
                     size_t number_key, struct inode **out)
{
    struct synth_inode *i = kzalloc(sizeof(*i));
    struct process *p = fs_process();

    if (!i)
        return -ENOMEM;
    inode_init(&i->i, sb, node->follow ? &synth_follow_ops : &synth_ops,
               node->mode);
    i->node = node;
    if (parent) {
        i->pid = parent->pid;
        i->tid = parent->tid;
        i->fd = parent->fd;
        i->cpu = parent->cpu;
    }
    if (number_key)
        *(int *)((char *)i + number_key) = number;
    if (node->get_mode)
        i->i.mode = node->get_mode(i);
    i->i.ino = synth_ino(node, i->pid, i->tid, i->fd, i->cpu);
    if (S_ISDIR(node->mode))
        i->i.nlink = 2;
    if (node->follow)
        i->i.size = 64;
    if (i->pid && p) {
        i->i.uid = p->euid;
        i->i.gid = p->egid;
    }
    *out = &i->i;
    return 0;
}

static int parse_decimal(const char *s, size_t len)
{
    int n = 0;

    if (len == 0 || len > 9 || (s[0] == '0' && len > 1))
        return -1;
    for (size_t k = 0; k < len; k++) {
        if (s[k] < '0' || s[k] > '9')
            return -1;
        n = n * 10 + (s[k] - '0');
    }
    return n;
}

static int synth_lookup(struct inode *dir, const char *name, size_t len,
                        struct inode **out)
{
    struct synth_inode *i = to_synth(dir);
    const struct synth_node *node = i->node;

    for (const struct synth_node *c = node->children; c && c->name; c++)
        if (strlen(c->name) == len && memcmp(c->name, name, len) == 0)
            return synth_new(dir->sb, c, i, 0, 0, out);
    if (!node->next_number)
        return -ENOENT;
    size_t skip = node->prefix ? strlen(node->prefix) : 0;
    if (len <= skip || memcmp(name, node->prefix ? node->prefix : "", skip))
        return -ENOENT;
    int n = parse_decimal(name + skip, len - skip);
    if (n < 0 || node->next_number(i, n) != n)
        return -ENOENT;
    return synth_new(dir->sb, node->number, i, n, node->key, out);
}

static bool emit_number(struct synth_inode *i, struct dir_context *ctx, int n)
{
    const struct synth_node *node = i->node;
    struct synth_inode key = {
        .pid = i->pid, .tid = i->tid, .fd = i->fd, .cpu = i->cpu,
    };
    char name[24];
    size_t len = snprintf(name, sizeof(name), "%s%d",
                          node->prefix ? node->prefix : "", n);

    *(int *)((char *)&key + node->key) = n;
    return ctx->emit(ctx, name, len,
                     synth_ino(node->number, key.pid, key.tid, key.fd,
                               key.cpu),
                     MODE_TO_DT(node->number->mode), NUMBER_POS + n + 1ul);
}

static int synth_readdir(struct file *f, struct dir_context *ctx)
{
    struct synth_inode *i = to_synth(f->inode);
    const struct synth_node *c = i->node->children;

    if (!dir_emit_dots(f, ctx))
        return 0;
    for (uint64_t n = 0; c && c[n].name && ctx->pos < NUMBER_POS; n++) {
        if (n + 2 < ctx->pos)
            continue;
        if (!ctx->emit(ctx, c[n].name, strlen(c[n].name),
                       synth_ino(&c[n], i->pid, i->tid, i->fd, i->cpu),
                       MODE_TO_DT(c[n].mode), n + 3))
            return 0;
    }
    if (!i->node->next_number)
        return 0;
    if (ctx->pos < NUMBER_POS)
        ctx->pos = NUMBER_POS;
    for (int n; (n = i->node->next_number(i, ctx->pos - NUMBER_POS)) >= 0;)
        if (!emit_number(i, ctx, n))
            return 0;
    return 0;
}

static off_t synth_dir_seek(struct file *f, off_t offset, int whence)
{
    return generic_seek(f, offset, whence, INT64_MAX);
}

static const struct file_ops synth_dir_ops = {
    .readdir = synth_readdir,
    .seek = synth_dir_seek,
};

/* --- inodes --- */
static int synth_open(struct inode *i, struct file *f)
{
    const struct synth_node *node = to_synth(i)->node;

    if (S_ISDIR(i->mode)) {
        f->ops = &synth_dir_ops;
        return 0;
    }
    if (node->ops) {
        f->ops = node->ops;
        return 0;
    }
    f->priv = kzalloc(sizeof(struct sbuf));
    if (!f->priv)
        return -ENOMEM;
    f->ops = &synth_file_ops;
    return 0;
}

static int synth_readlink(struct inode *i, char *buf, size_t size)
{
    const struct synth_node *node = to_synth(i)->node;

    return node->readlink ? node->readlink(to_synth(i), buf, size) : -EINVAL;
}

static int synth_follow(struct inode *i, struct dentry **out)
{
    return to_synth(i)->node->follow(to_synth(i), out);
}

static int synth_setattr(struct inode *i, const struct inode_attr *a,
                         uint32_t mask)
{
    return -EPERM;
}

static int synth_truncate(struct inode *i, uint64_t size)
{
    return 0; /* O_TRUNC of `echo x > /proc/...` */
}

static const struct inode_ops synth_ops = {
    .lookup = synth_lookup,
    .open = synth_open,
    .readlink = synth_readlink,
    .setattr = synth_setattr,
    .truncate = synth_truncate,
};
static const struct inode_ops synth_follow_ops = {
    .lookup = synth_lookup,
    .open = synth_open,
    .readlink = synth_readlink,
    .follow = synth_follow,
    .setattr = synth_setattr,
};

int synth_mount(const char *where, const char *type, uint64_t magic,
                const struct synth_node *root)
{
    struct superblock *sb = kzalloc(sizeof(*sb));
    struct inode *i;

    if (!sb)
        return -ENOMEM;
    sb->type = sb->source = type;
    sb->options = "rw,nosuid,nodev,noexec,relatime";
    sb->magic = magic;
    sb->dev = new_device_number();
    sb->flags = SB_TRANSIENT;
    int err = synth_new(sb, root, NULL, 0, 0, &i);
    if (err)
        return err;
    i->ino = 1;
    sb->root = dentry_alloc(NULL, "", 0);
    if (!sb->root)
        return -ENOMEM;
    sb->root->inode = i;
    return vfs_mount(where, sb);
}
