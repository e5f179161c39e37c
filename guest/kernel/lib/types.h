/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The scalar types and compiler words every other header starts from.
 */
#pragma once

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef int64_t ssize_t;
typedef int64_t off_t;
typedef uint64_t paddr_t; /* guest-physical address */
typedef uint64_t vaddr_t; /* virtual address, program or kernel */
typedef int64_t nsec_t;   /* nanoseconds */

#define __user
#define __must_check __attribute__((warn_unused_result))
#define __printf(fmt, args) __attribute__((format(printf, fmt, args)))
#define __noreturn __attribute__((noreturn))
#define __aligned(n) __attribute__((aligned(n)))
#define __packed __attribute__((packed))
#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define container_of(ptr, type, member) \
    ((type *)((char *)(ptr) - offsetof(type, member)))
#define ALIGN_UP(x, a) (((x) + ((a) - 1)) & ~((__typeof__(x))(a) - 1))
#define ALIGN_DOWN(x, a) ((x) & ~((__typeof__(x))(a) - 1))
#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define MAX(a, b) ((a) > (b) ? (a) : (b))

#define PAGE_SHIFT 12
#define PAGE_SIZE 4096ul
#define LARGE_SHIFT 21
#define LARGE_SIZE (1ul << LARGE_SHIFT)
#define KIB (1ul << 10)
#define MIB (1ul << 20)
#define GIB (1ul << 30)
#define NSEC_PER_SEC 1000000000l
