/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the files of the ZFS reader share. The layers, lowest first; each
 * calls only those above it in this list:
 *
 *   vdev.c   the device, read-ahead chunks, labels and uberblocks
 *   zio.c    block pointer -> verified, decompressed block; gang.c
 *   dmu.c    object number -> dnode; dnode + block number -> block
 *   zap.c    name -> value in a directory-like object
 *   dsl.c    dataset name -> object set
 *   sa.c     attributes of a file
 *   zpl.c    files and directories, the public calls
 *   mount.c  opens and closes all of it
 *
 * - Integers are little-endian on disk (a pool written the other way round is
 *   refused) and are taken from blocks with get_le*.
 * - A number from disk is compared with its bounds before it is used, at the
 *   place that reads it.
 * - zfs_fail() writes the sentence for zfs_open's `why`; after zfs_open it
 *   does nothing but return its error.
 *
 * Sources of the layouts: "ZFS On-Disk Specification" (2006), comments of
 * OpenZFS' sys/ headers; facts in docs, see zfs.md there.
 */
#pragma once

#include "fs/zfs/cache.h"
#include "fs/zfs/zfs.h"
#include "fs/zfs/zfs_os.h"
#include "lib/le.h"

#define SECTOR_SHIFT 9
#define SECTOR_SIZE 512u
#define MAX_BLOCK_BYTES (16u << 20)
#define MIN_INDIRECT_SHIFT 10
#define MAX_INDIRECT_SHIFT 17
#define BP_BYTES 128u
#define BP_SHIFT 7
#define DNODE_BYTES 512u
#define DNODE_CORE_BYTES 64u
#define MAX_NBLKPTR 3u
#define OBJ_MAX ((1ull << 48) - 1)

/* DMU object types the reader cares about. */
enum {
    DMU_OT_NONE = 0,
    DMU_OT_DNODE = 10,
    DMU_OT_OBJSET = 11,
    DMU_OT_DSL_DIR = 12,
    DMU_OT_DSL_DATASET = 16,
    DMU_OT_ZNODE = 17,
    DMU_OT_FILE = 19,
    DMU_OT_DIRECTORY = 20,
    DMU_OT_SA = 44,
};

/* --- block pointers --- */

struct zfs_bp {
    uint64_t w[16];
};

static inline struct zfs_bp bp_load(const void *p)
{
    struct zfs_bp bp;
    __builtin_memcpy(&bp, p, sizeof(bp));
    return bp;
}

static inline uint64_t bits64(uint64_t v, unsigned int shift, unsigned int n)
{
    return (v >> shift) & ((1ull << n) - 1);
}

static inline bool bp_is_embedded(const struct zfs_bp *bp)
{
    return bits64(bp->w[6], 39, 1);
}

static inline bool bp_is_hole(const struct zfs_bp *bp)
{
    return !bp_is_embedded(bp) && bp->w[0] == 0 && bp->w[1] == 0;
}

static inline unsigned int bp_level(const struct zfs_bp *bp)
{
    return (unsigned int)bits64(bp->w[6], 56, 5);
}

/* Bytes after decompression; at most 32 MiB whatever the pointer says. */
static inline size_t bp_lsize(const struct zfs_bp *bp)
{
    if (bp_is_embedded(bp))
        return bits64(bp->w[6], 0, 25) + 1;
    return (bits64(bp->w[6], 0, 16) + 1) << SECTOR_SHIFT;
}

/* --- objects --- */

/* A dnode in memory; the tail is a copy of the one on disk. */
struct zdnode {
    uint64_t obj;
    uint64_t maxblkid;
    uint64_t used_bytes;
    uint32_t block_bytes; /* of a data block */
    uint32_t raw_bytes;   /* 512 * slots */
    uint32_t bonus_off, bonus_len;
    uint8_t type, bonus_type;
    uint8_t indirect_shift, nlevels, nblkptr;
    bool has_spill;
    /* --- of files only (is_file) --- */
    bool is_file;
    struct zfs_attr attr;
    uint8_t raw[];
};

struct objset {
    uint64_t id;         /* names it in cache keys */
    uint64_t type;       /* 1 meta, 2 file system */
    uint64_t nr_objects;
    struct zdnode *meta; /* owned: the dnode of the array of dnodes */
    struct zfs_bp log;   /* first block of the intent log, or a hole */
};

/* --- attribute numbers of a dataset (sa.c) --- */

enum sa_name {
    SA_ATIME, SA_MTIME, SA_CTIME, SA_CRTIME, SA_GEN, SA_MODE, SA_SIZE,
    SA_PARENT, SA_LINKS, SA_RDEV, SA_UID, SA_GID, SA_SYMLINK,
    NR_SA_NAMES,
};

#define SA_MAX_ATTRS 256u
#define SA_MAX_LAYOUTS 256u
#define SA_UNKNOWN 0xffu

struct sa_layout {
    uint16_t number, count;
    uint16_t *attrs; /* owned */
};

struct sa_table {
    bool is_present;            /* false: old znodes only */
    uint16_t len[SA_MAX_ATTRS]; /* by attribute number; 0 = variable */
    uint8_t name[SA_MAX_ATTRS]; /* enum sa_name or SA_UNKNOWN */
    uint32_t nr_layouts;
    struct sa_layout layouts[SA_MAX_LAYOUTS];
};

/* --- the mounted dataset --- */

struct zfs {
    /* --- set once by zfs_open --- */
    const struct zfs_vdev_ops *ops;
    void *dev;
    uint64_t size_bytes; /* of the device, rounded down to whole labels */
    uint32_t chunk_bytes;
    uint32_t flags;
    struct zfs_bp root_bp; /* of the MOS */
    uint64_t version, txg;
    uint64_t asize_bytes, used_bytes, guid;
    uint64_t root_dir; /* object number of the root DSL directory */
    struct objset mos, fs;
    uint64_t root_obj;
    struct sa_table sa;
    /* --- used by zfs_open's thread only --- */
    char *why;
    size_t why_len;
    /* --- with locks of their own --- */
    struct zcache chunks, blocks, records, dnodes;
    /* --- atomic --- */
    struct zfs_stats stats;
};

/* mount.c */

/* Appends parts (up to a NULL) to `why` if that is empty; returns err. */
int zfs_fail(struct zfs *z, int err, const char *part, ...);
/* The digits of v in buf (21 bytes); returns buf. */
const char *zfs_decimal(char *buf, uint64_t v);

/* vdev.c */

int vdev_read(struct zfs *z, uint64_t offset, void *buf,
              size_t len) __must_check;
/* The chunk with this byte; *start is its first byte's place in the chunk,
 * *avail how many bytes follow. Returns a reference. */
int vdev_chunk_get(struct zfs *z, uint64_t offset, struct zbuf **out,
                   const uint8_t **start, size_t *avail) __must_check;
/* Reads the `len` bytes before `end` into chunks with one request; a hint,
 * does nothing when it does not fit. */
void vdev_prefetch(struct zfs *z, uint64_t end, size_t len);
/* Finds the newest uberblock; fills root_bp, version, txg, flags. */
int vdev_find_uberblock(struct zfs *z) __must_check;
/* label.c: the pool cannot be read: says why if the label tells. */
int label_explain(struct zfs *z, int err);
/* label.c: checks a packed configuration (the MOS's or a label's). */
int label_check_config(struct zfs *z, const void *buf,
                       size_t len) __must_check;
/* Is the feature needed for reading one we have? */
bool feature_is_known(const char *name, size_t len);

/* checksum.c */

/* The SHA-256 in the last 32 bytes of the area, made over the verifier. */
bool checksum_embedded_ok(const void *area, size_t len,
                          const uint64_t verifier[4]);
int checksum_verify(struct zfs *z, unsigned int kind, const void *data,
                    size_t len, const uint64_t expected[4]) __must_check;

/* zio.c */

/* Where the first copy of the block ends on the device; 0 if unknown. */
uint64_t zio_block_end(const struct zfs_bp *bp);

#ifdef ZFS_FUZZ /* only in tests/guest_host */
extern bool zfs_debug_skip_checksums;
/* Called with each block after it was verified; may change it. */
extern void (*zfs_debug_block_hook)(void *data, size_t len);
#endif

/* Reads the block into dst, which has len = bp_lsize(bp) bytes. Holes are
 * zeros. -EIO damaged, -ENOTSUP format not supported. */
int zio_read(struct zfs *z, const struct zfs_bp *bp, void *dst,
             size_t len) __must_check;
/* Reads blocks of `len` bytes each that lie side by side on the device with one
 * request. Returns how many of the first were read: 0 or at least 2; 0 also
 * on any failure: zio_read tells which. */
unsigned int zio_read_run(struct zfs *z, const struct zfs_bp *bps,
                          unsigned int nr, void *dst, size_t len);
/* zio_read through a cache. Returns a reference. */
int zio_get(struct zfs *z, struct zcache *cache, const struct zfs_bp *bp,
            struct zbuf **out) __must_check;
/* Has the intent log that starts at bp records? */
bool zio_log_has_records(struct zfs *z, const struct zfs_bp *bp);

/* dmu.c */

int objset_open(struct zfs *z, const struct zfs_bp *bp, uint64_t id,
                struct objset *out) __must_check;
void objset_close(struct objset *os);
/* A cached dnode (dnode_of). -ENOENT: not allocated. */
int dnode_get(struct zfs *z, const struct objset *os, uint64_t obj,
              struct zbuf **out) __must_check;
static inline const struct zdnode *dnode_of(const struct zbuf *b)
{
    return b->data;
}
static inline const uint8_t *dnode_bonus(const struct zdnode *dn)
{
    return dn->raw + dn->bonus_off;
}
/* The pointer to a data block; a hole where nothing is stored. */
int dnode_block_pointer(struct zfs *z, const struct zdnode *dn,
                        uint64_t blkid, struct zfs_bp *out) __must_check;
/* A data block of metadata (-EIO when it is a hole). Returns a reference. */
int dnode_block_get(struct zfs *z, const struct zdnode *dn, uint64_t blkid,
                    struct zbuf **out) __must_check;
int dnode_spill_get(struct zfs *z, const struct zdnode *dn,
                    struct zbuf **out) __must_check;

/* zap.c, zap_fat.c */

#define ZAP_VALUE_MAX 512u

struct zap_entry {
    char name[ZFS_NAME_MAX + 1];
    uint16_t name_len;
    uint8_t int_bytes;    /* 1, 2, 4, 8 */
    uint16_t nr_ints;
    uint64_t first;       /* the first integer, if there is one */
    uint8_t value[ZAP_VALUE_MAX]; /* all of them, big-endian, if they fit */
};

/* The value of a name that has one 64-bit integer. -ENOENT. */
int zap_lookup(struct zfs *z, const struct zdnode *dn, const char *name,
               size_t name_len, uint64_t *out) __must_check;
/* The same for object `obj`. */
int zap_lookup_obj(struct zfs *z, const struct objset *os, uint64_t obj,
                   const char *name, uint64_t *out) __must_check;
/* Entry after entry; *cursor starts at 0. -ENOENT at the end. */
int zap_next(struct zfs *z, const struct zdnode *dn, uint64_t *cursor,
             struct zap_entry *out) __must_check;
/* A fat ZAP; `header` is its first block. */
int zap_fat_lookup(struct zfs *z, const struct zdnode *dn,
                   const struct zbuf *header, const char *name,
                   size_t name_len, uint64_t *out) __must_check;
int zap_fat_next(struct zfs *z, const struct zdnode *dn,
                 const struct zbuf *header, uint64_t *cursor,
                 struct zap_entry *out) __must_check;

/* dsl.c */

/* MOS, configuration, features; then the dataset; fills z->mos, z->fs. */
int dsl_open_pool(struct zfs *z) __must_check;
int dsl_open_dataset(struct zfs *z, const char *name) __must_check;

/* sa.c */

int sa_table_load(struct zfs *z, uint64_t sa_attrs_obj) __must_check;
void sa_table_free(struct sa_table *sa);
/* Fills dn->attr of a dnode with file attributes. */
int sa_fill_attr(struct zfs *z, struct zdnode *dn) __must_check;
/* The target of a symbolic link kept among the attributes; -ENOENT if it is
 * not there. At most size bytes. */
int sa_symlink(struct zfs *z, const struct zdnode *dn, char *buf, size_t size,
               size_t *len_out) __must_check;
