/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Files and directories: the public calls on objects.
 *
 * A directory is a ZAP: name -> object number, with the type of the file in
 * the top four bits. A file is a row of records of one size; a file of one
 * record may have a smaller one.
 */
#include "fs/zfs/zfs_impl.h"

#define MODE_TYPE 0170000u
#define MODE_DIR 0040000u
#define MODE_REG 0100000u
#define MODE_LINK 0120000u

#define DIRENT_TYPE_SHIFT 60

/* Records read with one request; bounds the buffer for compressed ones. */
#define MAX_RUN 4u
#define MAX_RUN_BYTES (1u << 20)

uint64_t zfs_root(struct zfs *z)
{
    return z->root_obj;
}

/* The dnode of a file of this type (0 = any); `wrong` if it has another. */
static int file_get(struct zfs *z, uint64_t obj, uint32_t type, int wrong,
                    struct zbuf **out)
{
    int err = dnode_get(z, &z->fs, obj, out);

    if (err)
        return err;
    if (!dnode_of(*out)->is_file)
        err = -EIO;
    else if (type && (dnode_of(*out)->attr.mode & MODE_TYPE) != type)
        err = wrong;
    if (err)
        cache_put(*out);
    return err;
}

int zfs_getattr(struct zfs *z, uint64_t obj, struct zfs_attr *out)
{
    struct zbuf *b;

    int err = file_get(z, obj, 0, 0, &b);
    if (err)
        return err;
    *out = dnode_of(b)->attr;
    cache_put(b);
    return 0;
}

int zfs_lookup(struct zfs *z, uint64_t dir, const char *name, size_t name_len,
               uint64_t *obj_out)
{
    uint64_t value;
    struct zbuf *b;

    if (name_len > ZFS_NAME_MAX)
        return -ENAMETOOLONG;
    int err = file_get(z, dir, MODE_DIR, -ENOTDIR, &b);
    if (err)
        return err;
    err = zap_lookup(z, dnode_of(b), name, name_len, &value);
    cache_put(b);
    if (!err)
        *obj_out = value & OBJ_MAX;
    return err;
}

int zfs_readdir(struct zfs *z, uint64_t dir, uint64_t *cursor,
                struct zfs_dirent *out)
{
    struct zap_entry *e = kmalloc(sizeof(*e));
    struct zbuf *b;

    if (!e)
        return -ENOMEM;
    int err = file_get(z, dir, MODE_DIR, -ENOTDIR, &b);
    if (!err) {
        err = zap_next(z, dnode_of(b), cursor, e);
        cache_put(b);
    }
    if (!err && (e->int_bytes != 8 || e->nr_ints != 1))
        err = -EIO;
    if (!err) {
        out->obj = e->first & OBJ_MAX;
        out->type = (uint8_t)(e->first >> DIRENT_TYPE_SHIFT);
        out->name_len = e->name_len;
        memcpy(out->name, e->name, e->name_len + 1u);
    }
    kfree(e);
    return err;
}

/* One record or a part of it; buf has room for `room` >= n bytes. */
static int read_record(struct zfs *z, const struct zdnode *dn, uint64_t blkid,
                       size_t within, uint8_t *buf, size_t n, size_t room)
{
    struct zfs_bp bp;
    struct zbuf *b;

    int err = dnode_block_pointer(z, dn, blkid, &bp);
    if (err)
        return err;
    if (bp_is_hole(&bp)) {
        memset(buf, 0, n);
        return 0;
    }
    if (within == 0 && room >= dn->block_bytes)
        return zio_read(z, &bp, buf, dn->block_bytes);
    err = zio_get(z, &z->records, &bp, &b);
    if (err)
        return err;
    memcpy(buf, (const uint8_t *)b->data + within, n);
    cache_put(b);
    return 0;
}

/* Several whole records at once, from `blkid` on, when they lie side by side.
 * Returns their number, 0 if it did not work out. */
static unsigned int read_records(struct zfs *z, const struct zdnode *dn,
                                 uint64_t blkid, uint8_t *buf, size_t room)
{
    uint64_t records = (dn->attr.size + dn->block_bytes - 1) / dn->block_bytes;
    unsigned int nr = 0, max;
    struct zfs_bp bps[MAX_RUN];

    max = (unsigned int)MIN(MIN(room, (size_t)MAX_RUN_BYTES) /
                                dn->block_bytes, (size_t)MAX_RUN);
    max = (unsigned int)MIN(records - blkid, (uint64_t)max);
    if (max < 2)
        return 0;
    while (nr < max && dnode_block_pointer(z, dn, blkid + nr, &bps[nr]) == 0)
        nr++;
    return zio_read_run(z, bps, nr, buf, dn->block_bytes);
}

static ssize_t read_data(struct zfs *z, const struct zdnode *dn,
                         uint64_t offset, uint8_t *buf, size_t room)
{
    size_t done = 0, len = room;

    if (offset >= dn->attr.size || len == 0)
        return 0;
    len = MIN(len, dn->attr.size - offset);
    len = MIN(len, (size_t)1 << 30);
    while (done < len) {
        size_t within = (offset + done) % dn->block_bytes;
        size_t n = MIN(dn->block_bytes - within, len - done);
        uint64_t blkid = (offset + done) / dn->block_bytes;
        if (within == 0) {
            size_t nr = read_records(z, dn, blkid, buf + done, room - done);
            if (nr) {
                done += MIN(nr * dn->block_bytes, len - done);
                continue;
            }
        }
        int err = read_record(z, dn, blkid, within, buf + done, n,
                              room - done);
        if (err)
            return err;
        done += n;
    }
    return (ssize_t)done;
}

ssize_t zfs_read(struct zfs *z, uint64_t obj, uint64_t offset, void *buf,
                 size_t len)
{
    struct zbuf *b;

    int err = file_get(z, obj, MODE_REG, -EINVAL, &b);
    if (err)
        return err;
    ssize_t n = read_data(z, dnode_of(b), offset, buf, len);
    cache_put(b);
    return n;
}

int zfs_readlink(struct zfs *z, uint64_t obj, char *buf, size_t size,
                 size_t *len_out)
{
    struct zbuf *b;

    int err = file_get(z, obj, MODE_LINK, -EINVAL, &b);
    if (err)
        return err;
    err = sa_symlink(z, dnode_of(b), buf, size, len_out);
    if (err == -ENOENT) {
        ssize_t n = read_data(z, dnode_of(b), 0, (uint8_t *)buf, size);
        err = n < 0 ? (int)n : 0;
        if (!err)
            *len_out = (size_t)n;
    }
    cache_put(b);
    return err;
}
