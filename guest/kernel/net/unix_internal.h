/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * AF_UNIX: shared by unix.c (names, connections) and unix_io.c (messages).
 *
 * Locks: names.lock (mutex, unix.c): the list of bound sockets, binding;
 * read_lock (mutex): one reader at a time; lock (spinlock): the fields below
 * it. Two `lock`s are held together only as listener -> connecting client.
 * Wake protocol: state changes under `lock`, then `wait` is woken with the
 * EPOLL* bits that became true. One queue per socket: readers, writers,
 * acceptors, pollers. A reader wakes the sender only when that one had more
 * than a quarter of its send buffer on the way (it was not writable).
 * Lifetime: the file owns one reference, a connected peer one, a message one
 * on its sender; so `wait` outlives whoever sleeps on it.
 */
#pragma once

#include "lib/errno.h"
#include "lib/list.h"
#include "lib/lock.h"
#include "lib/string.h"
#include "mm/heap.h"
#include "net/socket.h"

#define UNIX_DGRAM_QUEUE 10u /* /proc/sys/net/unix/max_dgram_qlen */

enum unix_state { UNIX_OPEN, UNIX_LISTENING, UNIX_CONNECTED };

struct unix_addr { /* refcounted */
    uint32_t refcount;
    struct socket_addr a;
};

struct unix_sock {
    struct socket s; /* first member */
    uint32_t refcount;
    struct mutex read_lock;
    struct waitq wait;
    uint32_t in_flight;    /* atomic: bytes sent, not yet read */
    /* --- protected by names.lock --- */
    struct list bound_link;
    struct inode *inode;   /* owned, path names */
    struct unix_addr *addr; /* owned; set once, then read freely */
    /* --- protected by lock --- */
    struct spinlock lock;
    enum unix_state state;
    struct unix_sock *peer; /* owned */
    struct ucred_abi peer_cred, own_cred;
    uint32_t shutdown;      /* SHUTDOWN_* */
    bool is_dead;           /* released */
    struct list queue;      /* struct unix_msg */
    uint32_t queued_bytes, nr_queued;
    struct list backlog;    /* unix_sock.backlog_link: not yet accepted */
    struct list backlog_link;
    uint32_t nr_backlog, max_backlog;
};

struct unix_msg {
    struct list link;
    uint32_t len, offset;
    struct unix_sock *sender; /* owned */
    struct unix_addr *addr;   /* owned, of the sender, may be NULL */
    struct scm scm;           /* owned */
    uint8_t data[];
};

static inline struct unix_sock *to_unix(struct socket *s)
{
    return (struct unix_sock *)s;
}

static inline bool unix_is_stream(struct unix_sock *u)
{
    return u->s.type == SOCK_STREAM;
}

static inline bool unix_has_connection(struct unix_sock *u)
{
    return u->s.type != SOCK_DGRAM;
}

/* unix.c */
void unix_get(struct unix_sock *u);
void unix_put(struct unix_sock *u);
/* The connected peer: Returns owned or NULL. */
struct unix_sock *unix_peer(struct unix_sock *u);
/* The socket bound to addr; Returns owned. -ECONNREFUSED, -EPROTOTYPE, ... */
int unix_find(const struct socket_addr *addr, int type,
              struct unix_sock **out);
void unix_addr_put(struct unix_addr *a);
/* unix_io.c */
ssize_t unix_sendmsg(struct socket *s, struct socket_msg *m, uint32_t flags);
ssize_t unix_recvmsg(struct socket *s, struct socket_msg *m, uint32_t flags);
int64_t unix_ioctl(struct socket *s, uint32_t cmd, uint64_t arg);
/* Frees the messages of a dead socket, without recursion into others. */
void unix_doom_messages(struct list *queue);
bool unix_is_writable(struct unix_sock *u);
