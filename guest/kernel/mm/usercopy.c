/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * How the kernel touches program memory: a range check against the low half,
 * then accesses that survive any fault (usercopy.S and the inline functions
 * here are listed in .extable). May sleep: no spinlock, no mm->lock across.
 */
#include "lib/errno.h"
#include "lib/string.h"
#include "mm/mm.h"

size_t usercopy(void *dst, const void *src, size_t n, bool rep);
size_t userclear(void *dst, size_t n, bool rep);

/* In an asm: the instruction at 1 may fault; then err = -EFAULT. */
#define ON_FAULT                            \
    "2:\n\t"                                \
    ".pushsection .extable, \"a\"\n\t"      \
    ".quad 1b, 3f\n\t"                      \
    ".popsection\n\t"                       \
    ".subsection 1\n"                       \
    "3: movl $-14, %[err]\n\t"              \
    "jmp 2b\n\t"                            \
    ".previous"

size_t copy_from_user_partial(void *dst, const void __user *src, size_t n)
{
    if (!user_range_ok(src, n))
        return n;
    return usercopy(dst, src, n, rep_is_fast);
}

size_t copy_to_user_partial(void __user *dst, const void *src, size_t n)
{
    if (!user_range_ok(dst, n))
        return n;
    return usercopy(dst, src, n, rep_is_fast);
}

int copy_from_user(void *dst, const void __user *src, size_t n)
{
    return copy_from_user_partial(dst, src, n) ? -EFAULT : 0;
}

int copy_to_user(void __user *dst, const void *src, size_t n)
{
    return copy_to_user_partial(dst, src, n) ? -EFAULT : 0;
}

int clear_user(void __user *dst, size_t n)
{
    if (!user_range_ok(dst, n))
        return -EFAULT;
    return userclear(dst, n, rep_is_fast) ? -EFAULT : 0;
}

static inline int load8(const char *p, char *out)
{
    int err = 0;
    char v = 0;

    __asm__ volatile("1: movb %[p], %[v]\n" ON_FAULT
                     : [err] "+r"(err), [v] "+q"(v)
                     : [p] "m"(*p));
    *out = v;
    return err;
}

static inline int load64(const void *p, uint64_t *out)
{
    int err = 0;
    uint64_t v = 0;

    __asm__ volatile("1: movq %[p], %[v]\n" ON_FAULT
                     : [err] "+r"(err), [v] "+r"(v)
                     : [p] "m"(*(const uint64_t *)p));
    *out = v;
    return err;
}

static inline bool has_zero_byte(uint64_t v)
{
    return ((v - 0x0101010101010101ul) & ~v & 0x8080808080808080ul) != 0;
}

/* Words are read only at aligned addresses: they never reach into the page
 * after the one the string ends in. */
ssize_t strncpy_from_user(char *dst, const char __user *src, size_t size)
{
    vaddr_t a = (vaddr_t)src;
    size_t n = 0, max;

    if (a >= USER_TOP)
        return -EFAULT;
    max = MIN(size, USER_TOP - a);
    while (n < max) {
        uint64_t v;
        if (((a + n) & 7) == 0 && max - n >= 8) {
            if (load64(src + n, &v))
                return -EFAULT;
            if (!has_zero_byte(v)) {
                memcpy(dst + n, &v, 8);
                n += 8;
                continue;
            }
        }
        /* The last word, or not yet aligned: by bytes. */
        if (load8(src + n, &dst[n]))
            return -EFAULT;
        if (dst[n] == '\0')
            return (ssize_t)n;
        n++;
    }
    return max < size ? -EFAULT : -ENAMETOOLONG;
}

int user_load32(const uint32_t __user *p, uint32_t *out)
{
    int err = 0;
    uint32_t v = 0;

    if (!user_range_ok(p, sizeof(*p)))
        return -EFAULT;
    __asm__ volatile("1: movl %[p], %[v]\n" ON_FAULT
                     : [err] "+r"(err), [v] "+r"(v)
                     : [p] "m"(*p)
                     : "memory");
    if (!err)
        *out = v;
    return err;
}

int user_cmpxchg32(uint32_t __user *p, uint32_t old, uint32_t new_value,
                   uint32_t *seen)
{
    int err = 0;

    if (!user_range_ok(p, sizeof(*p)))
        return -EFAULT;
    __asm__ volatile("1: lock cmpxchgl %[nv], %[p]\n" ON_FAULT
                     : [err] "+r"(err), "+a"(old), [p] "+m"(*p)
                     : [nv] "r"(new_value)
                     : "memory", "cc");
    if (!err)
        *seen = old;
    return err;
}
