/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The pool's configuration: a name-value list in each label and, in one
 * object, in the pool itself. It tells which disks and which features a
 * reader must know.
 *
 * The labels' copies are read only when the pool cannot be opened, to say
 * why.
 */
#include "fs/zfs/zfs_impl.h"
#include "lib/nvlist.h"

#define CONFIG_OFFSET (16u << 10)
#define CONFIG_BYTES (112u << 10)

/* Features that change what is on disk for a reader, all of which this reader
 * knows. A feature may be added here only together with the code for it and a
 * reference pool that uses it. The list of others need not be complete: a
 * feature that is not here is refused when it is in use. */
static const char *const known_features[] = {
    "org.illumos:lz4_compress",
    "com.delphix:hole_birth",
    "com.delphix:embedded_data",
    "com.delphix:extensible_dataset",
    "org.open-zfs:large_blocks",
    "org.zfsonlinux:large_dnode",
    /* The next ones change only objects that no reader of files looks at. */
    "com.joyent:multi_vdev_crash_dump",
    "com.delphix:head_errlog",
    "com.klarasystems:vdev_zaps_v2",
    "com.delphix:bookmark_written",
    "com.datto:bookmark_v2",
    "com.datto:resilver_defer",
};

bool feature_is_known(const char *name, size_t len)
{
    for (size_t i = 0; i < ARRAY_SIZE(known_features); i++) {
        const char *known = known_features[i];
        if (strlen(known) == len && memcmp(known, name, len) == 0)
            return true;
    }
    return false;
}

static bool string_is(const char *s, uint32_t len, const char *word)
{
    return strlen(word) == len && memcmp(s, word, len) == 0;
}

/* Is the top-level device one whose bytes are the pool's bytes? */
static int check_device(struct zfs *z, const struct nvlist *vdev)
{
    static const char *const plain[] = {"disk", "file", "mirror"};
    char name[32];
    const char *type;
    uint32_t len;

    if (nvlist_find_string(vdev, "type", &type, &len))
        return zfs_fail(z, -EIO, "the pool's configuration is damaged", NULL);
    for (size_t i = 0; i < ARRAY_SIZE(plain); i++)
        if (string_is(type, len, plain[i]))
            return 0;
    len = MIN(len, (uint32_t)sizeof(name) - 1);
    memcpy(name, type, len);
    name[len] = '\0';
    return zfs_fail(z, -ENOTSUP, "the pool lies on a device of type ", name,
                    "; only single disks and mirrors can be read", NULL);
}

static int check_tree(struct zfs *z, const struct nvlist *tree)
{
    struct nvlist child;
    struct nvpair pair;
    const char *type;
    uint32_t len;

    if (nvlist_find_string(tree, "type", &type, &len))
        return zfs_fail(z, -EIO, "the pool's configuration is damaged", NULL);
    if (!string_is(type, len, "root"))
        child = *tree;
    else if (nvlist_find(tree, "children", NV_NVLIST_ARRAY, &pair) ||
             nvlist_find_nvlist(tree, "children", NV_NVLIST_ARRAY, &child))
        return zfs_fail(z, -EIO, "the pool's configuration is damaged", NULL);
    else if (pair.count != 1)
        return zfs_fail(z, -ENOTSUP, "the pool has several disks; only pools "
                        "of one disk can be read", NULL);
    uint64_t asize;
    if (nvlist_find_u64(&child, "asize", &asize) == 0)
        z->asize_bytes = asize;
    return check_device(z, &child);
}

int label_check_config(struct zfs *z, const void *buf, size_t len)
{
    struct nvlist config, tree;
    uint64_t nr_children;

    if (nvlist_open(&config, buf, len) ||
        nvlist_find_nvlist(&config, "vdev_tree", NV_NVLIST, &tree))
        return zfs_fail(z, -EIO, "the pool's configuration is damaged", NULL);
    if (nvlist_find_u64(&config, "vdev_children", &nr_children) == 0 &&
        nr_children != 1)
        return zfs_fail(z, -ENOTSUP, "the pool has several disks; only pools "
                        "of one disk can be read", NULL);
    return check_tree(z, &tree);
}

/* The label's list holds only features that are in use. */
static int check_features(struct zfs *z, const struct nvlist *config)
{
    struct nvlist features;
    struct nvpair pair;
    char name[64];

    if (nvlist_find_nvlist(config, "features_for_read", NV_NVLIST, &features))
        return 0;
    while (nvlist_next(&features, &pair) == 0) {
        if (feature_is_known(pair.name, pair.name_len))
            continue;
        size_t len = MIN((size_t)pair.name_len, sizeof(name) - 1);
        memcpy(name, pair.name, len);
        name[len] = '\0';
        return zfs_fail(z, -ENOTSUP, "the pool needs feature ", name,
                        ", which is not supported", NULL);
    }
    return 0;
}

int label_explain(struct zfs *z, int err)
{
    const uint64_t verifier[4] = {CONFIG_OFFSET};
    struct nvlist config;
    int reason = 0;

    uint8_t *buf = kmalloc(CONFIG_BYTES);
    if (!buf)
        return err;
    if (vdev_read(z, CONFIG_OFFSET, buf, CONFIG_BYTES) == 0 &&
        checksum_embedded_ok(buf, CONFIG_BYTES, verifier) &&
        nvlist_open(&config, buf, CONFIG_BYTES) == 0) {
        reason = check_features(z, &config);
        if (!reason)
            reason = label_check_config(z, buf, CONFIG_BYTES);
    }
    kfree(buf);
    return reason ? reason : err;
}
