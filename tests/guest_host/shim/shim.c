/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The guest's primitives over libc, for sources compiled for host tests.
 */
#include "lib/errno.h"
#include "mm/heap.h"
#include "sched/mutex.h"

#include <malloc.h>
#include <stdlib.h>

long shim_fail_alloc;
size_t shim_bytes, shim_peak_bytes;

static bool must_fail(void)
{
    long n = __atomic_load_n(&shim_fail_alloc, __ATOMIC_RELAXED);

    if (n == 0)
        return false;
    if (n == 1)
        return true;
    __atomic_fetch_sub(&shim_fail_alloc, 1, __ATOMIC_RELAXED);
    return false;
}

static void *count(void *p)
{
    if (p) {
        size_t now = __atomic_add_fetch(&shim_bytes, malloc_usable_size(p),
                                        __ATOMIC_RELAXED);
        if (now > __atomic_load_n(&shim_peak_bytes, __ATOMIC_RELAXED))
            __atomic_store_n(&shim_peak_bytes, now, __ATOMIC_RELAXED);
    }
    return p;
}

void *kmalloc(size_t size)
{
    return must_fail() ? NULL : count(malloc(size));
}

void *kzalloc(size_t size)
{
    return must_fail() ? NULL : count(calloc(1, size));
}

void *krealloc(void *ptr, size_t size)
{
    if (must_fail())
        return NULL;
    if (ptr)
        __atomic_sub_fetch(&shim_bytes, malloc_usable_size(ptr),
                           __ATOMIC_RELAXED);
    return count(realloc(ptr, size));
}

void kfree(void *ptr)
{
    if (ptr)
        __atomic_sub_fetch(&shim_bytes, malloc_usable_size(ptr),
                           __ATOMIC_RELAXED);
    free(ptr);
}

void mutex_init(struct mutex *m)
{
    pthread_mutexattr_t attr;

    pthread_mutexattr_init(&attr);
    pthread_mutexattr_settype(&attr, PTHREAD_MUTEX_ERRORCHECK);
    pthread_mutex_init(&m->m, &attr);
    pthread_mutexattr_destroy(&attr);
}

void mutex_lock(struct mutex *m)
{
    if (pthread_mutex_lock(&m->m))
        abort();
}

bool mutex_trylock(struct mutex *m)
{
    return pthread_mutex_trylock(&m->m) == 0;
}

void mutex_unlock(struct mutex *m)
{
    if (pthread_mutex_unlock(&m->m))
        abort();
}
