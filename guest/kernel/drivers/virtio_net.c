/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * virtio network device (virtio 1.2, 5.1): start and transmit; see
 * virtio_net.h. A frame is sent on the pair of the CPU that built it.
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

struct vnet *vnets[VIRTIO_NET_CARDS];
static uint32_t most_pairs = 1; /* atomic: of one card */

void vnet_break(struct vnet *v, const char *what)
{
    if (!atomic_xchg(&v->is_broken, true))
        klog(LOG_ERROR, "virtio-net: %s; the network is off", what);
}

/* ---- transmit ---- */

/* Puts what the device has sent. REQUIRES(tx_lock) */
static void tx_reap_locked(struct vnet_pair *p)
{
    struct virtq *q = &p->tx;
    uint16_t n = virtq_nr_used(q);

    while (n--) {
        uint32_t id = q->used->ring[q->last_used++ % q->size].id;
        uint16_t last = (uint16_t)id;

        if (id >= q->size || !p->tx_frames[id]) {
            vnet_break(p->v, "the device sent what it was not given");
            return;
        }
        frame_put(p->tx_frames[id]);
        p->tx_frames[id] = NULL;
        p->nr_tx_free++;
        for (; q->desc[last].flags & VIRTQ_DESC_NEXT; p->nr_tx_free++)
            last = q->desc[last].next;
        q->desc[last].next = p->tx_free;
        p->tx_free = (uint16_t)id;
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
static bool tx_put_locked(struct vnet_pair *p, struct frame *f, uint16_t nr_new)
{
    struct virtq *q = &p->tx;
    uint16_t first = p->tx_free, at = first, last = first;
    bool has_room = frame_headroom(f) >= sizeof(struct vnet_header_wire);
    uint32_t need = f->nr_frags + (has_room ? 1u : 2u);
    struct vnet_header_wire *h = (void *)(f->data - sizeof(*h));
    const struct frame_frag *g = frame_frags(f);

    if (need > p->nr_tx_free)
        return false;
    if (!has_room)
        h = &p->tx_headers[first];
    fill_header(f, h);
    tx_piece(q, &at, &last, h, sizeof(*h) + (has_room ? f->len : 0));
    if (!has_room)
        tx_piece(q, &at, &last, f->data, f->len);
    for (uint32_t i = 0; i < f->nr_frags; i++)
        tx_piece(q, &at, &last, g[i].data, g[i].len);
    q->desc[last].flags = 0;
    p->tx_free = at;
    p->nr_tx_free -= (uint16_t)need;
    p->tx_frames[first] = f;
    q->avail->ring[(uint16_t)(q->avail_idx + nr_new) % q->size] = first;
    return true;
}

/* Gives the device what waits, as far as there is room. REQUIRES(tx_lock) */
static void tx_push_locked(struct vnet_pair *p)
{
    uint16_t n = 0;

    while (p->tx_backlog.head && tx_put_locked(p, p->tx_backlog.head, n)) {
        (void)frame_list_take(&p->tx_backlog); /* tx_frames has it now */
        n++;
    }
    if (n)
        virtq_publish(&p->tx, n);
}

/* Sends all it can; while something waits, the device interrupts when half of
 * its work is done. REQUIRES(tx_lock) */
static void tx_run_locked(struct vnet_pair *p)
{
    uint16_t in_flight;

    do {
        tx_reap_locked(p);
        tx_push_locked(p);
        if (!p->tx_backlog.head || atomic_load_relaxed(&p->v->is_broken)) {
            virtq_interrupt_off(&p->tx);
            return;
        }
        in_flight = (uint16_t)(p->tx.avail_idx - p->tx.last_used);
    } while (virtq_interrupt_after(&p->tx, MAX(in_flight / 2u, 1u)));
    vnet_count(&p->counts.tx_full);
}

static void vnet_transmit(struct netif *nif, struct frame_list *frames)
{
    struct vnet *v = (struct vnet *)nif;
    struct vnet_pair *p = v->pairs[this_cpu()->id % v->nr_pairs];
    bool on = spin_lock_irqsave(&p->tx_lock);
    struct frame *f;

    while ((f = frame_list_take(frames)) != NULL) {
        if (p->tx_backlog.nr < TX_BACKLOG &&
            !atomic_load_relaxed(&p->v->is_broken)) {
            frame_list_add(&p->tx_backlog, f);
        } else {
            vnet_count(&p->counts.tx_dropped);
            frame_put(f);
        }
    }
    tx_run_locked(p);
    spin_unlock_irqrestore(&p->tx_lock, on);
}

static void tx_interrupt(struct virtq *q)
{
    struct vnet_pair *p = container_of(q, struct vnet_pair, tx);
    bool on = spin_lock_irqsave(&p->tx_lock);

    if (p->tx_backlog.head)
        tx_run_locked(p);
    spin_unlock_irqrestore(&p->tx_lock, on);
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
        nif->max_mtu = MIN(virtio_config16(v->dev, CONFIG_MTU),
                           vnet_rx_room() - ETH_HEADER -
                               (uint32_t)sizeof(struct vnet_header_wire));
    nif->caps = (features & FEATURE_CSUM ? NETIF_CSUM : 0) |
                (features & FEATURE_HOST_TSO4 ? NETIF_TSO4 : 0) |
                (features & FEATURE_HOST_TSO6 ? NETIF_TSO6 : 0);
}

static int fill_rings(struct vnet_pair *p)
{
    if (vnet_rx_fill_locked(p, RX_FILL) < RX_MIN_BUFFERS)
        return -ENOMEM;
    for (uint16_t i = 0; i < QUEUE_SIZE; i++)
        p->tx.desc[i].next = (uint16_t)(i + 1);
    p->nr_tx_free = QUEUE_SIZE;
    return 0;
}

/* Without MRG_RXBUF a joined packet would need buffers of 64 KiB (5.1.6.3.1);
 * every device has it that joins packets. More than one pair of queues is of
 * use only where each has an interrupt of its own. */
static int negotiate(struct vnet *v)
{
    uint32_t joined = FEATURE_GUEST_TSO4 | FEATURE_GUEST_TSO6;
    bool is_mq = v->dev->pci && atomic_load_acquire(&nr_cpus) > 1;
    uint32_t wanted = WANTED | (is_mq ? WANTED_MQ : 0);
    int err = virtio_negotiate(v->dev, wanted);

    if (!err && (v->dev->features & joined) &&
        !(v->dev->features & FEATURE_MRG_RXBUF))
        err = virtio_negotiate(v->dev, wanted & ~joined);
    return err;
}

/* How many pairs there are, and how many are used: one per CPU. */
static void count_pairs(struct vnet *v)
{
    uint32_t n = 1;

    if ((v->dev->features & WANTED_MQ) == WANTED_MQ)
        n = virtio_config16(v->dev, CONFIG_PAIRS);
    v->max_pairs = MAX(n, 1u);
    v->nr_pairs = MIN(MIN(v->max_pairs, (uint32_t)VNET_MAX_PAIRS),
                      atomic_load_acquire(&nr_cpus));
}

static int pair_make(struct vnet *v, uint32_t n)
{
    struct vnet_pair *p = kzalloc(sizeof(*p));
    int err;

    if (!p)
        return -ENOMEM;
    p->v = v;
    p->number = n;
    v->pairs[n] = p;
    err = virtq_setup(v->dev, &p->rx, 2 * n + RX_QUEUE, QUEUE_SIZE);
    if (!err)
        err = virtq_setup(v->dev, &p->tx, 2 * n + TX_QUEUE, QUEUE_SIZE);
    if (!err)
        err = fill_rings(p);
    if (!err)
        err = virtq_irq_enable(&p->rx, vnet_rx_interrupt, n);
    if (!err)
        err = virtq_irq_enable(&p->tx, tx_interrupt, n);
    return err;
}

static int vnet_start(struct vnet *v)
{
    int err = negotiate(v);

    if (err)
        return err;
    count_pairs(v);
    for (uint32_t n = 0; n < v->nr_pairs && !err; n++)
        err = pair_make(v, n);
    if (!err && v->max_pairs > 1)
        err = virtq_setup(v->dev, &v->ctrl, 2 * v->max_pairs, CTRL_QUEUE_SIZE);
    if (err)
        return err;
    read_config(v);
    return netif_add(v->nif.net, &v->nif);
}

/* The device runs; from here on frames come. A device that does not take the
 * number of pairs goes on with the first. */
static void vnet_go(struct vnet *v)
{
    if (v->nr_pairs > 1 && vnet_set_pairs(v, v->nr_pairs)) {
        klog(LOG_ERROR, "virtio-net: the device does not use %u pairs of "
                        "queues; going on with one",
             v->nr_pairs);
        v->nr_pairs = 1;
    }
    vnet_watch_link(v);
    atomic_store_relaxed(&most_pairs, MAX(most_pairs, v->nr_pairs));
    atomic_store_release(&vnets[v->number], v);
    for (uint32_t n = 0; n < v->nr_pairs; n++) {
        struct vnet_pair *p = v->pairs[n];
        bool on = spin_lock_irqsave(&p->rx_lock);

        /* Another CPU may be halted since before there was a network. */
        p->irq_is_on = true;
        (void)virtq_interrupt_after(&p->rx, 1);
        vnet_rx_publish_locked(p);
        spin_unlock_irqrestore(&p->rx_lock, on);
    }
}

int virtio_net_start(struct netstack *net, uint32_t number,
                     void (*interrupted)(uint32_t pair), struct netif **out)
{
    struct virtio_device *dev = virtio_find(VIRTIO_ID_NET, number);
    struct vnet *v;
    int err;

    assert(number < VIRTIO_NET_CARDS);
    if (!dev)
        return -ENODEV;
    v = kzalloc(sizeof(*v));
    if (!v)
        return -ENOMEM;
    v->dev = dev;
    v->number = number;
    v->interrupted = interrupted;
    v->nif.net = net;
    v->nif.ops = &vnet_ops;
    snprintf(v->nif.name, sizeof(v->nif.name), "eth%u", v->number);
    err = vnet_start(v);
    if (err) { /* its interrupts may be hooked: v stays, and does nothing */
        virtio_reset(dev);
        v->is_broken = true;
        klog(LOG_ERROR, "virtio-net: the device cannot be used: error %d",
             -err);
        return err;
    }
    virtio_start(dev);
    vnet_go(v);
    *out = &v->nif;
    return 0;
}

uint32_t virtio_net_pairs(void)
{
    return atomic_load_relaxed(&most_pairs);
}

void virtio_net_counts(uint32_t pair, struct virtio_net_counts *out)
{
    *out = (struct virtio_net_counts){0};
    for (uint32_t n = 0; n < VIRTIO_NET_CARDS; n++) {
        struct vnet *v = atomic_load_acquire(&vnets[n]);
        const struct virtio_net_counts *c;

        if (!v || pair >= v->nr_pairs)
            continue;
        c = &v->pairs[pair]->counts;
        out->polls += atomic_load_relaxed(&c->polls);
        out->interrupts += atomic_load_relaxed(&c->interrupts);
        out->tx_full += atomic_load_relaxed(&c->tx_full);
        out->tx_dropped += atomic_load_relaxed(&c->tx_dropped);
        out->rx_no_memory += atomic_load_relaxed(&c->rx_no_memory);
        out->rx_bad += atomic_load_relaxed(&c->rx_bad);
    }
}
