/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * From a block pointer to the block: find a copy, verify it, decompress it.
 *
 * A block pointer has up to three addresses (DVAs) of equal copies, the sizes
 * before and after compression, the checksum of the stored form, and kinds.
 * Small blocks are taken from read-ahead chunks, since metadata and small
 * files lie side by side; large ones are read by themselves, straight into
 * the destination when they are not compressed. A copy that fails its
 * checksum is followed by the next one.
 */
#include "fs/zfs/gang.h"
#include "fs/zfs/zfs_impl.h"
#include "lib/fletcher.h"
#include "lib/lz4.h"
#include "lib/lzjb.h"

#ifdef ZFS_FUZZ
bool zfs_debug_skip_checksums;
void (*zfs_debug_block_hook)(void *data, size_t len);
#endif

#define DATA_START (4ull << 20) /* address 0 of a DVA */
#define NR_DVAS 3
#define EMBEDDED_MAX 112u

enum {
    COMP_OFF = 2,
    COMP_LZJB = 3,
    COMP_GZIP_1 = 5,
    COMP_GZIP_9 = 13,
    COMP_ZLE = 14,
    COMP_LZ4 = 15,
    COMP_ZSTD = 16,
};

static unsigned int bp_compression(const struct zfs_bp *bp)
{
    return (unsigned int)bits64(bp->w[6], 32, 7);
}

static unsigned int bp_checksum(const struct zfs_bp *bp)
{
    return (unsigned int)bits64(bp->w[6], 40, 8);
}

static size_t bp_psize(const struct zfs_bp *bp)
{
    if (bp_is_embedded(bp))
        return bits64(bp->w[6], 25, 7) + 1;
    return (bits64(bp->w[6], 16, 16) + 1) << SECTOR_SHIFT;
}

static int decompress(struct zfs *z, unsigned int kind, const void *src,
                      size_t src_len, void *dst, size_t dst_len)
{
    int err;

    switch (kind) {
    case COMP_OFF:
        if (src_len < dst_len)
            return -EIO;
        memcpy(dst, src, dst_len);
        return 0;
    case COMP_LZJB:
        err = lzjb_decompress(src, src_len, dst, dst_len);
        break;
    case COMP_ZLE:
        err = zle_decompress(src, src_len, dst, dst_len);
        break;
    case COMP_LZ4:
        err = lz4_zfs_decompress(src, src_len, dst, dst_len);
        break;
    case COMP_ZSTD:
        return zfs_fail(z, -ENOTSUP, "a block is compressed with zstd, "
                        "which is not supported", NULL);
    default:
        if (kind >= COMP_GZIP_1 && kind <= COMP_GZIP_9)
            return zfs_fail(z, -ENOTSUP, "a block is compressed with gzip, "
                            "which is not supported", NULL);
        return zfs_fail(z, -EIO, "a block names an unknown compression",
                        NULL);
    }
    return err ? -EIO : 0;
}

/* The payload of an embedded pointer is all of it but words 6 and 10. */
static int read_embedded(struct zfs *z, const struct zfs_bp *bp, void *dst,
                         size_t len)
{
    uint8_t payload[EMBEDDED_MAX];
    size_t psize = bp_psize(bp);

    if (bits64(bp->w[6], 40, 8) != 0)
        return zfs_fail(z, -ENOTSUP, "a block is redacted", NULL);
    if (psize > EMBEDDED_MAX)
        return -EIO;
    memcpy(payload, &bp->w[0], 48);
    memcpy(payload + 48, &bp->w[7], 24);
    memcpy(payload + 72, &bp->w[11], 40);
    return decompress(z, bp_compression(bp), payload, psize, dst, len);
}

static int check_pointer(struct zfs *z, const struct zfs_bp *bp, size_t len)
{
    if (!bits64(bp->w[6], 63, 1))
        return zfs_fail(z, -ENOTSUP, "a block is big-endian, which is not "
                        "supported", NULL);
    if (bits64(bp->w[6], 61, 1))
        return zfs_fail(z, -ENOTSUP, "the dataset is encrypted, which is "
                        "not supported", NULL);
    if (bp_lsize(bp) != len || len > MAX_BLOCK_BYTES)
        return -EIO;
    if (bp_is_embedded(bp))
        return 0;
    if (bp_psize(bp) > MAX_BLOCK_BYTES ||
        (bp_compression(bp) == COMP_OFF && bp_psize(bp) != len))
        return -EIO;
    return 0;
}

/* Turns DVA i into a device offset. */
static int dva_offset(struct zfs *z, const struct zfs_bp *bp, int i,
                      uint64_t *out)
{
    uint64_t sectors = bits64(bp->w[2 * i + 1], 0, 63);
    char digits[21];

    uint64_t vdev = bits64(bp->w[2 * i], 32, 24);
    if (vdev != 0)
        return zfs_fail(z, -ENOTSUP, "a block is on disk number ",
                        zfs_decimal(digits, vdev), " of the pool; only "
                        "pools of one disk can be read", NULL);
    if (sectors > (1ull << 54))
        return -EIO;
    *out = (sectors << SECTOR_SHIFT) + DATA_START;
    return 0;
}

uint64_t zio_block_end(const struct zfs_bp *bp)
{
    uint64_t sectors = bits64(bp->w[1], 0, 63);

    if (bp_is_hole(bp) || bp_is_embedded(bp) || sectors > (1ull << 54))
        return 0;
    return (sectors << SECTOR_SHIFT) + DATA_START + bp_psize(bp);
}

/* Copies a stored block out of chunks. */
static int read_through_chunks(struct zfs *z, uint64_t offset, uint8_t *dst,
                               size_t len)
{
    while (len) {
        const uint8_t *start;
        struct zbuf *chunk;
        size_t avail;

        int err = vdev_chunk_get(z, offset, &chunk, &start, &avail);
        if (err)
            return vdev_read(z, offset, dst, len);
        avail = MIN(avail, len);
        memcpy(dst, start, avail);
        cache_put(chunk);
        dst += avail;
        offset += avail;
        len -= avail;
    }
    return 0;
}

static bool is_small(const struct zfs *z, size_t len)
{
    return len <= z->chunk_bytes / 2;
}

static int read_stored(struct zfs *z, uint64_t offset, void *dst, size_t len)
{
    if (is_small(z, len))
        return read_through_chunks(z, offset, dst, len);
    return vdev_read(z, offset, dst, len);
}

int zio_read_dva(struct zfs *z, const struct zfs_bp *bp, int i, void *dst,
                 size_t len)
{
    uint64_t offset;

    int err = dva_offset(z, bp, i, &offset);
    return err ? err : read_stored(z, offset, dst, len);
}

/* A small block that lies within one chunk: no copy before verification.
 * -EAGAIN: it does not. */
static int read_in_place(struct zfs *z, const struct zfs_bp *bp,
                         uint64_t offset, void *dst, size_t len)
{
    size_t psize = bp_psize(bp), avail;
    const uint8_t *start;
    struct zbuf *chunk;

    if (!is_small(z, psize) || vdev_chunk_get(z, offset, &chunk, &start,
                                              &avail))
        return -EAGAIN;
    int err = -EAGAIN;
    if (avail >= psize) {
        err = checksum_verify(z, bp_checksum(bp), start, psize, &bp->w[12]);
        if (!err)
            err = decompress(z, bp_compression(bp), start, psize, dst, len);
    }
    cache_put(chunk);
    return err;
}

/* One copy, not in place: into dst if not compressed, else by a buffer. */
static int read_copy(struct zfs *z, const struct zfs_bp *bp, int i, void *dst,
                     size_t len)
{
    bool is_gang = bits64(bp->w[2 * i + 1], 63, 1);
    bool is_plain = bp_compression(bp) == COMP_OFF;
    size_t psize = bp_psize(bp);

    void *stored = is_plain ? dst : kmalloc(psize);
    if (!stored)
        return -ENOMEM;
    int err = is_gang ? gang_read(z, bp, i, stored, psize)
                      : zio_read_dva(z, bp, i, stored, psize);
    if (!err)
        err = checksum_verify(z, bp_checksum(bp), stored, psize, &bp->w[12]);
    if (!is_plain) {
        if (!err)
            err = decompress(z, bp_compression(bp), stored, psize, dst, len);
        kfree(stored);
    }
    return err;
}

static int read_dva(struct zfs *z, const struct zfs_bp *bp, int i, void *dst,
                    size_t len)
{
    uint64_t offset;

    int err = dva_offset(z, bp, i, &offset);
    if (err)
        return err;
    if (!bits64(bp->w[2 * i + 1], 63, 1)) {
        err = read_in_place(z, bp, offset, dst, len);
        if (err != -EAGAIN)
            return err;
    }
    return read_copy(z, bp, i, dst, len);
}

/* The first copy that is good. */
static int read_any_copy(struct zfs *z, const struct zfs_bp *bp, void *dst,
                         size_t len)
{
    int err = -EIO;

    for (int i = 0; i < NR_DVAS && err; i++) {
        if (bp->w[2 * i] == 0 && bp->w[2 * i + 1] == 0)
            continue;
        err = read_dva(z, bp, i, dst, len);
    }
    return err;
}

int zio_read(struct zfs *z, const struct zfs_bp *bp, void *dst, size_t len)
{
    if (bp_is_hole(bp)) {
        memset(dst, 0, len);
        return 0;
    }
    int err = check_pointer(z, bp, len);
    if (err)
        return err;
    __atomic_fetch_add(&z->stats.blocks, 1, __ATOMIC_RELAXED);
    __atomic_fetch_add(&z->stats.block_bytes, len, __ATOMIC_RELAXED);
    if (bp_is_embedded(bp))
        err = read_embedded(z, bp, dst, len);
    else
        err = read_any_copy(z, bp, dst, len);
#ifdef ZFS_FUZZ
    if (!err && zfs_debug_block_hook)
        zfs_debug_block_hook(dst, len);
#endif
    return err;
}

int zio_get(struct zfs *z, struct zcache *cache, const struct zfs_bp *bp,
            struct zbuf **out)
{
    struct zkey key = {{bp->w[1], bp->w[6], bp->w[10] ^ bp->w[12]}};
    size_t len = bp_lsize(bp);
    struct zbuf *b;
    bool must_fill;

    if (bp_is_hole(bp) || len > MAX_BLOCK_BYTES)
        return -EIO;
    int err = cache_get(cache, &key, len, &b, &must_fill);
    if (err)
        return err;
    if (must_fill) {
        err = zio_read(z, bp, b->data, len);
        cache_filled(b, err);
        if (err) {
            cache_put(b);
            return err;
        }
    }
    *out = b;
    return 0;
}

/* --- runs --- */

/* A block whose first copy is a plain large extent. */
static bool can_run(struct zfs *z, const struct zfs_bp *bp, size_t len)
{
    return !bp_is_hole(bp) && !bp_is_embedded(bp) &&
           !bits64(bp->w[1], 63, 1) && !is_small(z, bp_psize(bp)) &&
           bp_psize(bp) <= len && check_pointer(z, bp, len) == 0;
}

/* How many of the blocks lie one behind the other on the device. */
static unsigned int run_length(struct zfs *z, const struct zfs_bp *bps,
                               unsigned int nr, size_t len)
{
    unsigned int n = 0;

    while (n < nr && can_run(z, &bps[n], len) &&
           (n == 0 || (bps[n].w[1] << SECTOR_SHIFT) + DATA_START ==
                          zio_block_end(&bps[n - 1])))
        n++;
    return n;
}

/* Verifies and unpacks one block of a run; `stored` may be dst itself if the
 * block is not compressed. */
static int unpack(struct zfs *z, const struct zfs_bp *bp,
                  const uint8_t *stored, uint8_t *dst, size_t len)
{
    int err = checksum_verify(z, bp_checksum(bp), stored, bp_psize(bp),
                              &bp->w[12]);

    if (err || stored == dst)
        return err;
    return decompress(z, bp_compression(bp), stored, bp_psize(bp), dst, len);
}

static int read_run(struct zfs *z, const struct zfs_bp *bps, unsigned int nr,
                    uint8_t *stored, size_t stored_len, uint8_t *dst,
                    size_t len)
{
    uint64_t offset;

    int err = dva_offset(z, &bps[0], 0, &offset);
    if (!err)
        err = vdev_read(z, offset, stored, stored_len);
    for (unsigned int i = 0; i < nr && !err; i++) {
        err = unpack(z, &bps[i], stored, dst, len);
        stored += bp_psize(&bps[i]);
        dst += len;
    }
    return err;
}

unsigned int zio_read_run(struct zfs *z, const struct zfs_bp *bps,
                          unsigned int nr, void *dst, size_t len)
{
    size_t stored_len = 0;

    bool is_plain = true;
    nr = run_length(z, bps, nr, len);
    if (nr < 2)
        return 0;
    for (unsigned int i = 0; i < nr; i++) {
        stored_len += bp_psize(&bps[i]);
        is_plain &= bp_compression(&bps[i]) == COMP_OFF;
    }
    uint8_t *stored = is_plain ? dst : kmalloc(stored_len);
    if (!stored)
        return 0;
    int err = read_run(z, bps, nr, stored, stored_len, dst, len);
    if (!is_plain)
        kfree(stored);
    if (err)
        return 0;
    __atomic_fetch_add(&z->stats.blocks, nr, __ATOMIC_RELAXED);
    __atomic_fetch_add(&z->stats.block_bytes, nr * len, __ATOMIC_RELAXED);
    return nr;
}

/* --- intent log --- */

#define LOG_NUSED 136u
#define LOG_TRAILER 144u
#define LOG_HEADER_BYTES 184u
#define LOG_CHECKSUM_ZILOG2 9u
#define LOG_CHECKSUM_UNIT 4096u

/* A log block is preceded by its header, whose checksum starts from the value
 * the pointer predicted and ends at `nused`; an old log block has its trailer
 * at the end instead. A block that does not match is the end of the log. */
bool zio_log_has_records(struct zfs *z, const struct zfs_bp *bp)
{
    size_t len = bp_psize(bp);
    uint64_t computed[4];
    bool has_records = false;

    if (bp_is_hole(bp) || bp_is_embedded(bp) ||
        bp_checksum(bp) != LOG_CHECKSUM_ZILOG2 || len > MAX_BLOCK_BYTES)
        return false;
    uint8_t *block = kmalloc(len);
    if (!block)
        return false;
    if (zio_read_dva(z, bp, 0, block, len) == 0) {
        uint64_t stored[4], nused = get_le64(block + LOG_NUSED);
        memcpy(stored, block + LOG_TRAILER + 8, sizeof(stored));
        memcpy(block + LOG_TRAILER + 8, &bp->w[12], 32);
        if (nused > LOG_HEADER_BYTES && nused <= len) {
            nused = MIN(ALIGN_UP(nused, (uint64_t)LOG_CHECKSUM_UNIT), len);
            fletcher4(block, nused, computed);
            has_records = memcmp(stored, computed, 32) == 0;
        }
    }
    kfree(block);
    return has_records;
}
