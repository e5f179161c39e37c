/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * File attributes. Since file system version 5 they are "system attributes":
 * a header names a layout, the layout lists attribute numbers, the registry
 * gives each number a name and a length; values follow each other, padded to
 * 8 bytes. They lie in the dnode's bonus and, when that is full, in a spill
 * block with a header of its own. Older files have a fixed structure.
 */
#include "fs/zfs/zfs_impl.h"

#define SA_MAGIC 0x2F505Au
#define SA_LAYOUT_BITS 10
#define SA_LENGTHS 6u /* offset of the lengths in the header */
#define SA_VALUE_ALIGN 8u

static const char *const sa_names[NR_SA_NAMES] = {
    [SA_ATIME] = "ZPL_ATIME", [SA_MTIME] = "ZPL_MTIME",
    [SA_CTIME] = "ZPL_CTIME", [SA_CRTIME] = "ZPL_CRTIME",
    [SA_GEN] = "ZPL_GEN", [SA_MODE] = "ZPL_MODE", [SA_SIZE] = "ZPL_SIZE",
    [SA_PARENT] = "ZPL_PARENT", [SA_LINKS] = "ZPL_LINKS",
    [SA_RDEV] = "ZPL_RDEV", [SA_UID] = "ZPL_UID", [SA_GID] = "ZPL_GID",
    [SA_SYMLINK] = "ZPL_SYMLINK",
};

/* Offsets in the old structure. */
enum {
    ZP_ATIME = 0,
    ZP_MTIME = 16,
    ZP_CTIME = 32,
    ZP_CRTIME = 48,
    ZP_GEN = 64,
    ZP_MODE = 72,
    ZP_SIZE = 80,
    ZP_PARENT = 88,
    ZP_LINKS = 96,
    ZP_RDEV = 112,
    ZP_UID = 128,
    ZP_GID = 136,
    ZP_BYTES = 264, /* a short symlink target follows */
};

/* Where the values of one header lie. */
struct sa_found {
    const uint8_t *value[NR_SA_NAMES]; /* NULL: not there */
    uint32_t len[NR_SA_NAMES];
};

/* --- the tables of a dataset --- */

static void registry_add(struct sa_table *sa, const struct zap_entry *e)
{
    uint64_t number = bits64(e->first, 0, 16);

    if (number >= SA_MAX_ATTRS)
        return;
    sa->len[number] = (uint16_t)bits64(e->first, 24, 16);
    for (uint8_t i = 0; i < NR_SA_NAMES; i++)
        if (strcmp(e->name, sa_names[i]) == 0)
            sa->name[number] = i;
}

static int layout_add(struct sa_table *sa, const struct zap_entry *e)
{
    struct sa_layout *layout = &sa->layouts[sa->nr_layouts];
    unsigned int number = 0;

    for (const char *p = e->name; *p; p++) {
        if (*p < '0' || *p > '9' || number >= 1u << SA_LAYOUT_BITS)
            return -EIO;
        number = number * 10 + (unsigned int)(*p - '0');
    }
    if (sa->nr_layouts == SA_MAX_LAYOUTS || e->int_bytes != 2 ||
        e->nr_ints * 2u > sizeof(e->value))
        return -EIO;
    layout->attrs = kmalloc(e->nr_ints * 2u + 1);
    if (!layout->attrs)
        return -ENOMEM;
    for (unsigned int i = 0; i < e->nr_ints; i++) {
        layout->attrs[i] = get_be16(e->value + 2 * i);
        /* An attribute without a registered length cannot be stepped over. */
        if (layout->attrs[i] >= SA_MAX_ATTRS)
            layout->attrs[i] = SA_MAX_ATTRS - 1;
    }
    layout->number = (uint16_t)number;
    layout->count = e->nr_ints;
    sa->nr_layouts++;
    return 0;
}

static int load_table(struct zfs *z, uint64_t obj, bool is_registry)
{
    struct zap_entry *e = kmalloc(sizeof(*e));
    uint64_t cursor = 0;
    struct zbuf *b;

    if (!e)
        return -ENOMEM;
    int err = dnode_get(z, &z->fs, obj, &b);
    if (err) {
        kfree(e);
        return err;
    }
    while ((err = zap_next(z, dnode_of(b), &cursor, e)) == 0) {
        if (is_registry)
            registry_add(&z->sa, e);
        else
            err = layout_add(&z->sa, e);
        if (err)
            break;
    }
    cache_put(b);
    kfree(e);
    return err == -ENOENT ? 0 : err;
}

int sa_table_load(struct zfs *z, uint64_t sa_attrs_obj)
{
    uint64_t registry, layouts;

    memset(z->sa.name, SA_UNKNOWN, sizeof(z->sa.name));
    int err = zap_lookup_obj(z, &z->fs, sa_attrs_obj, "REGISTRY", &registry);
    if (!err)
        err = zap_lookup_obj(z, &z->fs, sa_attrs_obj, "LAYOUTS", &layouts);
    if (!err)
        err = load_table(z, registry, true);
    if (!err)
        err = load_table(z, layouts, false);
    z->sa.is_present = !err;
    return err;
}

void sa_table_free(struct sa_table *sa)
{
    for (uint32_t i = 0; i < sa->nr_layouts; i++)
        kfree(sa->layouts[i].attrs);
    sa->nr_layouts = 0;
}

/* --- values --- */

static const struct sa_layout *find_layout(const struct sa_table *sa,
                                           unsigned int number)
{
    for (uint32_t i = 0; i < sa->nr_layouts; i++)
        if (sa->layouts[i].number == number)
            return &sa->layouts[i];
    return NULL;
}

/* Adds what the header at p has to *found. */
static int sa_scan(const struct sa_table *sa, const uint8_t *p, size_t len,
                   struct sa_found *found)
{
    if (!sa->is_present || len < 8 || get_le32(p) != SA_MAGIC)
        return -EIO;
    unsigned int info = get_le16(p + 4);
    size_t header = (size_t)(info >> SA_LAYOUT_BITS) * 8;
    const struct sa_layout *layout =
        find_layout(sa, info & ((1u << SA_LAYOUT_BITS) - 1));
    if (!layout || header < 8 || header > len)
        return -EIO;

    size_t at = header, next_len = SA_LENGTHS;
    for (unsigned int i = 0; i < layout->count; i++) {
        unsigned int attr = layout->attrs[i];
        size_t n = sa->len[attr];
        if (n == 0) {
            if (next_len + 2 > header)
                return -EIO;
            n = get_le16(p + next_len);
            next_len += 2;
        }
        if (at > len || n > len - at)
            return -EIO;
        if (sa->name[attr] != SA_UNKNOWN) {
            found->value[sa->name[attr]] = p + at;
            found->len[sa->name[attr]] = (uint32_t)n;
        }
        at = ALIGN_UP(at + n, (size_t)SA_VALUE_ALIGN);
    }
    return 0;
}

static uint64_t found_u64(const struct sa_found *f, enum sa_name name)
{
    return f->value[name] && f->len[name] >= 8 ? get_le64(f->value[name]) : 0;
}

static struct zfs_time load_time(const uint8_t *p)
{
    return (struct zfs_time){
        .sec = (int64_t)get_le64(p),
        .nsec = (uint32_t)get_le64(p + 8),
    };
}

static struct zfs_time found_time(const struct sa_found *f, enum sa_name name)
{
    if (f->value[name] && f->len[name] >= 16)
        return load_time(f->value[name]);
    return (struct zfs_time){0};
}

/* Linux keeps major << 20 | minor; stat(2) has it scattered. */
static uint64_t rdev_to_stat(uint64_t dev)
{
    uint64_t major = (dev >> 20) & 0xfff, minor = dev & 0xfffff;

    return (minor & 0xff) | (major << 8) | ((minor & ~0xffull) << 12);
}

static void attr_from_found(struct zfs_attr *a, const struct sa_found *f)
{
    a->size = found_u64(f, SA_SIZE);
    a->links = found_u64(f, SA_LINKS);
    a->rdev = rdev_to_stat(found_u64(f, SA_RDEV));
    a->gen = found_u64(f, SA_GEN);
    a->parent = found_u64(f, SA_PARENT);
    a->mode = (uint32_t)found_u64(f, SA_MODE) & 0xffffu;
    a->uid = (uint32_t)found_u64(f, SA_UID);
    a->gid = (uint32_t)found_u64(f, SA_GID);
    a->atime = found_time(f, SA_ATIME);
    a->mtime = found_time(f, SA_MTIME);
    a->ctime = found_time(f, SA_CTIME);
    a->crtime = found_time(f, SA_CRTIME);
}

static void attr_from_znode(struct zfs_attr *a, const uint8_t *p)
{
    a->size = get_le64(p + ZP_SIZE);
    a->links = get_le64(p + ZP_LINKS);
    a->rdev = rdev_to_stat(get_le64(p + ZP_RDEV));
    a->gen = get_le64(p + ZP_GEN);
    a->parent = get_le64(p + ZP_PARENT);
    a->mode = (uint32_t)get_le64(p + ZP_MODE) & 0xffffu;
    a->uid = (uint32_t)get_le64(p + ZP_UID);
    a->gid = (uint32_t)get_le64(p + ZP_GID);
    a->atime = load_time(p + ZP_ATIME);
    a->mtime = load_time(p + ZP_MTIME);
    a->ctime = load_time(p + ZP_CTIME);
    a->crtime = load_time(p + ZP_CRTIME);
}

/* Are all attributes there that every file has? */
static bool is_complete(const struct sa_found *f)
{
    static const uint8_t needed[] = {SA_MODE, SA_SIZE, SA_UID, SA_GID,
                                     SA_LINKS, SA_MTIME, SA_PARENT};

    for (size_t i = 0; i < sizeof(needed); i++)
        if (!f->value[needed[i]])
            return false;
    return true;
}

static int attr_from_sa(struct zfs *z, struct zdnode *dn)
{
    struct sa_found found = {0};
    struct zbuf *spill = NULL;

    int err = sa_scan(&z->sa, dnode_bonus(dn), dn->bonus_len, &found);
    if (!err && !is_complete(&found) && dn->has_spill) {
        err = dnode_spill_get(z, dn, &spill);
        if (!err)
            err = sa_scan(&z->sa, spill->data, spill->size, &found);
    }
    if (!err && !is_complete(&found))
        err = -EIO;
    if (!err)
        attr_from_found(&dn->attr, &found);
    cache_put(spill);
    return err;
}

int sa_fill_attr(struct zfs *z, struct zdnode *dn)
{
    int err = 0;

    if (dn->bonus_type == DMU_OT_SA)
        err = attr_from_sa(z, dn);
    else if (dn->bonus_len >= ZP_BYTES)
        attr_from_znode(&dn->attr, dnode_bonus(dn));
    else
        err = -EIO;
    if (err)
        return err;
    dn->attr.obj = dn->obj;
    dn->attr.blocks512 = dn->used_bytes >> SECTOR_SHIFT;
    dn->attr.blksize = dn->block_bytes;
    dn->is_file = true;
    return 0;
}

static int copy_target(const uint8_t *p, size_t len, char *buf, size_t size,
                       size_t *len_out)
{
    *len_out = MIN(len, size);
    memcpy(buf, p, *len_out);
    return 0;
}

int sa_symlink(struct zfs *z, const struct zdnode *dn, char *buf, size_t size,
               size_t *len_out)
{
    struct sa_found found = {0};
    struct zbuf *spill = NULL;

    if (dn->bonus_type == DMU_OT_ZNODE) {
        if (dn->attr.size > dn->bonus_len - ZP_BYTES)
            return -ENOENT;
        return copy_target(dnode_bonus(dn) + ZP_BYTES, dn->attr.size, buf,
                           size, len_out);
    }
    int err = sa_scan(&z->sa, dnode_bonus(dn), dn->bonus_len, &found);
    if (!err && !found.value[SA_SYMLINK] && dn->has_spill) {
        err = dnode_spill_get(z, dn, &spill);
        if (!err)
            err = sa_scan(&z->sa, spill->data, spill->size, &found);
    }
    if (!err && !found.value[SA_SYMLINK])
        err = -ENOENT;
    if (!err)
        err = copy_target(found.value[SA_SYMLINK], found.len[SA_SYMLINK], buf,
                          size, len_out);
    cache_put(spill);
    return err;
}
