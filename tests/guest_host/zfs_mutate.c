/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * zfs_mutate [-s SEED] POOL... N: opens and walks N damaged variants of each
 * pool. Any crash, sanitizer report, leak or hang (alarm) is a failure; errors
 * from the reader are what should happen.
 *
 * Three kinds of damage, in turn:
 *   device    bytes on the disk, checksums on: must be noticed
 *   stored    bytes on the disk, checksums off: reaches the decompressors
 *   block     blocks after decompression, checksums off: reaches all parsers
 */
#include "check.h"
#include "fs/zfs/zfs_impl.h"
#include "image.h"

#include <signal.h>
#include <unistd.h>

#define SECONDS_PER_VARIANT 20
#define MAX_DIRS 24u
#define MAX_ENTRIES 60u
#define READ_BYTES 300000u
#define MAX_FLIPS 64u
#define TOUCHED_UNIT 4096u

enum kind { DAMAGE_DEVICE, DAMAGE_STORED, DAMAGE_BLOCK, NR_KINDS };

struct flip {
    uint64_t offset;
    uint8_t old;
};

static uint64_t rng = 1;
static unsigned int block_rate; /* one block of so many is damaged */
static uint8_t *touched;        /* units the undamaged walk reads */
static uint64_t *touched_list, nr_touched;
static uint64_t total_errors, total_opens, total_ops;

static const struct zfs_tuning tuning = {.chunk_bytes = TOUCHED_UNIT};

/* --- walking --- */

struct queue {
    uint64_t dirs[MAX_DIRS];
    unsigned int head, tail;
};

static void visit(struct zfs *z, const struct zfs_dirent *e, struct queue *q)
{
    static uint8_t buf[READ_BYTES];
    struct zfs_attr a;
    uint64_t obj;
    size_t len;

    total_ops += 3;
    total_errors += zfs_lookup(z, q->dirs[q->head], e->name, e->name_len,
                               &obj) != 0;
    if (zfs_getattr(z, e->obj, &a)) {
        total_errors++;
        return;
    }
    if (zfs_read(z, e->obj, 0, buf, sizeof(buf)) < 0)
        total_errors += (a.mode & 0170000) == 0100000;
    if (a.size > sizeof(buf))
        (void)!zfs_read(z, e->obj, rng_below(&rng, a.size), buf, 777);
    if (zfs_readlink(z, e->obj, (char *)buf, sizeof(buf), &len) == 0)
        CHECK(len <= sizeof(buf));
    if ((a.mode & 0170000) == 0040000 && q->tail < MAX_DIRS)
        q->dirs[q->tail++] = e->obj;
}

static void walk(struct zfs *z)
{
    struct queue q = {.dirs = {zfs_root(z)}, .tail = 1};
    struct zfs_dirent e;
    uint64_t total, avail, nr;

    CHECK_EQ(zfs_stat_pool(z, &total, &avail, &nr), 0);
    CHECK(avail <= total);
    for (; q.head < q.tail; q.head++) {
        uint64_t cursor = 0;
        for (unsigned int i = 0; i < MAX_ENTRIES; i++) {
            int err = zfs_readdir(z, q.dirs[q.head], &cursor, &e);
            total_ops++;
            if (err) {
                total_errors += err != -ENOENT;
                break;
            }
            CHECK(e.name_len <= ZFS_NAME_MAX && e.name[e.name_len] == 0);
            visit(z, &e, &q);
        }
    }
}

/* Returns whether the pool could be opened. */
static bool open_and_walk(const struct zfs_vdev_ops *ops, struct image *img,
                          const char *dataset)
{
    char why[80] = "?";
    struct zfs *z;

    alarm(SECONDS_PER_VARIANT);
    int err = zfs_open_tuned(ops, img, img->size, dataset, &tuning, &z, why,
                             sizeof(why));
    CHECK(memchr(why, 0, sizeof(why)));
    if (err) {
        CHECK(why[0]);
    } else {
        walk(z);
        zfs_close(z);
        total_opens++;
    }
    CHECK_EQ(shim_bytes, 0);
    return err == 0;
}

/* --- damage --- */

static int recording_read(void *dev, uint64_t offset, void *buf, size_t len)
{
    for (uint64_t at = offset; at < offset + len; at += SECTOR_SIZE)
        touched[at / TOUCHED_UNIT] = 1;
    return image_ops.read(dev, offset, buf, len);
}

static const struct zfs_vdev_ops recording_ops = {.read = recording_read};

static void record(struct image *img)
{
    uint64_t nr = img->size / TOUCHED_UNIT + 1;

    touched = calloc(1, nr);
    touched_list = calloc(nr, sizeof(*touched_list));
    nr_touched = 0;
    CHECK(open_and_walk(&recording_ops, img, NULL));
    for (uint64_t i = 0; i < nr; i++)
        if (touched[i])
            touched_list[nr_touched++] = i * TOUCHED_UNIT;
}

static uint64_t interesting_word(void)
{
    static const uint64_t words[] = {
        0, 1, 2, 0x7f, 0xff, 0xffff, 0x7fffffff, 0xffffffff,
        1ull << 63, ~0ull, ~0ull >> 1, 0x8000000000000001ull,
        0x8000000000000003ull, 0x2F505A,
    };
    return words[rng_below(&rng, ARRAY_SIZE(words))];
}

/* Changes one to four places of a decompressed block. */
static void damage_block(void *data, size_t len)
{
    uint8_t *p = data;

    if (rng_below(&rng, block_rate))
        return;
    for (uint64_t n = rng_below(&rng, 4) + 1; n; n--) {
        /* Metadata lives at the start of blocks more often than not. */
        size_t window = rng_below(&rng, 2) ? len : MIN(len, (size_t)1024);
        size_t at = rng_below(&rng, window);
        switch (rng_below(&rng, 4)) {
        case 0:
            p[at] ^= (uint8_t)(1u << rng_below(&rng, 8));
            break;
        case 1:
            p[at] = (uint8_t)rng_next(&rng);
            break;
        case 2:
            at = MIN(ALIGN_DOWN(at, 8), len - 8);
            put_le64(p + at, interesting_word());
            break;
        default:
            at = MIN(ALIGN_DOWN(at, 8), len - 8);
            put_le64(p + at, get_le64(p + at) + rng_below(&rng, 5) - 2);
        }
    }
}

static unsigned int damage_device(struct image *img, struct flip *flips)
{
    unsigned int nr = (unsigned int)rng_below(&rng, MAX_FLIPS) + 1;

    for (unsigned int i = 0; i < nr; i++) {
        uint64_t offset = touched_list[rng_below(&rng, nr_touched)] +
                          rng_below(&rng, TOUCHED_UNIT);
        offset = MIN(offset, img->size - 1);
        flips[i].offset = offset;
        flips[i].old = img->bytes[offset];
        img->bytes[offset] = (uint8_t)rng_next(&rng);
    }
    return nr;
}

static void undo(struct image *img, const struct flip *flips, unsigned int nr)
{
    while (nr--)
        img->bytes[flips[nr].offset] = flips[nr].old;
}

static void one_variant(struct image *img, enum kind kind)
{
    struct flip flips[MAX_FLIPS];
    unsigned int nr = 0;

    zfs_debug_skip_checksums = kind != DAMAGE_DEVICE;
    if (kind == DAMAGE_BLOCK) {
        block_rate = 1u << rng_below(&rng, 8);
        zfs_debug_block_hook = damage_block;
    } else {
        nr = damage_device(img, flips);
    }
    open_and_walk(&image_ops, img, rng_below(&rng, 4) ? NULL : "child");
    zfs_debug_block_hook = NULL;
    zfs_debug_skip_checksums = false;
    undo(img, flips, nr);
}

static void mutate(const char *path, unsigned long variants, uint64_t seed)
{
    struct image img;

    image_open(&img, path);
    record(&img);
    total_errors = total_opens = total_ops = 0;
    for (unsigned long i = 0; i < variants; i++) {
        rng = (seed + i) * 0x9E3779B97F4A7C15ull | 1;
        one_variant(&img, i % NR_KINDS);
    }
    alarm(0);
    printf("zfs_mutate: %s: %lu variants, %lu opened, %lu calls, %lu errors\n",
           path, variants, total_opens, total_ops, total_errors);
    free(touched);
    free(touched_list);
    image_close(&img);
}

int main(int argc, char **argv)
{
    uint64_t seed = 1;
    int first = 1;

    if (argc > 2 && strcmp(argv[1], "-s") == 0) {
        seed = strtoull(argv[2], NULL, 10);
        first = 3;
    }
    if (argc < first + 2) {
        fprintf(stderr, "usage: zfs_mutate [-s SEED] POOL... N\n");
        return 2;
    }
    unsigned long variants = strtoul(argv[argc - 1], NULL, 10);
    for (int i = first; i < argc - 1; i++)
        mutate(argv[i], variants, seed);
    return 0;
}
