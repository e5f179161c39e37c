/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The MMIO transport (virtio 1.2, 4.2): microvm's.
 *
 * One edge-triggered line per device: the handler acknowledges it and calls
 * the handlers of all queues that have one. QEMU's own I/O APIC takes each
 * notification of a device for an edge, also while the line is still up: when
 * the launcher says that it is in use (irq-pulse), nothing is acknowledged,
 * which spares an exit to QEMU per interrupt (45 us on kvm_pvm).
 */
#include "arch/arch.h"
#include "drivers/virtio.h"
#include "lib/errno.h"
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
    REG_INTERRUPT_STATUS = 0x060,
    REG_INTERRUPT_ACK = 0x064,
    REG_STATUS = 0x070,
    REG_QUEUE_DESC = 0x080,
    REG_QUEUE_DRIVER = 0x090,
    REG_QUEUE_DEVICE = 0x0a0,
    REG_CONFIG = 0x100,
};

#define INTERRUPT_CONFIG 2

/* microvm's slots, for hosts that put no virtio_mmio.device on the line */
#define PROBE_BASE 0xfeb00000ul
#define PROBE_STEP 0x200ul
#define PROBE_SLOTS 8u
#define PROBE_IRQ 5

#define MAX_DEVICES 8u

static const struct virtio_ops mmio_ops;

/* Protected by the caller's find_lock; a device is identified once. */
static struct virtio_device devices[MAX_DEVICES];

static uint32_t reg_read(struct virtio_device *dev, unsigned offset)
{
    count_event(COUNT_DEVICE);
    return *(volatile uint32_t *)(dev->regs + offset);
}

static void reg_write(struct virtio_device *dev, unsigned offset,
                      uint32_t value)
{
    count_event(COUNT_DEVICE);
    *(volatile uint32_t *)(dev->regs + offset) = value;
}

struct virtio_device *virtio_mmio_device(unsigned nr)
{
    unsigned n = boot_params.nr_virtio;
    paddr_t base = PROBE_BASE + nr * PROBE_STEP;
    struct virtio_device *dev;

    if (nr >= MIN(n ? n : PROBE_SLOTS, MAX_DEVICES))
        return NULL;
    dev = &devices[nr];
    if (dev->ops)
        return dev;
    dev->ops = &mmio_ops;
    dev->irq = n ? boot_params.virtio[nr].irq : PROBE_IRQ + nr;
    dev->regs =
        arch_mmio_map(n ? boot_params.virtio[nr].base : base, PROBE_STEP);
    if (dev->regs) { /* else its ID stays 0, like an empty slot's */
        dev->config = dev->regs + REG_CONFIG;
        dev->id = reg_read(dev, REG_DEVICE_ID);
    }
    return dev;
}

static int mmio_reset(struct virtio_device *dev)
{
    reg_write(dev, REG_STATUS, 0);
    return 0;
}

static uint32_t mmio_offered(struct virtio_device *dev)
{
    return reg_read(dev, REG_DEVICE_FEATURES);
}

/* Selectors are 0 after a reset. */
static void mmio_accept(struct virtio_device *dev, uint32_t low)
{
    reg_write(dev, REG_DRIVER_FEATURES, low);
    reg_write(dev, REG_DRIVER_FEATURES_SEL, 1);
    reg_write(dev, REG_DRIVER_FEATURES, VIRTIO_FEATURE_VERSION_1_HIGH);
}

static void mmio_set_status(struct virtio_device *dev, uint8_t status)
{
    reg_write(dev, REG_STATUS, status);
}

static void write_address(struct virtio_device *dev, unsigned reg, void *p)
{
    paddr_t pa = virt_to_phys(p);

    reg_write(dev, reg, (uint32_t)pa);
    if (pa >> 32) /* 0 after the reset */
        reg_write(dev, reg + 4, (uint32_t)(pa >> 32));
}

static int mmio_queue_setup(struct virtq *q)
{
    struct virtio_device *dev = q->dev;

    reg_write(dev, REG_QUEUE_SEL, q->index);
    reg_write(dev, REG_QUEUE_NUM, q->size);
    write_address(dev, REG_QUEUE_DESC, q->desc);
    write_address(dev, REG_QUEUE_DRIVER, q->avail);
    write_address(dev, REG_QUEUE_DEVICE, q->used);
    reg_write(dev, REG_QUEUE_READY, 1);
    q->notify_at = dev->regs + REG_QUEUE_NOTIFY;
    return 0;
}

static void mmio_notify(struct virtq *q)
{
    count_event(COUNT_DEVICE);
    *(volatile uint32_t *)q->notify_at = q->index;
}

/* The bits are cleared before the rings are looked at, so what the device
 * adds afterwards raises the line again. */
static void mmio_interrupt(void *arg)
{
    struct virtio_device *dev = arg;
    void (*config_changed)(struct virtio_device *) =
        atomic_load_acquire(&dev->config_changed);
    bool is_config = config_changed &&
                     reg_read(dev, REG_INTERRUPT_STATUS) & INTERRUPT_CONFIG;

    if (config_changed || !boot_params.irq_pulse)
        reg_write(dev, REG_INTERRUPT_ACK, 3);
    virtq_interrupt_chain(atomic_load_acquire(&dev->irq_queues));
    if (is_config)
        config_changed(dev);
}

/* QEMU raises the line for the first completion whatever we asked for. It did
 * so while the pin was masked, and the pin takes edges: drop it, or no
 * interrupt ever comes. Callers look at the rings afterwards. */
static int mmio_hook(struct virtio_device *dev)
{
    int err;

    if (dev->has_line)
        return 0;
    err = irq_register(dev->irq, mmio_interrupt, dev);
    if (err)
        return err;
    dev->has_line = true;
    reg_write(dev, REG_INTERRUPT_ACK, 3);
    return 0;
}

static int mmio_queue_irq(struct virtq *q, unsigned cpu)
{
    struct virtio_device *dev = q->dev;
    int err;

    if (dev->irq_queues) {
        virtq_share_interrupt(dev->irq_queues, q);
        return 0;
    }
    atomic_store_release(&dev->irq_queues, q);
    err = mmio_hook(dev);
    if (err)
        dev->irq_queues = NULL;
    return err;
}

static const struct virtio_ops mmio_ops = {
    .reset = mmio_reset,
    .offered = mmio_offered,
    .accept = mmio_accept,
    .set_status = mmio_set_status,
    .queue_setup = mmio_queue_setup,
    .notify = mmio_notify,
    .queue_irq = mmio_queue_irq,
    .config_irq = mmio_hook,
};
