/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Finding and starting virtio devices, and split queues; see virtio.h.
 *
 * The transport: MMIO when the command line names MMIO devices (microvm),
 * else PCI when there is any, else MMIO at microvm's addresses. Nothing is
 * looked for before a driver asks.
 *
 * Locks: find_lock (mutex, innermost) protects the device list.
 */
#include "drivers/virtio.h"

#include "arch/arch.h"
#include "drivers/drivers.h"
#include "lib/errno.h"
#include "lib/printk.h"
#include "lib/string.h"
#include "mm/page.h"
#include "param.h"
#include "sched/mutex.h"

#define FEATURE_EVENT_IDX (1u << 29)
#define AVAIL_NO_INTERRUPT 1
#define USED_NO_NOTIFY 1
#define MAX_PCI_DEVICES 8

static struct {
    struct mutex find_lock;
    /* --- protected by find_lock --- */
    enum { BUS_UNKNOWN, BUS_MMIO, BUS_PCI } bus;
    struct virtio_device pci_devices[MAX_PCI_DEVICES];
    unsigned nr_pci_devices;
} state;

void virtio_init(void)
{
    mutex_init(&state.find_lock);
    virtio_blk_init();
    virtio_console_init();
    tty_init();
    if (boot_params.nr_virtio)
        state.bus = BUS_MMIO;
}

static struct virtio_device *find_mmio_locked(uint32_t id, unsigned n)
{
    struct virtio_device *dev;

    for (unsigned i = 0; (dev = virtio_mmio_device(i)); i++) {
        if (dev->id == id && n-- == 0)
            return dev;
    }
    return NULL;
}

static struct virtio_device *find_pci_locked(uint32_t id, unsigned n)
{
    unsigned found = 0;
    struct virtio_device *dev = state.pci_devices;

    for (; dev < &state.pci_devices[state.nr_pci_devices]; dev++) {
        if (dev->id != id)
            continue;
        if (found++ == n)
            return dev;
    }
    if (state.nr_pci_devices == MAX_PCI_DEVICES ||
        !virtio_pci_find(id, found, dev))
        return NULL;
    state.nr_pci_devices++;
    return dev;
}

struct virtio_device *virtio_find(uint32_t id, unsigned n)
{
    struct virtio_device *dev;

    mutex_lock(&state.find_lock);
    if (state.bus == BUS_UNKNOWN)
        state.bus = virtio_pci_is_present() ? BUS_PCI : BUS_MMIO;
    dev = state.bus == BUS_PCI ? find_pci_locked(id, n)
                                : find_mmio_locked(id, n);
    mutex_unlock(&state.find_lock);
    return dev;
}

void virtio_reset(struct virtio_device *dev)
{
    dev->ops->reset(dev);
    dev->status = 0;
    dev->ready = false;
}

/* virtio 1.2, 3.1.1. The status bits are written together: no step between
 * them waits for anything. */
int virtio_negotiate(struct virtio_device *dev, uint32_t wanted)
{
    int err = dev->ops->reset(dev);

    if (err)
        return err;
    dev->ready = false;
    dev->features = dev->ops->offered(dev) & (wanted | FEATURE_EVENT_IDX);
    dev->ops->accept(dev, dev->features);
    dev->status = VIRTIO_STATUS_ACKNOWLEDGE | VIRTIO_STATUS_DRIVER |
                  VIRTIO_STATUS_FEATURES_OK;
    dev->ops->set_status(dev, dev->status);
    return 0;
}

void virtio_start(struct virtio_device *dev)
{
    dev->status |= VIRTIO_STATUS_DRIVER_OK;
    dev->ops->set_status(dev, dev->status);
    dev->ready = true;
}

uint32_t virtio_config32(struct virtio_device *dev, unsigned offset)
{
    if (!dev->config)
        return 0;
    return *(volatile uint32_t *)(dev->config + offset);
}

uint16_t virtio_config16(struct virtio_device *dev, unsigned offset)
{
    if (!dev->config)
        return 0;
    return *(volatile uint16_t *)(dev->config + offset);
}

int virtio_config_irq_enable(struct virtio_device *dev,
                             void (*changed)(struct virtio_device *dev))
{
    atomic_store_release(&dev->config_changed, changed);
    return dev->ops->config_irq(dev);
}

int virtq_setup(struct virtio_device *dev, struct virtq *q, unsigned index,
                unsigned size)
{
    struct page *p = page_alloc(0, PAGE_ZERO);
    size_t desc_bytes = size * sizeof(struct virtq_desc_wire);
    size_t avail_bytes = 6 + 2 * size;
    char *base;
    int err;

    assert(size <= VIRTQ_MAX_SIZE && (size & (size - 1)) == 0);
    if (!p)
        return -ENOMEM;
    base = page_to_virt(p);
    q->dev = dev;
    q->index = (uint16_t)index;
    q->size = (uint16_t)size;
    q->desc = (struct virtq_desc_wire *)base;
    q->avail = (struct virtq_avail_wire *)(base + desc_bytes);
    q->used =
        (struct virtq_used_wire *)(base +
                                   ALIGN_UP(desc_bytes + avail_bytes, 4ul));
    q->avail_idx = q->last_used = 0;
    virtq_interrupt_off(q);
    err = dev->ops->queue_setup(q);
    if (err) {
        q->size = 0;
        page_put(p);
    }
    return err;
}

int virtq_irq_enable(struct virtq *q, void (*interrupt)(struct virtq *q),
                     unsigned cpu)
{
    int err;

    if (q->has_irq)
        return 0;
    q->interrupt = interrupt;
    err =
        q->dev->ops->queue_irq(q, cpu == VIRTQ_ANY_CPU ? this_cpu()->id : cpu);
    if (err)
        klog(LOG_ERROR,
             "virtio: no interrupt for queue %u of device %u: "
             "error %d",
             q->index, q->dev->id, -err);
    else
        q->has_irq = true;
    return err;
}

void virtq_interrupt_chain(void *first)
{
    struct virtq *q = first;

    for (; q; q = atomic_load_acquire(&q->irq_next))
        q->interrupt(q);
}

void virtq_share_interrupt(struct virtq *first, struct virtq *q)
{
    q->vector = first->vector;
    q->irq_next = first->irq_next;
    atomic_store_release(&first->irq_next, q);
}

static uint16_t *used_event(struct virtq *q)
{
    return &q->avail->ring[q->size];
}

/* Written by the device: when it wants to be notified. */
static uint16_t avail_event(struct virtq *q)
{
    return atomic_load_relaxed((uint16_t *)&q->used->ring[q->size]);
}

void virtq_publish(struct virtq *q, unsigned n)
{
    uint16_t old = q->avail_idx;
    uint16_t new_idx = (uint16_t)(old + n);
    bool notify;

    q->avail_idx = new_idx;
    atomic_store_release(&q->avail->idx, new_idx);
    smp_mb(); /* pairs with the device: index before its event index */
    if (q->dev->features & FEATURE_EVENT_IDX)
        notify = (uint16_t)(new_idx - avail_event(q) - 1) <
                 (uint16_t)(new_idx - old);
    else
        notify = !(atomic_load_relaxed(&q->used->flags) & USED_NO_NOTIFY);
    if (notify) {
        uint64_t start = cycles_now();

        q->dev->ops->notify(q);
        count_event(COUNT_NOTIFIES);
        count_add(COUNT_NOTIFY_CYCLES, cycles_now() - start);
    }
}

bool virtq_interrupt_after(struct virtq *q, unsigned after)
{
    if (q->dev->features & FEATURE_EVENT_IDX)
        atomic_store_relaxed(used_event(q),
                             (uint16_t)(q->last_used + after - 1));
    else
        atomic_store_relaxed(&q->avail->flags, (uint16_t)0);
    smp_mb(); /* pairs with the device: its index before our event index */
    return virtq_nr_used(q) >= after;
}

void virtq_interrupt_off(struct virtq *q)
{
    if (q->dev->features & FEATURE_EVENT_IDX)
        atomic_store_relaxed(used_event(q), (uint16_t)(q->last_used - 1));
    else
        atomic_store_relaxed(&q->avail->flags, (uint16_t)AVAIL_NO_INTERRUPT);
}
