/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The walker over XDR name-value lists. Every length is compared with what is
 * left of its enclosing window before use.
 */
#include "lib/nvlist.h"

#include "lib/errno.h"
#include "lib/le.h"
#include "lib/string.h"

#define ENCODING_XDR 1
#define LIST_HEADER 8u /* version and flags */

static int take_u32(const uint8_t **pos, const uint8_t *end, uint32_t *out)
{
    if (end - *pos < 4)
        return -EINVAL;
    *out = get_be32(*pos);
    *pos += 4;
    return 0;
}

static int take_string(const uint8_t **pos, const uint8_t *end,
                       const char **out, uint32_t *len)
{
    uint32_t n;

    if (take_u32(pos, end, &n))
        return -EINVAL;
    size_t padded = ((size_t)n + 3) & ~(size_t)3;
    if (padded > (size_t)(end - *pos))
        return -EINVAL;
    *out = (const char *)*pos;
    *len = n;
    *pos += padded;
    return 0;
}

int nvlist_open(struct nvlist *nv, const void *buf, size_t len)
{
    const uint8_t *p = buf;

    if (len < 4 + LIST_HEADER || p[0] != ENCODING_XDR)
        return -EINVAL;
    nv->pos = p + 4 + LIST_HEADER;
    nv->end = p + len;
    return 0;
}

int nvlist_next(struct nvlist *nv, struct nvpair *pair)
{
    const uint8_t *p = nv->pos;
    uint32_t encoded, decoded;

    if (take_u32(&p, nv->end, &encoded) || take_u32(&p, nv->end, &decoded))
        return -EINVAL;
    if (encoded == 0 && decoded == 0)
        return -ENOENT;
    if (encoded < 8 || encoded > (size_t)(nv->end - nv->pos))
        return -EINVAL;
    const uint8_t *end = nv->pos + encoded;
    if (take_string(&p, end, &pair->name, &pair->name_len) ||
        take_u32(&p, end, &pair->type) || take_u32(&p, end, &pair->count))
        return -EINVAL;
    pair->value = p;
    pair->value_end = end;
    nv->pos = end;
    return 0;
}

int nvlist_find(const struct nvlist *nv, const char *name, enum nv_type type,
                struct nvpair *pair)
{
    struct nvlist walk = *nv;
    size_t len = strlen(name);
    int err;

    while ((err = nvlist_next(&walk, pair)) == 0) {
        if (pair->name_len == len && pair->type == type &&
            memcmp(pair->name, name, len) == 0)
            return 0;
    }
    return err;
}

int nvlist_find_u64(const struct nvlist *nv, const char *name, uint64_t *out)
{
    struct nvpair pair;
    int err = nvlist_find(nv, name, NV_UINT64, &pair);

    if (err)
        return err;
    if (pair.value_end - pair.value < 8)
        return -EINVAL;
    *out = get_be64(pair.value);
    return 0;
}

int nvlist_find_string(const struct nvlist *nv, const char *name,
                       const char **out, uint32_t *len)
{
    struct nvpair pair;
    int err = nvlist_find(nv, name, NV_STRING, &pair);

    if (err)
        return err;
    return take_string(&pair.value, pair.value_end, out, len);
}

int nvlist_find_nvlist(const struct nvlist *nv, const char *name,
                       enum nv_type type, struct nvlist *out)
{
    struct nvpair pair;
    int err = nvlist_find(nv, name, type, &pair);

    if (err)
        return err;
    if (pair.count == 0 ||
        (size_t)(pair.value_end - pair.value) < LIST_HEADER)
        return -EINVAL;
    out->pos = pair.value + LIST_HEADER;
    out->end = pair.value_end;
    return 0;
}
