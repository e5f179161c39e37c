/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The image: a virtio block device, read-only.
 *
 * - A request owns a slot: three fixed descriptors (header, data, status) and
 *   a header in the shared page. Slots are a bit mask.
 * - A requester first polls the used ring (an interrupt costs 130,000 cycles,
 *   a read from the host's page cache about as much), then sleeps on
 *   `wait`. Whoever sees used entries takes them all, under `lock`, and wakes
 *   sleepers: requesters while polling, and the interrupt handler.
 * - Interrupts are asked for only while somebody sleeps (nr_sleepers).
 * - A request that takes 30 s is lost: the device is reset, so that it
 *   cannot write to the buffer any more, and everything fails with -EIO.
 *
 * Wake protocol: done is set under lock, then wait_wake; a sleeper counts
 * itself in nr_sleepers under lock, then re-checks done after wait_prepare.
 */
#include "arch/arch.h"
#include "drivers/drivers.h"
#include "drivers/virtio.h"
#include "lib/errno.h"
#include "lib/lock.h"
#include "lib/printk.h"
#include "lib/string.h"
#include "mm/page.h"
#include "sched/mutex.h"
#include "sched/thread.h"

#define SECTOR 512u
#define NR_SLOTS 32u
#define QUEUE_SIZE 128u
#define MAX_REQUEST (1 * MIB)
#define POLL_NS 400000l
#define TIMEOUT_NS (30 * NSEC_PER_SEC)
#define BLK_IN 0 /* VIRTIO_BLK_T_IN */
#define STATUS_NOT_DONE 0xff

struct blk_slot {
    struct {
        uint32_t type, reserved;
        uint64_t sector;
    } header; /* read by the device */
    uint8_t status; /* written by the device; 0 = OK */
    uint8_t done;   /* atomic */
    uint8_t pad[46];
};

static struct {
    /* --- set once --- */
    struct mutex init_lock;
    struct virtio_device *dev;
    struct blk_slot *slots; /* one page */
    uint64_t size_bytes;
    bool has_size;
    /* --- protected by lock --- */
    struct spinlock lock; /* irq-safe */
    struct virtq queue;
    uint32_t free_slots;
    uint32_t nr_sleepers;
    bool is_dead;
    struct waitq wait;      /* for a request */
    struct waitq slot_wait; /* for a free slot */
} blk;

/* REQUIRES(blk.lock). Returns whether anything was finished. */
static bool blk_reap_locked(void)
{
    struct virtq *q = &blk.queue;
    uint16_t n = virtq_nr_used(q);

    for (uint16_t i = 0; i < n; i++) {
        uint32_t id = q->used->ring[q->last_used % q->size].id / 3;

        q->last_used++;
        if (id < NR_SLOTS)
            atomic_store_release(&blk.slots[id].done, (uint8_t)1);
    }
    return n != 0;
}

static void blk_interrupt(struct virtq *q)
{
    bool on = spin_lock_irqsave(&blk.lock);

    do {
        blk_reap_locked();
    } while (blk.nr_sleepers && virtq_interrupt_after(q, 1));
    spin_unlock_irqrestore(&blk.lock, on);
    wait_wake(&blk.wait, 1000);
}

void virtio_blk_init(void)
{
    mutex_init(&blk.init_lock);
    waitq_init(&blk.wait);
    waitq_init(&blk.slot_wait);
}

static int blk_start(struct virtio_device *dev)
{
    struct page *p = page_alloc(0, PAGE_ZERO);
    int err;

    if (!p)
        return -ENOMEM;
    blk.slots = page_to_virt(p);
    err = virtio_negotiate(dev, 0);
    if (!err)
        err = virtq_setup(dev, &blk.queue, 0, QUEUE_SIZE);
    if (err) {
        page_put(p);
        return err;
    }
    virtio_start(dev);
    blk.free_slots = ~0u;
    for (unsigned i = 0; i < NR_SLOTS; i++) {
        struct virtq_desc_wire *d = &blk.queue.desc[3 * i];
        struct blk_slot *s = &blk.slots[i];

        d[0].addr = virt_to_phys(&s->header);
        d[0].len = sizeof(s->header);
        d[0].flags = VIRTQ_DESC_NEXT;
        d[0].next = (uint16_t)(3 * i + 1);
        d[1].flags = VIRTQ_DESC_NEXT | VIRTQ_DESC_WRITE;
        d[1].next = (uint16_t)(3 * i + 2);
        d[2].addr = virt_to_phys(&s->status);
        d[2].len = 1;
        d[2].flags = VIRTQ_DESC_WRITE;
    }
    atomic_store_release(&blk.dev, dev);
    return 0;
}

/* The device, started on first use; NULL when there is none. */
static struct virtio_device *blk_device(void)
{
    struct virtio_device *dev = atomic_load_acquire(&blk.dev);

    if (dev)
        return dev;
    mutex_lock(&blk.init_lock);
    dev = virtio_find(VIRTIO_ID_BLOCK, 0);
    if (dev && !blk.dev && blk_start(dev) != 0)
        dev = NULL;
    mutex_unlock(&blk.init_lock);
    return dev;
}

uint64_t block_size_bytes(void)
{
    struct virtio_device *dev = blk_device();
    uint64_t low;

    if (!dev)
        return 0;
    if (!atomic_load_acquire(&blk.has_size)) {
        low = virtio_config32(dev, 0);
        blk.size_bytes = (low | (uint64_t)virtio_config32(dev, 4) << 32) *
                         SECTOR;
        atomic_store_release(&blk.has_size, true);
    }
    return blk.size_bytes;
}

/* Returns the slot number or -EAGAIN, -EIO. */
static int blk_take_slot(void)
{
    bool on = spin_lock_irqsave(&blk.lock);
    int slot = -EAGAIN;

    if (blk.is_dead) {
        slot = -EIO;
    } else if (blk.free_slots) {
        slot = __builtin_ctz(blk.free_slots);
        blk.free_slots &= ~(1u << slot);
    }
    spin_unlock_irqrestore(&blk.lock, on);
    return slot;
}

static bool blk_has_slot(void)
{
    return atomic_load_relaxed(&blk.free_slots) != 0 ||
           atomic_load_relaxed(&blk.is_dead);
}

static void blk_give_slot(unsigned slot)
{
    bool on = spin_lock_irqsave(&blk.lock);
    bool was_empty = blk.free_slots == 0;

    blk.free_slots |= 1u << slot;
    spin_unlock_irqrestore(&blk.lock, on);
    if (was_empty)
        wait_wake(&blk.slot_wait, 1);
}

static void blk_submit(unsigned slot, uint64_t offset, void *buf, size_t len)
{
    struct blk_slot *s = &blk.slots[slot];
    struct virtq *q = &blk.queue;
    bool on;

    s->header.type = BLK_IN;
    s->header.reserved = 0;
    s->header.sector = offset / SECTOR;
    s->status = STATUS_NOT_DONE;
    s->done = 0;
    q->desc[3 * slot + 1].addr = virt_to_phys(buf);
    q->desc[3 * slot + 1].len = (uint32_t)len;
    on = spin_lock_irqsave(&blk.lock);
    q->avail->ring[q->avail_idx % q->size] = (uint16_t)(3 * slot);
    virtq_publish(q, 1);
    spin_unlock_irqrestore(&blk.lock, on);
}

static bool blk_is_done(struct blk_slot *s)
{
    return atomic_load_acquire(&s->done) != 0;
}

static bool blk_poll(struct blk_slot *s)
{
    nsec_t end = clock_monotonic() + POLL_NS;

    for (unsigned spins = 0; !blk_is_done(s); spins++) {
        if (virtq_nr_used(&blk.queue)) {
            bool on = spin_lock_irqsave(&blk.lock);
            bool any = blk_reap_locked();
            bool wake = any && blk.nr_sleepers;

            spin_unlock_irqrestore(&blk.lock, on);
            if (wake)
                wait_wake(&blk.wait, 1000);
            continue;
        }
        if (spins % 16 == 15 && clock_monotonic() > end)
            return false;
        cpu_relax();
    }
    return true;
}

static int blk_sleep(struct blk_slot *s)
{
    nsec_t deadline = clock_monotonic() + TIMEOUT_NS;
    bool on;
    int err;

    mutex_lock(&blk.init_lock);
    err = virtq_irq_enable(&blk.queue, blk_interrupt, VIRTQ_ANY_CPU);
    mutex_unlock(&blk.init_lock);
    if (err) /* no interrupts: poll to the end */
        return blk_poll(s) || blk_poll(s) ? 0 : -ETIMEDOUT;
    on = spin_lock_irqsave(&blk.lock);
    blk.nr_sleepers++;
    while (virtq_interrupt_after(&blk.queue, 1))
        blk_reap_locked();
    spin_unlock_irqrestore(&blk.lock, on);
    /* What was reaped just now may be another sleeper's. */
    wait_wake(&blk.wait, 1000);
    err = wait_event(&blk.wait, blk_is_done(s), 0, deadline);
    on = spin_lock_irqsave(&blk.lock);
    if (--blk.nr_sleepers == 0)
        virtq_interrupt_off(&blk.queue);
    spin_unlock_irqrestore(&blk.lock, on);
    return err;
}

static void blk_die(void)
{
    bool on;

    klog(LOG_ERROR, "virtio-blk: a request got no answer in 30 s");
    on = spin_lock_irqsave(&blk.lock);
    if (!blk.is_dead)
        virtio_reset(blk.dev);
    blk.is_dead = true;
    spin_unlock_irqrestore(&blk.lock, on);
}

static int blk_read_one(uint64_t offset, void *buf, size_t len)
{
    struct blk_slot *s;
    nsec_t deadline = clock_monotonic() + TIMEOUT_NS;
    int slot, err = 0;

    while ((slot = blk_take_slot()) == -EAGAIN && err == 0)
        err = wait_event(&blk.slot_wait, blk_has_slot(), 0, deadline);
    if (slot < 0)
        return -EIO;
    s = &blk.slots[slot];
    blk_submit((unsigned)slot, offset, buf, len);
    if (!blk_poll(s))
        err = blk_sleep(s);
    if (err && !blk_is_done(s)) {
        blk_die();
        return -EIO; /* the slot stays taken: the device is dead */
    }
    err = atomic_load_acquire(&s->status) ? -EIO : 0;
    blk_give_slot((unsigned)slot);
    if (err)
        klog(LOG_ERROR, "virtio-blk: read error at %llu",
             (unsigned long long)offset);
    return err;
}

int block_read(uint64_t offset, void *buf, size_t len)
{
    char *p = buf;

    if (!blk_device())
        return -ENODEV;
    if ((offset | len) % SECTOR)
        return -EINVAL;
    while (len) {
        size_t n = MIN(len, MAX_REQUEST);
        int err = blk_read_one(offset, p, n);

        if (err)
            return err;
        offset += n;
        p += n;
        len -= n;
    }
    return 0;
}
