/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Channels: an event loop per core over connections and datagram sockets, with
 * what was received read in place and what is sent gathered into one turn.
 *
 *     struct capstan_handlers echo = {.received = on_data, .ended = on_end};
 *     capstan_loop_create(&loop);
 *     capstan_listen(loop, addr, len, 0, &echo, NULL, NULL);
 *     capstan_loop_run(loop);
 *
 * - In the guest a turn of the loop is one jump into the network stack: no
 *   system calls, no copies of received data, at most one notification of the
 *   host per turn. On Linux the same functions work over epoll, for tests and
 *   development; nothing else changes.
 * - A loop and its channels belong to the process that made it, and are used
 *   by one thread at a time (-EBUSY otherwise). A program has a loop per core:
 *   a thread each, listeners with CAPSTAN_SHARED, and the stack spreads
 *   connections and datagrams over them. Only capstan_loop_stop may be called
 *   from other threads and from signal handlers. After fork the child has no
 *   use of it (-EPERM); it should not destroy it either.
 * - Handlers are called by capstan_loop_run and _turn. They may call anything
 *   here but those two and _destroy, and close any channel, their own too.
 * - Received bytes are lent until the handler returns. capstan_hold keeps them
 *   lent, within a limit. They are not the program's: they must not be
 *   written, and system calls refuse pointers to them (EFAULT): copy first.
 * - Bytes passed to capstan_send may be used again at once. Those passed to
 *   capstan_send_ref must not change until the loop's `sent` handler has
 *   their token: the device and retransmissions read them in place.
 * - Data of a connection comes in pieces of any size. A datagram may come in
 *   several pieces: is_first, is_last.
 * - When the process ends or executes another program, connections are closed
 *   as sockets are.
 *
 * Functions return 0 or more, or a negative errno value.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>

#ifdef __cplusplus
extern "C" {
#endif

struct capstan_loop;
struct capstan_channel;

struct capstan_data {
    const void *bytes;
    size_t len;
    const struct sockaddr *from; /* a datagram's source, else NULL */
    socklen_t from_len;
    bool is_first, is_last;      /* piece of a datagram */
    uint32_t number;             /* for capstan_hold */
};

/* Each may be NULL: then nothing happens, but a channel that ended is closed. */
struct capstan_handlers {
    /* c has the listener's handlers and arg until capstan_channel_set. */
    void (*accepted)(struct capstan_channel *listener,
                     struct capstan_channel *c);
    void (*opened)(struct capstan_channel *c); /* after capstan_connect */
    void (*received)(struct capstan_channel *c, const struct capstan_data *d);
    /* error 0: the peer has sent all it had; sending still works. Else an
     * errno (positive). Nothing comes after it; the program closes. */
    void (*ended)(struct capstan_channel *c, int error);
    /* A send that did not take all may be tried again. */
    void (*room)(struct capstan_channel *c);
};

/* --- loops --- */

int capstan_loop_create(struct capstan_loop **out);
void capstan_loop_destroy(struct capstan_loop *loop); /* closes channels */
/* Until capstan_loop_stop: 0; or an error of the loop itself. */
int capstan_loop_run(struct capstan_loop *loop);
/* One turn: waits up to timeout_ns (< 0: for ever) when nothing is there.
 * Returns how many events there were; -EINTR. */
int capstan_loop_turn(struct capstan_loop *loop, int64_t timeout_ns);
void capstan_loop_stop(struct capstan_loop *loop);
/* Is it the guest that does the work, or epoll? */
bool capstan_loop_is_native(const struct capstan_loop *loop);
/* Called for each token of capstan_send_ref, connections' ends included. */
void capstan_loop_on_sent(struct capstan_loop *loop,
                          void (*sent)(void *arg, uint64_t token), void *arg);

/* A timer is the program's memory, unchanged while it runs. Fires once. */
struct capstan_timer {
    void (*fired)(struct capstan_timer *t);
    void *arg;
    uint64_t at; /* capstan_clock_ns; 0: not running */
    struct capstan_timer *next;
};
void capstan_timer_start(struct capstan_loop *loop, struct capstan_timer *t,
                         uint64_t ns_from_now);
void capstan_timer_stop(struct capstan_loop *loop, struct capstan_timer *t);

/* A descriptor of any kind (eventfd, pipe, socket): `ready` is called with
 * EPOLL* bits, level-triggered. The structure is the program's memory. */
struct capstan_watch {
    int fd;
    uint32_t events;
    void (*ready)(struct capstan_watch *w, uint32_t events);
    void *arg;
};
int capstan_watch_start(struct capstan_loop *loop, struct capstan_watch *w);
int capstan_watch_stop(struct capstan_loop *loop, struct capstan_watch *w);

/* --- channels; out may be NULL --- */

#define CAPSTAN_SHARED 1 /* SO_REUSEPORT: the stack spreads over all of them */

int capstan_listen(struct capstan_loop *loop, const struct sockaddr *addr,
                   socklen_t len, int flags,
                   const struct capstan_handlers *handlers, void *arg,
                   struct capstan_channel **out);
int capstan_connect(struct capstan_loop *loop, const struct sockaddr *addr,
                    socklen_t len, const struct capstan_handlers *handlers,
                    void *arg, struct capstan_channel **out);
int capstan_datagram(struct capstan_loop *loop, const struct sockaddr *addr,
                     socklen_t len, int flags,
                     const struct capstan_handlers *handlers, void *arg,
                     struct capstan_channel **out);
/* What was sent before still arrives; c is gone. */
void capstan_channel_close(struct capstan_channel *c);
void capstan_channel_abort(struct capstan_channel *c); /* with a reset */
/* While paused, `received` and `ended` are not called (but for what this turn
 * has fetched already): data waits in the stack, and the peer stops sending
 * when its window is full. */
void capstan_channel_pause(struct capstan_channel *c, bool is_paused);
void capstan_channel_set(struct capstan_channel *c,
                         const struct capstan_handlers *handlers, void *arg);
void *capstan_channel_arg(const struct capstan_channel *c);
struct capstan_loop *capstan_channel_loop(const struct capstan_channel *c);
/* The length of the address; addr has room for a struct sockaddr_storage. */
int capstan_channel_peer(const struct capstan_channel *c,
                         struct sockaddr *addr);
int capstan_channel_local(const struct capstan_channel *c,
                          struct sockaddr *addr);

/* --- data --- */

/* Copies. Bytes taken, perhaps fewer than len, or -EAGAIN: `room` is called
 * when there is more; -EPIPE, or why the connection ended. */
ssize_t capstan_send(struct capstan_channel *c, const void *data, size_t len);
/* A datagram, all or nothing. */
ssize_t capstan_send_to(struct capstan_channel *c, const void *data,
                        size_t len, const struct sockaddr *to, socklen_t n);
/* By reference, all or nothing; connections only, up to 1 MiB. data: memory
 * of capstan_loop_memory, or lent bytes. -EFAULT: neither; -EAGAIN. */
int capstan_send_ref(struct capstan_channel *c, const void *data, size_t len,
                     uint64_t token);
/* Zeroed memory to send from, at most 2 MiB in one piece; it goes with the
 * loop. */
int capstan_loop_memory(struct capstan_loop *loop, size_t bytes, void **out);
/* In a `received` handler: the bytes stay lent until capstan_drop(result).
 * -ENOBUFS: too many are held. */
int64_t capstan_hold(struct capstan_loop *loop, const struct capstan_data *d);
int capstan_drop(struct capstan_loop *loop, int64_t held);

#ifdef __cplusplus
}
#endif
