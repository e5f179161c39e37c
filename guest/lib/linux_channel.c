/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Loops and channels over epoll, for programs outside of the guest: the same
 * behaviour, with system calls and copies. A closed channel's structure stays
 * until the turn ends, since epoll may have told of it already.
 */
#define _GNU_SOURCE
#include "internal.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#define MEMORY_MAX (2ul << 20)

/* ---- buffers that are lent ---- */

static void buf_put(struct lent_buf *b)
{
    if (b && !--b->refs)
        free(b);
}

/* A buffer nobody holds. */
static struct lent_buf *fresh_buf(struct capstan_loop *l)
{
    if (l->buf && l->buf->refs == 1)
        return l->buf;
    buf_put(l->buf);
    l->buf = malloc(sizeof(*l->buf) + READ_BYTES);
    if (l->buf)
        l->buf->refs = 1;
    return l->buf;
}

int64_t linux_hold(struct capstan_loop *l)
{
    if (!l->buf)
        return -EINVAL;
    l->buf->refs++;
    return (int64_t)(intptr_t)l->buf;
}

int linux_drop(struct capstan_loop *l, int64_t held)
{
    (void)l;
    buf_put((struct lent_buf *)(intptr_t)held);
    return 0;
}

/* ---- loops ---- */

int linux_loop_create(struct capstan_loop *l)
{
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = &l->wake_item};

    l->sent_last = &l->sent_refs;
    l->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (l->epoll < 0)
        return -errno;
    l->wake = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (l->wake >= 0 && !epoll_ctl(l->epoll, EPOLL_CTL_ADD, l->wake, &e))
        return 0;
    if (l->wake >= 0)
        close(l->wake);
    close(l->epoll);
    return -ENFILE;
}

void linux_loop_wake(struct capstan_loop *l)
{
    uint64_t one = 1;
    int saved = errno; /* from a signal handler, too */

    (void)!write(l->wake, &one, sizeof(one));
    errno = saved;
}

static void free_dead(struct capstan_loop *l)
{
    while (l->dead) {
        struct capstan_channel *c = l->dead;

        l->dead = c->next;
        free(c);
    }
}

void linux_loop_destroy(struct capstan_loop *l)
{
    while (l->channels)
        linux_close(l->channels, false);
    free_dead(l);
    while (l->sent_refs) {
        struct pending_ref *r = l->sent_refs;

        l->sent_refs = r->next;
        free(r);
    }
    while (l->blocks) {
        struct loop_block *b = l->blocks;

        l->blocks = b->next;
        munmap(b->data, b->size);
        free(b);
    }
    buf_put(l->buf);
    close(l->wake);
}

int linux_memory(struct capstan_loop *l, size_t bytes, void **out)
{
    struct loop_block *b = malloc(sizeof(*b));

    if (!b)
        return -ENOMEM;
    if (!bytes || bytes > MEMORY_MAX) {
        free(b);
        return -EINVAL;
    }
    b->size = bytes;
    b->data = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (b->data == MAP_FAILED) {
        free(b);
        return -ENOMEM;
    }
    b->next = l->blocks;
    l->blocks = b;
    *out = b->data;
    return 0;
}

/* ---- channels ---- */

/* Without interest it is not in the epoll at all, which would tell of EPOLLHUP
 * for ever. */
int linux_interest(struct capstan_channel *c, uint32_t events)
{
    struct epoll_event e = {.events = events, .data.ptr = c};
    int op = !events        ? EPOLL_CTL_DEL
             : c->interest  ? EPOLL_CTL_MOD
                            : EPOLL_CTL_ADD;

    if (c->interest == events)
        return 0;
    if (epoll_ctl(c->loop->epoll, op, c->fd, &e))
        return -errno;
    c->interest = events;
    return 0;
}

static int enter(struct capstan_channel *c, uint32_t events)
{
    int err = linux_interest(c, events);

    if (err)
        return err;
    c->refs_last = &c->refs;
    c->next = c->loop->channels;
    c->link = &c->loop->channels;
    if (c->next)
        c->next->link = &c->next;
    c->loop->channels = c;
    return 0;
}

static int set_up(struct capstan_channel *c, int what,
                  const struct sockaddr *addr, socklen_t len)
{
    int one = 1, kind = what & CAPSTAN_CHAN_KIND;

    if (kind == CAPSTAN_CHAN_LISTEN)
        setsockopt(c->fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (what & CAPSTAN_CHAN_SHARED)
        setsockopt(c->fd, SOL_SOCKET, SO_REUSEPORT, &one, sizeof(one));
    if (kind != CAPSTAN_CHAN_DATAGRAM)
        setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    if (kind != CAPSTAN_CHAN_CONNECT && bind(c->fd, addr, len))
        return -errno;
    if (kind == CAPSTAN_CHAN_LISTEN && listen(c->fd, SOMAXCONN))
        return -errno;
    if (kind == CAPSTAN_CHAN_CONNECT) {
        c->is_connecting = true;
        if (connect(c->fd, addr, len) && errno != EINPROGRESS)
            return -errno;
    }
    return 0;
}

int linux_make(struct capstan_loop *l, int what, const struct sockaddr *addr,
               socklen_t len, struct capstan_channel *c)
{
    int kind = what & CAPSTAN_CHAN_KIND, err;
    int type = kind == CAPSTAN_CHAN_DATAGRAM ? SOCK_DGRAM : SOCK_STREAM;

    (void)l;
    c->fd = socket(addr->sa_family, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (c->fd < 0)
        return -errno;
    err = set_up(c, what, addr, len);
    if (!err)
        err = enter(c, kind == CAPSTAN_CHAN_CONNECT ? EPOLLOUT : EPOLLIN);
    if (err)
        close(c->fd);
    return err;
}

/* The token is told at the next turn. */
void linux_ref_done(struct capstan_loop *l, struct pending_ref *r)
{
    r->next = NULL;
    *l->sent_last = r;
    l->sent_last = &r->next;
    linux_loop_wake(l);
}

void linux_close(struct capstan_channel *c, bool abort)
{
    struct linger now = {.l_onoff = 1, .l_linger = 0};

    if (abort)
        setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
    close(c->fd);
    while (c->refs) {
        struct pending_ref *r = c->refs;

        c->refs = r->next;
        linux_ref_done(c->loop, r);
    }
    *c->link = c->next;
    if (c->next)
        c->next->link = c->link;
    c->is_dead = true;
    c->next = c->loop->dead;
    c->loop->dead = c;
}

void linux_pause(struct capstan_channel *c, bool is_paused)
{
    uint32_t out = c->interest & EPOLLOUT;

    c->is_paused = is_paused;
    if (!c->has_ended && !c->is_connecting && c->kind != CAPSTAN_CHAN_LISTEN)
        (void)linux_interest(c, is_paused ? out : out | EPOLLIN);
}

int linux_name(const struct capstan_channel *c, bool own,
               struct sockaddr *addr)
{
    socklen_t n = sizeof(struct sockaddr_storage);
    int err = own ? getsockname(c->fd, addr, &n)
                  : getpeername(c->fd, addr, &n);

    return err ? -errno : (int)n;
}

/* ---- events ---- */

static void accept_all(struct capstan_channel *listener)
{
    struct capstan_loop *l = listener->loop;
    int fd;

    while (!listener->is_dead &&
           (fd = accept4(listener->fd, NULL, NULL,
                         SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        struct capstan_channel *c = calloc(1, sizeof(*c));
        int one = 1;

        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
        if (c) {
            c->item.kind = WATCHED_CHANNEL;
            c->loop = l;
            c->handlers = listener->handlers;
            c->arg = listener->arg;
            c->fd = fd;
            c->kind = CAPSTAN_CHAN_CONNECT;
        }
        if (!c || enter(c, EPOLLIN)) {
            free(c);
            close(fd);
        } else if (c->handlers->accepted) {
            c->handlers->accepted(listener, c);
        }
    }
}

static void told_end(struct capstan_channel *c, int error)
{
    c->has_ended = true;
    (void)linux_interest(c, c->interest & EPOLLOUT);
    loop_told_end(c, error);
}

static void read_some(struct capstan_channel *c)
{
    struct lent_buf *b = fresh_buf(c->loop);
    struct sockaddr_storage from;
    socklen_t from_len = sizeof(from);
    struct capstan_data d = {.is_first = true, .is_last = true};
    ssize_t n;

    if (!b)
        return; /* no memory: epoll tells again */
    n = recvfrom(c->fd, b->bytes, READ_BYTES, MSG_DONTWAIT,
                 (struct sockaddr *)&from, &from_len);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (c->kind == CAPSTAN_CHAN_DATAGRAM) {
        if (n < 0)
            return; /* an ICMP message about somebody */
        d.from = (struct sockaddr *)&from;
        d.from_len = from_len;
    } else if (n <= 0) {
        told_end(c, n < 0 ? errno : 0);
        return;
    }
    d.bytes = b->bytes;
    d.len = (size_t)n;
    if (c->handlers->received)
        c->handlers->received(c, &d);
}

static void connected(struct capstan_channel *c)
{
    socklen_t n = sizeof(int);
    int err = 0;

    c->is_connecting = false;
    if (getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &err, &n))
        err = errno;
    (void)linux_interest(c, EPOLLIN | (c->wants_room ? EPOLLOUT : 0u));
    if (err)
        told_end(c, err);
    else if (c->handlers->opened)
        c->handlers->opened(c);
}

static void writable(struct capstan_channel *c)
{
    int err = linux_send_refs(c);

    if (err && !c->has_ended) {
        told_end(c, -err);
        return;
    }
    if (c->refs && !err)
        return;
    (void)linux_interest(c, c->interest & ~EPOLLOUT);
    if (c->wants_room) {
        c->wants_room = false;
        if (c->handlers->room)
            c->handlers->room(c);
    }
}

static void channel_event(struct capstan_channel *c, uint32_t events)
{
    if (c->is_dead)
        return;
    if (c->kind == CAPSTAN_CHAN_LISTEN) {
        accept_all(c);
        return;
    }
    if (c->is_connecting) {
        connected(c);
        return;
    }
    if (events & EPOLLOUT)
        writable(c);
    if (c->is_dead)
        return;
    if (!c->has_ended && !c->is_paused &&
        events & (EPOLLIN | EPOLLHUP | EPOLLERR | EPOLLRDHUP))
        read_some(c);
}

static void tell_sent(struct capstan_loop *l)
{
    struct pending_ref *r = l->sent_refs;

    l->sent_refs = NULL;
    l->sent_last = &l->sent_refs;
    while (r) {
        struct pending_ref *next = r->next;

        if (l->sent)
            l->sent(l->sent_arg, r->token);
        free(r);
        r = next;
    }
}

/* nr_stops: as it was when the event was fetched. */
static void handle(struct capstan_loop *l, const struct epoll_event *e,
                   uint32_t nr_stops)
{
    struct watched_item *item = e->data.ptr;
    uint64_t count;

    if (e->data.u64 & WATCH_TAG) {
        struct capstan_watch *w =
            (struct capstan_watch *)(e->data.u64 & ~WATCH_TAG);

        if (l->nr_stops == nr_stops) /* else perhaps it: epoll tells again */
            w->ready(w, e->events);
    } else if (item->kind == WATCHED_CHANNEL) {
        channel_event(e->data.ptr, e->events);
    } else {
        (void)!read(l->wake, &count, sizeof(count));
    }
}

int linux_loop_turn(struct capstan_loop *l, int64_t timeout_ns)
{
    struct epoll_event events[64];
    uint32_t nr_stops = l->nr_stops;
    int n = epoll_wait(l->epoll, events, 64, loop_ms(timeout_ns));
    int err = n < 0 ? -errno : 0;

    for (int i = 0; i < n; i++)
        handle(l, &events[i], nr_stops);
    tell_sent(l);
    free_dead(l);
    return err ? err : n;
}
