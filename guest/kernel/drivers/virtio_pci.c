/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The PCI transport (virtio 1.2, 4.1), modern interface only, interrupts by
 * MSI-X only: a queue's interrupt says which queue it is and no register is
 * read for it.
 *
 * A function is opened when it is found: its structures are mapped, its BARs
 * placed, nothing else is touched. A queue without a vector of its own raises
 * no interrupts (VIRTIO_MSI_NO_VECTOR after a reset).
 */
#include "arch/arch.h"
#include "arch/pci.h"
#include "drivers/drivers.h"
#include "drivers/virtio.h"
#include "lib/errno.h"

#define VENDOR_VIRTIO 0x1af4
#define DEVICE_MODERN 0x1040
#define DEVICE_TRANSITIONAL 0x1000 /* up to 0x103f */
#define CFG_SUBSYSTEM 0x2c
#define NO_VECTOR 0xffff
#define UNKNOWN 0xffff /* a selector */
#define RESET_NS NSEC_PER_SEC

/* virtio 1.2, 4.1.4.3: the common structure */
enum {
    COMMON_DEVICE_FEATURE_SELECT = 0x00,
    COMMON_DEVICE_FEATURE = 0x04,
    COMMON_DRIVER_FEATURE_SELECT = 0x08,
    COMMON_DRIVER_FEATURE = 0x0c,
    COMMON_CONFIG_VECTOR = 0x10,
    COMMON_STATUS = 0x14,
    COMMON_QUEUE_SELECT = 0x16,
    COMMON_QUEUE_SIZE = 0x18,
    COMMON_QUEUE_VECTOR = 0x1a,
    COMMON_QUEUE_ENABLE = 0x1c,
    COMMON_QUEUE_NOTIFY_OFF = 0x1e,
    COMMON_QUEUE_DESC = 0x20,
    COMMON_QUEUE_DRIVER = 0x28,
    COMMON_QUEUE_DEVICE = 0x30,
    COMMON_SIZE = 0x38,
};

/* virtio 1.2, 4.1.4: kinds of structures, and the MSI-X table; the words of a
 * structure's capability */
enum { KIND_MSIX, KIND_COMMON, KIND_NOTIFY, KIND_ISR, KIND_DEVICE, NR_KINDS };
#define CAP_BAR 4
#define CAP_OFFSET 8
#define CAP_LENGTH 12
#define CAP_MULTIPLIER 16

struct layout {
    struct pci_place places[NR_KINDS];
    uint32_t multiplier;
    unsigned msix_cap; /* 0: none */
};

static const struct virtio_ops pci_ops;

static uint16_t read16(struct virtio_device *dev, unsigned offset)
{
    count_event(COUNT_DEVICE);
    return *(volatile uint16_t *)(dev->regs + offset);
}

static void write16(struct virtio_device *dev, unsigned offset, uint16_t v)
{
    count_event(COUNT_DEVICE);
    *(volatile uint16_t *)(dev->regs + offset) = v;
}

static void write32(struct virtio_device *dev, unsigned offset, uint32_t v)
{
    count_event(COUNT_DEVICE);
    *(volatile uint32_t *)(dev->regs + offset) = v;
}

static volatile uint8_t *status_of(struct virtio_device *dev)
{
    return (volatile uint8_t *)(dev->regs + COMMON_STATUS);
}

/* After power-on they are 0. */
static void forget_selectors(struct virtio_device *dev)
{
    dev->queue_selected = UNKNOWN;
    dev->offer_selected = dev->feature_selected = UNKNOWN;
}

/* ---- finding ---- */

bool virtio_pci_is_present(void)
{
    return pci_is_present();
}

const char *virtio_trouble(void)
{
    return pci_trouble();
}

static bool complain(const struct pci_function *fn, const char *what)
{
    pci_complain(fn, "virtio device: %s", what);
    return false;
}

/* The device ID of virtio 1.2, 5; 0: not virtio. */
static uint32_t virtio_id(struct pci_function *fn, struct pci_config *c)
{
    if (fn->vendor != VENDOR_VIRTIO || fn->device < DEVICE_TRANSITIONAL)
        return 0;
    if (fn->device >= DEVICE_MODERN)
        return fn->device - DEVICE_MODERN;
    return pci_config_read(c, CFG_SUBSYSTEM) >> 16;
}

static void read_layout(struct pci_config *c, struct layout *out)
{
    for (unsigned at = pci_cap_next(c, 0); at; at = pci_cap_next(c, at)) {
        uint32_t head = pci_config_read(c, at), kind = head >> 24;
        struct pci_place *p = &out->places[kind % NR_KINDS];

        if ((head & 0xff) == PCI_CAP_MSIX) {
            out->msix_cap = at;
            pci_msix_place(c, at, &out->places[KIND_MSIX]);
        }
        if ((head & 0xff) != PCI_CAP_VENDOR || at + CAP_MULTIPLIER > 0x100)
            continue;
        if (kind < KIND_COMMON || kind >= NR_KINDS || kind == KIND_ISR ||
            p->len)
            continue; /* the first of a kind is the one to use */
        p->bar = pci_config_read(c, at + CAP_BAR) & 0xff;
        p->offset = pci_config_read(c, at + CAP_OFFSET);
        p->len = pci_config_read(c, at + CAP_LENGTH);
        if (kind == KIND_NOTIFY && at + CAP_MULTIPLIER < 0x100)
            out->multiplier = pci_config_read(c, at + CAP_MULTIPLIER);
    }
}

/* The end of what lies in this BAR, so that it is mapped once; 0: more than
 * any device has. */
static uint64_t bar_extent(const struct layout *l, unsigned bar)
{
    uint64_t end = 0;

    for (unsigned i = 0; i < NR_KINDS; i++) {
        const struct pci_place *p = &l->places[i];
        if (p->len && p->bar == bar)
            end = MAX(end, (uint64_t)p->offset + p->len);
    }
    return end <= 64 * MIB ? end : 0;
}

static bool map_structures(struct pci_function *fn, const struct layout *l,
                           volatile char *at[NR_KINDS])
{
    volatile char *bars[PCI_NR_BARS] = {0};

    for (unsigned i = 0; i < NR_KINDS; i++) {
        const struct pci_place *p = &l->places[i];

        if (!p->len)
            continue;
        if (p->bar >= PCI_NR_BARS || !bar_extent(l, p->bar) || p->offset & 3)
            return complain(fn, "a structure lies at an impossible place");
        if (!bars[p->bar] &&
            pci_bar_map(fn, p->bar, bar_extent(l, p->bar), &bars[p->bar]) != 0)
            return false;
        at[i] = bars[p->bar] + p->offset;
    }
    return true;
}

static bool open_function(struct pci_config *c, struct virtio_device *dev)
{
    struct pci_function *fn = c->fn;
    struct layout l = {0};
    volatile char *at[NR_KINDS] = {0};

    read_layout(c, &l);
    if (l.places[KIND_COMMON].len < COMMON_SIZE || !l.places[KIND_NOTIFY].len)
        return complain(fn, "it has no modern interface (legacy only?); "
                            "virtio 1.0 or later is needed");
    if (!l.msix_cap)
        return complain(fn, "it has no MSI-X, and other interrupts are not "
                            "supported; QEMU: leave out vectors=0");
    if (!map_structures(fn, &l, at))
        return false;
    pci_msix_setup(c, l.msix_cap, at[KIND_MSIX]);
    pci_enable(fn);
    dev->ops = &pci_ops;
    dev->pci = fn;
    dev->regs = at[KIND_COMMON];
    dev->config = at[KIND_DEVICE];
    dev->notify = at[KIND_NOTIFY];
    dev->notify_len = l.places[KIND_NOTIFY].len;
    dev->notify_multiplier = l.multiplier;
    if (fn->by_firmware)
        forget_selectors(dev);
    return true;
}

bool virtio_pci_find(uint32_t id, unsigned skip, struct virtio_device *dev)
{
    struct pci_function *fn;
    struct pci_config c;

    for (unsigned i = 0; (fn = pci_function(i)); i++) {
        pci_config_begin(&c, fn);
        if (fn->is_unusable || virtio_id(fn, &c) != id)
            continue;
        if (skip) {
            skip--;
            continue;
        }
        *dev = (struct virtio_device){.id = id};
        if (open_function(&c, dev))
            return true;
        fn->is_unusable = true;
    }
    return false;
}

/* ---- operations ---- */

/* 4.1.4.3.2: the reset is over when the status reads 0. It also does when
 * nobody has used the device yet. */
static int pci_reset(struct virtio_device *dev)
{
    nsec_t end = clock_monotonic() + RESET_NS;

    if (*status_of(dev) == 0)
        return 0;
    *status_of(dev) = 0;
    forget_selectors(dev);
    while (*status_of(dev) != 0) {
        if (clock_monotonic() > end) {
            complain(dev->pci, "it does not finish a reset");
            return -EIO;
        }
        cpu_relax();
    }
    return 0;
}

static void select_in(struct virtio_device *dev, unsigned offset,
                      uint16_t *selected, uint16_t wanted)
{
    if (*selected == wanted)
        return;
    *selected = wanted;
    if (offset == COMMON_QUEUE_SELECT)
        write16(dev, offset, wanted);
    else
        write32(dev, offset, wanted);
}

static uint32_t pci_offered(struct virtio_device *dev)
{
    select_in(dev, COMMON_DEVICE_FEATURE_SELECT, &dev->offer_selected, 0);
    return *(volatile uint32_t *)(dev->regs + COMMON_DEVICE_FEATURE);
}

static void pci_accept(struct virtio_device *dev, uint32_t low)
{
    select_in(dev, COMMON_DRIVER_FEATURE_SELECT, &dev->feature_selected, 0);
    write32(dev, COMMON_DRIVER_FEATURE, low);
    select_in(dev, COMMON_DRIVER_FEATURE_SELECT, &dev->feature_selected, 1);
    write32(dev, COMMON_DRIVER_FEATURE, VIRTIO_FEATURE_VERSION_1_HIGH);
}

static void pci_set_status(struct virtio_device *dev, uint8_t status)
{
    *status_of(dev) = status;
}

static void select_queue(struct virtq *q)
{
    select_in(q->dev, COMMON_QUEUE_SELECT, &q->dev->queue_selected, q->index);
}

static void write_address(struct virtio_device *dev, unsigned offset, void *p)
{
    paddr_t pa = virt_to_phys(p);

    write32(dev, offset, (uint32_t)pa);
    if (pa >> 32) /* 0 after the reset */
        write32(dev, offset + 4, (uint32_t)(pa >> 32));
}

static int pci_queue_setup(struct virtq *q)
{
    struct virtio_device *dev = q->dev;
    uint64_t notify_at;
    uint16_t max;

    select_queue(q);
    max = read16(dev, COMMON_QUEUE_SIZE);
    if (max < q->size) {
        complain(dev->pci, max ? "a queue is too short for the driver"
                               : "a queue that the driver needs is missing");
        return -ENXIO;
    }
    notify_at =
        (uint64_t)read16(dev, COMMON_QUEUE_NOTIFY_OFF) * dev->notify_multiplier;
    if (notify_at + 2 > dev->notify_len) {
        complain(dev->pci, "a queue's notify address is out of its region");
        return -ENXIO;
    }
    q->notify_at = dev->notify + notify_at;
    if (max != q->size)
        write16(dev, COMMON_QUEUE_SIZE, q->size);
    write_address(dev, COMMON_QUEUE_DESC, q->desc);
    write_address(dev, COMMON_QUEUE_DRIVER, q->avail);
    write_address(dev, COMMON_QUEUE_DEVICE, q->used);
    write16(dev, COMMON_QUEUE_ENABLE, 1);
    return 0;
}

static void pci_notify(struct virtq *q)
{
    count_event(COUNT_DEVICE);
    *(volatile uint16_t *)q->notify_at = q->index;
}

/* The device says with NO_VECTOR that it has no room (4.1.5.1.2.1). */
static int set_vector(struct virtio_device *dev, unsigned offset, int vector)
{
    write16(dev, offset, (uint16_t)vector);
    return read16(dev, offset) == NO_VECTOR ? -ENOSPC : 0;
}

/* A queue for which the table has no entry left shares that of the first. An
 * interrupt that comes before it is in the chain is lost, as one before the
 * call is; callers look at the ring afterwards. */
static int pci_queue_irq(struct virtq *q, unsigned cpu)
{
    struct virtio_device *dev = q->dev;
    struct virtq *first = dev->irq_queues;
    int err, n = pci_msix_add(dev->pci, virtq_interrupt_chain, q, cpu);
    bool is_shared = n < 0 && first;

    if (is_shared)
        n = first->vector;
    if (n < 0)
        return n;
    select_queue(q);
    err = set_vector(dev, COMMON_QUEUE_VECTOR, n);
    if (err)
        return err;
    q->vector = (uint16_t)n;
    if (is_shared)
        virtq_share_interrupt(first, q);
    else if (!first)
        dev->irq_queues = q;
    return 0;
}

static void config_interrupt(void *arg)
{
    struct virtio_device *dev = arg;

    atomic_load_acquire (&dev->config_changed)(dev);
}

static int pci_config_irq(struct virtio_device *dev)
{
    int n = pci_msix_add(dev->pci, config_interrupt, dev, this_cpu()->id);

    return n < 0 ? n : set_vector(dev, COMMON_CONFIG_VECTOR, n);
}

static const struct virtio_ops pci_ops = {
    .reset = pci_reset,
    .offered = pci_offered,
    .accept = pci_accept,
    .set_status = pci_set_status,
    .queue_setup = pci_queue_setup,
    .notify = pci_notify,
    .queue_irq = pci_queue_irq,
    .config_irq = pci_config_irq,
};
