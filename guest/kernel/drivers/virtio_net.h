/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The network card: a virtio network device as a struct netif.
 *
 * Layers below: drivers/virtio.h, net/frame.h. Above: net/kernel.c, which
 * decides when to poll and when to have interrupts.
 *
 * - A *pair* is a receive and a transmit queue. On PCI, where a device has
 *   several (VIRTIO_NET_F_MQ), each CPU has one, whose interrupts it gets; else
 *   all CPUs share pair 0. CPU n uses pair n % virtio_net_pairs().
 * - Which pair a flow arrives at is the device's choice. QEMU's tap keeps to
 *   the one that the guest sent last on for this flow, so answers follow the
 *   CPU where the program writes.
 * - Receiving: virtio_net_poll gives what came to net_classify; anybody may
 *   call it, in any context, as often as wanted: an empty ring costs one load.
 *   A pair interrupts once after virtio_net_irq_on, then not again until the
 *   next call of it; a poll that takes frames counts as that interrupt
 *   (EVENT_IDX: the device looks at a position in the ring, not at a flag).
 * - Receive buffers are small frames, also for packets that the host joined
 *   (up to 64 KiB in 36 of them): a large one per packet would pin 16 KiB for
 *   an acknowledgement of 60 bytes.
 * - Sending: netif_ops.transmit takes the whole list and notifies the device
 *   at most once. Sent frames are put at the next transmit; the device
 *   interrupts for them only while frames wait for room.
 * - There are up to VIRTIO_NET_CARDS cards, eth0 and so on. Receiving is done
 *   for all at once: `pair` is one of the card's that has the most, and of each
 *   other card the pair of that number modulo those it has.
 *
 * Locks: rx_lock, tx_lock of a pair: irq-safe, each outside of the hash
 * buckets and the frame pool, inside everything else of the stack. Never two.
 */
#pragma once

#include "net/netif.h"

#define VIRTIO_NET_CARDS 5u
/* Starts device `number` and adds it to the stack; in order, not again after
 * an error. `interrupted` is called from a pair's interrupt when frames are
 * there: it polls. Sleeps.
 * 0; -ENODEV: there is none; -ENOMEM, -EIO, -ENXIO. Returns borrowed. */
int virtio_net_start(struct netstack *net, uint32_t number,
                     void (*interrupted)(uint32_t pair),
                     struct netif **out) __must_check;
/* Of the card that has the most; at least 1. Set by virtio_net_start. */
uint32_t virtio_net_pairs(void);
/* Are there received frames? No register is read. */
bool virtio_net_has_frames(uint32_t pair);
/* Takes up to VIRTIO_NET_BUDGET received packets. True: there are more. */
#define VIRTIO_NET_BUDGET 64u
bool virtio_net_poll(uint32_t pair);
/* Asks for an interrupt for the next frame. True: there is one already (and
 * an interrupt may come or not). */
bool virtio_net_irq_on(uint32_t pair);
void virtio_net_irq_off(uint32_t pair);
/* There is a card, and it will not interrupt: somebody must poll. */
bool virtio_net_is_polled(uint32_t pair);

/* What this pair of all cards did, for tests and statistics. */
struct virtio_net_counts {
    uint64_t polls, interrupts, tx_full, tx_dropped, rx_no_memory, rx_bad;
};
void virtio_net_counts(uint32_t pair, struct virtio_net_counts *out);
