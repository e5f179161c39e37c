/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * virtio entropy device: used rarely, so it is started, asked once, polled
 * and reset again; one caller at a time (lock).
 */
#include "arch/arch.h"
#include "drivers/virtio.h"
#include "lib/errno.h"
#include "lib/string.h"
#include "mm/page.h"
#include "sched/thread.h"

#define RNG_TIMEOUT_NS (100 * 1000000l)

static uint32_t rng_busy; /* atomic */

static int rng_ask(struct virtio_device *dev, struct virtq *q, void *page,
                   size_t n)
{
    nsec_t end = clock_monotonic() + RNG_TIMEOUT_NS;

    q->desc[0].addr = virt_to_phys(page);
    q->desc[0].len = (uint32_t)n;
    q->desc[0].flags = VIRTQ_DESC_WRITE;
    q->avail->ring[0] = 0;
    virtq_publish(q, 1);
    while (!virtq_nr_used(q)) {
        if (clock_monotonic() > end)
            return -EIO;
        sched_yield_point();
        cpu_relax();
    }
    return q->used->ring[0].len >= n ? 0 : -EIO;
}

int virtio_rng_read(void *buf, size_t n)
{
    struct virtio_device *dev = virtio_find(VIRTIO_ID_RNG, 0);
    struct virtq q = {0};
    struct page *p;
    int err;

    if (!dev)
        return -ENODEV;
    if (n > PAGE_SIZE)
        return -EINVAL;
    if (atomic_xchg(&rng_busy, 1u))
        return -EBUSY;
    p = page_alloc(0, 0);
    err = p ? virtio_negotiate(dev, 0) : -ENOMEM;
    if (!err)
        err = virtq_setup(dev, &q, 0, 8);
    if (!err) {
        virtio_start(dev);
        err = rng_ask(dev, &q, page_to_virt(p), n);
        virtio_reset(dev);
        if (!err)
            memcpy(buf, page_to_virt(p), n);
        page_put(virt_to_page(q.desc));
    }
    if (p)
        page_put(p);
    atomic_store_release(&rng_busy, 0u);
    return err;
}
