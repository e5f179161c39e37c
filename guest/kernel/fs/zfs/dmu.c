/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Objects: an object set is an array of dnodes, itself described by a dnode
 * (the "meta dnode"); a dnode describes a tree of block pointers ("ZFS
 * On-Disk Specification", ch. 3).
 *
 * Dnodes are checked once, when they are copied into the dnode cache: what
 * struct zdnode says about sizes is within its bounds from then on. File
 * attributes are found at the same time.
 */
#include "fs/zfs/zfs_impl.h"

/* Offsets in a dnode. */
enum {
    DN_TYPE = 0,
    DN_INDIRECT_SHIFT = 1,
    DN_NLEVELS = 2,
    DN_NBLKPTR = 3,
    DN_BONUS_TYPE = 4,
    DN_FLAGS = 7,
    DN_BLOCK_SECTORS = 8,
    DN_BONUS_LEN = 10,
    DN_EXTRA_SLOTS = 12,
    DN_MAXBLKID = 16,
    DN_USED = 24,
};

#define DN_FLAG_USED_BYTES 1u
#define DN_FLAG_SPILL 4u
#define MAX_LEVELS 8u

/* Offsets in an object set. */
enum {
    OS_LOG_BP = 528, /* of the header at 512 */
    OS_TYPE = 704,
    OS_MIN_BYTES = 1024,
};

/* --- dnodes --- */

/* Fills the fixed part; `raw` has `avail` bytes. -ENOENT: free. */
static int dnode_parse(struct zdnode *dn, const uint8_t *raw, size_t avail)
{
    memset(dn, 0, sizeof(*dn));
    dn->type = raw[DN_TYPE];
    if (dn->type == DMU_OT_NONE)
        return -ENOENT;
    dn->raw_bytes = (raw[DN_EXTRA_SLOTS] + 1u) * DNODE_BYTES;
    dn->indirect_shift = raw[DN_INDIRECT_SHIFT];
    dn->nlevels = raw[DN_NLEVELS];
    dn->nblkptr = raw[DN_NBLKPTR];
    dn->bonus_type = raw[DN_BONUS_TYPE];
    dn->block_bytes = (uint32_t)get_le16(raw + DN_BLOCK_SECTORS)
                      << SECTOR_SHIFT;
    dn->bonus_off = DNODE_CORE_BYTES + dn->nblkptr * BP_BYTES;
    dn->bonus_len = get_le16(raw + DN_BONUS_LEN);
    dn->has_spill = raw[DN_FLAGS] & DN_FLAG_SPILL;
    dn->maxblkid = get_le64(raw + DN_MAXBLKID);
    dn->used_bytes = get_le64(raw + DN_USED);
    if (!(raw[DN_FLAGS] & DN_FLAG_USED_BYTES))
        dn->used_bytes <<= SECTOR_SHIFT;

    uint32_t room = dn->raw_bytes - (dn->has_spill ? BP_BYTES : 0);
    if (dn->raw_bytes > avail || dn->nlevels == 0 ||
        dn->nlevels > MAX_LEVELS || dn->nblkptr == 0 ||
        dn->nblkptr > MAX_NBLKPTR || dn->block_bytes == 0 ||
        dn->indirect_shift < MIN_INDIRECT_SHIFT ||
        dn->indirect_shift > MAX_INDIRECT_SHIFT ||
        dn->bonus_off + dn->bonus_len > room)
        return -EIO;
    return 0;
}

static struct zfs_bp root_pointer(const struct zdnode *dn, uint64_t i)
{
    return bp_load(dn->raw + DNODE_CORE_BYTES + i * BP_BYTES);
}

int dnode_block_pointer(struct zfs *z, const struct zdnode *dn,
                        uint64_t blkid, struct zfs_bp *out)
{
    unsigned int level = dn->nlevels - 1u;
    unsigned int per_level = dn->indirect_shift - BP_SHIFT;
    uint64_t index = blkid;

    memset(out, 0, sizeof(*out));
    if (blkid > dn->maxblkid)
        return 0;
    if (level)
        index = level * per_level > 63 ? 0 : blkid >> (level * per_level);
    if (index >= dn->nblkptr)
        return -EIO;
    struct zfs_bp bp = root_pointer(dn, index);
    while (level > 0 && !bp_is_hole(&bp)) {
        struct zbuf *b;
        if (bp_level(&bp) != level || bp_is_embedded(&bp) ||
            bp_lsize(&bp) != 1ul << dn->indirect_shift)
            return -EIO;
        int err = zio_get(z, &z->blocks, &bp, &b);
        if (err)
            return err;
        level--;
        index = (level * per_level > 63 ? 0 : blkid >> (level * per_level)) &
                ((1ull << per_level) - 1);
        bp = bp_load((const uint8_t *)b->data + index * BP_BYTES);
        cache_put(b);
    }
    if (bp_is_hole(&bp))
        return 0;
    if (bp_level(&bp) != 0 || bp_lsize(&bp) != dn->block_bytes)
        return -EIO;
    *out = bp;
    return 0;
}

int dnode_block_get(struct zfs *z, const struct zdnode *dn, uint64_t blkid,
                    struct zbuf **out)
{
    struct zfs_bp bp;

    int err = dnode_block_pointer(z, dn, blkid, &bp);
    if (err)
        return err;
    return zio_get(z, &z->blocks, &bp, out);
}

int dnode_spill_get(struct zfs *z, const struct zdnode *dn, struct zbuf **out)
{
    if (!dn->has_spill)
        return -ENOENT;
    struct zfs_bp bp = bp_load(dn->raw + dn->raw_bytes - BP_BYTES);
    return zio_get(z, &z->blocks, &bp, out);
}

/* Creates the cache entry for a dnode that was just parsed. */
static int dnode_insert(struct zfs *z, const struct zkey *key,
                        const struct zdnode *parsed, const uint8_t *raw,
                        struct zbuf **out)
{
    bool must_fill;

    int err = cache_get(&z->dnodes, key, sizeof(*parsed) + parsed->raw_bytes,
                        out, &must_fill);
    if (err || !must_fill)
        return err;
    struct zdnode *dn = (*out)->data;
    *dn = *parsed;
    memcpy(dn->raw, raw, parsed->raw_bytes);
    if (dn->bonus_type == DMU_OT_SA || dn->bonus_type == DMU_OT_ZNODE)
        err = sa_fill_attr(z, dn);
    cache_filled(*out, err);
    if (err)
        cache_put(*out);
    return err;
}

int dnode_get(struct zfs *z, const struct objset *os, uint64_t obj,
              struct zbuf **out)
{
    struct zkey key = {{obj, os->id, 0}};
    struct zdnode parsed;
    struct zfs_bp bp;
    struct zbuf *block;

    *out = cache_find(&z->dnodes, &key);
    if (*out)
        return 0;
    if (obj == 0 || obj > OBJ_MAX)
        return -ENOENT;
    uint32_t per_block = os->meta->block_bytes / DNODE_BYTES;
    int err = dnode_block_pointer(z, os->meta, obj / per_block, &bp);
    if (err)
        return err;
    if (bp_is_hole(&bp))
        return -ENOENT;
    err = zio_get(z, &z->blocks, &bp, &block);
    if (err)
        return err;
    size_t start = (obj % per_block) * DNODE_BYTES;
    const uint8_t *raw = (const uint8_t *)block->data + start;
    err = dnode_parse(&parsed, raw, os->meta->block_bytes - start);
    parsed.obj = obj;
    if (!err)
        err = dnode_insert(z, &key, &parsed, raw, out);
    cache_put(block);
    return err;
}

/* --- object sets --- */

/* Is entry 0 the only one in use? */
static bool only_first(const uint8_t *pointers, size_t nr)
{
    struct zfs_bp bp = bp_load(pointers);

    if (bp_is_hole(&bp) || bp_is_embedded(&bp))
        return false;
    for (size_t i = 1; i < nr; i++) {
        bp = bp_load(pointers + i * BP_BYTES);
        if (!bp_is_hole(&bp))
            return false;
    }
    return true;
}

/* OpenZFS gives the meta dnode six levels whatever its size, so that most
 * consist of one pointer. Drops these levels: otherwise each costs 128 KiB of
 * the block cache. */
static int drop_empty_levels(struct zfs *z, struct zdnode *dn)
{
    unsigned int per_level = dn->indirect_shift - BP_SHIFT;

    while (dn->nlevels > 1 &&
           only_first(dn->raw + DNODE_CORE_BYTES, dn->nblkptr)) {
        struct zfs_bp bp = root_pointer(dn, 0);
        struct zbuf *b;
        if (bp_level(&bp) != dn->nlevels - 1u ||
            bp_lsize(&bp) != 1ul << dn->indirect_shift)
            return -EIO;
        int err = zio_get(z, &z->blocks, &bp, &b);
        if (err)
            return err;
        bool is_chain = only_first(b->data, 1ul << per_level);
        if (is_chain) {
            memcpy(dn->raw + DNODE_CORE_BYTES, b->data, BP_BYTES);
            dn->nlevels--;
        }
        cache_put(b);
        if (!is_chain)
            return 0;
        dn->nblkptr = 1;
        if (dn->nlevels * per_level < 64)
            dn->maxblkid = MIN(dn->maxblkid,
                               (1ull << ((dn->nlevels - 1) * per_level)) - 1);
    }
    return 0;
}

static int objset_parse(struct zfs *z, const uint8_t *block,
                        struct objset *out)
{
    struct zdnode *meta = kzalloc(sizeof(*meta) + DNODE_BYTES);

    if (!meta)
        return -ENOMEM;
    int err = dnode_parse(meta, block, DNODE_BYTES);
    if (!err && meta->type != DMU_OT_DNODE)
        err = -EIO;
    if (!err) {
        memcpy(meta->raw, block, DNODE_BYTES);
        err = drop_empty_levels(z, meta);
    }
    if (err) {
        kfree(meta);
        return err == -ENOENT ? -EIO : err;
    }
    out->meta = meta;
    out->type = get_le64(block + OS_TYPE);
    out->log = bp_load(block + OS_LOG_BP);
    return 0;
}

int objset_open(struct zfs *z, const struct zfs_bp *bp, uint64_t id,
                struct objset *out)
{
    struct zbuf *b;

    if (bp_level(bp) != 0 || bp_lsize(bp) < OS_MIN_BYTES)
        return -EIO;
    int err = zio_get(z, &z->blocks, bp, &b);
    if (err)
        return err;
    out->id = id;
    out->nr_objects = bp_is_embedded(bp) ? 0 : bp->w[11];
    err = objset_parse(z, b->data, out);
    cache_put(b);
    return err;
}

void objset_close(struct objset *os)
{
    kfree(os->meta);
    os->meta = NULL;
}
