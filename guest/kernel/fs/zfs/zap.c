/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * ZAP objects: name -> value tables ("ZFS On-Disk Specification", ch. 5).
 *
 * A micro ZAP is one block of 64-byte entries, each with a name of at most 49
 * bytes and one 64-bit value. A fat ZAP (zap_fat.c) is a hash table. The
 * first word of the first block tells which.
 */
#include "fs/zfs/zfs_impl.h"

#define ZAP_MICRO 0x8000000000000003ull
#define ZAP_FAT 0x8000000000000001ull

#define MICRO_ENTRY_BYTES 64u
#define MICRO_NAME_BYTES 50u

/* Offsets in an entry of a micro ZAP. */
enum { ME_VALUE = 0, ME_NAME = 14 };

/* The length of an entry's name, 0 if the entry is free or damaged. */
static size_t micro_name_len(const uint8_t *entry)
{
    const uint8_t *nul = memchr(entry + ME_NAME, 0, MICRO_NAME_BYTES);

    return nul ? (size_t)(nul - (entry + ME_NAME)) : 0;
}

static int micro_lookup(const struct zbuf *b, const char *name,
                        size_t name_len, uint64_t *out)
{
    const uint8_t *block = b->data;

    if (name_len == 0 || name_len >= MICRO_NAME_BYTES)
        return -ENOENT;
    for (size_t at = MICRO_ENTRY_BYTES; at + MICRO_ENTRY_BYTES <= b->size;
         at += MICRO_ENTRY_BYTES) {
        const uint8_t *entry_name = block + at + ME_NAME;
        if (entry_name[0] == (uint8_t)name[0] && entry_name[name_len] == 0 &&
            memcmp(entry_name, name, name_len) == 0) {
            *out = get_le64(block + at + ME_VALUE);
            return 0;
        }
    }
    return -ENOENT;
}

static int micro_next(const struct zbuf *b, uint64_t *cursor,
                      struct zap_entry *out)
{
    uint64_t nr = b->size / MICRO_ENTRY_BYTES;

    for (uint64_t i = *cursor + 1; i < nr; i++) {
        const uint8_t *entry =
            (const uint8_t *)b->data + i * MICRO_ENTRY_BYTES;
        size_t len = micro_name_len(entry);
        if (len == 0)
            continue;
        memcpy(out->name, entry + ME_NAME, len + 1);
        out->name_len = (uint16_t)len;
        out->int_bytes = 8;
        out->nr_ints = 1;
        out->first = get_le64(entry + ME_VALUE);
        put_be64(out->value, out->first);
        *cursor = i;
        return 0;
    }
    return -ENOENT;
}

int zap_lookup(struct zfs *z, const struct zdnode *dn, const char *name,
               size_t name_len, uint64_t *out)
{
    struct zbuf *b;

    int err = dnode_block_get(z, dn, 0, &b);
    if (err)
        return err;
    switch (get_le64(b->data)) {
    case ZAP_MICRO:
        err = micro_lookup(b, name, name_len, out);
        break;
    case ZAP_FAT:
        err = zap_fat_lookup(z, dn, b, name, name_len, out);
        break;
    default:
        err = -EIO;
    }
    cache_put(b);
    return err;
}

int zap_lookup_obj(struct zfs *z, const struct objset *os, uint64_t obj,
                   const char *name, uint64_t *out)
{
    struct zbuf *b;

    int err = dnode_get(z, os, obj, &b);
    if (err)
        return err == -ENOENT ? -EIO : err;
    err = zap_lookup(z, dnode_of(b), name, strlen(name), out);
    cache_put(b);
    return err;
}

int zap_next(struct zfs *z, const struct zdnode *dn, uint64_t *cursor,
             struct zap_entry *out)
{
    struct zbuf *b;

    int err = dnode_block_get(z, dn, 0, &b);
    if (err)
        return err;
    switch (get_le64(b->data)) {
    case ZAP_MICRO:
        err = micro_next(b, cursor, out);
        break;
    case ZAP_FAT:
        err = zap_fat_next(z, dn, b, cursor, out);
        break;
    default:
        err = -EIO;
    }
    cache_put(b);
    return err;
}
