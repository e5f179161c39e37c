/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Channels: connections and datagram sockets that lend the program the frames
 * they receive, and loops, through which a program drives many of them.
 *
 * Layer below: the stack (net/tcp.h, net/udp.h), net/kernel.h, sched, fs (a loop
 * is a file). Above: linux/capstan_channel.c, and libcapstan there.
 *
 * The way of a request: chan_loop_turn gives the card what the program sent
 *   since the last turn and takes what came (one turn of the stack, at most
 *   one notification), then fills the loop's page of events. A data event
 *   points into the frame as the card wrote it. The program reads it there,
 *   sends, and turns again: that gives the frames back.
 * - Program and kernel share one address space at one privilege level, so the
 *   direct map is as readable to the program as its own memory. Lent bytes and
 *   the page of events are there; nothing is mapped and nothing copied. The
 *   kernel never believes what it reads back from there. System calls refuse
 *   such pointers (-EFAULT) as they do all addresses of the kernel.
 * - What is lent is bounded: CHAN_EVENTS pieces per turn, CHAN_HELD_MAX frames
 *   kept beyond it (chan_hold; -ENOBUFS then: copy). Lent bytes count as read
 *   for the peer's window; the memory of frames is the stack's (netstack.mem_max).
 * - Sending copies (chan_send), or refers to memory of the loop or to lent
 *   frames (chan_send_ref): an event with the caller's token tells when
 *   neither the device nor a retransmission will read the bytes again.
 * - A loop is its process's: others get -EPERM (a child of fork inherits the
 *   descriptor, not the right). One call at a time: -EBUSY, no waiting. While
 *   a turn sleeps, other threads may call. chan_loop_wake is free of this.
 * - A channel has a handle, slot and generation; an old one is -EBADF. It has
 *   no descriptor. When the last descriptor of the loop goes (close, exec,
 *   exit, death), its channels are closed as sockets would be.
 * - The data path takes spinlocks only. A turn with nothing to tell waits like
 *   any thread; signals end the wait (-EINTR).
 *
 * Locks: chan_loop.busy (a flag, never waited for) -> the stack's socket lock.
 * chan_loop.lock (irq-safe, with nothing inside but wait queues): the hooks of
 * the stack and of sent frames come in any context.
 */
#pragma once

#include "fs/events.h"
#include "lib/list.h"
#include "net/tcp.h"
#include "net/udp.h"

#define CHAN_EVENTS 1024u    /* per turn */
#define CHAN_HELD_MAX 1024u
#define CHAN_SLOTS_MAX (1u << 17)
#define CHAN_BLOCKS_MAX 512u /* of memory, at most 2 MiB each */
#define CHAN_BACKLOG 4096u

struct capstan_event_abi;
struct mm;

enum chan_kind { CHAN_LISTENER, CHAN_TCP, CHAN_UDP };

struct chan {
    /* --- set once --- */
    union {
        struct net_sock *ns; /* owns this structure: sock_hooks.release */
        struct tcp_conn *tcp;
        struct udp_sock *udp;
    };
    struct chan_loop *loop; /* one reference */
    uint64_t handle;
    uint8_t kind; /* enum chan_kind */
    /* --- protected by loop->lock --- */
    struct list ready_link; /* queued: a reference to ns */
    bool is_queued, is_closed;
    uint32_t due;           /* NET_EV_*: what happened */
    /* --- whoever holds loop->busy --- */
    bool is_connecting, has_ended, wants_room, is_paused;
};

struct chan_held { /* a lent frame of the batch, or one that was kept */
    struct frame *frame; /* one reference; NULL: free */
    uint32_t gen;        /* of a kept one */
};

struct chan_block { /* memory of the loop's, for sending by reference */
    uint8_t *data;
    uint32_t order;
};

struct chan_loop { /* refcounted: the file, channels, frames that refer to it */
    /* --- set once --- */
    struct netstack *net;
    struct mm *owner; /* not owned: only compared */
    struct capstan_event_abi *events; /* CHAN_EVENTS, read by the program */
    /* --- atomic --- */
    uint32_t refcount;
    uint32_t busy;
    uint32_t is_woken;
    /* --- own lock --- */
    struct waitq wait;
    /* --- protected by lock --- */
    struct spinlock lock; /* irq-safe */
    struct list ready;    /* chan.ready_link, oldest first */
    struct frame *sent, **sent_last; /* nobody refers to them any more */
    bool is_dead;
    /* --- whoever holds busy --- */
    struct chan **slots;
    uint32_t *gens;       /* of the slots */
    uint32_t nr_slots, nr_used, next_slot;
    uint32_t nr_events, nr_batch, nr_held, nr_blocks;
    struct frame *batch[CHAN_EVENTS];     /* put by the next turn */
    uint32_t batch_at[CHAN_EVENTS];       /* event -> its frame in batch */
    struct chan_held held[CHAN_HELD_MAX];
    struct chan_block blocks[CHAN_BLOCKS_MAX]; /* by address */
};

/* channel_loop.c */

/* Returns owned: a file. -ENOMEM, -ENOBUFS. Sleeps. */
int chan_loop_create(struct file **out) __must_check;
/* The loop of a file, NULL: it is something else. */
struct chan_loop *chan_loop_of(struct file *f);
/* Enter and leave: 0, -EBUSY, -EPERM (another process's). */
int chan_loop_enter(struct chan_loop *l) __must_check;
void chan_loop_leave(struct chan_loop *l);
/* How many events there are; 0: time is up (timeout 0: at once, < 0: never) or
 * chan_loop_wake was called. -EINTR. REQUIRES(busy), given up while waiting */
int chan_loop_turn(struct chan_loop *l, nsec_t timeout);
void chan_loop_wake(struct chan_loop *l);
/* The stack's hook, and what else makes a channel worth a look. Any context. */
void chan_event(struct chan *c, uint32_t bits);
void chan_loop_put(struct chan_loop *l);

/* channel.c: making and ending; REQUIRES(loop->busy), as all below */

/* Returns borrowed from the loop; NULL: no such channel. */
struct chan *chan_find(struct chan_loop *l, uint64_t handle);
struct chan_made {
    uint8_t kind;
    bool is_shared;                    /* SO_REUSEPORT */
    uint32_t family;                   /* 4 or 6 */
    const struct net_endpoint *local;  /* NULL: any */
    const struct net_endpoint *remote; /* CHAN_TCP: connect to it */
};
/* -EADDRINUSE, -EADDRNOTAVAIL, -EACCES, -EMFILE, -ENOMEM, -ENETUNREACH. */
int chan_make(struct chan_loop *l, const struct chan_made *m, uint64_t *handle)
    __must_check;
/* Around an accepted connection. Takes tcp. */
int chan_adopt(struct chan_loop *l, struct tcp_conn *tcp, struct chan **out)
    __must_check;
bool chan_any(void); /* is there a channel, be it closed and still sending? */
/* abort: the peer gets a reset. */
void chan_close(struct chan *c, bool abort);
void chan_close_all(struct chan_loop *l);
/* No data events until it goes on: what comes waits, the window closes. */
void chan_pause(struct chan *c, bool is_paused);

/* channel_events.c */

/* Fills the page of events from what is ready. */
void chan_collect(struct chan_loop *l);
/* Gives back what the last turn lent and was not held. */
void chan_batch_free(struct chan_loop *l);
/* Keeps the frame of event `at` lent: a number for chan_drop; -EINVAL,
 * -ENOBUFS. */
int64_t chan_hold(struct chan_loop *l, uint32_t at);
int chan_drop(struct chan_loop *l, uint64_t held);
void chan_drop_all(struct chan_loop *l);
/* The lent frame that has these bytes, or NULL. Returns borrowed. */
struct frame *chan_lent(struct chan_loop *l, const void *data, size_t len);
/* struct sockaddr_in, or _in6 for a channel of family 6: its length. */
uint32_t chan_put_name(const struct chan *c, const struct net_endpoint *e,
                       uint8_t out[28]);

/* channel_send.c */

/* Bytes taken (TCP: perhaps fewer than len; all of a datagram); -EAGAIN: an
 * event comes when there is room; -EPIPE, -EFAULT, the connection's error.
 * to: a datagram's destination. */
ssize_t chan_send(struct chan *c, const void *data, size_t len,
                  const struct net_endpoint *to);
/* The bytes stay as they are until the event with `token` comes. All or
 * nothing: 0; -EAGAIN; -EFAULT: neither lent nor the loop's memory. */
int chan_send_ref(struct chan *c, void *data, size_t len, uint64_t token);
/* Memory to send from: at most 2 MiB in one piece, zeroed, the loop's for as
 * long as it lives. -ENOMEM, -EINVAL. */
int chan_memory(struct chan_loop *l, size_t bytes, void **out) __must_check;
void chan_memory_free(struct chan_loop *l);
/* The first of the frames that were sent; NULL: none. Returns owned. */
struct frame_outside *chan_sent_take(struct chan_loop *l);
void chan_sent_free(struct frame_outside *o);
