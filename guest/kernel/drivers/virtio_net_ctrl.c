/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * virtio network device: the control queue (virtio 1.2, 5.1.6.5) and the state
 * of the link; see virtio_net.h.
 *
 * - The control queue is used once, at start, without an interrupt: the device
 *   answers in the time of an exit or two.
 * - The link is followed by the configuration's interrupt, on PCI only. On
 *   MMIO that interrupt shares the line of the queues, and telling them apart
 *   would cost each of them the read of a register (virtio_mmio.c): there the
 *   state is that of the start.
 */
#include "arch/arch.h"
#include "drivers/virtio_net_internal.h"
#include "lib/errno.h"
#include "lib/printk.h"
#include "mm/heap.h"

#define CLASS_MQ 4u
#define MQ_PAIRS_SET 0u
#define ANSWER_OK 0u
#define ANSWER_NONE 0xffu
#define ANSWER_NS NSEC_PER_SEC
#define STATUS_LINK_UP 1u

struct ctrl_wire {
    uint8_t class, command;
    uint16_t pairs;
    uint8_t answer; /* the device's */
};

static void put_piece(struct virtq *q, uint16_t n, const void *data,
                      uint32_t len, uint16_t flags)
{
    q->desc[n] = (struct virtq_desc_wire){
        .addr = virt_to_phys(data), .len = len, .flags = flags,
        .next = (uint16_t)(n + 1)};
}

int vnet_set_pairs(struct vnet *v, uint32_t n)
{
    struct virtq *q = &v->ctrl;
    struct ctrl_wire *c = kzalloc(sizeof(*c));
    nsec_t end = clock_monotonic() + ANSWER_NS;
    int err = -EIO;

    if (!c)
        return -ENOMEM;
    *c = (struct ctrl_wire){CLASS_MQ, MQ_PAIRS_SET, (uint16_t)n, ANSWER_NONE};
    put_piece(q, 0, &c->class, 2, VIRTQ_DESC_NEXT);
    put_piece(q, 1, &c->pairs, 2, VIRTQ_DESC_NEXT);
    put_piece(q, 2, &c->answer, 1, VIRTQ_DESC_WRITE);
    q->avail->ring[q->avail_idx % q->size] = 0;
    virtq_publish(q, 1);
    while (!virtq_nr_used(q)) {
        if (clock_monotonic() > end)
            return -EIO; /* c is the device's for good */
        cpu_relax();
    }
    q->last_used++;
    if (atomic_load_relaxed(&c->answer) == ANSWER_OK)
        err = 0;
    kfree(c);
    return err;
}

static void read_link(struct vnet *v)
{
    uint32_t status = virtio_config16(v->dev, CONFIG_STATUS);
    bool is_down = !(status & STATUS_LINK_UP);

    if (atomic_xchg(&v->nif.is_down, is_down) != is_down)
        klog(LOG_INFO, "virtio-net: the link is %s", is_down ? "down" : "up");
}

static void config_changed(struct virtio_device *dev)
{
    for (uint32_t n = 0; n < VIRTIO_NET_CARDS; n++) {
        struct vnet *v = atomic_load_acquire(&vnets[n]);

        if (v && v->dev == dev)
            read_link(v);
    }
}

void vnet_watch_link(struct vnet *v)
{
    if (!(v->dev->features & FEATURE_STATUS))
        return;
    if (v->dev->pci && virtio_config_irq_enable(v->dev, config_changed))
        klog(LOG_INFO, "virtio-net: changes of the link will not be seen");
    read_link(v);
}
