/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The checksums of ZFS blocks and labels.
 *
 * SHA-256 digests are four big-endian 64-bit numbers. An "embedded" checksum
 * lies in the last 32 bytes of the area it covers; while it is computed these
 * hold the verifier instead: a number that says where the area belongs.
 */
#include "fs/zfs/zfs_impl.h"
#include "lib/fletcher.h"
#include "lib/sha256.h"

enum {
    CKSUM_OFF = 2,
    CKSUM_FLETCHER2 = 6,
    CKSUM_FLETCHER4 = 7,
    CKSUM_SHA256 = 8,
    NR_CKSUMS = 16,
};

static const char *const checksum_names[NR_CKSUMS] = {
    [0] = "inherit", [1] = "on", [3] = "label", [4] = "gang-header",
    [5] = "zilog", [9] = "zilog2", [10] = "noparity", [11] = "sha512",
    [12] = "skein", [13] = "edonr", [14] = "blake3",
};

static void digest_to_words(const uint8_t digest[32], uint64_t out[4])
{
    for (int i = 0; i < 4; i++)
        out[i] = get_be64(digest + 8 * i);
}

static bool same_words(const uint64_t a[4], const uint64_t b[4])
{
    return ((a[0] ^ b[0]) | (a[1] ^ b[1]) | (a[2] ^ b[2]) |
            (a[3] ^ b[3])) == 0;
}

bool checksum_embedded_ok(const void *area, size_t len,
                          const uint64_t verifier[4])
{
    const uint8_t *stored = (const uint8_t *)area + len - 32;
    uint64_t computed[4], expected[4];
    uint8_t digest[32];
    struct sha256 sha;

#ifdef ZFS_FUZZ
    if (zfs_debug_skip_checksums)
        return true;
#endif
    sha256_init(&sha);
    sha256_update(&sha, area, len - 32);
    sha256_update(&sha, verifier, 32);
    sha256_final(&sha, digest);
    digest_to_words(digest, computed);
    memcpy(expected, stored, sizeof(expected));
    return same_words(computed, expected);
}

int checksum_verify(struct zfs *z, unsigned int kind, const void *data,
                    size_t len, const uint64_t expected[4])
{
    uint64_t computed[4];
    uint8_t digest[32];
    struct sha256 sha;

    switch (kind) {
    case CKSUM_OFF:
        return 0;
    case CKSUM_FLETCHER2:
        fletcher2(data, len, computed);
        break;
    case CKSUM_FLETCHER4:
        fletcher4(data, len, computed);
        break;
    case CKSUM_SHA256:
        sha256_init(&sha);
        sha256_update(&sha, data, len);
        sha256_final(&sha, digest);
        digest_to_words(digest, computed);
        break;
    default:
        if (kind >= NR_CKSUMS || !checksum_names[kind])
            return zfs_fail(z, -EIO, "a block names an unknown checksum",
                            NULL);
        return zfs_fail(z, -ENOTSUP, "a block has checksum ",
                        checksum_names[kind], ", which is not supported",
                        NULL);
    }
#ifdef ZFS_FUZZ
    if (zfs_debug_skip_checksums)
        return 0;
#endif
    return same_words(computed, expected) ? 0 : -EIO;
}
