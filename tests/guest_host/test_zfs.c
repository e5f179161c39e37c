/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_zfs IMAGE: the reader's behaviour on a reference pool (min: no
 * compression of files, one dataset) where contents alone do not show it:
 * error numbers, odd ranges, damaged labels and copies, failing devices and
 * allocations, refusals, gang blocks, many threads.
 */
#include "check.h"
#include "fs/zfs/zfs_impl.h"
#include "image.h"
#include "lib/fletcher.h"
#include "lib/sha256.h"

#include <pthread.h>

#define LABEL_BYTES (256u << 10)
#define RING_OFFSET (128u << 10)
#define UBERBLOCK_MAGIC 0x00bab10cull
#define NR_THREADS 4
#define WHY_BYTES 200

static struct image img;
static const char *img_path;

static void reopen_image(void)
{
    image_close(&img);
    image_open(&img, img_path);
}

static uint64_t find(struct zfs *z, const char *path)
{
    uint64_t obj = zfs_root(z);

    for (const char *p = path; *p;) {
        size_t len = strcspn(p, "/");
        CHECK_EQ(zfs_lookup(z, obj, p, len, &obj), 0);
        p += len + (p[len] == '/');
    }
    return obj;
}

static uint8_t *read_all(struct zfs *z, uint64_t obj, size_t *size)
{
    struct zfs_attr a;

    CHECK_EQ(zfs_getattr(z, obj, &a), 0);
    uint8_t *buf = malloc(a.size + 1);
    *size = a.size;
    CHECK_EQ(zfs_read(z, obj, 0, buf, a.size), a.size);
    return buf;
}

static void test_errors(void)
{
    struct zfs *z = image_mount(&img, NULL);
    uint64_t dir = find(z, "etc"), file = find(z, "etc/hello.txt");
    uint64_t link = find(z, "etc/link"), obj, cursor = 0;
    struct zfs_dirent e;
    struct zfs_attr a;
    char name[300], buf[16];
    size_t len;

    memset(name, 'x', sizeof(name));
    CHECK_EQ(zfs_lookup(z, dir, "no", 2, &obj), -ENOENT);
    CHECK_EQ(zfs_lookup(z, dir, "", 0, &obj), -ENOENT);
    CHECK_EQ(zfs_lookup(z, dir, name, 255, &obj), -ENOENT);
    CHECK_EQ(zfs_lookup(z, dir, name, 256, &obj), -ENAMETOOLONG);
    CHECK_EQ(zfs_lookup(z, find(z, "dir1"), name, 255, &obj), -ENOENT);
    CHECK_EQ(zfs_lookup(z, dir, "hello.tx", 8, &obj), -ENOENT);
    CHECK_EQ(zfs_lookup(z, file, "a", 1, &obj), -ENOTDIR);
    CHECK_EQ(zfs_readdir(z, file, &cursor, &e), -ENOTDIR);
    CHECK_EQ(zfs_readdir(z, find(z, "empty-dir"), &cursor, &e), -ENOENT);
    CHECK_EQ(zfs_readlink(z, file, buf, 16, &len), -EINVAL);
    CHECK_EQ(zfs_readlink(z, link, buf, 3, &len), 0);
    CHECK(len == 3 && memcmp(buf, "hel", 3) == 0);
    CHECK_EQ(zfs_read(z, dir, 0, buf, 16), -EINVAL);
    CHECK_EQ(zfs_read(z, file, 1000, buf, 16), 0);
    CHECK_EQ(zfs_read(z, file, ~0ull, buf, 16), 0);
    CHECK_EQ(zfs_read(z, file, 0, buf, 0), 0);
    CHECK_EQ(zfs_getattr(z, 0, &a), -ENOENT);
    CHECK_EQ(zfs_getattr(z, 1ull << 60, &a), -ENOENT);
    CHECK_EQ(zfs_getattr(z, 1000000, &a), -ENOENT);
    CHECK_EQ(zfs_getattr(z, 1, &a), -EIO); /* the master node */
    CHECK_EQ(zfs_flags(z), 0);
    zfs_shrink(z);
    CHECK_EQ(zfs_getattr(z, file, &a), 0);
    CHECK_EQ(a.links, 2);
    zfs_close(z);
}

/* Any range equals the same range of a whole read. */
static void test_ranges(const char *path)
{
    struct zfs *z = image_mount(&img, NULL);
    uint64_t obj = find(z, path), rng = 7;
    size_t size;
    uint8_t *whole = read_all(z, obj, &size);

    for (int i = 0; i < 300; i++) {
        uint64_t offset = rng_below(&rng, size + 10);
        size_t len = rng_below(&rng, i % 3 ? 9000 : 400000);
        size_t expected = offset < size ? MIN(len, size - offset) : 0;
        uint8_t *part = malloc(len + 1);
        CHECK_EQ(zfs_read(z, obj, offset, part, len), expected);
        CHECK(memcmp(part, whole + offset, expected) == 0);
        free(part);
    }
    free(whole);
    zfs_close(z);
}

/* --- damaged labels and copies --- */

static uint64_t label_at(int label)
{
    return label < 2 ? (uint64_t)label * LABEL_BYTES
                     : img.size - (uint64_t)(4 - label) * LABEL_BYTES;
}

static int try_open(char why[WHY_BYTES], uint32_t *flags, uint64_t *txg)
{
    struct zfs *z;

    int err = zfs_open(&image_ops, &img, img.size, NULL, &z, why, WHY_BYTES);
    if (err)
        return err;
    *flags = zfs_flags(z);
    *txg = z->txg;
    zfs_close(z);
    return 0;
}

static void damage_newest_slot(int label, uint64_t txg)
{
    for (uint64_t at = 0; at < RING_OFFSET; at += 1024) {
        uint8_t *ub = img.bytes + label_at(label) + RING_OFFSET + at;
        if (get_le64(ub) == UBERBLOCK_MAGIC && get_le64(ub + 16) == txg)
            ub[50] ^= 1;
    }
}

static void test_labels(void)
{
    char why[WHY_BYTES];
    uint64_t txg, now;
    uint32_t flags;

    CHECK_EQ(try_open(why, &flags, &now), 0);
    CHECK(flags == 0 && why[0] == 0);
    /* The newest uberblock of the first label is torn: others have it. */
    damage_newest_slot(0, now);
    CHECK_EQ(try_open(why, &flags, &txg), 0);
    CHECK(txg == now && flags == ZFS_DAMAGED_LABEL && why[0]);
    /* Torn everywhere: the one before is found (it may lead nowhere). */
    for (int label = 1; label < 4; label++)
        damage_newest_slot(label, now);
    CHECK(try_open(why, &flags, &txg) || txg < now);
    reopen_image();
    for (int label = 0; label < 4; label++) {
        memset(img.bytes + label_at(label), 0xa5, LABEL_BYTES);
        int err = try_open(why, &flags, &txg);
        CHECK_EQ(err, label < 3 ? 0 : -EINVAL);
        CHECK(err || (txg == now && flags == ZFS_DAMAGED_LABEL));
    }
    CHECK(strstr(why, "no valid ZFS label"));
    reopen_image();
}

/* Metadata has two copies: the second serves when the first is damaged. */
static void test_copies(void)
{
    struct zfs *z = image_mount(&img, NULL);
    struct zfs_bp bp = z->root_bp;
    char why[WHY_BYTES];
    uint32_t flags;
    uint64_t txg;

    zfs_close(z);
    for (int i = 0; i < 3 && bp.w[2 * i + 1]; i++) {
        int err = try_open(why, &flags, &txg);
        CHECK_EQ(err, 0);
        img.bytes[(bp.w[2 * i + 1] << 9) + (4u << 20) + 30] ^= 4;
    }
    CHECK_EQ(try_open(why, &flags, &txg), -EIO);
    CHECK(strstr(why, "damaged"));
    reopen_image();
}

/* A damaged record fails every read that touches it, and no other. */
static void test_damaged_file(void)
{
    struct zfs *z = image_mount(&img, NULL);
    uint64_t obj = find(z, "big/rnd");
    uint8_t *buf = malloc(300000);
    struct zfs_bp bp;
    struct zbuf *b;

    CHECK_EQ(dnode_get(z, &z->fs, obj, &b), 0);
    CHECK_EQ(dnode_block_pointer(z, dnode_of(b), 1, &bp), 0);
    uint64_t record = dnode_of(b)->block_bytes;
    cache_put(b);
    img.bytes[(bp.w[1] << 9) + (4u << 20) + 1000] ^= 1;
    CHECK_EQ(zfs_read(z, obj, 0, buf, record), record);
    CHECK_EQ(zfs_read(z, obj, 0, buf, 300000), -EIO);
    CHECK_EQ(zfs_read(z, obj, record - 1, buf, 2), -EIO);
    CHECK_EQ(zfs_read(z, obj, 2 * record, buf, 100), 100);
    zfs_close(z);
    free(buf);
    reopen_image();
}

/* --- refusals --- */

static const char *search_for, *replace_by;

static void replace_in_block(void *data, size_t len)
{
    size_t n = strlen(search_for);

    for (uint8_t *p = data; p + n <= (uint8_t *)data + len; p++)
        if (memcmp(p, search_for, n) == 0)
            memcpy(p, replace_by, n);
}

static void expect_refusal(const char *search, const char *replace, int err,
                           const char *words)
{
    char why[WHY_BYTES] = "";
    uint32_t flags;
    uint64_t txg;

    search_for = search;
    replace_by = replace;
    zfs_debug_block_hook = replace_in_block;
    CHECK_EQ(try_open(why, &flags, &txg), err);
    zfs_debug_block_hook = NULL;
    if (!strstr(why, words))
        fprintf(stderr, "why: %s\n", why);
    CHECK(strstr(why, words));
}

static void test_refusals(void)
{
    char why[WHY_BYTES];
    uint32_t flags;
    uint64_t txg;

    /* In XDR a string is preceded by its length: here the type of the disk. */
    expect_refusal("file", "raid", -ENOTSUP, "device of type raid");
    expect_refusal("root_dataset", "toor_dataset", -EIO, "damaged");
    expect_refusal("REGISTRY", "YRTSIGER", -EIO, "damaged");
    expect_refusal("features_for_read", "features_for_daer", -EIO, "damaged");
    img.size = 100000;
    CHECK_EQ(try_open(why, &flags, &txg), -EINVAL);
    CHECK(strstr(why, "too small"));
    reopen_image();
    for (uint64_t at = 0; at < img.size; at += 1024)
        if (get_le64(img.bytes + at) == UBERBLOCK_MAGIC)
            put_le64(img.bytes + at + 8, 29);
    zfs_debug_skip_checksums = true;
    CHECK_EQ(try_open(why, &flags, &txg), -ENOTSUP);
    CHECK(strstr(why, "version 29"));
    zfs_debug_skip_checksums = false;
    reopen_image();
}

/* --- failing surroundings --- */

static int open_and_read(void)
{
    char why[WHY_BYTES], buf[100];
    struct zfs *z;
    uint64_t obj;

    int err = zfs_open(&image_ops, &img, img.size, NULL, &z, why, WHY_BYTES);
    if (err)
        return err;
    err = zfs_lookup(z, zfs_root(z), "big", 3, &obj);
    if (!err)
        err = zfs_lookup(z, obj, "rnd", 3, &obj);
    if (!err)
        err = zfs_read(z, obj, 5, buf, 100) == 100 ? 0 : -EIO;
    zfs_close(z);
    return err;
}

static void test_failures(void)
{
    long n;

    for (n = 1;; n++) {
        img.fail_read = n;
        int err = open_and_read();
        img.fail_read = 0;
        CHECK_EQ(shim_bytes, 0);
        if (!err)
            break;
        CHECK(err == -EIO || err == -EINVAL);
        CHECK(n < 1000);
    }
    CHECK(n > 4);
    for (n = 1;; n++) {
        shim_fail_alloc = n;
        int err = open_and_read();
        shim_fail_alloc = 0;
        CHECK_EQ(shim_bytes, 0);
        if (!err)
            break;
        CHECK(err == -ENOMEM || err == -EIO);
        CHECK(n < 1000);
    }
    CHECK(n > 20);
}

/* --- gang blocks --- */

static struct zfs_bp piece(const uint8_t *data, size_t len, uint64_t offset,
                           bool is_gang)
{
    struct zfs_bp bp = {{0}};
    uint64_t sectors = len / SECTOR_SIZE - 1;

    bp.w[0] = len / SECTOR_SIZE;
    bp.w[1] = offset >> SECTOR_SHIFT | (uint64_t)is_gang << 63;
    bp.w[6] = sectors | sectors << 16 | 2ull << 32 | 7ull << 40 | 1ull << 63;
    bp.w[10] = 5;
    fletcher4(data, len, &bp.w[12]);
    return bp;
}

static void write_header(uint64_t offset, const struct zfs_bp bps[3])
{
    uint8_t *h = img.bytes + offset + (4u << 20), digest[32];
    const uint64_t verifier[4] = {0, offset, 5, 0};
    struct sha256 s;

    memset(h, 0, SECTOR_SIZE);
    memcpy(h, bps, 3 * BP_BYTES);
    put_le64(h + 472, 0x0210da7ab10c7a11ull);
    memcpy(h + 480, verifier, 32);
    sha256_init(&s);
    sha256_update(&s, h, SECTOR_SIZE);
    sha256_final(&s, digest);
    for (int i = 0; i < 4; i++)
        put_le64(h + 480 + 8 * i, get_be64(digest + 8 * i));
}

static void test_gang(void)
{
    enum { A = 65536, B = 32768, C = 512, SIZE = A + B + C };
    uint64_t at = img.size - (6u << 20) - (4u << 20), inner = at + (1u << 20);
    uint8_t *data = malloc(SIZE), *got = malloc(SIZE);
    struct zfs_bp none = {{0}}, bps[3], gang;
    uint64_t rng = 3;

    for (int i = 0; i < SIZE; i++)
        data[i] = (uint8_t)rng_next(&rng);
    memcpy(img.bytes + at + 512 + (4u << 20), data, SIZE);
    bps[0] = piece(data + A, B, at + 512 + A, false);
    bps[1] = none;
    bps[2] = piece(data + A + B, C, at + 512 + A + B, false);
    write_header(inner, bps);
    bps[0] = piece(data, A, at + 512, false);
    bps[1] = piece(data + A, B + C, inner, true);
    bps[2] = none;
    write_header(at, bps);
    gang = piece(data, SIZE, at, true);

    struct zfs *z = image_mount(&img, NULL);
    CHECK_EQ(zio_read(z, &gang, got, SIZE), 0);
    CHECK(memcmp(data, got, SIZE) == 0);
    zfs_close(z);
    /* A header that leads to itself ends. */
    bps[0] = gang;
    write_header(at, bps);
    z = image_mount(&img, NULL);
    CHECK_EQ(zio_read(z, &gang, got, SIZE), -EIO);
    zfs_close(z);
    free(data);
    free(got);
    reopen_image();
}

/* --- threads --- */

struct job {
    struct zfs *z;
    uint64_t obj[3];
    uint8_t *whole[3];
    size_t size[3];
    uint64_t seed;
};

static void *reader(void *arg)
{
    struct job *j = arg;
    uint64_t rng = j->seed, dir = find(j->z, "dir1"), obj;
    uint8_t *buf = malloc(200000);
    struct zfs_dirent e;

    for (int i = 0; i < 400; i++) {
        int f = (int)rng_below(&rng, 3);
        uint64_t offset = rng_below(&rng, j->size[f]);
        size_t len = rng_below(&rng, 200000);
        len = MIN(len, j->size[f] - offset);
        CHECK_EQ(zfs_read(j->z, j->obj[f], offset, buf, len), len);
        CHECK(memcmp(buf, j->whole[f] + offset, len) == 0);
        uint64_t cursor = rng_below(&rng, 20) << 16;
        if (zfs_readdir(j->z, dir, &cursor, &e) == 0)
            CHECK(zfs_lookup(j->z, dir, e.name, e.name_len, &obj) == 0 &&
                  obj == e.obj);
        if (i % 50 == 0)
            zfs_shrink(j->z);
    }
    free(buf);
    return NULL;
}

static void test_threads(void)
{
    static const char *const paths[] = {"big/rnd", "big/text", "etc/tiny"};
    struct job jobs[NR_THREADS];
    pthread_t threads[NR_THREADS];
    struct zfs *z = image_mount(&img, NULL);

    jobs[0] = (struct job){.z = z, .seed = 1};
    for (int f = 0; f < 3; f++) {
        jobs[0].obj[f] = find(z, paths[f]);
        jobs[0].whole[f] = read_all(z, jobs[0].obj[f], &jobs[0].size[f]);
    }
    zfs_shrink(z);
    for (int i = 0; i < NR_THREADS; i++) {
        jobs[i] = jobs[0];
        jobs[i].seed = (uint64_t)i + 1;
        CHECK_EQ(pthread_create(&threads[i], NULL, reader, &jobs[i]), 0);
    }
    for (int i = 0; i < NR_THREADS; i++)
        pthread_join(threads[i], NULL);
    for (int f = 0; f < 3; f++)
        free(jobs[0].whole[f]);
    zfs_close(z);
    CHECK_EQ(shim_bytes, 0);
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: test_zfs IMAGE\n");
        return 2;
    }
    img_path = argv[1];
    image_open(&img, img_path);
    test_errors();
    test_ranges("big/rnd");
    test_ranges("big/text");
    test_ranges("etc/hello.txt");
    test_labels();
    test_copies();
    test_damaged_file();
    test_refusals();
    test_failures();
    test_gang();
    test_threads();
    image_close(&img);
    printf("test_zfs: ok %s\n", img_path);
    return 0;
}
