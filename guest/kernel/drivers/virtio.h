/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * virtio, modern (virtio 1.2): devices and split queues, what the drivers
 * share. The transport is virtio_mmio.c or virtio_pci.c; drivers see neither.
 *
 * - A register access is an exit to the host of 65,000 cycles and more, so
 *   nothing is read that is not needed, interrupts are hooked on the first
 *   sleep, queues are set up on first use (QEMU accepts that after DRIVER_OK).
 * - Buffers are kernel memory in the direct map: physically contiguous, so one
 *   descriptor each. There are no indirect descriptors.
 * - A queue here is a plain structure; the driver owns its descriptors and
 *   serialises its use with a lock of its own. Everything that touches a
 *   device's registers but notifications is called under one lock of its
 *   driver (device registers have selectors).
 * - Notifications both ways use VIRTIO_F_EVENT_IDX when the device has it.
 * - On PCI each queue has an MSI-X vector of its own, on a CPU of the driver's
 *   choice; on MMIO all queues of a device share one line to the first CPU.
 */
#pragma once

#include "lib/atomic.h"
#include "lib/types.h"

#define VIRTIO_ID_BLOCK 2
#define VIRTIO_ID_CONSOLE 3
#define VIRTIO_ID_RNG 4

#define VIRTQ_DESC_NEXT 1
#define VIRTQ_DESC_WRITE 2 /* the device writes */
#define VIRTQ_MAX_SIZE 128 /* all three parts fit into one page */
#define VIRTQ_ANY_CPU ~0u

/* virtio 1.2, 2.1 */
#define VIRTIO_STATUS_ACKNOWLEDGE 1
#define VIRTIO_STATUS_DRIVER 2
#define VIRTIO_STATUS_DRIVER_OK 4
#define VIRTIO_STATUS_FEATURES_OK 8
#define VIRTIO_FEATURE_VERSION_1_HIGH 1u /* bit 32 */

struct virtq_desc_wire {
    uint64_t addr;
    uint32_t len;
    uint16_t flags;
    uint16_t next;
};

struct virtq_avail_wire {
    uint16_t flags;
    uint16_t idx;
    uint16_t ring[];
};

struct virtq_used_wire {
    uint16_t flags;
    uint16_t idx;
    struct {
        uint32_t id;
        uint32_t len;
    } ring[];
};

_Static_assert(sizeof(struct virtq_desc_wire) == 16, "virtio 1.2, 2.7.5");

struct pci_function;
struct virtio_device;

struct virtq {
    /* --- set once by virtq_setup --- */
    struct virtio_device *dev;
    uint16_t index, size; /* size: a power of two, 0 = not set up */
    struct virtq_desc_wire *desc;
    struct virtq_avail_wire *avail;
    struct virtq_used_wire *used;
    volatile char *notify_at; /* where the device hears of new buffers */
    /* --- set once by virtq_irq_enable --- */
    bool has_irq;
    uint16_t vector;                    /* PCI: entry of the MSI-X table */
    void (*interrupt)(struct virtq *q); /* interrupts off */
    struct virtq *irq_next; /* atomic: one that shares our interrupt */
    /* --- protected by the driver's lock --- */
    uint16_t avail_idx; /* ours; avail->idx is the published copy */
    uint16_t last_used; /* used entries taken so far */
};

/* What differs between the transports. Errors are -errno; what the user must
 * know has been printed. */
struct virtio_ops {
    /* Returns when the device is reset; -EIO: it does not answer. */
    int (*reset)(struct virtio_device *dev);
    uint32_t (*offered)(struct virtio_device *dev); /* features, low word */
    void (*accept)(struct virtio_device *dev, uint32_t low); /* + VERSION_1 */
    void (*set_status)(struct virtio_device *dev, uint8_t status);
    /* Tells the device where the parts of q are; sets notify_at. */
    int (*queue_setup)(struct virtq *q);
    void (*notify)(struct virtq *q);
    int (*queue_irq)(struct virtq *q, unsigned cpu);
    int (*config_irq)(struct virtio_device *dev);
};

struct virtio_device {
    /* --- set once, by the transport --- */
    const struct virtio_ops *ops;
    uint32_t id;
    volatile char *regs;   /* MMIO: all registers; PCI: common ones */
    volatile char *config; /* of the kind of device */
    uint32_t irq;          /* MMIO: pin of the IOAPIC */
    struct pci_function *pci;
    volatile char *notify; /* PCI: queue q at q's offset * multiplier */
    uint32_t notify_len, notify_multiplier;
    /* --- protected by the driver's lock --- */
    uint32_t features; /* the negotiated low word */
    uint8_t status;
    bool ready;              /* DRIVER_OK was written */
    uint16_t queue_selected; /* PCI: what the selectors hold, ~0: unknown */
    uint16_t offer_selected, feature_selected;
    bool has_line;            /* MMIO: the interrupt line is hooked */
    struct virtq *irq_queues; /* atomic: the first with an interrupt */
    /* Atomic, interrupts off; NULL: not wanted. */
    void (*config_changed)(struct virtio_device *dev);
};

/* virtio.c */
/* Device n (from 0, without gaps: 0 first, then 1) with this ID or NULL; valid
 * after virtio_init(). Sleeps. */
struct virtio_device *virtio_find(uint32_t id, unsigned n);
/* Resets the device and negotiates the features it offers of `wanted` (low
 * word; VERSION_1 and EVENT_IDX are added). Then virtio_start(). */
int virtio_negotiate(struct virtio_device *dev, uint32_t wanted);
void virtio_start(struct virtio_device *dev);
/* Stops the device: it forgets all buffers. */
void virtio_reset(struct virtio_device *dev);
/* A word of the device's configuration; 0 when it has none. */
uint32_t virtio_config32(struct virtio_device *dev, unsigned offset);
/* Half a word. A device may have no bytes behind its last field, and answers a
 * wider access there with nonsense (virtio 1.2, 4.1.3.1). */
uint16_t virtio_config16(struct virtio_device *dev, unsigned offset);
/* `changed` is called when the device has changed its configuration. */
int virtio_config_irq_enable(struct virtio_device *dev,
                             void (*changed)(struct virtio_device *dev));

int virtq_setup(struct virtio_device *dev, struct virtq *q, unsigned index,
                unsigned size);
/* From now on `interrupt` is called for q's interrupts, on MMIO also for those
 * of other queues; nothing else to do when it was before. What was used up to
 * now raises none: look at the ring afterwards. */
int virtq_irq_enable(struct virtq *q, void (*interrupt)(struct virtq *q),
                     unsigned cpu);
/* Makes `n` more avail entries visible (already in avail->ring) and tells the
 * device when it asked to be told. */
void virtq_publish(struct virtq *q, unsigned n);
/* Asks for an interrupt once `after` more entries beyond last_used are used
 * (after >= 1), or for none. Returns true when that many are there already. */
bool virtq_interrupt_after(struct virtq *q, unsigned after);
void virtq_interrupt_off(struct virtq *q);

static inline uint16_t virtq_nr_used(struct virtq *q)
{
    return (uint16_t)(atomic_load_acquire(&q->used->idx) - q->last_used);
}

/* For the transports: a chain of queues that share an interrupt. Calls them
 * all; `first` is a struct virtq. */
void virtq_interrupt_chain(void *first);
void virtq_share_interrupt(struct virtq *first, struct virtq *q);

/* virtio_mmio.c: the `nr`th device, NULL past the last one. */
struct virtio_device *virtio_mmio_device(unsigned nr);

/* virtio_pci.c */
bool virtio_pci_is_present(void);
/* Makes *dev the usable device with this ID after `skip` others; false: none.
 */
bool virtio_pci_find(uint32_t id, unsigned skip, struct virtio_device *dev);

/* The drivers' locks, made by virtio_init(); no register is touched. */
void virtio_blk_init(void);
void virtio_console_init(void);

/* virtio_rng.c */
/* Fills buf from the host's generator; -ENODEV, -EIO. Sleeps. */
int virtio_rng_read(void *buf, size_t n);
