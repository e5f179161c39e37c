/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Unit tests of the pure routines in guest/kernel/lib: known vectors, and for
 * the decompressors random streams made together with their expected output.
 * Buffers have their exact size on the heap, so ASan sees any overrun.
 */
#include "check.h"
#include "lib/errno.h"
#include "lib/fletcher.h"
#include "lib/le.h"
#include "lib/lz4.h"
#include "lib/lzjb.h"
#include "lib/nvlist.h"
#include "lib/sha256.h"
#include "lib/string.h"

static uint64_t rng = 20261121;

static void test_le(void)
{
    const uint8_t b[9] = {0, 1, 2, 3, 4, 5, 6, 7, 8};

    CHECK_EQ(get_le16(b + 1), 0x0201);
    CHECK_EQ(get_be16(b + 1), 0x0102);
    CHECK_EQ(get_le32(b + 1), 0x04030201);
    CHECK_EQ(get_be32(b + 1), 0x01020304);
    CHECK_EQ(get_le64(b + 1), 0x0807060504030201);
    CHECK_EQ(get_be64(b + 1), 0x0102030405060708);
}

static void test_fletcher(void)
{
    const uint32_t w4[4] = {1, 2, 3, 4};
    const uint64_t w2[4] = {1, 2, 3, 4};
    uint64_t c[4], a = 0, b = 0, cc = 0, d = 0;
    uint32_t big[1027];

    fletcher4(w4, sizeof(w4), c);
    CHECK(c[0] == 10 && c[1] == 20 && c[2] == 35 && c[3] == 56);
    fletcher2(w2, sizeof(w2), c);
    CHECK(c[0] == 4 && c[1] == 6 && c[2] == 5 && c[3] == 8);
    /* The sums by their closed form: b = sum (n - i) w_i, and so on. */
    uint64_t n = ARRAY_SIZE(big);
    for (uint64_t i = 0; i < n; i++) {
        big[i] = (uint32_t)rng_next(&rng);
        uint64_t k = n - i;
        a += big[i];
        b += k * big[i];
        cc += k * (k + 1) / 2 * big[i];
        d += k * (k + 1) * (k + 2) / 6 * big[i];
    }
    fletcher4(big, sizeof(big), c);
    CHECK(c[0] == a && c[1] == b && c[2] == cc && c[3] == d);
}

static void sha256_hex(const void *data, size_t len, size_t step,
                       const char *expected)
{
    uint8_t digest[32];
    char hex[65];
    struct sha256 s;

    sha256_init(&s);
    for (size_t at = 0; at < len; at += step)
        sha256_update(&s, (const char *)data + at, MIN(step, len - at));
    sha256_final(&s, digest);
    for (int i = 0; i < 32; i++)
        sprintf(hex + 2 * i, "%02x", digest[i]);
    CHECK(strcmp(hex, expected) == 0);
}

/* FIPS 180-4 examples. */
static void test_sha256(void)
{
    static char million[1000000];
    const char *two_blocks =
        "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq";

    sha256_hex("", 0, 1, "e3b0c44298fc1c149afbf4c8996fb924"
                         "27ae41e4649b934ca495991b7852b855");
    sha256_hex("abc", 3, 3, "ba7816bf8f01cfea414140de5dae2223"
                            "b00361a396177a9cb410ff61f20015ad");
    for (size_t step = 1; step <= 56; step++)
        sha256_hex(two_blocks, 56, step, "248d6a61d20638b8e5c026930c3e6039"
                                         "a33ce45964ff2167f6ecedd419db06c1");
    memset(million, 'a', sizeof(million));
    sha256_hex(million, sizeof(million), 997,
               "cdc76e5c9914fb9281a1c7e284d73e67"
               "f1809a48a497200e046d39ccc7112cd0");
}

/* --- random streams --- */

struct stream {
    uint8_t src[8192], dst[32768];
    size_t src_len, dst_len;
};

static void put_src(struct stream *s, unsigned int byte)
{
    s->src[s->src_len++] = (uint8_t)byte;
}

static void put_lz4_length(struct stream *s, size_t n)
{
    for (; n >= 255; n -= 255)
        put_src(s, 255);
    put_src(s, (unsigned int)n);
}

static void put_literals(struct stream *s, size_t n)
{
    while (n--) {
        uint8_t byte = (uint8_t)rng_next(&rng);
        put_src(s, byte);
        s->dst[s->dst_len++] = byte;
    }
}

static void put_match(struct stream *s, size_t dist, size_t n)
{
    for (; n; n--, s->dst_len++)
        s->dst[s->dst_len] = s->dst[s->dst_len - dist];
}

static size_t small_or_large(size_t small, size_t large)
{
    return rng_below(&rng, rng_below(&rng, 4) ? small : large);
}

static void make_lz4(struct stream *s)
{
    size_t nr = rng_below(&rng, 30);

    s->src_len = s->dst_len = 0;
    for (size_t i = 0; i <= nr; i++) {
        size_t lit = small_or_large(20, 300), len = small_or_large(24, 700);
        bool is_last = i == nr;
        if (!is_last && s->dst_len == 0 && lit == 0)
            lit = 1;
        put_src(s, (unsigned int)(MIN(lit, 15ul) << 4 |
                                  (is_last ? 0 : MIN(len, 15ul))));
        if (lit >= 15)
            put_lz4_length(s, lit - 15);
        put_literals(s, lit);
        if (is_last)
            break;
        size_t dist = small_or_large(20, s->dst_len) % s->dst_len + 1;
        put_src(s, dist & 255);
        put_src(s, (unsigned int)(dist >> 8));
        if (len >= 15)
            put_lz4_length(s, len - 15);
        put_match(s, dist, len + 4);
    }
}

static void make_lzjb(struct stream *s)
{
    size_t groups = rng_below(&rng, 20) + 1;

    s->src_len = s->dst_len = 0;
    for (size_t g = 0; g < groups; g++) {
        unsigned int map = (unsigned int)rng_next(&rng) & 255;
        if (s->dst_len == 0)
            map &= ~1u;
        put_src(s, map);
        for (int bit = 0; bit < 8; bit++) {
            if (!(map >> bit & 1)) {
                put_literals(s, 1);
                continue;
            }
            size_t dist = rng_below(&rng, MIN(s->dst_len, 1023ul)) + 1;
            size_t len = rng_below(&rng, 64) + 3;
            put_src(s, (unsigned int)((len - 3) << 2 | dist >> 8));
            put_src(s, dist & 255);
            put_match(s, dist, len);
        }
    }
}

static void make_zle(struct stream *s)
{
    s->src_len = s->dst_len = 0;
    for (size_t nr = rng_below(&rng, 20) + 1; nr; nr--) {
        size_t n = rng_below(&rng, 256);
        put_src(s, (unsigned int)n);
        if (n < 64) {
            put_literals(s, n + 1);
        } else {
            memset(s->dst + s->dst_len, 0, n - 63);
            s->dst_len += n - 63;
        }
    }
}

typedef int (*decompressor)(const void *, size_t, void *, size_t);

static int lz4_exactly(const void *src, size_t src_len, void *dst, size_t len)
{
    ssize_t n = lz4_decompress(src, src_len, dst, len);
    return n == (ssize_t)len ? 0 : -EINVAL;
}

static int lz4_roomy(const void *src, size_t src_len, void *dst, size_t len)
{
    uint8_t *roomy = malloc(len + 100);
    ssize_t n = lz4_decompress(src, src_len, roomy, len + 100);

    if (n == (ssize_t)len)
        memcpy(dst, roomy, len);
    free(roomy);
    return n == (ssize_t)len ? 0 : -EINVAL;
}

static int lz4_framed(const void *src, size_t src_len, void *dst, size_t len)
{
    uint8_t *framed = calloc(1, src_len + 4 + 11); /* and padding */

    put_be32(framed, (uint32_t)src_len);
    memcpy(framed + 4, src, src_len);
    int err = lz4_zfs_decompress(framed, src_len + 4 + 11, dst, len);
    if (!err)
        CHECK_EQ(lz4_zfs_decompress(framed, src_len + 3, dst, len), -EINVAL);
    free(framed);
    return err;
}

static void test_decompressor(void (*make)(struct stream *), decompressor f,
                              bool is_exact)
{
    struct stream *s = malloc(sizeof(*s));

    for (int round = 0; round < 3000; round++) {
        make(s);
        uint8_t *src = malloc(s->src_len), *dst = malloc(s->dst_len + 1);
        memcpy(src, s->src, s->src_len);
        dst = realloc(dst, s->dst_len ? s->dst_len : 1);
        CHECK_EQ(f(src, s->src_len, dst, s->dst_len), 0);
        CHECK(memcmp(dst, s->dst, s->dst_len) == 0);
        /* Cut short: an error, or for padded formats at least no overrun. */
        uint8_t *cut = malloc(s->src_len);
        size_t cut_len = rng_below(&rng, s->src_len);
        memcpy(cut, src, cut_len);
        cut = realloc(cut, cut_len ? cut_len : 1);
        int err = f(cut, cut_len, dst, s->dst_len);
        CHECK(!is_exact || err == -EINVAL || s->dst_len == 0);
        free(cut);
        free(src);
        free(dst);
    }
    free(s);
}

static void test_lz4_refuses(void)
{
    uint8_t dst[16];

    CHECK_EQ(lz4_decompress("", 0, dst, 16), -EINVAL);
    CHECK_EQ(lz4_decompress("\0", 1, dst, 16), 0);
    CHECK_EQ(lz4_decompress("\x10" "a", 2, dst, 16), 1);
    CHECK_EQ(lz4_decompress("\x20" "a", 2, dst, 16), -EINVAL);
    CHECK_EQ(lz4_decompress("\x20" "ab", 3, dst, 1), -EINVAL);
    CHECK_EQ(lz4_decompress("\x10" "a\0\0\0", 5, dst, 16), -EINVAL);
    CHECK_EQ(lz4_decompress("\x10" "a\2\0\0", 5, dst, 16), -EINVAL);
    CHECK_EQ(lz4_decompress("\x10" "a\1\0\0", 5, dst, 16), 5);
    CHECK_EQ(lz4_decompress("\x1f" "a\1\0\xff", 5, dst, 16), -EINVAL);
    CHECK_EQ(lz4_decompress("\x10" "a\1", 3, dst, 16), -EINVAL);
}

/* --- nvlist --- */

static size_t put_word(uint8_t *p, size_t at, uint32_t v)
{
    put_be32(p + at, v);
    return at + 4;
}

/* One pair with this value; returns the new end. */
static size_t put_pair(uint8_t *p, size_t at, const char *name, uint32_t type,
                       uint32_t count, const void *value, size_t value_len)
{
    size_t start = at, len = strlen(name);

    at = put_word(p, at, 0);
    at = put_word(p, at, 64);
    at = put_word(p, at, (uint32_t)len);
    memcpy(p + at, name, len);
    at += ALIGN_UP(len, 4ul);
    at = put_word(p, at, type);
    at = put_word(p, at, count);
    memcpy(p + at, value, value_len);
    at += value_len;
    put_word(p, start, (uint32_t)(at - start));
    return at;
}

static size_t make_nvlist(uint8_t *p)
{
    uint8_t inner[128] = {0}, outer[16] = {1, 1};
    size_t n = put_pair(inner, 8, "id", NV_UINT64, 1, "\0\0\0\0\0\0\0\7", 8);
    size_t at = 12;

    n += 8; /* the end of the inner list */
    memcpy(p, outer, 12);
    at = put_pair(p, at, "version", NV_UINT64, 1, "\0\0\0\0\0\0\x13\x88", 8);
    at = put_pair(p, at, "name", NV_STRING, 1, "\0\0\0\5hello\0\0\0", 12);
    at = put_pair(p, at, "tree", NV_NVLIST, 1, inner, n);
    at = put_pair(p, at, "children", NV_NVLIST_ARRAY, 1, inner, n);
    at = put_word(p, at, 0);
    return put_word(p, at, 0);
}

static void test_nvlist(void)
{
    uint8_t *buf = calloc(1, 1024);
    size_t len = make_nvlist(buf);
    struct nvlist nv, inner;
    const char *s;
    uint32_t s_len;
    uint64_t v;

    CHECK_EQ(nvlist_open(&nv, buf, len), 0);
    CHECK_EQ(nvlist_find_u64(&nv, "version", &v), 0);
    CHECK_EQ(v, 5000);
    CHECK_EQ(nvlist_find_string(&nv, "name", &s, &s_len), 0);
    CHECK(s_len == 5 && memcmp(s, "hello", 5) == 0);
    CHECK_EQ(nvlist_find_u64(&nv, "name", &v), -ENOENT);
    CHECK_EQ(nvlist_find_u64(&nv, "versio", &v), -ENOENT);
    CHECK_EQ(nvlist_find_nvlist(&nv, "tree", NV_NVLIST, &inner), 0);
    CHECK_EQ(nvlist_find_u64(&inner, "id", &v), 0);
    CHECK_EQ(v, 7);
    CHECK_EQ(nvlist_find_nvlist(&nv, "children", NV_NVLIST_ARRAY, &inner), 0);
    CHECK_EQ(nvlist_find_u64(&inner, "id", &v), 0);
    /* Every shorter buffer is refused, not overrun. */
    for (size_t cut = 0; cut < len; cut++) {
        uint8_t *part = malloc(cut ? cut : 1);
        memcpy(part, buf, cut);
        if (nvlist_open(&nv, part, cut) == 0)
            CHECK_EQ(nvlist_find_u64(&nv, "nothing", &v), -EINVAL);
        free(part);
    }
    free(buf);
}

int main(void)
{
    test_le();
    test_fletcher();
    test_sha256();
    test_lz4_refuses();
    test_decompressor(make_lz4, lz4_exactly, false);
    test_decompressor(make_lz4, lz4_roomy, false);
    test_decompressor(make_lz4, lz4_framed, false);
    test_decompressor(make_lzjb, lzjb_decompress, true);
    test_decompressor(make_zle, zle_decompress, true);
    test_nvlist();
    puts("test_lib: ok");
    return 0;
}
