/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Frames: packets, and pieces of a send queue.
 *
 * Layer below: mm/heap. Above: drivers, every protocol.
 *
 * - A frame is one allocation: this structure, then bytes. `data`/`len` is
 *   its linear part; behind it come `nr_frags` fragments that point into
 *   other frames and own one reference on each. Headers are always linear.
 * - A received packet and a packet to send have the same form, so loopback
 *   passes frames on as they are. A received frame has one owner.
 * - Bytes that somebody else may see (a fragment points at them) are never
 *   changed; bytes behind `data + len` of a send-queue piece may be filled.
 * - frame_alloc never sleeps and may be called from interrupt handlers.
 *   The memory of all frames of a stack is bounded (netstack.mem_max): each
 *   caller says how far it may go (enum frame_use).
 *
 * Locks: pool.lock (irq-safe, innermost but the heap's).
 */
#pragma once

#include "lib/lock.h"
#include "net/inet.h"

struct netif;
struct netstack;

#define FRAME_SMALL_BYTES 2048u  /* packets, headers with fragments */
#define FRAME_LARGE_BYTES 16384u /* pieces of send queues, big packets */
#define FRAME_HEADROOM 128u      /* device, Ethernet, IPv6, TCP + options */
#define FRAME_MAX_FRAGS 40u      /* of a small frame */
#define FRAME_POOL_KEEP_SMALL 128u /* free frames kept per CPU */
#define FRAME_POOL_KEEP_LARGE 32u

/* flags */
#define FRAME_CSUM_OK 0x01u      /* transport checksum was verified */
#define FRAME_CSUM_PARTIAL 0x02u /* holds the pseudo-header sum only */
#define FRAME_BROADCAST 0x04u    /* link-level broadcast or multicast */
#define FRAME_LOOPED 0x08u       /* came from this stack */
#define FRAME_REASSEMBLED 0x10u
#define FRAME_PARSED 0x20u       /* ports and transport length were checked */

/* Pools keep frames of the first two. FRAME_OUTSIDE: the bytes lie elsewhere;
 * such a frame is only a piece of a send queue. */
enum frame_class {
    FRAME_SMALL,
    FRAME_LARGE,
    FRAME_CLASSES,
    FRAME_OUTSIDE = FRAME_CLASSES,
};
/* How much of the memory limit the caller may use up. */
enum frame_use {
    FRAME_FOR_DATA,    /* three quarters: programs' data */
    FRAME_FOR_CONTROL, /* all of it: acknowledgements, ARP */
    FRAME_FOR_RECEIVE, /* an eighth more: device rings. Who keeps what came in
                        * looks at net_is_full first; so an acknowledgement,
                        * which gives memory back, always finds a buffer */
};
enum frame_gso { FRAME_GSO_NONE, FRAME_GSO_TCP4, FRAME_GSO_TCP6 };

struct frame_frag {
    struct frame *owner; /* one reference; NULL: not counted memory */
    uint8_t *data;
    uint32_t len;
};

struct frame { /* refcounted */
    struct frame *next; /* in the list that holds it */
    struct netstack *net;
    uint32_t refcount; /* atomic */
    uint32_t len, frag_len;
    uint8_t *data;
    uint16_t nr_frags;
    uint8_t frame_class, flags;
    /* --- offload: offsets from data, to the device --- */
    uint16_t csum_start, csum_offset;
    uint16_t gso_size;
    uint8_t gso, ttl; /* ttl: received, hop limit of the packet */
    struct netif *nif;
    /* --- filled by net_classify, or by the sender --- */
    uint8_t *l3, *l4;
    struct net_addr src, dst;
    uint16_t sport, dport;
    uint8_t proto, tos;
    uint16_t payload_off; /* of a TCP segment: header bytes */
    uint16_t eth_type;
    uint16_t proto_at;    /* IPv6, received: byte behind l3 that says proto */
    union {               /* of whoever holds the frame */
        struct {
            uint32_t seq, end;       /* TCP: first byte, past the last */
            struct frame *run_last;  /* out-of-order run: last frame */
            struct frame *run_next;  /* first frame of the next run */
        };
        struct {
            uint32_t frag_off, frag_end; /* reassembly */
        };
    };
};

/* A frame whose bytes are somebody else's, who is told when nobody refers to
 * them any more: from any context, the driver's locks held. */
struct frame_outside {
    struct frame f; /* first member */
    void (*gone)(struct frame_outside *o); /* takes o */
    void *owner;
    struct frame *under; /* whose bytes they are: one reference, or NULL */
    uint64_t token;
};

struct frame_pool {
    struct spinlock lock; /* irq-safe */
    /* --- protected by lock --- */
    struct frame *free[FRAME_CLASSES];
    uint32_t nr_free[FRAME_CLASSES];
};

/* A list with a tail; no lock of its own. */
struct frame_list {
    struct frame *head, *tail;
    uint32_t nr;
};

static inline uint32_t frame_total(const struct frame *f)
{
    return f->len + f->frag_len;
}

static inline uint8_t *frame_end(struct frame *f)
{
    if (unlikely(f->frame_class == FRAME_OUTSIDE))
        return f->data + f->len;
    return (uint8_t *)f + (f->frame_class == FRAME_SMALL ? FRAME_SMALL_BYTES
                                                         : FRAME_LARGE_BYTES);
}

static inline struct frame_frag *frame_frags(struct frame *f)
{
    return (struct frame_frag *)((uint8_t *)f + FRAME_SMALL_BYTES) -
           FRAME_MAX_FRAGS;
}

static inline uint32_t frame_tailroom(struct frame *f)
{
    return (uint32_t)(frame_end(f) - f->data - f->len);
}

static inline uint32_t frame_headroom(const struct frame *f)
{
    return (uint32_t)(f->data - (const uint8_t *)(f + 1));
}

static inline uint32_t frame_class_bytes(enum frame_class c)
{
    return c == FRAME_SMALL   ? FRAME_SMALL_BYTES
           : c == FRAME_LARGE ? FRAME_LARGE_BYTES
                              : (uint32_t)sizeof(struct frame_outside);
}

/* Bytes a frame of this class holds behind `headroom`. */
static inline uint32_t frame_room(enum frame_class c, uint32_t headroom)
{
    return frame_class_bytes(c) - (uint32_t)sizeof(struct frame) - headroom;
}

/* frame.c */
void frame_pool_init(struct frame_pool *p);
/* How many free ones a CPU keeps: they count as used, so a little of all. */
uint32_t frame_pool_keep(const struct netstack *net, enum frame_class c);
void frame_pool_drain(struct frame_pool *p);
/* Returns owned, data behind `headroom` bytes, empty; NULL: no memory. */
struct frame *frame_alloc(struct netstack *net, enum frame_class c,
                          uint32_t headroom, enum frame_use use) __must_check;
/* A frame around len bytes that stay as they are until `gone` is called; the
 * bytes must be in the direct map. Returns owned; NULL: no memory. */
struct frame *frame_around(struct netstack *net, void *data, uint32_t len,
                           void (*gone)(struct frame_outside *o),
                           void *owner) __must_check;
void frame_outside_free(struct frame_outside *o); /* in the end of `gone` */
void frame_get(struct frame *f);
void frame_put(struct frame *f);
/* Extends the linear part; the caller checked the room. */
uint8_t *frame_push(struct frame *f, uint32_t n);
uint8_t *frame_append(struct frame *f, uint32_t n);
/* Borrows owner's bytes: takes a reference. False: no room for a fragment. */
bool frame_add_frag(struct frame *f, struct frame *owner, uint8_t *data,
                    uint32_t len);
/* Lets g refer to n bytes of f from `off`. False: too many pieces. */
bool frame_share(struct frame *g, struct frame *f, uint32_t off, uint32_t n);
/* Drop bytes at the front, linear or not; at the back. n <= frame_total. */
void frame_trim_head(struct frame *f, uint32_t n);
void frame_trim_to(struct frame *f, uint32_t total);
/* Copies n bytes from offset `off` (linear and fragments). */
void frame_copy_out(const struct frame *f, uint32_t off, void *to, uint32_t n);
/* The piece that holds offset `off`: bytes there, 0 at the end. */
uint32_t frame_piece(struct frame *f, uint32_t off, uint8_t **data);
/* Moves all bytes into the linear part of a new frame with headroom; the old
 * one is put. NULL: no memory or more than a large frame holds. Takes f. An
 * IP header in front of the data (l3) stays there. */
struct frame *frame_linearize(struct frame *f, uint32_t headroom);
void frame_list_add(struct frame_list *l, struct frame *f);
struct frame *frame_list_take(struct frame_list *l);
void frame_list_free(struct frame_list *l);
