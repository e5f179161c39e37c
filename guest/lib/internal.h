/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * libcapstan, inside: the way into the guest, and what loop.c, guest_channel.c
 * and linux_channel.c share.
 *
 * loop.c has what does not depend on who does the work: timers, watches,
 * dispatch to handlers. The two others are the same five verbs over the guest
 * and over epoll; a loop is of one kind for its life.
 */
#pragma once

#include <capstan/capstan.h>
#include <capstan/channel.h>

#include <sys/epoll.h>

#include "capstan_calls.h"
#include "capstan_link.h"

#define EXPORT __attribute__((visibility("default")))
#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

/* The registers of a system call; rcx is where the guest returns to, and at rcx
 * - 2 there has to be a `syscall`: an event in the first two instructions of the
 * guest's entry makes the call again from there. */
static inline long guest_call6(long number, const long a[6])
{
    register long r10 __asm__("r10") = a[3];
    register long r8 __asm__("r8") = a[4];
    register long r9 __asm__("r9") = a[5];
    long result;

    __asm__ volatile("lea 1f(%%rip), %%rcx\n\t"
                     "jmp *%c[cell]\n\t"
                     "syscall\n"
                     "1:"
                     : "=a"(result)
                     : "0"(number), "D"(a[0]), "S"(a[1]), "d"(a[2]), "r"(r10),
                       "r"(r8), "r"(r9), [cell] "i"(CAPSTAN_CELLS)
                     : "rcx", "r11", "memory", "cc");
    return result;
}
#define guest_call(number, ...) \
    guest_call6((number), (const long[6]){__VA_ARGS__})

enum watched { WATCHED_LOOP, WATCHED_CHANNEL, WATCHED_WAKE };

/* What epoll's data points to, first member; a struct capstan_watch has the bit
 * WATCH_TAG in the pointer instead: it is the program's memory, and may be gone
 * when an event that was fetched before is looked at. */
#define WATCH_TAG 1ul
struct watched_item {
    uint64_t kind;
};

#define READ_BYTES 65536

struct lent_buf { /* Linux: what was read; refcounted */
    uint32_t refs;
    uint8_t bytes[];
};

struct pending_ref { /* Linux: a send by reference that is not done */
    struct pending_ref *next;
    const uint8_t *data;
    size_t len;
    uint64_t token;
};

struct loop_block { /* Linux: memory to send from */
    struct loop_block *next;
    uint8_t *data;
    size_t size;
};

struct capstan_channel {
    struct watched_item item; /* first member */
    struct capstan_loop *loop;
    const struct capstan_handlers *handlers;
    void *arg;
    uint64_t handle; /* guest */
    /* Linux */
    int fd;
    uint8_t kind;     /* CAPSTAN_CHAN_* */
    bool has_ended, wants_room, is_connecting, is_dead, is_paused;
    uint32_t interest; /* EPOLL* */
    struct pending_ref *refs, **refs_last;
    struct capstan_channel *next; /* all of the loop's; the dead */
    struct capstan_channel **link;
};

struct capstan_loop {
    bool is_native;
    int fd;      /* the guest's loop */
    int epoll;   /* Linux: always; guest: with watches only, else -1 */
    int stopped; /* atomic */
    uint32_t turns;
    uint32_t nr_stops; /* of watches */
    struct capstan_timer *timers; /* earliest first */
    void (*sent)(void *arg, uint64_t token);
    void *sent_arg;
    struct watched_item loop_item; /* guest: fd in epoll */
    /* guest */
    const struct capstan_event_abi *events;
    struct capstan_channel **slots; /* by the handle's lower half */
    uint32_t nr_slots;
    /* Linux */
    struct watched_item wake_item;
    int wake; /* eventfd */
    struct capstan_channel *channels, *dead;
    struct lent_buf *buf; /* what is read into */
    struct pending_ref *sent_refs, **sent_last;
    struct loop_block *blocks;
};

/* loop.c */
/* Calls the handler and nothing after it: it may close the channel. */
void loop_told_end(struct capstan_channel *c, int error);
uint64_t loop_now(void);
int loop_ms(int64_t timeout_ns); /* for epoll_wait: rounded up */

/* guest_channel.c and linux_channel.c */
int guest_loop_create(struct capstan_loop *l);
void guest_loop_destroy(struct capstan_loop *l);
int guest_loop_turn(struct capstan_loop *l, int64_t timeout_ns);
int guest_make(struct capstan_loop *l, int what, const struct sockaddr *addr,
               socklen_t len, struct capstan_channel *c);
void guest_close(struct capstan_channel *c, bool abort);

int linux_loop_create(struct capstan_loop *l);
void linux_loop_destroy(struct capstan_loop *l);
int linux_loop_turn(struct capstan_loop *l, int64_t timeout_ns);
void linux_loop_wake(struct capstan_loop *l);
int linux_make(struct capstan_loop *l, int what, const struct sockaddr *addr,
               socklen_t len, struct capstan_channel *c);
void linux_close(struct capstan_channel *c, bool abort);
void linux_pause(struct capstan_channel *c, bool is_paused);
/* EPOLL*: what is wanted of the socket now. 0 or an error. */
int linux_interest(struct capstan_channel *c, uint32_t events);
/* The token is told at the next turn. */
void linux_ref_done(struct capstan_loop *l, struct pending_ref *r);
/* linux_send.c */
int linux_send_refs(struct capstan_channel *c); /* 0 or an error */
ssize_t linux_send(struct capstan_channel *c, const void *data, size_t len);
ssize_t linux_send_to(struct capstan_channel *c, const void *data, size_t len,
                      const struct sockaddr *to, socklen_t n);
int linux_send_ref(struct capstan_channel *c, const void *data, size_t len,
                   uint64_t token);
int linux_memory(struct capstan_loop *l, size_t bytes, void **out);
int64_t linux_hold(struct capstan_loop *l);
int linux_drop(struct capstan_loop *l, int64_t held);
int linux_name(const struct capstan_channel *c, bool own,
               struct sockaddr *addr);
