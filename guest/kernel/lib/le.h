/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Reading and writing integers of a fixed byte order at any address. This is
 * the only way to take a field out of a disk block or a packet.
 *
 * The builtin is named because -ffreestanding makes plain memcpy a call.
 */
#pragma once

#include "lib/types.h"

static inline uint16_t get_le16(const void *p)
{
    uint16_t v;
    __builtin_memcpy(&v, p, sizeof(v));
    return v;
}

static inline uint32_t get_le32(const void *p)
{
    uint32_t v;
    __builtin_memcpy(&v, p, sizeof(v));
    return v;
}

static inline uint64_t get_le64(const void *p)
{
    uint64_t v;
    __builtin_memcpy(&v, p, sizeof(v));
    return v;
}

static inline uint16_t get_be16(const void *p)
{
    return __builtin_bswap16(get_le16(p));
}

static inline uint32_t get_be32(const void *p)
{
    return __builtin_bswap32(get_le32(p));
}

static inline uint64_t get_be64(const void *p)
{
    return __builtin_bswap64(get_le64(p));
}

static inline void put_le64(void *p, uint64_t v)
{
    __builtin_memcpy(p, &v, sizeof(v));
}

static inline void put_be32(void *p, uint32_t v)
{
    v = __builtin_bswap32(v);
    __builtin_memcpy(p, &v, sizeof(v));
}

static inline void put_be64(void *p, uint64_t v)
{
    put_le64(p, __builtin_bswap64(v));
}
