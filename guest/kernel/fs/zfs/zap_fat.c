/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Fat ZAPs. Block 0 holds a header and, in its second half or in further
 * blocks, the pointer table: the top bits of a name's hash select a leaf
 * block. A leaf covers all table entries that begin with its prefix; it has
 * its own small hash table of chains of entries, and 24-byte chunks for
 * entries, names and values. Names and values are chains of 21-byte arrays,
 * integers in them big-endian.
 */
#include "fs/zfs/zfs_impl.h"

#define FAT_MAGIC 0x2F52AB2ABull
#define LEAF_TYPE 0x8000000000000000ull
#define LEAF_MAGIC 0x2AB1EAFu
#define CHAIN_END 0xffffu
#define CHUNK_BYTES 24u
#define ARRAY_BYTES 21u
#define CHUNK_ARRAY 251u
#define CHUNK_ENTRY 252u
#define LEAF_HEADER_BYTES 48u
#define MIN_BLOCK_SHIFT 9
#define MAX_BLOCK_SHIFT 20
#define MAX_TABLE_SHIFT 40
#define HASH_SKIP_BITS 36 /* lowest bits, not used */
#define CURSOR_CHUNK_BITS 16

/* Offsets in the header. */
enum {
    ZH_MAGIC = 8,
    ZH_TABLE_BLK = 16,
    ZH_TABLE_NBLKS = 24,
    ZH_TABLE_SHIFT = 32,
    ZH_SALT = 80,
    ZH_NORMFLAGS = 88,
    ZH_FLAGS = 96,
};
#define ZH_FLAG_HASH64 1u
#define ZH_FLAG_UINT64_KEY 2u

/* Offsets in a leaf's header, an entry chunk, an array chunk. */
enum {
    LH_TYPE = 0,
    LH_PREFIX = 16,
    LH_MAGIC = 24,
    LH_PREFIX_LEN = 32,
    LE_TYPE = 0,
    LE_INT_BYTES = 1,
    LE_NEXT = 2,
    LE_NAME = 4,
    LE_NAME_LEN = 6,
    LE_VALUE = 8,
    LE_NR_INTS = 10,
    LE_HASH = 16,
    LA_DATA = 1,
    LA_NEXT = 22,
};

/* CRC-64 by half bytes, polynomial 0xC96C5795D7870F42, reflected. */
static const uint64_t crc64_nibble[16] = {
    0x0000000000000000, 0x7d9ba13851336649, 0xfb374270a266cc92,
    0x86ace348f355aadb, 0x64b62bcaebc387a1, 0x192d8af2baf0e1e8,
    0x9f8169ba49a54b33, 0xe21ac88218962d7a, 0xc96c5795d7870f42,
    0xb4f7f6ad86b4690b, 0x325b15e575e1c3d0, 0x4fc0b4dd24d2a599,
    0xadda7c5f3c4488e3, 0xd041dd676d77eeaa, 0x56ed3e2f9e224471,
    0x2b769f17cf112238,
};

/* A fat ZAP taken apart: all in bounds. */
struct fat {
    struct zfs *z;
    const struct zdnode *dn;
    const struct zbuf *header;
    uint64_t salt, table_blk;
    unsigned int shift;       /* 2^shift entries in the table */
    unsigned int block_shift;
};

struct leaf {
    struct zbuf *b;
    const uint8_t *chunks;
    unsigned int hash_shift;  /* 2^hash_shift chains */
    unsigned int nr_chunks;
    unsigned int prefix_len;
    uint64_t prefix;
};

static uint64_t name_hash(uint64_t salt, const char *name, size_t len)
{
    uint64_t h = salt;

    for (size_t i = 0; i < len; i++) {
        h ^= (uint8_t)name[i];
        h = (h >> 4) ^ crc64_nibble[h & 15];
        h = (h >> 4) ^ crc64_nibble[h & 15];
    }
    return h & ~((1ull << HASH_SKIP_BITS) - 1);
}

static int fat_open(struct fat *f, struct zfs *z, const struct zdnode *dn,
                    const struct zbuf *header)
{
    const uint8_t *h = header->data;
    uint64_t nblks = get_le64(h + ZH_TABLE_NBLKS);
    uint64_t shift = get_le64(h + ZH_TABLE_SHIFT);

    f->z = z;
    f->dn = dn;
    f->header = header;
    f->salt = get_le64(h + ZH_SALT);
    f->table_blk = get_le64(h + ZH_TABLE_BLK);
    f->shift = (unsigned int)shift;
    f->block_shift = (unsigned int)__builtin_ctz(dn->block_bytes);
    if (dn->block_bytes != 1u << f->block_shift ||
        f->block_shift < MIN_BLOCK_SHIFT || f->block_shift > MAX_BLOCK_SHIFT ||
        get_le64(h + ZH_MAGIC) != FAT_MAGIC || shift > MAX_TABLE_SHIFT)
        return -EIO;
    if (get_le64(h + ZH_NORMFLAGS) || (get_le64(h + ZH_FLAGS) &
                                       (ZH_FLAG_UINT64_KEY | ZH_FLAG_HASH64)))
        return -ENOTSUP;
    if (nblks == 0)
        return shift == f->block_shift - 4 ? 0 : -EIO;
    if (shift < f->block_shift - 3 ||
        nblks != 1ull << (shift - (f->block_shift - 3)))
        return -EIO;
    return 0;
}

/* The block number of the leaf at `index` of the pointer table. */
static int fat_leaf_blkid(const struct fat *f, uint64_t index, uint64_t *out)
{
    const uint8_t *h = f->header->data;
    unsigned int per_block = f->block_shift - 3;
    struct zbuf *b;

    if (get_le64(h + ZH_TABLE_NBLKS) == 0) {
        *out = get_le64(h + (f->dn->block_bytes / 2) + index * 8);
        return 0;
    }
    int err = dnode_block_get(f->z, f->dn, f->table_blk + (index >> per_block),
                              &b);
    if (err)
        return err;
    index &= (1ull << per_block) - 1;
    *out = get_le64((const uint8_t *)b->data + index * 8);
    cache_put(b);
    return 0;
}

/* Opens the leaf for a table index; the caller does cache_put(l->b). */
static int leaf_get(const struct fat *f, uint64_t index, struct leaf *l)
{
    uint64_t blkid;

    int err = fat_leaf_blkid(f, index, &blkid);
    if (err)
        return err;
    if (blkid == 0)
        return -EIO;
    err = dnode_block_get(f->z, f->dn, blkid, &l->b);
    if (err)
        return err;
    const uint8_t *p = l->b->data;
    l->hash_shift = f->block_shift - 5;
    size_t first = LEAF_HEADER_BYTES + (2ul << l->hash_shift);
    l->chunks = p + first;
    l->nr_chunks = (unsigned int)((f->dn->block_bytes - first) / CHUNK_BYTES);
    l->prefix = get_le64(p + LH_PREFIX);
    l->prefix_len = get_le16(p + LH_PREFIX_LEN);
    if (get_le64(p + LH_TYPE) == LEAF_TYPE &&
        get_le32(p + LH_MAGIC) == LEAF_MAGIC && l->prefix_len <= f->shift &&
        l->prefix == index >> (f->shift - l->prefix_len))
        return 0;
    cache_put(l->b);
    return -EIO;
}

static const uint8_t *leaf_chunk(const struct leaf *l, unsigned int i,
                                 unsigned int type)
{
    const uint8_t *c = l->chunks + (size_t)i * CHUNK_BYTES;

    return i < l->nr_chunks && c[0] == type ? c : NULL;
}

/* Copies `len` bytes of a chain of arrays. */
static int chain_copy(const struct leaf *l, unsigned int i, uint8_t *dst,
                      size_t len)
{
    while (len) {
        const uint8_t *c = leaf_chunk(l, i, CHUNK_ARRAY);
        if (!c)
            return -EIO;
        size_t n = MIN(len, (size_t)ARRAY_BYTES);
        memcpy(dst, c + LA_DATA, n);
        dst += n;
        len -= n;
        i = get_le16(c + LA_NEXT);
    }
    return 0;
}

static bool chain_equals(const struct leaf *l, unsigned int i,
                         const char *name, size_t len)
{
    while (len) {
        const uint8_t *c = leaf_chunk(l, i, CHUNK_ARRAY);
        size_t n = MIN(len, (size_t)ARRAY_BYTES);
        if (!c || memcmp(c + LA_DATA, name, n) != 0)
            return false;
        name += n;
        len -= n;
        i = get_le16(c + LA_NEXT);
    }
    return true;
}

static int entry_u64(const struct leaf *l, const uint8_t *entry, uint64_t *out)
{
    uint8_t value[8];

    if (entry[LE_INT_BYTES] != 8 || get_le16(entry + LE_NR_INTS) != 1)
        return -EINVAL;
    int err = chain_copy(l, get_le16(entry + LE_VALUE), value, sizeof(value));
    if (!err)
        *out = get_be64(value);
    return err;
}

/* Name lengths on disk count the NUL. */
static int leaf_lookup(const struct leaf *l, uint64_t hash, const char *name,
                       size_t len, uint64_t *out)
{
    unsigned int down = 64 - l->hash_shift - l->prefix_len;
    uint64_t chain = (hash >> down) & ((1ull << l->hash_shift) - 1);
    unsigned int i = get_le16((const uint8_t *)l->b->data +
                              LEAF_HEADER_BYTES + 2 * chain);

    /* A chain has no more links than there are chunks. */
    for (unsigned int n = 0; i != CHAIN_END && n < l->nr_chunks; n++) {
        const uint8_t *entry = leaf_chunk(l, i, CHUNK_ENTRY);
        if (!entry)
            return -EIO;
        if (get_le64(entry + LE_HASH) == hash &&
            get_le16(entry + LE_NAME_LEN) == len + 1 &&
            chain_equals(l, get_le16(entry + LE_NAME), name, len))
            return entry_u64(l, entry, out);
        i = get_le16(entry + LE_NEXT);
    }
    return i == CHAIN_END ? -ENOENT : -EIO;
}

int zap_fat_lookup(struct zfs *z, const struct zdnode *dn,
                   const struct zbuf *header, const char *name,
                   size_t name_len, uint64_t *out)
{
    struct fat f;
    struct leaf l;

    int err = fat_open(&f, z, dn, header);
    if (err)
        return err;
    uint64_t hash = name_hash(f.salt, name, name_len);
    err = leaf_get(&f, f.shift ? hash >> (64 - f.shift) : 0, &l);
    if (err)
        return err;
    if (l.prefix_len + l.hash_shift > 64)
        err = -EIO;
    else
        err = leaf_lookup(&l, hash, name, name_len, out);
    cache_put(l.b);
    return err;
}

static int entry_read(const struct leaf *l, const uint8_t *entry,
                      struct zap_entry *out)
{
    unsigned int name_len = get_le16(entry + LE_NAME_LEN);
    unsigned int nr_ints = get_le16(entry + LE_NR_INTS);
    unsigned int int_bytes = entry[LE_INT_BYTES];

    if (name_len < 2 || name_len > sizeof(out->name) ||
        (int_bytes != 1 && int_bytes != 2 && int_bytes != 4 && int_bytes != 8))
        return -EIO;
    int err = chain_copy(l, get_le16(entry + LE_NAME), (uint8_t *)out->name,
                         name_len);
    if (err)
        return err;
    out->name[name_len - 1] = '\0';
    out->name_len = (uint16_t)(name_len - 1);
    out->int_bytes = (uint8_t)int_bytes;
    out->nr_ints = (uint16_t)nr_ints;
    out->first = 0;
    size_t bytes = MIN((size_t)nr_ints * int_bytes, sizeof(out->value));
    err = chain_copy(l, get_le16(entry + LE_VALUE), out->value, bytes);
    if (!err && int_bytes == 8 && nr_ints)
        out->first = get_be64(out->value);
    return err;
}

/* Finds the first entry at or behind chunk *i. */
static int leaf_next(const struct leaf *l, unsigned int *i,
                     struct zap_entry *out)
{
    for (; *i < l->nr_chunks; (*i)++) {
        const uint8_t *entry = leaf_chunk(l, *i, CHUNK_ENTRY);
        if (entry)
            return entry_read(l, entry, out);
    }
    return -ENOENT;
}

/* A cursor is (table index << 16) + chunk. Each leaf is met once: the walk
 * jumps over all table entries with the leaf's prefix. */
int zap_fat_next(struct zfs *z, const struct zdnode *dn,
                 const struct zbuf *header, uint64_t *cursor,
                 struct zap_entry *out)
{
    uint64_t index = *cursor >> CURSOR_CHUNK_BITS;
    unsigned int chunk = *cursor & ((1u << CURSOR_CHUNK_BITS) - 1);
    struct fat f;
    struct leaf l;

    int err = fat_open(&f, z, dn, header);
    while (!err && index < 1ull << f.shift) {
        err = leaf_get(&f, index, &l);
        if (err)
            break;
        err = leaf_next(&l, &chunk, out);
        cache_put(l.b);
        if (err != -ENOENT) {
            *cursor = (index << CURSOR_CHUNK_BITS) + chunk + 1;
            return err;
        }
        index = (l.prefix + 1) << (f.shift - l.prefix_len);
        chunk = 0;
        err = 0;
    }
    return err ? err : -ENOENT;
}
