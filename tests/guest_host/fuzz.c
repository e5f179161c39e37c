/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Fuzz entries for parsers: compiled once per FUZZ_TARGET (lz4, lzjb, nvlist,
 * zap), with clang's libFuzzer or with the driver at the end of this file.
 */
#include "check.h"
#include "fs/zfs/zfs_impl.h"
#include "image.h"
#include "lib/lz4.h"
#include "lib/lzjb.h"
#include "lib/nvlist.h"

#define FUZZ_LZ4 1
#define FUZZ_LZJB 2
#define FUZZ_NVLIST 3
#define FUZZ_ZAP 4

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

#if FUZZ_TARGET == FUZZ_LZ4 || FUZZ_TARGET == FUZZ_LZJB

/* The first two bytes choose the size of the result. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    if (len < 2)
        return 0;
    size_t dst_len = get_le16(data);
    uint8_t *dst = malloc(dst_len ? dst_len : 1);
    data += 2;
    len -= 2;
#if FUZZ_TARGET == FUZZ_LZ4
    ssize_t n = lz4_decompress(data, len, dst, dst_len);
    CHECK(n == -EINVAL || (size_t)n <= dst_len);
    (void)!lz4_zfs_decompress(data, len, dst, dst_len);
#else
    (void)!lzjb_decompress(data, len, dst, dst_len);
    (void)!zle_decompress(data, len, dst, dst_len);
#endif
    free(dst);
    return 0;
}

#elif FUZZ_TARGET == FUZZ_NVLIST

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct nvlist nv, inner;
    struct nvpair pair;
    const char *s;
    uint32_t s_len;
    uint64_t v;

    if (nvlist_open(&nv, data, len))
        return 0;
    (void)!nvlist_find_u64(&nv, "version", &v);
    if (nvlist_find_string(&nv, "name", &s, &s_len) == 0)
        CHECK((const uint8_t *)s + s_len <= data + len);
    for (unsigned int type = 0; type < 2; type++)
        if (nvlist_find_nvlist(&nv, "t", NV_NVLIST + type, &inner) == 0)
            while (nvlist_next(&inner, &pair) == 0)
                CHECK(pair.value <= pair.value_end);
    struct zfs *z = kzalloc(sizeof(*z));
    (void)!label_check_config(z, data, len);
    kfree(z);
    return 0;
}

#elif FUZZ_TARGET == FUZZ_ZAP

#define BLOCK_BYTES 1024u
#define NR_BLOCKS 3u
#define DATA_START (4u << 20)

static struct image device;

/* A dnode whose blocks lie one after the other at the start of the pool. */
static struct zdnode *make_dnode(void)
{
    struct zdnode *dn = kzalloc(sizeof(*dn) + DNODE_BYTES);

    dn->obj = 1;
    dn->maxblkid = NR_BLOCKS - 1;
    dn->block_bytes = BLOCK_BYTES;
    dn->raw_bytes = DNODE_BYTES;
    dn->nlevels = 1;
    dn->nblkptr = NR_BLOCKS;
    dn->indirect_shift = 17;
    for (unsigned int i = 0; i < NR_BLOCKS; i++) {
        struct zfs_bp bp = {{0}};
        bp.w[0] = BLOCK_BYTES >> SECTOR_SHIFT;
        bp.w[1] = (uint64_t)i * BLOCK_BYTES >> SECTOR_SHIFT;
        bp.w[6] = (BLOCK_BYTES / 512 - 1) | (BLOCK_BYTES / 512 - 1) << 16 |
                  2ull << 32 | 2ull << 40 | 1ull << 63;
        memcpy(dn->raw + DNODE_CORE_BYTES + i * BP_BYTES, &bp, sizeof(bp));
    }
    return dn;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct zap_entry *e = malloc(sizeof(*e));
    struct zfs *z = kzalloc(sizeof(*z));
    struct zdnode *dn = make_dnode();
    uint64_t cursor = 0, v;
    int err;

    if (!device.bytes) {
        device.size = DATA_START + NR_BLOCKS * BLOCK_BYTES;
        device.bytes = calloc(1, device.size);
    }
    memset(device.bytes + DATA_START, 0, NR_BLOCKS * BLOCK_BYTES);
    memcpy(device.bytes + DATA_START, data,
           MIN(len, (size_t)NR_BLOCKS * BLOCK_BYTES));
    z->ops = &image_ops;
    z->dev = &device;
    z->size_bytes = device.size;
    z->chunk_bytes = 4096;
    cache_init(&z->chunks, 65536);
    cache_init(&z->blocks, 65536);
    for (unsigned int i = 0; (err = zap_next(z, dn, &cursor, e)) == 0; i++) {
        CHECK(i < 1000);
        CHECK(e->name[e->name_len] == 0);
        (void)!zap_lookup(z, dn, e->name, e->name_len, &v);
    }
    (void)!zap_lookup(z, dn, "ROOT", 4, &v);
    cache_destroy(&z->blocks);
    cache_destroy(&z->chunks);
    kfree(dn);
    kfree(z);
    free(e);
    return 0;
}

#endif

#ifdef FUZZ_DRIVER
/* Without libFuzzer: random changes of the seed files. */
int main(int argc, char **argv)
{
    uint64_t rng = 1;
    uint8_t *buf = malloc(4096), *exact;

    for (int round = 0; round < 20000; round++) {
        size_t len = rng_below(&rng, 4096);
        FILE *f = argc > 1 ? fopen(argv[1 + round % (argc - 1)], "rb") : NULL;
        if (f) {
            len = fread(buf, 1, 4096, f);
            fclose(f);
        }
        for (size_t n = f ? rng_below(&rng, 8) : len; n; n--)
            buf[f && len ? rng_below(&rng, len) : n - 1] =
                (uint8_t)rng_next(&rng);
        exact = malloc(len ? len : 1);
        memcpy(exact, buf, len);
        LLVMFuzzerTestOneInput(exact, len);
        free(exact);
    }
    free(buf);
    return 0;
}
#endif
