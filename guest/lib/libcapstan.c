/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * libcapstan.so.0: the program's side of capstan/capstan.h. Works with any libc
 * that has getauxval and clock_gettime; keeps no state.
 */
#include "internal.h"

#include <errno.h>
#include <sys/auxv.h>
#include <time.h>

EXPORT int capstan_version(void)
{
    return (int)getauxval(AT_CAPSTAN);
}

EXPORT uint64_t capstan_clock_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now); /* the vDSO: no call */
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

EXPORT int capstan_page_query(const void *address, struct capstan_page *out)
{
    if (!capstan_version())
        return -ENOSYS;
    return (int)guest_call(CAPSTAN_CALL_PAGE_QUERY, (long)address,
                           (long)out);
}

EXPORT int capstan_counters(struct capstan_counters *out, size_t size)
{
    if (!capstan_version())
        return -ENOSYS;
    return (int)guest_call(CAPSTAN_CALL_COUNTERS, (long)out, (long)size);
}
