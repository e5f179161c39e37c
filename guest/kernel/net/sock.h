/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What all Internet sockets have in common: a channel for frames, a place in
 * the list of work, the hook for events, addresses, and a reference count.
 *
 * Layer below: netstack. Above: tcp, udp, ping; the socket glue.
 *
 * - Non-blocking: what cannot be done now is -EAGAIN; the hook is called with
 *   NET_EV_* bits when that changes. Waiting, time-outs and signals are the
 *   glue's business. The hook may not call back into the stack; it may be
 *   called from any thread, with no lock of the stack's held.
 * - The glue serialises readers of one socket among themselves, and writers
 *   among themselves (bytes are copied with no lock held); everything else
 *   may run at the same time on any CPU.
 * - Lifetime: a reference for the glue, one for each table, timer and list the
 *   socket is in. hooks->release is called when the last one goes.
 * - Channel: any number of producers, in any context; emptied under the
 *   socket's lock. Bounded by a number of frames.
 *
 * Locks: sock.lock, see netstack.h. Fields by heading.
 */
#pragma once

#include "net/netstack.h"

#define SOCK_WORK_QUEUED 1u

struct net_sock;

struct sock_ops {
    /* Does what is pending: channel, output. No lock held. */
    void (*work)(struct net_sock *s);
    /* A datagram of this socket's could not be delivered: `error` as errno,
     * `mtu` for too big ones. Called with a reference, no lock. */
    void (*icmp)(struct net_sock *s, const struct frame *quoted, int error,
                 uint32_t mtu);
    void (*destroy)(struct net_sock *s); /* last reference is gone */
};

/* The glue's side. */
struct sock_hooks {
    void (*event)(struct net_sock *s, uint32_t bits);
    /* The last reference is gone: `owner` may be freed. */
    void (*release)(struct net_sock *s);
};

/* Where bytes of a program go to or come from. Returns how many were moved;
 * less than n only after a fault. May sleep. */
struct net_iter {
    size_t (*copy)(struct net_iter *it, void *kernel, size_t n);
    size_t left; /* bytes */
};

struct net_sock { /* refcounted */
    /* --- set once --- */
    struct netstack *net;
    const struct sock_ops *ops;
    /* --- set by the glue before the socket is used --- */
    const struct sock_hooks *hooks; /* NULL: none */
    void *owner;
    /* --- atomic --- */
    uint32_t refcount;
    uint32_t work_flags;
    struct frame *channel; /* newest first */
    uint32_t channel_frames;
    int error;             /* positive errno, taken by sock_take_error */
    /* --- whoever took it off the work list --- */
    struct net_sock *work_next;
    /* --- protected by lock --- */
    struct spinlock lock;
    uint32_t events_due; /* NET_EV_*: told when the lock is released */
    uint8_t proto, family; /* family: 4 or 6 (set once) */
    bool is_v6only, reuse_addr, reuse_port;
    uint8_t tos, ttl;      /* ttl 0: the default */
    bool is_bound;         /* by bind(): the port is the program's choice */
    uint32_t bound_nif;    /* SO_BINDTODEVICE, 0 = any */
    struct net_endpoint local, remote; /* also the port bucket's lock: the
                            * table's readers see them under it */
    /* --- protected by the port table's bucket --- */
    struct net_sock *port_next, **port_link; /* link NULL: not in it */
    bool is_listening;     /* TCP */
};

/* sock.c */
void sock_init(struct net_sock *s, struct netstack *net,
               const struct sock_ops *ops, uint32_t proto, uint32_t family);
void sock_get(struct net_sock *s);
/* Unless the count is already 0 (look-ups in hash tables). */
void sock_put(struct net_sock *s);
/* Takes f. False: full, f was put. Any context. */
bool sock_channel_push(struct net_sock *s, struct frame *f, uint32_t max);
/* Takes what is in the channel, oldest first. REQUIRES(lock) */
struct frame *sock_channel_take(struct net_sock *s);
static inline bool sock_channel_has(struct net_sock *s)
{
    return atomic_load_relaxed(&s->channel) != NULL;
}
/* Queues the socket on this CPU's list, once. Any context. */
void sock_queue_work(struct net_sock *s);
/* Notes events; they are told by sock_unlock. REQUIRES(lock) */
static inline void sock_note(struct net_sock *s, uint32_t bits)
{
    s->events_due |= bits;
}
static inline void sock_lock(struct net_sock *s)
{
    spin_lock(&s->lock);
}
/* Releases, then calls the hook with what was noted. */
void sock_unlock(struct net_sock *s);
int sock_take_error(struct net_sock *s); /* positive, 0 = none */
static inline void sock_set_error(struct net_sock *s, int error)
{
    atomic_store_relaxed(&s->error, error);
}
