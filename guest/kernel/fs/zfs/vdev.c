/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The device: bounded reads, read-ahead chunks, and the search for the newest
 * uberblock ("ZFS On-Disk Specification", ch. 1).
 *
 * A label is 256 KiB: 16 KiB unused or boot data, 112 KiB configuration,
 * 128 KiB ring of uberblocks. Labels 0 and 1 are the first 512 KiB, labels 2
 * and 3 the last. Only the ring of label 0 is read when all is well: the
 * configuration is repeated, checksummed, in the pool itself.
 *
 * The size of a ring slot depends on the disk's sector size, which only the
 * configuration tells; so slots are recognised by their trailer instead.
 */
#include "fs/zfs/zfs_impl.h"

#define LABEL_BYTES (256u << 10)
#define RING_OFFSET (128u << 10)
#define RING_BYTES (128u << 10)
#define NR_LABELS 4u
#define MIN_SLOT 1024u
#define MAX_SLOT 8192u
#define MAX_SLOTS (RING_BYTES / MIN_SLOT)
#define TRAILER_BYTES 40u

#define UBERBLOCK_MAGIC 0x00bab10cull
#define UBERBLOCK_MAGIC_SWAPPED 0x0cb1ba0000000000ull
#define TRAILER_MAGIC 0x0210da7ab10c7a11ull

/* Offsets in an uberblock. */
enum {
    UB_MAGIC = 0,
    UB_VERSION = 8,
    UB_TXG = 16,
    UB_TIME = 32,
    UB_ROOT_BP = 40,
};

#define VERSION_LAST_NUMBERED 28u
#define VERSION_FEATURES 5000u

int vdev_read(struct zfs *z, uint64_t offset, void *buf, size_t len)
{
    if (len > z->size_bytes || offset > z->size_bytes - len ||
        (offset | len) % SECTOR_SIZE)
        return -EIO;
    __atomic_fetch_add(&z->stats.dev_reads, 1, __ATOMIC_RELAXED);
    __atomic_fetch_add(&z->stats.dev_bytes, len, __ATOMIC_RELAXED);
    return z->ops->read(z->dev, offset, buf, len) ? -EIO : 0;
}

int vdev_chunk_get(struct zfs *z, uint64_t offset, struct zbuf **out,
                   const uint8_t **start, size_t *avail)
{
    uint64_t base = ALIGN_DOWN(offset, (uint64_t)z->chunk_bytes);
    struct zkey key = {{base, 0, 0}};
    struct zbuf *b;
    bool must_fill;

    if (offset >= z->size_bytes)
        return -EIO;
    size_t size = MIN((uint64_t)z->chunk_bytes, z->size_bytes - base);
    int err = cache_get(&z->chunks, &key, size, &b, &must_fill);
    if (err)
        return err;
    if (must_fill) {
        err = vdev_read(z, base, b->data, size);
        cache_filled(b, err);
        if (err) {
            cache_put(b);
            return err;
        }
    }
    *out = b;
    *start = (const uint8_t *)b->data + (offset - base);
    *avail = size - (offset - base);
    return 0;
}

/* Puts one chunk's bytes into the cache unless they are there. */
static int chunk_insert(struct zfs *z, uint64_t base, const uint8_t *bytes)
{
    struct zkey key = {{base, 0, 0}};
    struct zbuf *b;
    bool must_fill;

    int err = cache_get(&z->chunks, &key, z->chunk_bytes, &b, &must_fill);
    if (err)
        return err;
    if (must_fill) {
        memcpy(b->data, bytes, z->chunk_bytes);
        cache_filled(b, 0);
    }
    cache_put(b);
    return 0;
}

#define PREFETCH_PIECE (128u << 10)

void vdev_prefetch(struct zfs *z, uint64_t end, size_t len)
{
    uint64_t chunk = z->chunk_bytes;

    if (end > z->size_bytes || end < len)
        return;
    uint64_t first = ALIGN_DOWN(end - len, chunk);
    uint64_t last = ALIGN_UP(end, chunk); /* excluded */
    if (last - first <= chunk || last > z->size_bytes ||
        last - first > z->chunks.limit)
        return;
    /* In pieces: a large buffer would be the first to touch cold memory. */
    uint64_t piece = MAX(chunk, (uint64_t)PREFETCH_PIECE);
    uint8_t *buf = kmalloc(piece);
    if (!buf)
        return;
    for (uint64_t from = first; from < last; from += piece) {
        uint64_t n = MIN(piece, last - from);
        if (vdev_read(z, from, buf, n))
            break;
        for (uint64_t at = 0; at < n; at += chunk)
            if (chunk_insert(z, from + at, buf + at))
                break;
    }
    kfree(buf);
}

/* --- uberblocks --- */

struct candidate {
    uint64_t txg, time;
    uint32_t offset; /* in the ring */
};

static bool is_newer(const struct candidate *a, const struct candidate *b)
{
    return a->txg > b->txg || (a->txg == b->txg && a->time > b->time);
}

/* The newest slot of the ring that is not in `rejected`. */
static bool newest_slot(const uint8_t *ring, const bool *rejected,
                        struct candidate *out)
{
    bool found = false;

    for (uint32_t i = 0; i < MAX_SLOTS; i++) {
        const uint8_t *ub = ring + i * MIN_SLOT;
        struct candidate c = {
            .txg = get_le64(ub + UB_TXG),
            .time = get_le64(ub + UB_TIME),
            .offset = i * MIN_SLOT,
        };
        if (rejected[i] || get_le64(ub + UB_MAGIC) != UBERBLOCK_MAGIC)
            continue;
        if (!found || is_newer(&c, out))
            *out = c;
        found = true;
    }
    return found;
}

/* Does some slot size fit the checksum at the end of the slot? */
static bool slot_is_valid(const uint8_t *ring, uint32_t offset,
                          uint64_t ring_on_disk)
{
    const uint64_t verifier[4] = {ring_on_disk + offset};

    for (uint32_t size = MIN_SLOT; size <= MAX_SLOT; size *= 2) {
        if (offset % size)
            break;
        const uint8_t *slot = ring + offset;
        if (get_le64(slot + size - TRAILER_BYTES) == TRAILER_MAGIC)
            return checksum_embedded_ok(slot, size, verifier);
    }
    return false;
}

static void take_uberblock(struct zfs *z, const uint8_t *ub)
{
    z->version = get_le64(ub + UB_VERSION);
    z->txg = get_le64(ub + UB_TXG);
    z->root_bp = bp_load(ub + UB_ROOT_BP);
}

/* Looks at one ring. *best is replaced by a newer valid uberblock. Returns
 * true if all is well: the newest slot of this ring was valid. */
static bool scan_ring(struct zfs *z, const uint8_t *ring,
                      uint64_t ring_on_disk, struct candidate *best)
{
    bool rejected[MAX_SLOTS] = {false};
    struct candidate c;
    bool is_clean = true;

    while (newest_slot(ring, rejected, &c)) {
        if (slot_is_valid(ring, c.offset, ring_on_disk)) {
            if (is_newer(&c, best)) {
                *best = c;
                take_uberblock(z, ring + c.offset);
            }
            return is_clean;
        }
        rejected[c.offset / MIN_SLOT] = true;
        is_clean = false;
    }
    return false;
}

static bool has_swapped_magic(const uint8_t *ring)
{
    for (uint32_t i = 0; i < RING_BYTES; i += MIN_SLOT)
        if (get_le64(ring + i) == UBERBLOCK_MAGIC_SWAPPED)
            return true;
    return false;
}

static uint64_t label_offset(const struct zfs *z, unsigned int label)
{
    if (label < NR_LABELS / 2)
        return (uint64_t)label * LABEL_BYTES;
    return z->size_bytes - (uint64_t)(NR_LABELS - label) * LABEL_BYTES;
}

static int check_version(struct zfs *z)
{
    char digits[21];

    if ((z->version >= 1 && z->version <= VERSION_LAST_NUMBERED) ||
        z->version == VERSION_FEATURES)
        return 0;
    return zfs_fail(z, -ENOTSUP, "the pool has version ",
                    zfs_decimal(digits, z->version),
                    "; 1 to 28 and 5000 can be read", NULL);
}

int vdev_find_uberblock(struct zfs *z)
{
    struct candidate best = {0};
    bool is_swapped = false, was_read = false;

    if (z->size_bytes < NR_LABELS * LABEL_BYTES)
        return zfs_fail(z, -EINVAL, "the disk is too small for a ZFS pool",
                        NULL);
    uint8_t *ring = kmalloc(RING_BYTES);
    if (!ring)
        return zfs_fail(z, -ENOMEM, "no memory to read the labels", NULL);
    for (unsigned int i = 0; i < NR_LABELS; i++) {
        uint64_t where = label_offset(z, i) + RING_OFFSET;
        if (vdev_read(z, where, ring, RING_BYTES) == 0) {
            was_read = true;
            if (scan_ring(z, ring, where, &best) && i == 0)
                break;
            is_swapped |= has_swapped_magic(ring);
        }
        z->flags |= ZFS_DAMAGED_LABEL;
    }
    kfree(ring);
    if (best.txg)
        return check_version(z);
    if (is_swapped)
        return zfs_fail(z, -ENOTSUP, "the pool was made on a big-endian "
                        "machine; only little-endian can be read", NULL);
    if (!was_read)
        return zfs_fail(z, -EIO, "the disk cannot be read", NULL);
    return zfs_fail(z, -EINVAL, "no valid ZFS label: the disk is not a pool "
                    "or all four labels are damaged", NULL);
}
