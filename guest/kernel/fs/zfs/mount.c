/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Opening and closing a pool, and the sentences that say why it failed.
 */
#include "fs/zfs/zfs_impl.h"

/* Defaults, for a machine of 8 MiB and a program of a few: all of it is
 * allocated only as it is used. */
#define DEFAULT_CHUNK_BYTES (64u << 10)
#define DEFAULT_NR_CHUNKS 8u
#define DEFAULT_META_BYTES (512u << 10)
#define DEFAULT_DATA_BYTES (512u << 10)
#define DEFAULT_DNODE_BYTES (96u << 10)
#define MIN_CHUNK_BYTES 4096u
#define MAX_CHUNK_BYTES (1u << 20)

#define LABEL_ALIGN (256ull << 10)
#define LABELS_AND_BOOT_BYTES (4608ull << 10) /* not for data */

/* --- messages --- */

static void why_append(struct zfs *z, const char *s)
{
    size_t used = strlen(z->why), len = strlen(s);

    len = MIN(len, z->why_len - 1 - used);
    memcpy(z->why + used, s, len);
    z->why[used + len] = '\0';
}

int zfs_fail(struct zfs *z, int err, const char *part, ...)
{
    va_list parts;

    if (!z->why || z->why_len == 0 || z->why[0])
        return err;
    va_start(parts, part);
    for (; part; part = va_arg(parts, const char *))
        why_append(z, part);
    va_end(parts);
    return err;
}

const char *zfs_decimal(char *buf, uint64_t v)
{
    size_t nr = 1;

    for (uint64_t rest = v; rest >= 10; rest /= 10)
        nr++;
    buf[nr] = '\0';
    do {
        buf[--nr] = (char)('0' + v % 10);
        v /= 10;
    } while (nr);
    return buf;
}

/* --- open and close --- */

static void init_caches(struct zfs *z, const struct zfs_tuning *t)
{
    static const struct zfs_tuning none;
    uint32_t nr_chunks, chunk = DEFAULT_CHUNK_BYTES;

    if (!t)
        t = &none;
    if (t->chunk_bytes >= MIN_CHUNK_BYTES &&
        t->chunk_bytes <= MAX_CHUNK_BYTES &&
        (t->chunk_bytes & (t->chunk_bytes - 1)) == 0)
        chunk = t->chunk_bytes;
    nr_chunks = t->nr_chunks ? t->nr_chunks : DEFAULT_NR_CHUNKS;
    z->chunk_bytes = chunk;
    cache_init(&z->chunks, (size_t)nr_chunks *
                               (chunk + sizeof(struct zbuf)));
    cache_init(&z->blocks, t->meta_bytes ? t->meta_bytes
                                         : DEFAULT_META_BYTES);
    cache_init(&z->records, t->data_bytes ? t->data_bytes
                                          : DEFAULT_DATA_BYTES);
    cache_init(&z->dnodes, t->dnode_bytes ? t->dnode_bytes
                                          : DEFAULT_DNODE_BYTES);
}

static int open_all(struct zfs *z, const char *dataset)
{
    struct zbuf *b;

    int err = vdev_find_uberblock(z);
    if (!err)
        err = dsl_open_pool(z);
    if (!err)
        err = dsl_open_dataset(z, dataset);
    if (err)
        return err;
    err = dnode_get(z, &z->fs, z->root_obj, &b);
    if (err)
        return zfs_fail(z, -EIO, "the root directory is damaged", NULL);
    cache_put(b);
    if (zio_log_has_records(z, &z->fs.log))
        z->flags |= ZFS_UNPLAYED_LOG;
    return 0;
}

static void remark(struct zfs *z)
{
    if (z->why_len)
        z->why[0] = '\0';
    if (z->flags & ZFS_UNPLAYED_LOG)
        zfs_fail(z, 0, "the intent log was not replayed: the last writes "
                 "before a crash are not visible", NULL);
    else if (z->flags & ZFS_DAMAGED_LABEL)
        zfs_fail(z, 0, "a label of the pool is damaged", NULL);
}

int zfs_open_tuned(const struct zfs_vdev_ops *ops, void *dev,
                   uint64_t size_bytes, const char *dataset,
                   const struct zfs_tuning *tuning, struct zfs **out,
                   char *why, size_t why_len)
{
    struct zfs *z = kzalloc(sizeof(*z));

    if (why_len)
        why[0] = '\0';
    if (!z)
        return -ENOMEM;
    z->ops = ops;
    z->dev = dev;
    z->size_bytes = ALIGN_DOWN(size_bytes, LABEL_ALIGN);
    z->why = why;
    z->why_len = why_len;
    init_caches(z, tuning);
    int err = open_all(z, dataset ? dataset : "");
    if (err) {
        zfs_close(z);
        return err;
    }
    remark(z);
    z->why = NULL;
    *out = z;
    return 0;
}

int zfs_open(const struct zfs_vdev_ops *ops, void *dev, uint64_t size_bytes,
             const char *dataset, struct zfs **out, char *why, size_t why_len)
{
    return zfs_open_tuned(ops, dev, size_bytes, dataset, NULL, out, why,
                          why_len);
}

void zfs_close(struct zfs *z)
{
    if (!z)
        return;
    objset_close(&z->fs);
    objset_close(&z->mos);
    sa_table_free(&z->sa);
    cache_destroy(&z->dnodes);
    cache_destroy(&z->records);
    cache_destroy(&z->blocks);
    cache_destroy(&z->chunks);
    kfree(z);
}

uint32_t zfs_flags(struct zfs *z)
{
    return z->flags;
}

uint64_t zfs_guid(struct zfs *z)
{
    return z->guid;
}

int zfs_stat_pool(struct zfs *z, uint64_t *total_bytes, uint64_t *free_bytes,
                  uint64_t *objects)
{
    uint64_t total = z->asize_bytes;

    if (total == 0 && z->size_bytes > LABELS_AND_BOOT_BYTES)
        total = z->size_bytes - LABELS_AND_BOOT_BYTES;
    *total_bytes = total;
    *free_bytes = total > z->used_bytes ? total - z->used_bytes : 0;
    *objects = z->fs.nr_objects;
    return 0;
}

void zfs_get_stats(struct zfs *z, struct zfs_stats *out)
{
    out->dev_reads = __atomic_load_n(&z->stats.dev_reads, __ATOMIC_RELAXED);
    out->dev_bytes = __atomic_load_n(&z->stats.dev_bytes, __ATOMIC_RELAXED);
    out->blocks = __atomic_load_n(&z->stats.blocks, __ATOMIC_RELAXED);
    out->block_bytes = __atomic_load_n(&z->stats.block_bytes,
                                       __ATOMIC_RELAXED);
}

void zfs_shrink(struct zfs *z)
{
    cache_shrink(&z->dnodes);
    cache_shrink(&z->records);
    cache_shrink(&z->blocks);
    cache_shrink(&z->chunks);
}
