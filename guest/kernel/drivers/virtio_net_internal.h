/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The network card, inside: what virtio_net.c (start, transmit),
 * virtio_net_rx.c and virtio_net_ctrl.c share. Rules and locks: virtio_net.h,
 * and the headings.
 */
#pragma once

#include "arch/arch.h"
#include "drivers/virtio.h"
#include "drivers/virtio_net.h"
#include "net/netstack.h"

#define VIRTIO_ID_NET 1
#define QUEUE_SIZE 128u
#define CTRL_QUEUE_SIZE 4u
#define RX_QUEUE 0u /* of pair n: 2n and 2n + 1 */
#define TX_QUEUE 1u
#define RX_MIN_BUFFERS 16u
#define RX_FILL 32u /* buffers at the start, and more with each poll */
#define TX_BACKLOG 1024u
#define VNET_MAX_PAIRS MAX_CPUS
#define HEAD_BYTES 256u /* of a packet in many buffers: headers are in here */
#define DEFAULT_MTU 1500u

/* virtio 1.2, 5.1.3 */
#define FEATURE_CSUM (1u << 0)
#define FEATURE_GUEST_CSUM (1u << 1)
#define FEATURE_MTU (1u << 3)
#define FEATURE_MAC (1u << 5)
#define FEATURE_GUEST_TSO4 (1u << 7)
#define FEATURE_GUEST_TSO6 (1u << 8)
#define FEATURE_HOST_TSO4 (1u << 11)
#define FEATURE_HOST_TSO6 (1u << 12)
#define FEATURE_MRG_RXBUF (1u << 15)
#define FEATURE_STATUS (1u << 16)
#define FEATURE_CTRL_VQ (1u << 17)
#define FEATURE_MQ (1u << 22)
#define WANTED                                                          \
    (FEATURE_CSUM | FEATURE_GUEST_CSUM | FEATURE_MTU | FEATURE_MAC |    \
     FEATURE_GUEST_TSO4 | FEATURE_GUEST_TSO6 | FEATURE_HOST_TSO4 |      \
     FEATURE_HOST_TSO6 | FEATURE_MRG_RXBUF | FEATURE_STATUS)
#define WANTED_MQ (FEATURE_CTRL_VQ | FEATURE_MQ)

/* 5.1.4: byte offsets of the configuration */
#define CONFIG_MAC 0u
#define CONFIG_STATUS 6u
#define CONFIG_PAIRS 8u
#define CONFIG_MTU 10u

/* 5.1.6 */
#define HDR_NEEDS_CSUM 1u
#define HDR_DATA_VALID 2u
#define HDR_GSO_NONE 0u
#define HDR_GSO_TCPV4 1u
#define HDR_GSO_TCPV6 4u

struct vnet_header_wire {
    uint8_t flags, gso_type;
    uint16_t hdr_len, gso_size, csum_start, csum_offset, num_buffers;
};
_Static_assert(sizeof(struct vnet_header_wire) == 12, "virtio 1.2, 5.1.6");

struct vnet;

struct vnet_pair {
    /* --- set once --- */
    struct vnet *v;
    uint32_t number;
    /* --- protected by rx_lock --- */
    struct spinlock rx_lock; /* irq-safe */
    struct virtq rx;
    struct frame *rx_frames[QUEUE_SIZE];
    uint16_t rx_returned; /* in the avail ring, not published */
    uint16_t nr_rx;       /* buffers in the ring or used */
    uint32_t rx_big;      /* how common joined packets are */
    /* --- protected by tx_lock --- */
    struct spinlock tx_lock; /* irq-safe */
    struct virtq tx;
    struct frame *tx_frames[QUEUE_SIZE]; /* by the chain's first descriptor */
    uint16_t tx_free, nr_tx_free;        /* linked by desc.next */
    struct frame_list tx_backlog;        /* waits for room */
    struct vnet_header_wire tx_headers[QUEUE_SIZE]; /* without headroom */
    /* --- atomic --- */
    bool irq_is_on;
    struct virtio_net_counts counts;
};

struct vnet {
    struct netif nif; /* first member; its own rules */
    /* --- set once --- */
    struct virtio_device *dev;
    uint32_t number; /* of the card */
    void (*interrupted)(uint32_t pair);
    uint32_t nr_pairs, max_pairs; /* used; what the device has */
    struct vnet_pair *pairs[VNET_MAX_PAIRS];
    /* --- virtio_net_start only --- */
    struct virtq ctrl;
    /* --- atomic --- */
    bool is_broken; /* the device breaks the rules of a ring */
};

/* virtio_net.c */
/* Each set once by virtio_net_start, the first ones first; atomic. */
extern struct vnet *vnets[VIRTIO_NET_CARDS];
/* The device breaks the rules: it is not used any more. Any context. */
void vnet_break(struct vnet *v, const char *what);
static inline void vnet_count(uint64_t *n)
{
    atomic_store_relaxed(n, atomic_load_relaxed(n) + 1);
}

/* virtio_net_rx.c */
/* Bytes of a receive buffer. */
static inline uint32_t vnet_rx_room(void)
{
    return frame_room(FRAME_SMALL, 0);
}
/* Puts f into place `id` of the ring; visible to the device after
 * vnet_rx_publish_locked. REQUIRES(rx_lock) */
void vnet_rx_give_locked(struct vnet_pair *p, uint16_t id, struct frame *f);
/* Up to n more buffers; how many there are then. REQUIRES(rx_lock) */
unsigned vnet_rx_fill_locked(struct vnet_pair *p, unsigned n);
void vnet_rx_publish_locked(struct vnet_pair *p);
void vnet_rx_interrupt(struct virtq *q);

/* virtio_net_ctrl.c */
/* Tells the device, which runs, how many pairs are used. -EIO: it refuses or
 * does not answer. Sleeps. */
int vnet_set_pairs(struct vnet *v, uint32_t n) __must_check;
/* Follows the state of the link from now on. */
void vnet_watch_link(struct vnet *v);
