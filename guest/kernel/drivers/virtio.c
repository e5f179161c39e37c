/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * virtio-mmio transport and split queues; see virtio.h.
 *
 * Locks: the device list is made by virtio_init(); virtio_irq_enable
 * and virtq_setup are called under the driver's own lock.
 */
#include "drivers/virtio.h"

#include "arch/arch.h"
#include "drivers/drivers.h"
#include "lib/errno.h"
#include "lib/printk.h"
#include "lib/string.h"
#include "mm/page.h"
#include "param.h"

/* virtio 1.2, 4.2.2: byte offsets of the registers */
enum {
    REG_DEVICE_ID = 0x008,
    REG_DEVICE_FEATURES = 0x010,
    REG_DRIVER_FEATURES = 0x020,
    REG_DRIVER_FEATURES_SEL = 0x024,
    REG_QUEUE_SEL = 0x030,
    REG_QUEUE_NUM = 0x038,
    REG_QUEUE_READY = 0x044,
    REG_QUEUE_NOTIFY = 0x050,
    REG_INTERRUPT_ACK = 0x064,
    REG_STATUS = 0x070,
    REG_QUEUE_DESC = 0x080,
    REG_QUEUE_DRIVER = 0x090,
    REG_QUEUE_DEVICE = 0x0a0,
    REG_CONFIG = 0x100,
};

#define STATUS_ACKNOWLEDGE 1
#define STATUS_DRIVER 2
#define STATUS_DRIVER_OK 4
#define STATUS_FEATURES_OK 8
#define FEATURE_EVENT_IDX (1u << 29)
#define FEATURE_VERSION_1_HIGH 1u /* bit 32 */
#define AVAIL_NO_INTERRUPT 1
#define USED_NO_NOTIFY 1

/* microvm's slots, for hosts that put no virtio_mmio.device on the line */
#define PROBE_BASE 0xfeb00000ul
#define PROBE_STEP 0x200ul
#define PROBE_SLOTS 8
#define PROBE_IRQ 5

#define MAX_DEVICES 8
#define ID_NOT_READ (~0u - 1) /* no device has it; empty slots read 0 or ~0 */

static struct {
    struct virtio_device devices[MAX_DEVICES];
    unsigned nr_devices;
} state;

static uint32_t reg_read(struct virtio_device *dev, unsigned offset)
{
    return dev->regs[offset / 4];
}

static void reg_write(struct virtio_device *dev, unsigned offset,
                      uint32_t value)
{
    dev->regs[offset / 4] = value;
}

static void virtio_add(volatile void *regs, uint32_t irq)
{
    struct virtio_device *dev = &state.devices[state.nr_devices];

    if (state.nr_devices == MAX_DEVICES || !regs)
        return;
    dev->regs = regs;
    dev->irq = irq;
    dev->id = ID_NOT_READ;
    state.nr_devices++;
}

void virtio_init(void)
{
    unsigned i, n = boot_params.nr_virtio;
    char *regs;

    virtio_blk_init();
    virtio_console_init();
    tty_init();
    for (i = 0; i < n; i++)
        virtio_add(arch_mmio_map(boot_params.virtio[i].base, PROBE_STEP),
                   boot_params.virtio[i].irq);
    if (n)
        return;
    regs = (char *)arch_mmio_map(PROBE_BASE, PROBE_SLOTS * PROBE_STEP);
    for (i = 0; regs && i < PROBE_SLOTS; i++)
        virtio_add(regs + i * PROBE_STEP, PROBE_IRQ + i);
}

/* Identifies no more devices than it must; two threads that do it at once
 * read the same. */
struct virtio_device *virtio_find(uint32_t id)
{
    for (unsigned i = 0; i < state.nr_devices; i++) {
        struct virtio_device *dev = &state.devices[i];

        if (atomic_load_relaxed(&dev->id) == ID_NOT_READ)
            atomic_store_relaxed(&dev->id, reg_read(dev, REG_DEVICE_ID));
        if (dev->id == id)
            return dev;
    }
    return NULL;
}

void virtio_reset(struct virtio_device *dev)
{
    reg_write(dev, REG_STATUS, 0);
    dev->status = 0;
    dev->ready = false;
}

/* virtio 1.2, 3.1.1. The status bits are written together: no step between
 * them waits for anything. Selectors are 0 after a reset. */
int virtio_negotiate(struct virtio_device *dev, uint32_t wanted)
{
    virtio_reset(dev);
    wanted |= FEATURE_EVENT_IDX;
    dev->features = reg_read(dev, REG_DEVICE_FEATURES) & wanted;
    reg_write(dev, REG_DRIVER_FEATURES, dev->features);
    reg_write(dev, REG_DRIVER_FEATURES_SEL, 1);
    reg_write(dev, REG_DRIVER_FEATURES, FEATURE_VERSION_1_HIGH);
    dev->status = STATUS_ACKNOWLEDGE | STATUS_DRIVER | STATUS_FEATURES_OK;
    reg_write(dev, REG_STATUS, dev->status);
    return 0;
}

void virtio_start(struct virtio_device *dev)
{
    dev->status |= STATUS_DRIVER_OK;
    reg_write(dev, REG_STATUS, dev->status);
    dev->ready = true;
}

uint32_t virtio_config32(struct virtio_device *dev, unsigned offset)
{
    return reg_read(dev, REG_CONFIG + offset);
}

/* The bits are cleared before the rings are looked at, so what the device
 * adds afterwards raises the line again. */
static void virtio_interrupt(void *arg)
{
    struct virtio_device *dev = arg;

    reg_write(dev, REG_INTERRUPT_ACK, 3);
    dev->interrupt(dev);
}

int virtio_irq_enable(struct virtio_device *dev)
{
    int err;

    if (dev->has_irq)
        return 0;
    err = irq_register(dev->irq, virtio_interrupt, dev);
    if (err) {
        klog(LOG_ERROR, "virtio: irq %u: error %d", dev->irq, -err);
        return err;
    }
    dev->has_irq = true;
    /* QEMU raises the line for the first completion whatever we asked for. It
     * did so while the pin was masked, and the pin takes edges: drop it, or
     * no interrupt ever comes. Callers look at the rings afterwards. */
    reg_write(dev, REG_INTERRUPT_ACK, 3);
    return 0;
}

static void write_address(struct virtio_device *dev, unsigned reg, void *p)
{
    paddr_t pa = virt_to_phys(p);

    reg_write(dev, reg, (uint32_t)pa);
    if (pa >> 32) /* 0 after the reset */
        reg_write(dev, reg + 4, (uint32_t)(pa >> 32));
}

int virtq_setup(struct virtio_device *dev, struct virtq *q, unsigned index,
                unsigned size)
{
    struct page *p = page_alloc(0, PAGE_ZERO);
    size_t desc_bytes = size * sizeof(struct virtq_desc_wire);
    size_t avail_bytes = 6 + 2 * size;
    char *base;

    assert(size <= VIRTQ_MAX_SIZE && (size & (size - 1)) == 0);
    if (!p)
        return -ENOMEM;
    base = page_to_virt(p);
    q->dev = dev;
    q->index = (uint16_t)index;
    q->size = (uint16_t)size;
    q->desc = (struct virtq_desc_wire *)base;
    q->avail = (struct virtq_avail_wire *)(base + desc_bytes);
    q->used = (struct virtq_used_wire *)(base +
                                         ALIGN_UP(desc_bytes + avail_bytes,
                                                  4ul));
    q->avail_idx = q->last_used = 0;
    virtq_interrupt_off(q);
    reg_write(dev, REG_QUEUE_SEL, index);
    reg_write(dev, REG_QUEUE_NUM, size);
    write_address(dev, REG_QUEUE_DESC, q->desc);
    write_address(dev, REG_QUEUE_DRIVER, q->avail);
    write_address(dev, REG_QUEUE_DEVICE, q->used);
    reg_write(dev, REG_QUEUE_READY, 1);
    return 0;
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
    if (notify)
        reg_write(q->dev, REG_QUEUE_NOTIFY, q->index);
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
