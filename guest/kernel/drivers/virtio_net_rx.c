/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * virtio network device: receiving (virtio 1.2, 5.1.6.4); see virtio_net.h.
 *
 * - Descriptor n of the receive ring always belongs to frame rx_frames[n]: a
 *   buffer is the data part of a frame. Who takes a frame puts a new one in
 *   its place first; without memory the packet is dropped and its frame used
 *   again, so the ring never runs dry. Few buffers are there at the start
 *   (touching memory costs exits); the first packets bring the rest.
 * - Buffers are small frames while packets are small. The host joins segments
 *   of bulk data to packets of 64 KiB; when such come, frames that are put
 *   into the ring are large, or a few packets would empty it and each buffer
 *   costs QEMU and us as much as its bytes. A short packet in a large buffer
 *   is copied, so memory is held for what was received.
 * - A packet in one buffer is passed on as it is. Of one in several, the
 *   headers are copied to a frame of their own and the buffers become its
 *   fragments: a full small frame has no room for a list.
 */
#include "arch/arch.h"
#include "drivers/virtio_net_internal.h"
#include "lib/printk.h"
#include "lib/string.h"

#define BIG_STEP 16u   /* a joined packet counts as many short ones */
#define BIG_ENOUGH 64u /* then buffers are large */
#define BIG_MAX 256u
#define LARGE_MEMORY (16ul * MIB) /* a stack with less has no large buffers */

void vnet_rx_give_locked(struct vnet_pair *p, uint16_t id, struct frame *f)
{
    struct virtq *q = &p->rx;
    uint16_t at = (uint16_t)(q->avail_idx + p->rx_returned++);

    f->data = (uint8_t *)(f + 1);
    f->len = 0;
    p->rx_frames[id] = f;
    q->desc[id].addr = virt_to_phys(f->data);
    q->desc[id].len = frame_room(f->frame_class, 0);
    q->desc[id].flags = VIRTQ_DESC_WRITE;
    q->avail->ring[at % q->size] = id;
}

void vnet_rx_publish_locked(struct vnet_pair *p)
{
    if (p->rx_returned)
        virtq_publish(&p->rx, p->rx_returned);
    p->rx_returned = 0;
}

static bool wants_large(struct vnet_pair *p)
{
    struct netstack *net = p->v->nif.net;

    return p->rx_big >= BIG_ENOUGH && net->mem_max >= LARGE_MEMORY &&
           atomic_load_relaxed(&net->mem_used) < net->mem_max / 2;
}

static struct frame *new_buffer(struct vnet_pair *p)
{
    struct netstack *net = p->v->nif.net;
    struct frame *f = NULL;

    if (wants_large(p))
        f = frame_alloc(net, FRAME_LARGE, 0, FRAME_FOR_RECEIVE);
    return f ? f : frame_alloc(net, FRAME_SMALL, 0, FRAME_FOR_RECEIVE);
}

unsigned vnet_rx_fill_locked(struct vnet_pair *p, unsigned n)
{
    struct frame *f;

    for (; n && p->nr_rx < p->rx.size && (f = new_buffer(p)); n--)
        vnet_rx_give_locked(p, p->nr_rx++, f);
    return p->nr_rx;
}

/* A copy of what f holds, for which f would be too large; NULL: it is not. */
static struct frame *rx_copy(struct vnet_pair *p, struct frame *f,
                             uint32_t len)
{
    struct frame *copy;

    if (f->frame_class == FRAME_SMALL || len > frame_room(FRAME_SMALL, 0))
        return NULL;
    copy = frame_alloc(p->v->nif.net, FRAME_SMALL, 0, FRAME_FOR_RECEIVE);
    if (copy)
        memcpy(frame_append(copy, len), f->data, len);
    return copy;
}

/* The next used buffer as a frame with its bytes; NULL: no memory for another
 * in its place, or the ring is broken: its bytes are lost. REQUIRES(rx_lock) */
static struct frame *rx_take_locked(struct vnet_pair *p)
{
    struct virtq *q = &p->rx;
    uint16_t at = (uint16_t)(q->last_used++ % q->size);
    uint32_t id = q->used->ring[at].id, len = q->used->ring[at].len;
    struct frame *f, *copy, *fresh;

    if (id >= q->size || !p->rx_frames[id] ||
        len > frame_room(p->rx_frames[id]->frame_class, 0)) {
        vnet_break(p->v, "the device returned a buffer it did not have");
        return NULL;
    }
    f = p->rx_frames[id];
    copy = rx_copy(p, f, len);
    fresh = copy && wants_large(p) ? NULL : new_buffer(p);
    vnet_rx_give_locked(p, (uint16_t)id, fresh ? fresh : f);
    if (copy) {
        if (fresh)
            frame_put(f);
        return copy;
    }
    if (!fresh) {
        vnet_count(&p->counts.rx_no_memory);
        return NULL;
    }
    f->len = len;
    return f;
}

/* Takes first. The packet of `first` and n - 1 more buffers; NULL: dropped. */
static struct frame *rx_join_locked(struct vnet_pair *p, struct frame *first,
                                    uint32_t n)
{
    struct frame *head = NULL, *g = first;
    bool ok;

    if (first)
        head = frame_alloc(p->v->nif.net, FRAME_SMALL, 0, FRAME_FOR_RECEIVE);
    ok = head != NULL;
    if (ok) {
        uint32_t k = MIN(HEAD_BYTES, first->len);

        memcpy(frame_append(head, k), first->data, k);
        first->data += k;
        first->len -= k;
    }
    for (uint32_t i = 0; i < n; i++) {
        if (i)
            g = rx_take_locked(p);
        ok = ok && g && (!g->len || frame_add_frag(head, g, g->data, g->len));
        if (g)
            frame_put(g);
    }
    if (!ok && head)
        frame_put(head);
    return ok ? head : NULL;
}

static void note_size(struct vnet_pair *p, bool is_big)
{
    if (is_big)
        p->rx_big = MIN(p->rx_big + BIG_STEP, BIG_MAX);
    else if (p->rx_big)
        p->rx_big--;
}

/* The next packet; NULL: it was dropped. `h`: its header. Sets *is_whole to
 * false when the device has not returned all of it yet. REQUIRES(rx_lock) */
static struct frame *rx_packet_locked(struct vnet_pair *p, uint16_t nr_used,
                                      struct vnet_header_wire *h,
                                      bool *is_whole)
{
    struct virtq *q = &p->rx;
    uint32_t id = q->used->ring[q->last_used % q->size].id;
    struct frame *f;

    *is_whole = true;
    if (id >= q->size || !p->rx_frames[id])
        return rx_take_locked(p);
    memcpy(h, p->rx_frames[id]->data, sizeof(*h));
    if (!(p->v->dev->features & FEATURE_MRG_RXBUF))
        h->num_buffers = 1;
    if (h->num_buffers > q->size) {
        vnet_break(p->v, "a packet in more buffers than there are");
        return NULL;
    }
    if (h->num_buffers > nr_used) {
        *is_whole = false;
        return NULL;
    }
    note_size(p, h->num_buffers > 1 ||
                     q->used->ring[q->last_used % q->size].len >
                         frame_room(FRAME_SMALL, 0));
    f = rx_take_locked(p);
    if (f && (f->len < sizeof(*h) || !h->num_buffers)) {
        vnet_count(&p->counts.rx_bad);
        frame_put(f);
        return NULL;
    }
    if (f)
        frame_trim_head(f, sizeof(*h));
    return h->num_buffers > 1 ? rx_join_locked(p, f, h->num_buffers) : f;
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

static void rx_irq_off_locked(struct vnet_pair *p)
{
    if (!atomic_load_relaxed(&p->irq_is_on))
        return;
    atomic_store_relaxed(&p->irq_is_on, false);
    virtq_interrupt_off(&p->rx);
}

/* NULL: no such card, or it is broken. */
static struct vnet_pair *pair_of(uint32_t card, uint32_t pair)
{
    struct vnet *v = atomic_load_acquire(&vnets[card]);

    if (!v || atomic_load_relaxed(&v->is_broken))
        return NULL;
    return v->pairs[v->nr_pairs == 1 ? 0 : pair % v->nr_pairs];
}

/* Of all cards that work; there is none behind the first that is not there. */
#define for_each_pair(p, pair)                                      \
    for (uint32_t card = 0;                                         \
         card < VIRTIO_NET_CARDS && atomic_load_relaxed(&vnets[card]); card++) \
        if (((p) = pair_of(card, pair)) != NULL)

bool virtio_net_has_frames(uint32_t pair)
{
    struct vnet_pair *p;

    for_each_pair(p, pair) {
        if (virtq_nr_used(&p->rx))
            return true;
    }
    return false;
}

static void poll_pair(struct vnet_pair *p)
{
    uint32_t budget = VIRTIO_NET_BUDGET;
    uint16_t n;
    bool on;

    if (!virtq_nr_used(&p->rx))
        return;
    on = irq_save();
    if (!spin_trylock(&p->rx_lock)) { /* the holder looks again */
        irq_restore(on);
        return;
    }
    vnet_count(&p->counts.polls);
    while (budget-- && (n = virtq_nr_used(&p->rx)) != 0 &&
           !atomic_load_relaxed(&p->v->is_broken)) {
        struct vnet_header_wire h;
        bool is_whole;
        struct frame *f = rx_packet_locked(p, n, &h, &is_whole);

        if (!is_whole)
            break;
        if (f)
            rx_pass_on(p->v, f, &h);
    }
    if (unlikely(p->nr_rx < p->rx.size))
        vnet_rx_fill_locked(p, RX_FILL);
    vnet_rx_publish_locked(p);
    rx_irq_off_locked(p); /* it has interrupted, or will for these */
    spin_unlock(&p->rx_lock);
    irq_restore(on);
}

bool virtio_net_poll(uint32_t pair)
{
    struct vnet_pair *p;

    for_each_pair(p, pair)
        poll_pair(p);
    return virtio_net_has_frames(pair);
}

static bool pair_irq_on(struct vnet_pair *p)
{
    bool on, is_late;

    on = spin_lock_irqsave(&p->rx_lock);
    atomic_store_relaxed(&p->irq_is_on, true);
    is_late = virtq_interrupt_after(&p->rx, 1);
    spin_unlock_irqrestore(&p->rx_lock, on);
    return is_late;
}

bool virtio_net_irq_on(uint32_t pair)
{
    struct vnet_pair *p;
    bool is_late = false;

    for_each_pair(p, pair)
        is_late |= pair_irq_on(p);
    return is_late;
}

static void pair_irq_off(struct vnet_pair *p)
{
    bool on;

    if (!atomic_load_relaxed(&p->irq_is_on))
        return;
    on = spin_lock_irqsave(&p->rx_lock);
    rx_irq_off_locked(p);
    spin_unlock_irqrestore(&p->rx_lock, on);
}

void virtio_net_irq_off(uint32_t pair)
{
    struct vnet_pair *p;

    for_each_pair(p, pair)
        pair_irq_off(p);
}

bool virtio_net_is_polled(uint32_t pair)
{
    struct vnet_pair *p;

    for_each_pair(p, pair) {
        if (!atomic_load_relaxed(&p->irq_is_on))
            return true;
    }
    return false;
}

void vnet_rx_interrupt(struct virtq *q)
{
    struct vnet_pair *p = container_of(q, struct vnet_pair, rx);

    if (!virtq_nr_used(q)) /* the line is shared, or a poll was quicker */
        return;
    vnet_count(&p->counts.interrupts);
    p->v->interrupted(p->number);
}
