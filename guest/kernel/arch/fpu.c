/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Extended register state: XSAVE where the CPU has it, FXSAVE otherwise.
 *
 * Components: x87, SSE, AVX, AVX-512 (XCR0 & 0xe7). On kvm_pvm XCR0 is the
 * host's and is not changed; the sizes are read natively (core.md 10).
 */
#include "arch/machine.h"
#include "lib/errno.h"
#include "lib/string.h"

#define XSTATE_WANTED 0xe7ul
#define LEGACY_SIZE 512
#define HEADER_SIZE 64

static uint64_t xmask;
static size_t user_size = LEGACY_SIZE;
static bool has_xsavec;

/* The size of the area (SDM 1, 13.2). EBX of leaf 0xd is for all of XCR0,
 * which on kvm_pvm may hold more than we save. */
static void fpu_probe(uint64_t xcr0)
{
    uint32_t f[4];

    cpuid(0xd, 1, f);
    has_xsavec = f[0] >> 1 & 1;
    cpuid(0xd, 0, f);
    user_size = f[1];
    if (xcr0 == xmask)
        return;
    user_size = LEGACY_SIZE + HEADER_SIZE;
    for (uint32_t i = 2; i < 8; i++) {
        if (!(xmask >> i & 1))
            continue;
        cpuid(0xd, i, f);
        user_size = MAX(user_size, (size_t)f[0] + f[1]);
    }
}

void fpu_init_cpu(void)
{
    uint32_t f[4], lo, hi;

    cpu_features(1, 0, f);
    if (f[2] >> 26 & 1) {
        uint64_t cr4;
        __asm__ volatile("mov %%cr4, %0" : "=r"(cr4));
        __asm__ volatile("mov %0, %%cr4" ::"r"(cr4 | 1ul << 18));
        if (!host_is_pvm) {
            cpuid(0xd, 0, f);
            lo = f[0] & XSTATE_WANTED;
            __asm__ volatile("xsetbv" ::"a"(lo), "d"(0), "c"(0));
        }
        __asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
        if (!xmask) {
            xmask = lo & XSTATE_WANTED;
            fpu_probe((uint64_t)hi << 32 | lo);
        }
    }
    fpu_reset();
}

size_t fpu_user_size(void)
{
    return user_size;
}

uint64_t fpu_user_mask(void)
{
    return xmask;
}

size_t fpu_area_size(void)
{
    return ALIGN_UP(user_size, 64ul);
}

void fpu_area_init(void *area)
{
    memset(area, 0, fpu_area_size());
    *(uint16_t *)area = 0x37f;
    *(uint32_t *)((char *)area + 24) = 0x1f80; /* MXCSR */
    if (has_xsavec)
        *(uint64_t *)((char *)area + LEGACY_SIZE + 8) = 1ul << 63 | xmask;
}

void fpu_save(void *area)
{
    if (has_xsavec)
        __asm__ volatile("xsavec64 (%0)" ::"r"(area), "a"((uint32_t)xmask),
                         "d"(0)
                         : "memory");
    else
        fpu_save_user(area);
}

void fpu_restore(const void *area)
{
    if (xmask)
        __asm__ volatile("xrstor64 (%0)" ::"r"(area), "a"((uint32_t)xmask),
                         "d"(0)
                         : "memory");
    else
        __asm__ volatile("fxrstor64 (%0)" ::"r"(area) : "memory");
}

void fpu_save_user(void *image)
{
    if (xmask) {
        /* XSAVE does not write the reserved part of the header. */
        memset((char *)image + LEGACY_SIZE, 0, HEADER_SIZE);
        __asm__ volatile("xsave64 (%0)" ::"r"(image), "a"((uint32_t)xmask),
                         "d"(0)
                         : "memory");
    } else {
        __asm__ volatile("fxsave64 (%0)" ::"r"(image) : "memory");
    }
}

int fpu_restore_user(const void *image)
{
    const char *p = image;

    if (*(const uint32_t *)(p + 24) & ~0xffffu)
        return -EINVAL;
    if (xmask) {
        const uint64_t *header = (const void *)(p + LEGACY_SIZE);
        if (header[0] & ~xmask)
            return -EINVAL;
        for (int i = 1; i < 8; i++) {
            if (header[i])
                return -EINVAL;
        }
        __asm__ volatile("xrstor64 (%0)" ::"r"(image), "a"((uint32_t)xmask),
                         "d"(0)
                         : "memory");
    } else {
        __asm__ volatile("fxrstor64 (%0)" ::"r"(image) : "memory");
    }
    return 0;
}

void fpu_reset(void)
{
    static uint8_t area[4096] __aligned(64);

    *(uint16_t *)area = 0x37f;
    *(uint32_t *)(area + 24) = 0x1f80;
    if (xmask)
        __asm__ volatile("xrstor64 (%0)" ::"r"(area), "a"((uint32_t)xmask),
                         "d"(0)
                         : "memory");
    else
        __asm__ volatile("fxrstor64 (%0)" ::"r"(area) : "memory");
}
