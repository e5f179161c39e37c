/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * iov_iter.c: moves bytes between kernel buffers and the memory an iterator
 * describes. May sleep (program memory faults): no spinlock across.
 */
#include "fs/fs_internal.h"

void iter_init_user(struct iov_iter *it, void __user *p, size_t n)
{
    it->one.base = p;
    it->one.len = n;
    it->iov = &it->one;
    it->nr_iov = 1;
    it->iov_offset = 0;
    it->count = n;
    it->is_kernel = false;
}

void iter_init_kernel(struct iov_iter *it, void *p, size_t n)
{
    iter_init_user(it, p, n);
    it->is_kernel = true;
}

enum direction { COPY_TO, COPY_FROM, ZERO };

static int iter_move(struct iov_iter *it, char *base, void *buf, size_t n,
                     enum direction dir)
{
    if (it->is_kernel) {
        if (dir == COPY_TO)
            memcpy(base, buf, n);
        else if (dir == COPY_FROM)
            memcpy(buf, base, n);
        else
            memset(base, 0, n);
        return 0;
    }
    if (dir == COPY_TO)
        return copy_to_user(base, buf, n);
    if (dir == COPY_FROM)
        return copy_from_user(buf, base, n);
    return clear_user(base, n);
}

/* One contiguous piece; after a fault, page by page to learn how far. */
static size_t iter_piece(struct iov_iter *it, char *base, char *buf, size_t n,
                         enum direction dir)
{
    size_t done = 0;

    if (iter_move(it, base, buf, n, dir) == 0)
        return n;
    while (done < n) {
        size_t len = PAGE_SIZE - ((uintptr_t)(base + done) % PAGE_SIZE);
        if (len > n - done)
            len = n - done;
        if (iter_move(it, base + done, buf ? buf + done : NULL, len, dir))
            break;
        done += len;
    }
    return done;
}

static ssize_t iter_run(struct iov_iter *it, char *buf, size_t n,
                        enum direction dir)
{
    size_t done = 0;

    if (n > it->count)
        n = it->count;
    while (done < n) {
        size_t len = it->iov->len - it->iov_offset;
        if (len == 0) {
            it->iov++;
            it->nr_iov--;
            it->iov_offset = 0;
            continue;
        }
        if (len > n - done)
            len = n - done;
        size_t moved = iter_piece(it, (char *)it->iov->base + it->iov_offset,
                                  buf ? buf + done : NULL, len, dir);
        it->iov_offset += moved;
        it->count -= moved;
        done += moved;
        if (moved < len)
            break;
    }
    return done || n == 0 ? (ssize_t)done : -EFAULT;
}

ssize_t iter_copy_to(struct iov_iter *it, const void *src, size_t n)
{
    return iter_run(it, (char *)(uintptr_t)src, n, COPY_TO);
}

ssize_t iter_copy_from(struct iov_iter *it, void *dst, size_t n)
{
    return iter_run(it, dst, n, COPY_FROM);
}

ssize_t iter_zero(struct iov_iter *it, size_t n)
{
    return iter_run(it, NULL, n, ZERO);
}
