/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * inode.c: the object life cycle, attributes and permission checks.
 *
 * Attributes are protected by inode->lock; size is read without it too.
 */
#include "fs/fs_internal.h"
#include "linux/task.h"

#define RLIMIT_FSIZE 1
#define SIGXFSZ 25

struct list superblocks = LIST_INIT(superblocks);
static uint64_t last_device_minor = 20;
static uint64_t last_anon_ino = 1000;

struct process *fs_process(void)
{
    struct thread *t = current_thread();

    return t && t->mm ? ((struct task *)t)->process : NULL;
}

struct timespec64 current_time(void)
{
    nsec_t now = clock_realtime();
    struct timespec64 t = {now / NSEC_PER_SEC, now % NSEC_PER_SEC};

    return t;
}

uint64_t new_device_number(void)
{
    return atomic_add(&last_device_minor, 1ul); /* major 0: no device */
}

void superblock_add(struct superblock *sb)
{
    list_add_tail(&superblocks, &sb->link);
}

void inode_init(struct inode *i, struct superblock *sb,
                const struct inode_ops *ops, uint32_t mode)
{
    i->refcount = 1;
    i->ops = ops;
    i->sb = sb;
    i->mode = mode;
    i->nlink = 1;
    i->atime = i->mtime = i->ctime = i->btime = current_time();
    mutex_init(&i->lock);
    mutex_init(&i->cache_lock);
    list_init(&i->mappings);
}

void inode_get(struct inode *i)
{
    atomic_add(&i->refcount, 1u);
}

void inode_put(struct inode *i)
{
    if (atomic_sub(&i->refcount, 1u) != 0)
        return;
    pagecache_destroy(i);
    kfree(i->locks);
    if (i->ops && i->ops->destroy)
        i->ops->destroy(i);
    else
        kfree(i);
}

static const struct inode_ops anon_inode_ops;
static struct superblock anon_sb = {
    .type = "anon_inodefs", .dev = 14, .magic = 0x09041934,
};

int anon_inode_create(uint32_t mode, struct inode **out)
{
    struct inode *i = kzalloc(sizeof(*i));
    struct process *p = fs_process();

    if (!i)
        return -ENOMEM;
    inode_init(i, &anon_sb, &anon_inode_ops, mode);
    i->ino = atomic_add(&last_anon_ino, 1ul);
    if (p) {
        i->uid = p->euid;
        i->gid = p->egid;
    }
    *out = i;
    return 0;
}

int vfs_getattr(struct inode *i, struct inode_attr *out)
{
    if (i->ops && i->ops->getattr)
        return i->ops->getattr(i, out);
    mutex_lock(&i->lock);
    out->mode = i->mode;
    out->uid = i->uid;
    out->gid = i->gid;
    out->nlink = i->nlink;
    out->ino = i->ino;
    out->rdev = i->rdev;
    out->size = i->size;
    out->blksize = PAGE_SIZE;
    out->blocks512 = i->nr_cached * (PAGE_SIZE / 512);
    out->dev = i->sb->dev;
    out->atime = i->atime;
    out->mtime = i->mtime;
    out->ctime = i->ctime;
    out->btime = i->btime;
    mutex_unlock(&i->lock);
    return 0;
}

bool inode_owner_or_root(struct inode *i)
{
    struct process *p = fs_process();

    return !p || p->euid == 0 || p->euid == i->uid;
}

int inode_permission(struct inode *i, int mask)
{
    struct process *p = fs_process();
    uint32_t mode = i->mode;

    if (!p || p->euid == 0) {
        /* Root may do all but execute what nobody may execute. */
        if ((mask & MAY_EXEC) && !S_ISDIR(mode) && !(mode & 0111))
            return -EACCES;
        return 0;
    }
    if (p->euid == i->uid)
        mode >>= 6;
    else if (p->egid == i->gid)
        mode >>= 3;
    return (mode & (uint32_t)mask) == (uint32_t)mask ? 0 : -EACCES;
}

void inode_touch(struct inode *i, uint32_t attr_mask)
{
    struct timespec64 now = current_time();

    if (attr_mask & ATTR_ATIME)
        i->atime = now;
    if (attr_mask & ATTR_MTIME)
        i->mtime = now;
    if (attr_mask & ATTR_CTIME)
        i->ctime = now;
}

/* chown by an unprivileged user: only to itself and its own group. */
static int setattr_may(struct inode *i, const struct inode_attr *a,
                       uint32_t mask)
{
    struct process *p = fs_process();

    if (!p || p->euid == 0)
        return 0;
    if ((mask & ATTR_UID) && (p->euid != i->uid || a->uid != i->uid))
        return -EPERM;
    if ((mask & ATTR_GID) &&
        (p->euid != i->uid || (a->gid != p->egid && a->gid != i->gid)))
        return -EPERM;
    if ((mask & ATTR_MODE) && p->euid != i->uid)
        return -EPERM;
    return 0;
}

int vfs_setattr(struct inode *i, const struct inode_attr *a, uint32_t mask)
{
    int err = setattr_may(i, a, mask);

    if (err)
        return err;
    if (i->ops && i->ops->setattr)
        return i->ops->setattr(i, a, mask);
    mutex_lock(&i->lock);
    if (mask & ATTR_MODE)
        i->mode = (i->mode & S_IFMT) | (a->mode & 07777);
    if (mask & (ATTR_UID | ATTR_GID)) {
        /* man 2 chown: the set-id bits of a program are cleared. */
        if (!S_ISDIR(i->mode)) {
            i->mode &= ~04000u;
            if (i->mode & 010)
                i->mode &= ~02000u;
        }
    }
    if (mask & ATTR_UID)
        i->uid = a->uid;
    if (mask & ATTR_GID)
        i->gid = a->gid;
    if (mask & ATTR_ATIME)
        i->atime = a->atime;
    if (mask & ATTR_MTIME)
        i->mtime = a->mtime;
    inode_touch(i, ATTR_CTIME);
    mutex_unlock(&i->lock);
    return 0;
}

int vfs_truncate(struct inode *i, uint64_t size)
{
    struct process *p = fs_process();

    if (S_ISDIR(i->mode))
        return -EISDIR;
    if (!S_ISREG(i->mode))
        return -EINVAL;
    if (p && size > i->size && size > p->rlimits[RLIMIT_FSIZE].cur) {
        struct siginfo64 info = {.signo = SIGXFSZ};
        signal_send_task(current_task(), &info);
        return -EFBIG;
    }
    if (!i->ops->truncate)
        return -EACCES;
    return i->ops->truncate(i, size);
}
