/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * virtio network device: receiving (virtio 1.2, 5.1.6.4); see virtio_net.h.
 *
 * - Descriptor n of the receive ring always belongs to frame rx_frames[n]: a
 *   buffer is the data part of a small frame. Who takes a frame puts a new one
 *   in its place first; without memory the packet is dropped and its frame
 *   used again, so the ring never runs dry.
 * - A packet in one buffer is passed on as it is. Of one in several (the host
 *   joined segments), the headers are copied to a frame of their own and the
 *   buffers become its fragments: a full small frame has no room for a list.
 */
#include "arch/arch.h"
#include "drivers/virtio_net_internal.h"
#include "lib/string.h"

void vnet_rx_give_locked(struct vnet *v, uint16_t id, struct frame *f)
{
    struct virtq *q = &v->rx;
    uint16_t at = (uint16_t)(q->avail_idx + v->rx_returned++);

    f->data = (uint8_t *)(f + 1);
    f->len = 0;
    v->rx_frames[id] = f;
    q->desc[id].addr = virt_to_phys(f->data);
    q->desc[id].len = vnet_rx_room();
    q->desc[id].flags = VIRTQ_DESC_WRITE;
    q->avail->ring[at % q->size] = id;
}

void vnet_rx_publish_locked(struct vnet *v)
{
    if (v->rx_returned)
        virtq_publish(&v->rx, v->rx_returned);
    v->rx_returned = 0;
}

/* The next used buffer as a frame with its bytes; NULL: no memory for another
 * in its place, or the ring is broken: its bytes are lost. REQUIRES(rx_lock) */
static struct frame *rx_take_locked(struct vnet *v)
{
    struct virtq *q = &v->rx;
    uint16_t at = (uint16_t)(q->last_used++ % q->size);
    uint32_t id = q->used->ring[at].id, len = q->used->ring[at].len;
    struct frame *f, *fresh;

    if (id >= q->size || !v->rx_frames[id] || len > vnet_rx_room()) {
        vnet_break(v, "the device returned a buffer it did not have");
        return NULL;
    }
    f = v->rx_frames[id];
    fresh = frame_alloc(v->nif.net, FRAME_SMALL, 0, FRAME_FOR_CONTROL);
    vnet_rx_give_locked(v, (uint16_t)id, fresh ? fresh : f);
    if (!fresh) {
        vnet_count(&v->counts.rx_no_memory);
        return NULL;
    }
    f->len = len;
    return f;
}

/* Takes first. The packet of `first` and n - 1 more buffers; NULL: dropped. */
static struct frame *rx_join_locked(struct vnet *v, struct frame *first,
                                    uint32_t n)
{
    struct frame *head = NULL, *g = first;
    bool ok;

    if (first)
        head = frame_alloc(v->nif.net, FRAME_SMALL, 0, FRAME_FOR_CONTROL);
    ok = head != NULL;
    if (ok) {
        uint32_t k = MIN(HEAD_BYTES, first->len);

        memcpy(frame_append(head, k), first->data, k);
        first->data += k;
        first->len -= k;
    }
    for (uint32_t i = 0; i < n; i++) {
        if (i)
            g = rx_take_locked(v);
        ok = ok && g && (!g->len || frame_add_frag(head, g, g->data, g->len));
        if (g)
            frame_put(g);
    }
    if (!ok && head)
        frame_put(head);
    return ok ? head : NULL;
}

/* The next packet; NULL: it was dropped. `h`: its header. Sets *is_whole to
 * false when the device has not returned all of it yet. REQUIRES(rx_lock) */
static struct frame *rx_packet_locked(struct vnet *v, uint16_t nr_used,
                                      struct vnet_header_wire *h,
                                      bool *is_whole)
{
    struct virtq *q = &v->rx;
    uint32_t id = q->used->ring[q->last_used % q->size].id;
    struct frame *f;

    *is_whole = true;
    if (id >= q->size || !v->rx_frames[id])
        return rx_take_locked(v);
    memcpy(h, v->rx_frames[id]->data, sizeof(*h));
    if (!(v->dev->features & FEATURE_MRG_RXBUF))
        h->num_buffers = 1;
    if (h->num_buffers > q->size) {
        vnet_break(v, "a packet in more buffers than there are");
        return NULL;
    }
    if (h->num_buffers > nr_used) {
        *is_whole = false;
        return NULL;
    }
    f = rx_take_locked(v);
    if (f && (f->len < sizeof(*h) || !h->num_buffers)) {
        vnet_count(&v->counts.rx_bad);
        frame_put(f);
        return NULL;
    }
    if (f)
        frame_trim_head(f, sizeof(*h));
    return h->num_buffers > 1 ? rx_join_locked(v, f, h->num_buffers) : f;
}

static void rx_pass_on(struct vnet *v, struct frame *f,
                       const struct vnet_header_wire *h)
{
    if (h->flags & (HDR_NEEDS_CSUM | HDR_DATA_VALID))
        f->flags |= FRAME_CSUM_OK;
    if (h->gso_type != HDR_GSO_NONE)
        f->gso_size = h->gso_size;
    net_classify(&v->nif, f);
}

static void rx_irq_off_locked(struct vnet *v)
{
    if (!atomic_load_relaxed(&v->irq_is_on))
        return;
    atomic_store_relaxed(&v->irq_is_on, false);
    virtq_interrupt_off(&v->rx);
}

bool virtio_net_has_frames(void)
{
    struct vnet *v = atomic_load_acquire(&vnet);

    return v && virtq_nr_used(&v->rx) && !atomic_load_relaxed(&v->is_broken);
}

bool virtio_net_poll(void)
{
    struct vnet *v = atomic_load_acquire(&vnet);
    uint32_t budget = VIRTIO_NET_BUDGET;
    uint16_t n;
    bool on;

    if (!virtio_net_has_frames())
        return false;
    on = irq_save();
    if (!spin_trylock(&v->rx_lock)) { /* the holder looks again */
        irq_restore(on);
        return false;
    }
    vnet_count(&v->counts.polls);
    while (budget-- && (n = virtq_nr_used(&v->rx)) != 0 &&
           !atomic_load_relaxed(&v->is_broken)) {
        struct vnet_header_wire h;
        bool is_whole;
        struct frame *f = rx_packet_locked(v, n, &h, &is_whole);

        if (!is_whole)
            break;
        if (f)
            rx_pass_on(v, f, &h);
    }
    vnet_rx_publish_locked(v);
    rx_irq_off_locked(v); /* it has interrupted, or will for these */
    spin_unlock(&v->rx_lock);
    irq_restore(on);
    return virtio_net_has_frames();
}

bool virtio_net_irq_on(void)
{
    struct vnet *v = atomic_load_acquire(&vnet);
    bool on, is_late;

    if (!v || atomic_load_relaxed(&v->is_broken))
        return false;
    on = spin_lock_irqsave(&v->rx_lock);
    atomic_store_relaxed(&v->irq_is_on, true);
    is_late = virtq_interrupt_after(&v->rx, 1);
    spin_unlock_irqrestore(&v->rx_lock, on);
    return is_late;
}

void virtio_net_irq_off(void)
{
    struct vnet *v = atomic_load_acquire(&vnet);
    bool on;

    if (!v || !atomic_load_relaxed(&v->irq_is_on))
        return;
    on = spin_lock_irqsave(&v->rx_lock);
    rx_irq_off_locked(v);
    spin_unlock_irqrestore(&v->rx_lock, on);
}

bool virtio_net_is_polled(void)
{
    struct vnet *v = atomic_load_acquire(&vnet);

    return v && !atomic_load_relaxed(&v->irq_is_on) &&
           !atomic_load_relaxed(&v->is_broken);
}

void vnet_rx_interrupt(struct virtq *q)
{
    struct vnet *v = container_of(q, struct vnet, rx);

    if (!virtq_nr_used(q)) /* the line is shared, or a poll was quicker */
        return;
    vnet_count(&v->counts.interrupts);
    v->interrupted();
}
