/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * lower.c: the pool below the root memfs. Objects are ZFS object numbers.
 */
#include "drivers/drivers.h"
#include "fs/fs_internal.h"
#include "fs/zfs/zfs.h"

static struct zfs *pool;

static int lower_vdev_read(void *dev, uint64_t offset, void *buf, size_t len)
{
    return block_read(offset, buf, len);
}

static const struct zfs_vdev_ops lower_vdev = {.read = lower_vdev_read};

int lower_mount(uint64_t *root_object)
{
    uint64_t size = block_size_bytes();
    char *message;
    int err;

    if (size == 0) {
        const char *why = virtio_trouble();
        control_send("failed 125 the machine has no virtio disk that can be "
                     "used%s%s", *why ? ": " : "", why);
        return -ENXIO;
    }
    boot_mark("disk found");
    message = kzalloc(256);
    if (!message)
        return -ENOMEM;
    err = zfs_open(&lower_vdev, NULL, size, NULL, &pool, message, 256);
    if (err) {
        klog(LOG_ERROR, "pool: %s (%d)", message, err);
        control_send("failed 125 cannot open the image's pool: %s", message);
    } else {
        if (*message)
            klog(LOG_WARN, "pool: %s", message);
        *root_object = zfs_root(pool);
    }
    boot_mark("pool open");
    kfree(message);
    return err;
}

int lower_lookup(uint64_t dir, const char *name, size_t len, uint64_t *obj)
{
    return zfs_lookup(pool, dir, name, len, obj);
}

int lower_getattr(uint64_t obj, struct inode_attr *out)
{
    struct zfs_attr a;
    int err = zfs_getattr(pool, obj, &a);

    if (err)
        return err;
    out->mode = a.mode;
    out->uid = a.uid;
    out->gid = a.gid;
    out->nlink = a.links;
    out->ino = a.obj;
    out->rdev = a.rdev;
    out->size = a.size;
    out->blocks512 = a.blocks512;
    out->blksize = a.blksize;
    out->atime = (struct timespec64){a.atime.sec, a.atime.nsec};
    out->mtime = (struct timespec64){a.mtime.sec, a.mtime.nsec};
    out->ctime = (struct timespec64){a.ctime.sec, a.ctime.nsec};
    out->btime = (struct timespec64){a.crtime.sec, a.crtime.nsec};
    return 0;
}

int lower_readlink(uint64_t obj, char *buf, size_t size)
{
    size_t len;
    int err = zfs_readlink(pool, obj, buf, size, &len);

    return err ? err : (int)len;
}

/* All len bytes; what lies past the end of the object is zero. */
int lower_read(uint64_t obj, uint64_t offset, void *buf, size_t len)
{
    ssize_t n = len ? zfs_read(pool, obj, offset, buf, len) : 0;

    if (n < 0)
        return n;
    if ((size_t)n < len)
        memset((char *)buf + n, 0, len - n);
    return 0;
}

int lower_readdir(uint64_t dir, int (*take)(void *, struct lower_dirent *),
                  void *arg)
{
    struct zfs_dirent *e = kmalloc(sizeof(*e));
    uint64_t cursor = 0;
    int err = -ENOMEM;

    if (!e)
        return err;
    while ((err = zfs_readdir(pool, dir, &cursor, e)) == 0) {
        struct lower_dirent out = {e->obj, e->name, e->name_len, e->type};
        err = take(arg, &out);
        if (err)
            break;
        sched_yield_point();
    }
    kfree(e);
    return err == -ENOENT ? 0 : err;
}

int lower_statfs(uint64_t *total_bytes, uint64_t *free_bytes, uint64_t *files)
{
    return zfs_stat_pool(pool, total_bytes, free_bytes, files);
}
