/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * memfs.c: the file system in memory. With a `lower` object of the pool below
 * its inodes it is the root; without it is tmpfs, /dev, shared memory.
 *
 * - The dentry tree is the directory. A directory with a lower object asks the
 *   pool for names it does not know (INODE_LOWER_DIR) until all of them were
 *   merged in by the first readdir; deleted ones leave negative dentries.
 * - An inode that came from the pool lives until its last link goes: changed
 *   attributes and pages must not be lost. It is found by object number, so
 *   hard links meet in one inode.
 * - lower_size: how much of the lower object is still visible; truncation
 *   only lowers it. Protected by inode->lock to change; read under cache_lock.
 */
#include "fs/memfs.h"

#include "linux/task.h"

#define NR_ICACHE 1024u
#define FIRST_NEW_INO 0x40000000ul

static struct {
    struct spinlock lock;
    struct memfs_inode *bucket[NR_ICACHE];
} icache;
static uint64_t last_ino = FIRST_NEW_INO;

static struct memfs_inode *icache_find_locked(uint64_t object)
{
    struct memfs_inode *m = icache.bucket[object % NR_ICACHE];

    while (m && m->lower != object)
        m = m->hash_next;
    return m;
}

static void icache_remove(struct memfs_inode *m)
{
    spin_lock(&icache.lock);
    struct memfs_inode **at = &icache.bucket[m->lower % NR_ICACHE];
    while (*at && *at != m)
        at = &(*at)->hash_next;
    if (*at)
        *at = m->hash_next;
    spin_unlock(&icache.lock);
}

static struct memfs_inode *memfs_new(struct superblock *sb, uint32_t mode,
                                     bool has_lower)
{
    struct memfs_inode *m = kzalloc(sizeof(*m));

    if (!m)
        return NULL;
    inode_init(&m->i, sb, has_lower && S_ISREG(mode) ? &memfs_lower_ops
                                                     : &memfs_ops, mode);
    return m;
}

int memfs_instantiate(struct superblock *sb, uint64_t object,
                      struct inode **out)
{
    struct inode_attr a;
    struct memfs_inode *m, *other;

    spin_lock(&icache.lock);
    m = icache_find_locked(object);
    if (m)
        inode_get(&m->i);
    spin_unlock(&icache.lock);
    if (m) {
        *out = &m->i;
        return 0;
    }
    int err = lower_getattr(object, &a);
    if (err)
        return err;
    m = memfs_new(sb, a.mode, true);
    if (!m)
        return -ENOMEM;
    m->lower = object;
    m->lower_size = a.size;
    m->lower_blocks = a.blocks512;
    m->blksize = a.blksize;
    m->i.ino = a.ino;
    m->i.uid = a.uid;
    m->i.gid = a.gid;
    m->i.nlink = a.nlink;
    m->i.rdev = a.rdev;
    m->i.size = a.size;
    m->i.atime = a.atime;
    m->i.mtime = a.mtime;
    m->i.ctime = a.ctime;
    m->i.btime = a.btime;
    if (S_ISDIR(a.mode))
        m->i.iflags |= INODE_LOWER_DIR;
    spin_lock(&icache.lock);
    other = icache_find_locked(object);
    if (!other) {
        m->hash_next = icache.bucket[object % NR_ICACHE];
        icache.bucket[object % NR_ICACHE] = m;
        m->i.refcount++; /* the cache's, until nlink is 0 */
    } else {
        inode_get(&other->i);
    }
    spin_unlock(&icache.lock);
    if (other) {
        kfree(m);
        m = other;
    }
    *out = &m->i;
    return 0;
}

static int memfs_lookup(struct inode *dir, const char *name, size_t len,
                        struct inode **out)
{
    uint64_t object;

    if (!(dir->iflags & INODE_LOWER_DIR) && !to_memfs(dir)->lower)
        return -ENOENT;
    int err = lower_lookup(to_memfs(dir)->lower, name, len, &object);
    return err ? err : memfs_instantiate(dir->sb, object, out);
}

/* A new inode owned by the caller of the system call. dir may be NULL. */
static int memfs_make(struct superblock *sb, struct inode *dir, uint32_t mode,
                      uint64_t rdev, const char *target, struct inode **out)
{
    struct process *p = fs_process();
    struct memfs_inode *m = memfs_new(sb, mode, false);

    if (!m)
        return -ENOSPC;
    m->i.ino = atomic_add(&last_ino, 1ul);
    m->i.rdev = rdev;
    m->i.uid = p ? p->euid : 0;
    m->i.gid = p ? p->egid : 0;
    if (dir && (dir->mode & 02000)) { /* man 7 inode: set-group-ID */
        m->i.gid = dir->gid;
        if (S_ISDIR(mode))
            m->i.mode |= 02000;
    }
    if (S_ISDIR(mode))
        m->i.nlink = 2;
    if (target) {
        m->symlink = kstrdup(target);
        if (!m->symlink) {
            kfree(m);
            return -ENOSPC;
        }
        m->i.size = strlen(target);
    }
    *out = &m->i;
    return 0;
}

static int memfs_create(struct inode *dir, const char *name, size_t len,
                        uint32_t mode, uint64_t rdev, const char *target,
                        struct inode **out)
{
    int err = memfs_make(dir->sb, dir, mode, rdev, target, out);

    if (err)
        return err;
    if (S_ISDIR(mode))
        dir->nlink++;
    inode_touch(dir, ATTR_MTIME | ATTR_CTIME);
    return 0;
}

int memfs_tmpfile(struct inode *dir, uint32_t mode, struct inode **out)
{
    int err = memfs_make(dir->sb, dir, S_IFREG | (mode & 07777), 0, NULL,
                         out);

    if (!err)
        (*out)->nlink = 0;
    return err;
}

static int memfs_link(struct inode *dir, const char *name, size_t len,
                      struct inode *target)
{
    mutex_lock(&target->lock);
    target->nlink++;
    inode_touch(target, ATTR_CTIME);
    mutex_unlock(&target->lock);
    inode_touch(dir, ATTR_MTIME | ATTR_CTIME);
    return 0;
}

/* One name less; target->lock is held. */
static void memfs_drop_link(struct inode *target)
{
    struct memfs_inode *m = to_memfs(target);

    inode_touch(target, ATTR_CTIME);
    if (S_ISDIR(target->mode))
        target->nlink = 0;
    else
        target->nlink--;
    if (target->nlink == 0 && m->lower && !m->is_forgotten) {
        m->is_forgotten = true;
        icache_remove(m);
        inode_put(target); /* the cache's; the caller has another one */
    }
}

static int memfs_unlink(struct inode *dir, const char *name, size_t len,
                        struct inode *target)
{
    if (S_ISDIR(target->mode))
        dir->nlink--;
    memfs_drop_link(target);
    inode_touch(dir, ATTR_MTIME | ATTR_CTIME);
    return 0;
}

static int memfs_rename(struct inode *old_dir, const char *old_name,
                        size_t old_len, struct inode *new_dir,
                        const char *new_name, size_t new_len,
                        struct inode *moved, struct inode *replaced)
{
    if (replaced) {
        mutex_lock(&replaced->lock);
        if (S_ISDIR(replaced->mode))
            new_dir->nlink--;
        memfs_drop_link(replaced);
        mutex_unlock(&replaced->lock);
    }
    if (S_ISDIR(moved->mode) && old_dir != new_dir) {
        old_dir->nlink--;
        new_dir->nlink++;
    }
    inode_touch(old_dir, ATTR_MTIME | ATTR_CTIME);
    inode_touch(new_dir, ATTR_MTIME | ATTR_CTIME);
    mutex_lock(&moved->lock);
    inode_touch(moved, ATTR_CTIME);
    mutex_unlock(&moved->lock);
    return 0;
}

static int memfs_readlink(struct inode *i, char *buf, size_t size)
{
    struct memfs_inode *m = to_memfs(i);

    if (!S_ISLNK(i->mode))
        return -EINVAL;
    if (!m->symlink)
        return lower_readlink(m->lower, buf, size);
    size_t n = MIN(strlen(m->symlink), size);
    memcpy(buf, m->symlink, n);
    return n;
}

static int memfs_getattr(struct inode *i, struct inode_attr *a)
{
    struct memfs_inode *m = to_memfs(i);

    mutex_lock(&i->lock);
    a->mode = i->mode;
    a->uid = i->uid;
    a->gid = i->gid;
    a->nlink = i->nlink;
    a->ino = i->ino;
    a->rdev = i->rdev;
    a->size = i->size;
    a->dev = i->sb->dev;
    a->atime = i->atime;
    a->mtime = i->mtime;
    a->ctime = i->ctime;
    a->btime = i->btime;
    a->blksize = m->lower && m->blksize ? m->blksize : PAGE_SIZE;
    a->blocks512 = m->lower && !m->is_changed
                       ? m->lower_blocks
                       : m->lower ? (i->size + 511) / 512
                                  : i->nr_cached * (PAGE_SIZE / 512);
    mutex_unlock(&i->lock);
    return 0;
}

/* i->lock held. */
static int memfs_truncate_locked(struct inode *i, uint64_t size)
{
    struct memfs_inode *m = to_memfs(i);
    uint64_t old = i->size;

    if ((size < old && (m->seals & F_SEAL_SHRINK)) ||
        (size > old && (m->seals & F_SEAL_GROW)))
        return -EPERM;
    m->is_changed = true;
    if (size < m->lower_size)
        m->lower_size = size;
    atomic_store_release(&i->size, size);
    if (size < old)
        pagecache_truncate(i, size);
    inode_touch(i, ATTR_MTIME | ATTR_CTIME);
    return 0;
}

static int memfs_truncate(struct inode *i, uint64_t size)
{
    mutex_lock(&i->lock);
    int err = memfs_truncate_locked(i, size);
    mutex_unlock(&i->lock);
    return err;
}

static int memfs_read_pages(struct inode *i, uint64_t index, void *buf,
                            size_t nr_pages)
{
    struct memfs_inode *m = to_memfs(i);
    uint64_t from = index << PAGE_SHIFT, len = nr_pages << PAGE_SHIFT;
    uint64_t visible = 0;
    int err = 0;

    if (from < m->lower_size)
        visible = MIN(len, m->lower_size - from);
    if (visible)
        err = lower_read(m->lower, from, buf, visible);
    if (!err && visible < len)
        memset((char *)buf + visible, 0, len - visible);
    return err;
}

static void memfs_destroy(struct inode *i)
{
    struct memfs_inode *m = to_memfs(i);

    kfree(m->symlink);
    kfree(m);
}

static int memfs_open(struct inode *i, struct file *f)
{
    f->ops = S_ISDIR(i->mode) ? &memfs_dir_ops : &memfs_file_ops;
    return 0;
}

#define MEMFS_COMMON                                                     \
    .lookup = memfs_lookup, .create = memfs_create, .link = memfs_link,  \
    .unlink = memfs_unlink, .rename = memfs_rename,                      \
    .readlink = memfs_readlink, .getattr = memfs_getattr,                \
    .truncate = memfs_truncate, .open = memfs_open, .destroy = memfs_destroy

const struct inode_ops memfs_ops = {MEMFS_COMMON};
const struct inode_ops memfs_lower_ops = {
    MEMFS_COMMON, .read_pages = memfs_read_pages,
};

bool inode_is_memfs(struct inode *i)
{
    return i->ops == &memfs_ops || i->ops == &memfs_lower_ops;
}

uint32_t *memfs_seals(struct inode *i)
{
    if (!inode_is_memfs(i) || !S_ISREG(i->mode) || !to_memfs(i)->is_memfd)
        return NULL;
    return &to_memfs(i)->seals;
}

/* --- superblocks --- */
static int memfs_statfs(struct superblock *sb, uint64_t *total,
                        uint64_t *free_bytes, uint64_t *files)
{
    struct memory_stats s;

    memory_stats(&s);
    *total = s.total_pages / 2 * PAGE_SIZE; /* tmpfs: half of memory */
    *free_bytes = MIN(s.free_pages * PAGE_SIZE, *total);
    *files = s.total_pages / 2;
    return 0;
}

static int rootfs_statfs(struct superblock *sb, uint64_t *total,
                         uint64_t *free_bytes, uint64_t *files)
{
    struct memory_stats s;
    uint64_t pool_free;
    int err = lower_statfs(total, &pool_free, files);

    memory_stats(&s);
    *free_bytes = s.free_pages * PAGE_SIZE; /* what is written is in memory */
    if (*free_bytes > *total)
        *total = *free_bytes;
    return err;
}

int memfs_create_sb(const char *type, uint64_t magic, struct superblock **out)
{
    struct superblock *sb = kzalloc(sizeof(*sb));
    struct inode *i;

    if (!sb)
        return -ENOMEM;
    sb->type = sb->source = type;
    sb->options = "rw,relatime";
    sb->magic = magic;
    sb->dev = new_device_number();
    sb->statfs = memfs_statfs;
    int err = memfs_make(sb, NULL, S_IFDIR | 0755, 0, NULL, &i);
    if (err) {
        kfree(sb);
        return err;
    }
    i->ino = 1;
    sb->root = dentry_alloc(NULL, "", 0);
    if (!sb->root)
        return -ENOMEM;
    sb->root->inode = i;
    *out = sb;
    return 0;
}

int tmpfs_mount(const char *where)
{
    struct superblock *sb;
    int err = memfs_create_sb("tmpfs", 0x01021994, &sb);

    if (err)
        return err;
    sb->options = "rw,nosuid,nodev";
    err = vfs_mount(where, sb);
    if (!err) /* as the directory it covers */
        sb->root->inode->mode = sb->mounted_on->inode->mode;
    return err;
}

static int rootfs_mkdir(const char *path, uint32_t mode)
{
    struct dentry *d;
    int err = vfs_mknod(NULL, path, S_IFDIR | mode, 0, &d);

    if (!err)
        dentry_put(d);
    return err == -EEXIST ? 0 : err;
}

/* What an image has in /run stays to be seen, as in a container. A directory
 * of the pool counts its entries, "." and ".." too. */
static int run_mount(const char *where)
{
    struct file *f;
    int err = vfs_open(NULL, where, O_RDONLY, 0, &f);
    bool is_empty;

    if (err)
        return err;
    is_empty = f->inode->size <= 2;
    file_put(f);
    return is_empty ? tmpfs_mount(where) : 0;
}

static int rootfs_mount_others(void)
{
    static const struct {
        const char *where;
        uint32_t mode;
        int (*mount)(const char *where);
    } mounts[] = {
        {"/dev", 0755, devfs_mount},    {"/proc", 0555, procfs_mount},
        {"/sys", 0555, sysfs_mount},    {"/dev/shm", 01777, tmpfs_mount},
        {"/run", 0755, run_mount},    {"/tmp", 01777, NULL},
    };

    for (size_t n = 0; n < ARRAY_SIZE(mounts); n++) {
        int err = rootfs_mkdir(mounts[n].where, mounts[n].mode);
        if (!err && mounts[n].mount)
            err = mounts[n].mount(mounts[n].where);
        if (err) {
            klog(LOG_ERROR, "mount %s: %d", mounts[n].where, err);
            return err;
        }
    }
    return 0;
}

int rootfs_mount(void)
{
    struct superblock *sb = kzalloc(sizeof(*sb));
    uint64_t root;

    if (!sb)
        return -ENOMEM;
    mutex_init(&rename_lock);
    pagecache_init();
    int err = lower_mount(&root);
    if (err)
        return err;
    sb->type = "zfs";
    sb->source = "capstan";
    sb->options = "rw,xattr,noacl";
    sb->magic = 0x2fc12fc1;
    sb->dev = new_device_number();
    sb->statfs = rootfs_statfs;
    struct inode *i;
    err = memfs_instantiate(sb, root, &i);
    if (err) {
        klog(LOG_ERROR, "pool: no root directory (%d)", err);
        return err;
    }
    sb->root = dentry_alloc(NULL, "", 0);
    if (!sb->root)
        return -ENOMEM;
    sb->root->inode = i;
    err = vfs_mount(NULL, sb);
    return err ? err : rootfs_mount_others();
}

/* --- files without a name --- */
static struct superblock *shmem_sb;

static int shmem_super(struct superblock **out)
{
    static struct spinlock lock;
    struct superblock *sb;

    if (!atomic_load_acquire(&shmem_sb)) {
        int err = memfs_create_sb("tmpfs", 0x01021994, &sb);
        if (err)
            return err;
        spin_lock(&lock);
        if (!shmem_sb)
            atomic_store_release(&shmem_sb, sb);
        spin_unlock(&lock);
    }
    *out = shmem_sb;
    return 0;
}

int shmem_inode_create(uint64_t size, struct inode **out)
{
    struct superblock *sb;
    int err = shmem_super(&sb);

    if (!err)
        err = memfs_make(sb, NULL, S_IFREG | 0777, 0, NULL, out);
    if (err)
        return -ENOMEM;
    (*out)->nlink = 0;
    (*out)->size = size;
    return 0;
}

int memfd_create_file(const char *name, bool may_seal, uint32_t mode,
                      struct file **out)
{
    struct inode *i;
    struct dentry *d;
    int err = shmem_inode_create(0, &i);

    if (err)
        return err;
    i->mode = S_IFREG | mode;
    to_memfs(i)->is_memfd = true;
    to_memfs(i)->seals = may_seal ? 0 : F_SEAL_SEAL;
    d = dentry_alloc(NULL, name, strlen(name));
    if (!d) {
        inode_put(i);
        return -ENOMEM;
    }
    d->inode = i; /* Takes */
    d->flags |= DENTRY_GONE;
    err = file_create(i, d, &memfs_file_ops, O_RDWR, NULL, out);
    dentry_put(d);
    return err;
}
