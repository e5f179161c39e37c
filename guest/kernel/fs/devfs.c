/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * devfs.c: /dev is a tmpfs with nodes; devices are found by number, so a node
 * in the image or made by mknod works too. man 4 null, random, tty.
 */
#include "drivers/drivers.h"
#include "fs/fs_internal.h"
#include "param.h"

#define NR_CHRDEVS 24u
#define RANDOM_CHUNK 256u

struct chrdev {
    uint64_t rdev;
    const struct file_ops *ops;
};

static struct chrdev chrdevs[NR_CHRDEVS];
static unsigned nr_chrdevs;

int chrdev_register(uint64_t rdev, const struct file_ops *ops)
{
    if (nr_chrdevs == NR_CHRDEVS)
        return -ENOSPC;
    chrdevs[nr_chrdevs].rdev = rdev;
    chrdevs[nr_chrdevs].ops = ops;
    nr_chrdevs++;
    return 0;
}

int chrdev_open(struct inode *i, struct file *f)
{
    for (unsigned n = 0; n < nr_chrdevs; n++) {
        if (chrdevs[n].rdev == i->rdev) {
            f->ops = chrdevs[n].ops;
            return 0;
        }
    }
    return -ENXIO;
}

static off_t null_seek(struct file *f, off_t offset, int whence)
{
    f->pos = 0;
    return 0;
}

static ssize_t null_read(struct file *f, struct iov_iter *to, off_t *pos)
{
    return 0;
}

static ssize_t null_write(struct file *f, struct iov_iter *from, off_t *pos)
{
    return from->count;
}

static ssize_t zero_read(struct file *f, struct iov_iter *to, off_t *pos)
{
    ssize_t done = 0;

    while (to->count) {
        size_t len = MIN(to->count, 256 * KIB);
        ssize_t r = iter_zero(to, len);
        if (r < 0)
            return done ? done : r;
        done += r;
        if ((size_t)r < len)
            break;
        sched_yield_point();
    }
    return done;
}

static ssize_t full_write(struct file *f, struct iov_iter *from, off_t *pos)
{
    return -ENOSPC;
}

static int zero_mmap(struct file *f, uint64_t offset, size_t len, int prot,
                     int flags, bool *anonymous)
{
    *anonymous = true;
    return 0;
}

static ssize_t random_read(struct file *f, struct iov_iter *to, off_t *pos)
{
    uint8_t buf[RANDOM_CHUNK];
    ssize_t done = 0;

    while (to->count) {
        size_t len = MIN(to->count, sizeof(buf));
        random_bytes(buf, len);
        ssize_t r = iter_copy_to(to, buf, len);
        if (r < 0)
            return done ? done : r;
        done += r;
        if ((size_t)r < len || signal_pending())
            break;
        sched_yield_point();
    }
    memset(buf, 0, sizeof(buf));
    return done;
}

#define RNDGETENTCNT 0x80045200u

static int64_t random_ioctl(struct file *f, uint32_t cmd, uint64_t arg)
{
    if (cmd == RNDGETENTCNT)
        return put_user((int32_t __user *)arg, 256);
    return -EINVAL;
}

static const struct file_ops null_ops = {
    .read = null_read, .write = null_write, .seek = null_seek,
};
static const struct file_ops zero_ops = {
    .read = zero_read, .write = null_write, .seek = null_seek,
    .mmap = zero_mmap,
};
static const struct file_ops full_ops = {
    .read = zero_read, .write = full_write, .seek = null_seek,
};
/* Writing stirs nothing: the generator has its seed. Linux takes it too. */
static const struct file_ops random_ops = {
    .read = random_read, .write = null_write, .seek = null_seek,
    .ioctl = random_ioctl,
};

static const struct {
    const char *path;
    uint32_t mode;
    uint64_t rdev;
    const struct file_ops *ops;
    const char *target;
} nodes[] = {
    {"null", S_IFCHR | 0666, MKDEV(1, 3), &null_ops, NULL},
    {"zero", S_IFCHR | 0666, MKDEV(1, 5), &zero_ops, NULL},
    {"full", S_IFCHR | 0666, MKDEV(1, 7), &full_ops, NULL},
    {"random", S_IFCHR | 0666, MKDEV(1, 8), &random_ops, NULL},
    {"urandom", S_IFCHR | 0666, MKDEV(1, 9), &random_ops, NULL},
    {"tty", S_IFCHR | 0666, MKDEV(5, 0), &tty_file_ops, NULL},
    {"console", S_IFCHR | 0620, MKDEV(5, 1), &tty_file_ops, NULL},
    {"fd", S_IFLNK, 0, NULL, "/proc/self/fd"},
    {"stdin", S_IFLNK, 0, NULL, "/proc/self/fd/0"},
    {"stdout", S_IFLNK, 0, NULL, "/proc/self/fd/1"},
    {"stderr", S_IFLNK, 0, NULL, "/proc/self/fd/2"},
    {"core", S_IFLNK, 0, NULL, "/proc/kcore"},
    {"shm", S_IFDIR | 01777, 0, NULL, NULL},
};

int devfs_mount(const char *where)
{
    struct superblock *sb;
    int err = memfs_create_sb("devtmpfs", 0x01021994, &sb);

    if (err)
        return err;
    sb->options = "rw,nosuid,relatime";
    err = vfs_mount(where, sb);
    for (size_t n = 0; !err && n < ARRAY_SIZE(nodes); n++) {
        struct dentry *d;
        /* A program without a terminal finds none: ENXIO. */
        if (nodes[n].ops && (nodes[n].rdev != MKDEV(5, 0) || boot_params.tty))
            err = chrdev_register(nodes[n].rdev, nodes[n].ops);
        if (err)
            break;
        if (nodes[n].target) {
            err = vfs_symlink(sb->root, nodes[n].path, nodes[n].target);
            continue;
        }
        err = vfs_mknod(sb->root, nodes[n].path, nodes[n].mode, nodes[n].rdev,
                        &d);
        if (!err)
            dentry_put(d);
    }
    return err;
}
