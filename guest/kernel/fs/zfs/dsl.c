/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * From the uberblock to a dataset: the meta object set (MOS) holds the
 * configuration, the features in use, and a tree of directories whose nodes
 * point to datasets and snapshots ("ZFS On-Disk Specification", ch. 4).
 */
#include "fs/zfs/zfs_impl.h"

#define OBJECT_DIRECTORY 1u
#define MASTER_NODE 1u
#define OBJSET_TYPE_META 1u
#define OBJSET_TYPE_ZFS 2u
#define MAX_CONFIG_BYTES (1u << 20)
#define VERSION_FEATURES 5000u
#define ZPL_VERSION_MAX 5u
/* Our own pools end with all metadata; the MOS's object set is its last block.
 * In other pools this may be read in vain. */
#define PREFETCH_BYTES (256u << 10)

/* Offsets in the bonus of a directory. */
enum { DD_HEAD = 8, DD_CHILDREN = 32, DD_USED = 40, DD_BYTES = 256 };
/* Offsets in the bonus of a dataset. */
enum { DS_SNAPSHOTS = 32, DS_GUID = 112, DS_BP = 128, DS_BYTES = 320 };

enum { MOS_ID = 0, FS_ID = 1 };

/* --- the pool --- */

static int read_config(struct zfs *z, const struct zdnode *dn)
{
    if (dn->bonus_len < 8)
        return -EIO;
    uint64_t size = get_le64(dnode_bonus(dn));
    if (size == 0 || size > MAX_CONFIG_BYTES)
        return -EIO;
    uint8_t *buf = kmalloc(size);
    if (!buf)
        return -ENOMEM;
    int err = 0;
    for (uint64_t at = 0; at < size && !err; at += dn->block_bytes) {
        struct zbuf *b;
        err = dnode_block_get(z, dn, at / dn->block_bytes, &b);
        if (err)
            break;
        memcpy(buf + at, b->data, MIN(size - at, dn->block_bytes));
        cache_put(b);
    }
    if (!err)
        err = label_check_config(z, buf, size);
    kfree(buf);
    return err;
}

static int check_config(struct zfs *z)
{
    struct zbuf *b;
    uint64_t obj;

    int err = zap_lookup_obj(z, &z->mos, OBJECT_DIRECTORY, "config", &obj);
    if (err)
        return err;
    err = dnode_get(z, &z->mos, obj, &b);
    if (err)
        return err;
    err = read_config(z, dnode_of(b));
    cache_put(b);
    return err;
}

/* Appends ", name" to a list. */
static void list_append(char *list, size_t size, const char *name)
{
    size_t used = strlen(list), len = strlen(name);

    if (used + len + 3 > size)
        return;
    if (used) {
        memcpy(list + used, ", ", 2);
        used += 2;
    }
    memcpy(list + used, name, len + 1);
}

static int check_feature_object(struct zfs *z, const struct zdnode *dn,
                                char *unknown, size_t size)
{
    struct zap_entry *e = kmalloc(sizeof(*e));
    uint64_t cursor = 0;
    int err;

    if (!e)
        return -ENOMEM;
    while ((err = zap_next(z, dn, &cursor, e)) == 0)
        if (e->first > 0 && !feature_is_known(e->name, e->name_len))
            list_append(unknown, size, e->name);
    kfree(e);
    return err == -ENOENT ? 0 : err;
}

static int check_features(struct zfs *z)
{
    char unknown[256] = "";
    struct zbuf *b;
    uint64_t obj;

    if (z->version < VERSION_FEATURES)
        return 0;
    int err = zap_lookup_obj(z, &z->mos, OBJECT_DIRECTORY,
                             "features_for_read", &obj);
    if (err)
        return err;
    err = dnode_get(z, &z->mos, obj, &b);
    if (err)
        return err;
    err = check_feature_object(z, dnode_of(b), unknown, sizeof(unknown));
    cache_put(b);
    if (!err && unknown[0])
        err = zfs_fail(z, -ENOTSUP, "the pool uses features that are not "
                       "supported: ", unknown, NULL);
    return err;
}

static int open_mos(struct zfs *z)
{
    vdev_prefetch(z, zio_block_end(&z->root_bp), PREFETCH_BYTES);
    int err = objset_open(z, &z->root_bp, MOS_ID, &z->mos);

    if (!err && z->mos.type != OBJSET_TYPE_META)
        err = -EIO;
    if (!err)
        err = check_features(z);
    if (!err)
        err = check_config(z);
    if (!err)
        err = zap_lookup_obj(z, &z->mos, OBJECT_DIRECTORY, "root_dataset",
                             &z->root_dir);
    return err;
}

int dsl_open_pool(struct zfs *z)
{
    int err = open_mos(z);

    if (!err)
        return 0;
    if (err != -ENOMEM)
        err = label_explain(z, err);
    if (err == -ENOENT)
        err = -EIO;
    return zfs_fail(z, err, err == -ENOMEM
                    ? "no memory to open the pool"
                    : "the pool's metadata is damaged", NULL);
}

/* --- datasets --- */

/* Reads 64-bit words of the bonus of a MOS object. */
static int bonus_get(struct zfs *z, uint64_t obj, uint8_t type, size_t min,
                     struct zbuf **out)
{
    int err = dnode_get(z, &z->mos, obj, out);

    if (err)
        return err == -ENOENT ? -EIO : err;
    if (dnode_of(*out)->bonus_type == type &&
        dnode_of(*out)->bonus_len >= min)
        return 0;
    cache_put(*out);
    return -EIO;
}

static int bonus_word(struct zfs *z, uint64_t obj, uint8_t type, size_t min,
                      size_t offset, uint64_t *out)
{
    struct zbuf *b;

    int err = bonus_get(z, obj, type, min, &b);
    if (err)
        return err;
    *out = get_le64(dnode_bonus(dnode_of(b)) + offset);
    cache_put(b);
    return 0;
}

static int dir_word(struct zfs *z, uint64_t obj, size_t offset, uint64_t *out)
{
    return bonus_word(z, obj, DMU_OT_DSL_DIR, DD_BYTES, offset, out);
}

static int dataset_word(struct zfs *z, uint64_t obj, size_t offset,
                        uint64_t *out)
{
    return bonus_word(z, obj, DMU_OT_DSL_DATASET, DS_BYTES, offset, out);
}

/* Looks `name` (len bytes) up in the table `zap_obj`. */
static int child_lookup(struct zfs *z, uint64_t zap_obj, const char *name,
                        size_t len, uint64_t *out)
{
    struct zbuf *b;

    if (len == 0 || name[0] == '$')
        return -ENOENT;
    int err = dnode_get(z, &z->mos, zap_obj, &b);
    if (err)
        return err;
    err = zap_lookup(z, dnode_of(b), name, len, out);
    cache_put(b);
    return err;
}

/* Follows "a/b" from the root directory; *name ends at '@' or NUL. */
static int walk_dirs(struct zfs *z, const char **name, uint64_t *dir)
{
    const char *p = *name;

    *dir = z->root_dir;
    while (*p && *p != '@') {
        size_t len = 0;
        uint64_t children;
        while (p[len] && p[len] != '/' && p[len] != '@')
            len++;
        int err = dir_word(z, *dir, DD_CHILDREN, &children);
        if (!err)
            err = child_lookup(z, children, p, len, dir);
        if (err)
            return err;
        p += len;
        if (*p == '/')
            p++;
    }
    *name = p;
    return 0;
}

/* The dataset's object number. */
static int find_dataset(struct zfs *z, const char *name, uint64_t *ds)
{
    uint64_t dir, snapshots;

    int err = walk_dirs(z, &name, &dir);
    if (!err)
        err = dir_word(z, dir, DD_HEAD, ds);
    if (err || *name != '@')
        return err;
    err = dataset_word(z, *ds, DS_SNAPSHOTS, &snapshots);
    if (err)
        return err;
    name++;
    return child_lookup(z, snapshots, name, strlen(name), ds);
}

static int open_objset(struct zfs *z, uint64_t ds, const char *name)
{
    struct zbuf *b;

    int err = bonus_get(z, ds, DMU_OT_DSL_DATASET, DS_BYTES, &b);
    if (err)
        return err;
    const uint8_t *bonus = dnode_bonus(dnode_of(b));
    struct zfs_bp bp = bp_load(bonus + DS_BP);
    z->guid = get_le64(bonus + DS_GUID);
    cache_put(b);
    if (bp_is_hole(&bp))
        return zfs_fail(z, -EINVAL, "dataset \"", name, "\" is empty", NULL);
    err = objset_open(z, &bp, FS_ID, &z->fs);
    if (!err && z->fs.type != OBJSET_TYPE_ZFS)
        err = zfs_fail(z, -EINVAL, "dataset \"", name,
                       "\" is not a file system", NULL);
    return err;
}

/* A name in the master node; absent = 0. */
static int master_word(struct zfs *z, const char *name, uint64_t *out)
{
    int err = zap_lookup_obj(z, &z->fs, MASTER_NODE, name, out);

    if (err == -ENOENT) {
        *out = 0;
        err = 0;
    }
    return err;
}

static int open_file_system(struct zfs *z)
{
    uint64_t version, normalization, casing, sa_obj;
    char digits[21];

    int err = master_word(z, "VERSION", &version);
    if (!err)
        err = master_word(z, "normalization", &normalization);
    if (!err)
        err = master_word(z, "casesensitivity", &casing);
    if (!err)
        err = master_word(z, "SA_ATTRS", &sa_obj);
    if (!err)
        err = master_word(z, "ROOT", &z->root_obj);
    if (err)
        return err;
    if (version == 0 || version > ZPL_VERSION_MAX)
        return zfs_fail(z, -ENOTSUP, "the file system has version ",
                        zfs_decimal(digits, version),
                        "; 1 to 5 can be read", NULL);
    if (normalization || casing)
        return zfs_fail(z, -ENOTSUP, "file names are normalized or not "
                        "case-sensitive, which is not supported", NULL);
    return sa_obj ? sa_table_load(z, sa_obj) : 0;
}

int dsl_open_dataset(struct zfs *z, const char *name)
{
    uint64_t ds;

    int err = find_dataset(z, name, &ds);
    if (err == -ENOENT)
        return zfs_fail(z, err, "there is no dataset \"", name,
                        "\" in the pool", NULL);
    if (!err)
        err = dir_word(z, z->root_dir, DD_USED, &z->used_bytes);
    if (!err)
        err = open_objset(z, ds, name);
    if (!err)
        err = open_file_system(z);
    if (!err)
        return 0;
    return zfs_fail(z, err == -ENOENT ? -EIO : err, err == -ENOMEM
                    ? "no memory to open the dataset"
                    : "the dataset's metadata is damaged", NULL);
}
