/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * virtio network device (virtio 1.2, 5.1): start and transmit; see
 * virtio_net.h.
 *
 * - To send, the device's header is written in front of the Ethernet header,
 *   into the frame's headroom, so that both are one descriptor.
 */
#include "drivers/virtio_net_internal.h"

#include "arch/arch.h"
#include "lib/errno.h"
#include "lib/printk.h"
#include "lib/string.h"
#include "mm/heap.h"

struct vnet *vnet;

void vnet_break(struct vnet *v, const char *what)
{
    if (!atomic_xchg(&v->is_broken, true))
        klog(LOG_ERROR, "virtio-net: %s; the network is off", what);
}

/* ---- transmit ---- */

/* Puts what the device has sent. REQUIRES(tx_lock) */
static void tx_reap_locked(struct vnet *v)
{
    struct virtq *q = &v->tx;
    uint16_t n = virtq_nr_used(q);

    while (n--) {
        uint32_t id = q->used->ring[q->last_used++ % q->size].id;
        uint16_t last = (uint16_t)id;

        if (id >= q->size || !v->tx_frames[id]) {
            vnet_break(v, "the device sent what it was not given");
            return;
        }
        frame_put(v->tx_frames[id]);
        v->tx_frames[id] = NULL;
        v->nr_tx_free++;
        for (; q->desc[last].flags & VIRTQ_DESC_NEXT; v->nr_tx_free++)
            last = q->desc[last].next;
        q->desc[last].next = v->tx_free;
        v->tx_free = (uint16_t)id;
    }
}

static void fill_header(const struct frame *f, struct vnet_header_wire *h)
{
    memset(h, 0, sizeof(*h));
    if (!(f->flags & FRAME_CSUM_PARTIAL))
        return;
    h->flags = HDR_NEEDS_CSUM;
    h->csum_start = f->csum_start;
    h->csum_offset = f->csum_offset;
    if (f->gso == FRAME_GSO_NONE)
        return;
    h->gso_type = f->gso == FRAME_GSO_TCP4 ? HDR_GSO_TCPV4 : HDR_GSO_TCPV6;
    h->gso_size = f->gso_size;
    h->hdr_len = (uint16_t)f->len;
}

/* Fills the descriptor that `at` says and moves on. */
static void tx_piece(struct virtq *q, uint16_t *at, uint16_t *last,
                     const void *data, uint32_t len)
{
    struct virtq_desc_wire *d = &q->desc[*at];

    d->addr = virt_to_phys(data);
    d->len = len;
    d->flags = VIRTQ_DESC_NEXT;
    *last = *at;
    *at = d->next;
}

/* Takes f when it returns true; false: no room. REQUIRES(tx_lock) */
static bool tx_put_locked(struct vnet *v, struct frame *f, uint16_t nr_new)
{
    struct virtq *q = &v->tx;
    uint16_t first = v->tx_free, at = first, last = first;
    bool has_room = frame_headroom(f) >= sizeof(struct vnet_header_wire);
    uint32_t need = f->nr_frags + (has_room ? 1u : 2u);
    struct vnet_header_wire *h = (void *)(f->data - sizeof(*h));
    const struct frame_frag *g = frame_frags(f);

    if (need > v->nr_tx_free)
        return false;
    if (!has_room)
        h = &v->tx_headers[first];
    fill_header(f, h);
    tx_piece(q, &at, &last, h, sizeof(*h) + (has_room ? f->len : 0));
    if (!has_room)
        tx_piece(q, &at, &last, f->data, f->len);
    for (uint32_t i = 0; i < f->nr_frags; i++)
        tx_piece(q, &at, &last, g[i].data, g[i].len);
    q->desc[last].flags = 0;
    v->tx_free = at;
    v->nr_tx_free -= (uint16_t)need;
    v->tx_frames[first] = f;
    q->avail->ring[(uint16_t)(q->avail_idx + nr_new) % q->size] = first;
    return true;
}

/* Gives the device what waits, as far as there is room. REQUIRES(tx_lock) */
static void tx_push_locked(struct vnet *v)
{
    uint16_t n = 0;

    while (v->tx_backlog.head && tx_put_locked(v, v->tx_backlog.head, n)) {
        (void)frame_list_take(&v->tx_backlog); /* tx_frames has it now */
        n++;
    }
    if (n)
        virtq_publish(&v->tx, n);
}

/* Sends all it can; while something waits, the device interrupts when half of
 * its work is done. REQUIRES(tx_lock) */
static void tx_run_locked(struct vnet *v)
{
    uint16_t in_flight;

    do {
        tx_reap_locked(v);
        tx_push_locked(v);
        if (!v->tx_backlog.head || atomic_load_relaxed(&v->is_broken)) {
            virtq_interrupt_off(&v->tx);
            return;
        }
        in_flight = (uint16_t)(v->tx.avail_idx - v->tx.last_used);
    } while (virtq_interrupt_after(&v->tx, MAX(in_flight / 2u, 1u)));
    vnet_count(&v->counts.tx_full);
}

static void vnet_transmit(struct netif *nif, struct frame_list *frames)
{
    struct vnet *v = (struct vnet *)nif;
    bool on = spin_lock_irqsave(&v->tx_lock);
    struct frame *f;

    while ((f = frame_list_take(frames)) != NULL) {
        if (v->tx_backlog.nr < TX_BACKLOG &&
            !atomic_load_relaxed(&v->is_broken)) {
            frame_list_add(&v->tx_backlog, f);
        } else {
            vnet_count(&v->counts.tx_dropped);
            frame_put(f);
        }
    }
    tx_run_locked(v);
    spin_unlock_irqrestore(&v->tx_lock, on);
}

static void tx_interrupt(struct virtq *q)
{
    struct vnet *v = container_of(q, struct vnet, tx);
    bool on = spin_lock_irqsave(&v->tx_lock);

    if (v->tx_backlog.head)
        tx_run_locked(v);
    spin_unlock_irqrestore(&v->tx_lock, on);
}

static const struct netif_ops vnet_ops = {.transmit = vnet_transmit};

/* ---- start ---- */

static void read_config(struct vnet *v)
{
    struct netif *nif = &v->nif;
    uint32_t features = v->dev->features;
    uint32_t words[2];

    if (features & FEATURE_MAC) {
        words[0] = virtio_config32(v->dev, CONFIG_MAC);
        words[1] = virtio_config32(v->dev, CONFIG_MAC + 4);
        memcpy(nif->mac, words, ETH_ADDR);
    } else { /* one of our own: locally administered */
        nif->net->env->random(nif->net->env, nif->mac, ETH_ADDR);
        nif->mac[0] = (uint8_t)((nif->mac[0] & 0xfc) | 2);
    }
    nif->max_mtu = DEFAULT_MTU;
    if (features & FEATURE_MTU)
        nif->max_mtu = MIN(virtio_config32(v->dev, CONFIG_MTU) >> 16,
                           vnet_rx_room() - ETH_HEADER -
                               (uint32_t)sizeof(struct vnet_header_wire));
    nif->caps = (features & FEATURE_CSUM ? NETIF_CSUM : 0) |
                (features & FEATURE_HOST_TSO4 ? NETIF_TSO4 : 0) |
                (features & FEATURE_HOST_TSO6 ? NETIF_TSO6 : 0);
}

static int fill_rings(struct vnet *v)
{
    for (uint16_t i = 0; i < QUEUE_SIZE; i++) {
        struct frame *f = frame_alloc(v->nif.net, FRAME_SMALL, 0,
                                      FRAME_FOR_CONTROL);
        if (!f && i < RX_MIN_BUFFERS)
            return -ENOMEM;
        if (!f)
            break;
        vnet_rx_give_locked(v, i, f);
    }
    for (uint16_t i = 0; i < QUEUE_SIZE; i++)
        v->tx.desc[i].next = (uint16_t)(i + 1);
    v->nr_tx_free = QUEUE_SIZE;
    return 0;
}

/* Without MRG_RXBUF a joined packet would need buffers of 64 KiB (5.1.6.3.1);
 * every device has it that joins packets. */
static int negotiate(struct vnet *v)
{
    uint32_t joined = FEATURE_GUEST_TSO4 | FEATURE_GUEST_TSO6;
    int err = virtio_negotiate(v->dev, WANTED);

    if (!err && (v->dev->features & joined) &&
        !(v->dev->features & FEATURE_MRG_RXBUF))
        err = virtio_negotiate(v->dev, WANTED & ~joined);
    return err;
}

static int vnet_start(struct vnet *v)
{
    int err = negotiate(v);

    if (!err)
        err = virtq_setup(v->dev, &v->rx, RX_QUEUE, QUEUE_SIZE);
    if (!err)
        err = virtq_setup(v->dev, &v->tx, TX_QUEUE, QUEUE_SIZE);
    if (!err)
        err = fill_rings(v);
    if (err)
        return err;
    read_config(v);
    err = virtq_irq_enable(&v->rx, vnet_rx_interrupt, 0);
    if (!err)
        err = virtq_irq_enable(&v->tx, tx_interrupt, 0);
    if (!err)
        err = netif_add(v->nif.net, &v->nif);
    return err;
}

int virtio_net_start(struct netstack *net, void (*interrupted)(void),
                     struct netif **out)
{
    struct virtio_device *dev = virtio_find(VIRTIO_ID_NET);
    struct vnet *v;
    bool on;
    int err;

    if (!dev)
        return -ENODEV;
    v = kzalloc(sizeof(*v));
    if (!v)
        return -ENOMEM;
    v->dev = dev;
    v->interrupted = interrupted;
    v->nif.net = net;
    v->nif.ops = &vnet_ops;
    snprintf(v->nif.name, sizeof(v->nif.name), "eth0");
    err = vnet_start(v);
    if (err) { /* its interrupts may be hooked: v stays, and does nothing */
        virtio_reset(dev);
        v->is_broken = true;
        klog(LOG_ERROR, "virtio-net: the device cannot be used: error %d",
             -err);
        return err;
    }
    virtio_start(dev);
    on = spin_lock_irqsave(&v->rx_lock); /* the first frame may come at once */
    atomic_store_release(&vnet, v);
    vnet_rx_publish_locked(v);
    spin_unlock_irqrestore(&v->rx_lock, on);
    *out = &v->nif;
    return 0;
}

void virtio_net_counts(struct virtio_net_counts *out)
{
    struct vnet *v = atomic_load_acquire(&vnet);

    *out = v ? v->counts : (struct virtio_net_counts){0};
}
