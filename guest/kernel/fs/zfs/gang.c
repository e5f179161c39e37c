/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Reading gang blocks with an explicit stack of headers. OpenZFS nests at
 * most a few levels; deeper trees are taken for damage.
 *
 * A header's checksum is a SHA-256 in its last 32 bytes, over a verifier that
 * names the address and the birth of the block.
 */
#include "fs/zfs/gang.h"

#define GANG_POINTERS 3u
#define GANG_TRAILER (SECTOR_SIZE - 40u)
#define GANG_MAX_DEPTH 8u
#define GANG_MAX_HEADERS 4096u
#define TRAILER_MAGIC 0x0210da7ab10c7a11ull

struct gang_level {
    uint8_t header[SECTOR_SIZE];
    unsigned int next; /* pointer to follow */
};

struct gang_walk {
    struct zfs *z;
    uint8_t *dst;
    size_t left;
    unsigned int depth, nr_headers;
    struct gang_level levels[GANG_MAX_DEPTH];
};

static bool dva_is_gang(const struct zfs_bp *bp, int i)
{
    return bits64(bp->w[2 * i + 1], 63, 1);
}

static int push_header(struct gang_walk *g, const struct zfs_bp *bp, int i)
{
    const uint64_t verifier[4] = {
        bits64(bp->w[2 * i], 32, 24),
        bits64(bp->w[2 * i + 1], 0, 63) << SECTOR_SHIFT,
        bp->w[9] ? bp->w[9] : bp->w[10],
    };

    if (g->depth == GANG_MAX_DEPTH || g->nr_headers++ == GANG_MAX_HEADERS)
        return -EIO;
    struct gang_level *level = &g->levels[g->depth];
    int err = zio_read_dva(g->z, bp, i, level->header, SECTOR_SIZE);
    if (err)
        return err;
    if (get_le64(level->header + GANG_TRAILER) != TRAILER_MAGIC ||
        !checksum_embedded_ok(level->header, SECTOR_SIZE, verifier))
        return -EIO;
    level->next = 0;
    g->depth++;
    return 0;
}

/* A piece: its first copy that can be read (the whole block is verified by
 * the caller), or a header to go into. */
static int take_piece(struct gang_walk *g, const struct zfs_bp *bp)
{
    size_t len = (bits64(bp->w[6], 16, 16) + 1) << SECTOR_SHIFT;
    int err;

    if (bp_is_embedded(bp))
        return -EIO;
    if (dva_is_gang(bp, 0))
        return push_header(g, bp, 0);
    if (len > g->left)
        return -EIO;
    err = zio_read_dva(g->z, bp, 0, g->dst, len);
    if (err)
        return err;
    err = checksum_verify(g->z, (unsigned int)bits64(bp->w[6], 40, 8), g->dst,
                          len, &bp->w[12]);
    g->dst += len;
    g->left -= len;
    return err;
}

static int walk(struct gang_walk *g)
{
    while (g->depth) {
        struct gang_level *level = &g->levels[g->depth - 1];
        if (level->next == GANG_POINTERS) {
            g->depth--;
            continue;
        }
        struct zfs_bp bp = bp_load(level->header + level->next * BP_BYTES);
        level->next++;
        if (bp_is_hole(&bp))
            continue;
        int err = take_piece(g, &bp);
        if (err)
            return err;
    }
    return g->left ? -EIO : 0;
}

int gang_read(struct zfs *z, const struct zfs_bp *bp, int i, void *dst,
              size_t len)
{
    struct gang_walk *g = kzalloc(sizeof(*g));

    if (!g)
        return -ENOMEM;
    g->z = z;
    g->dst = dst;
    g->left = len;
    int err = push_header(g, bp, i);
    if (!err)
        err = walk(g);
    kfree(g);
    return err;
}
