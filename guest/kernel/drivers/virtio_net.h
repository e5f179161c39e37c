/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The network card: a virtio network device as a struct netif.
 *
 * Layers below: drivers/virtio.h, net/frame.h. Above: net/kernel.c, which
 * decides when to poll and when to have interrupts.
 *
 * - Receiving: virtio_net_poll gives what came to net_classify; anybody may
 *   call it, in any context, as often as wanted: an empty ring costs one load.
 *   The card interrupts once after virtio_net_irq_on, then not again until the
 *   next call of it; a poll that takes frames counts as that interrupt
 *   (EVENT_IDX: the device looks at a position in the ring, not at a flag).
 * - Sending: netif_ops.transmit takes the whole list and notifies the device
 *   at most once. Sent frames are put at the next transmit; the device
 *   interrupts for them only while frames wait for room.
 * - There is one card; more are not looked for.
 *
 * Locks: rx_lock, tx_lock: irq-safe, each outside of the hash buckets and the
 * frame pool, inside everything else of the stack. Never both.
 */
#pragma once

#include "net/netif.h"

/* Starts the device and adds it to the stack as "eth0". `interrupted` is
 * called from its interrupt when frames are there: it polls. Sleeps.
 * 0; -ENODEV: there is none; -ENOMEM, -EIO, -ENXIO. Returns borrowed. */
int virtio_net_start(struct netstack *net, void (*interrupted)(void),
                     struct netif **out) __must_check;
/* Are there received frames? No register is read. */
bool virtio_net_has_frames(void);
/* Takes up to VIRTIO_NET_BUDGET received packets. True: there are more. */
#define VIRTIO_NET_BUDGET 64u
bool virtio_net_poll(void);
/* Asks for an interrupt for the next frame. True: there is one already (and
 * an interrupt may come or not). */
bool virtio_net_irq_on(void);
void virtio_net_irq_off(void);
/* There is a card, and it will not interrupt: somebody must poll. */
bool virtio_net_is_polled(void);

/* What the card did, for tests and statistics. */
struct virtio_net_counts {
    uint64_t polls, interrupts, tx_full, tx_dropped, rx_no_memory, rx_bad;
};
void virtio_net_counts(struct virtio_net_counts *out);
