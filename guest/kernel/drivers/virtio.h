/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * virtio over MMIO, modern (virtio 1.2, 4.2): what the drivers share.
 *
 * - A register access is an exit to the host of 65,000 cycles and more, so
 *   nothing is read that is not needed, interrupts are hooked on the first
 *   sleep, queues are set up on first use (QEMU accepts that after DRIVER_OK).
 * - Buffers are kernel memory in the direct map: physically contiguous, so one
 *   descriptor each. There are no indirect descriptors.
 * - A queue here is a plain structure; the driver owns its descriptors and
 *   serialises its use with a lock of its own.
 * - Notifications both ways use VIRTIO_F_EVENT_IDX when the device has it.
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

struct virtio_device;

struct virtq {
    /* --- set once by virtq_setup --- */
    struct virtio_device *dev;
    uint16_t index, size; /* size: a power of two, 0 = not set up */
    struct virtq_desc_wire *desc;
    struct virtq_avail_wire *avail;
    struct virtq_used_wire *used;
    /* --- protected by the driver's lock --- */
    uint16_t avail_idx; /* ours; avail->idx is the published copy */
    uint16_t last_used; /* used entries taken so far */
};

struct virtio_device {
    volatile uint32_t *regs;
    uint32_t irq;
    uint32_t id;
    uint32_t features; /* the negotiated low word */
    bool ready;        /* DRIVER_OK was written */
    bool has_irq;      /* handler registered */
    uint8_t status;
    void (*interrupt)(struct virtio_device *dev); /* interrupts off */
};

/* virtio.c */
/* The first device with this ID or NULL; valid after virtio_init(). */
struct virtio_device *virtio_find(uint32_t id);
/* Resets the device and negotiates the features it offers of `wanted` (low
 * word; VERSION_1 and EVENT_IDX are added). Then virtio_start(). */
int virtio_negotiate(struct virtio_device *dev, uint32_t wanted);
void virtio_start(struct virtio_device *dev);
/* Stops the device: it forgets all buffers. */
void virtio_reset(struct virtio_device *dev);
uint32_t virtio_config32(struct virtio_device *dev, unsigned offset);
/* Hooks dev->interrupt once; cheap afterwards. */
int virtio_irq_enable(struct virtio_device *dev);

int virtq_setup(struct virtio_device *dev, struct virtq *q, unsigned index,
                unsigned size);
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

/* The drivers' locks, made by virtio_init(); no register is touched. */
void virtio_blk_init(void);
void virtio_console_init(void);

/* virtio_rng.c */
/* Fills buf from the host's generator; -ENODEV, -EIO. Sleeps. */
int virtio_rng_read(void *buf, size_t n);
