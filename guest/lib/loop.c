/* SPDX-License-Identifier: BSD-2-Clause */
/* Loops and channels: what does not depend on who does the work. See
 * capstan/channel.h. */
#define _GNU_SOURCE
#include "internal.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#define LOOK_EVERY 16 /* busy turns between two looks at watches */

uint64_t loop_now(void)
{
    return capstan_clock_ns();
}

void loop_told_end(struct capstan_channel *c, int error)
{
    if (c->handlers->ended)
        c->handlers->ended(c, error);
    else
        capstan_channel_close(c);
}

/* ---- loops ---- */

EXPORT int capstan_loop_create(struct capstan_loop **out)
{
    struct capstan_loop *l = calloc(1, sizeof(*l));
    int err;

    if (!l)
        return -ENOMEM;
    l->fd = l->epoll = l->wake = -1;
    l->loop_item.kind = WATCHED_LOOP;
    l->wake_item.kind = WATCHED_WAKE;
    l->is_native = capstan_version() >= 2;
    err = l->is_native ? guest_loop_create(l) : linux_loop_create(l);
    if (err)
        free(l);
    else
        *out = l;
    return err;
}

EXPORT void capstan_loop_destroy(struct capstan_loop *l)
{
    if (l->is_native)
        guest_loop_destroy(l);
    else
        linux_loop_destroy(l);
    if (l->epoll >= 0)
        close(l->epoll);
    free(l);
}

EXPORT bool capstan_loop_is_native(const struct capstan_loop *l)
{
    return l->is_native;
}

EXPORT void capstan_loop_stop(struct capstan_loop *l)
{
    __atomic_store_n(&l->stopped, 1, __ATOMIC_RELEASE);
    if (l->is_native)
        guest_call(CAPSTAN_CALL_LOOP_WAKE, l->fd);
    else
        linux_loop_wake(l);
}

EXPORT void capstan_loop_on_sent(struct capstan_loop *l,
                                 void (*sent)(void *arg, uint64_t token),
                                 void *arg)
{
    l->sent = sent;
    l->sent_arg = arg;
}

/* ---- timers ---- */

EXPORT void capstan_timer_start(struct capstan_loop *l,
                                struct capstan_timer *t, uint64_t ns)
{
    struct capstan_timer **link = &l->timers;

    if (t->at)
        capstan_timer_stop(l, t);
    t->at = loop_now() + ns;
    while (*link && (*link)->at <= t->at)
        link = &(*link)->next;
    t->next = *link;
    *link = t;
}

EXPORT void capstan_timer_stop(struct capstan_loop *l,
                               struct capstan_timer *t)
{
    struct capstan_timer **link = &l->timers;

    while (*link && *link != t)
        link = &(*link)->next;
    if (*link)
        *link = t->next;
    t->at = 0;
}

static int run_timers(struct capstan_loop *l)
{
    uint64_t now;
    int n = 0;

    if (!l->timers)
        return 0;
    now = loop_now();
    while (l->timers && l->timers->at <= now) {
        struct capstan_timer *t = l->timers;

        l->timers = t->next;
        t->at = 0;
        t->fired(t);
        n++;
    }
    return n;
}

/* How long a turn may wait. */
static int64_t until_timer(const struct capstan_loop *l, int64_t timeout_ns)
{
    int64_t left;

    if (!l->timers || timeout_ns == 0)
        return timeout_ns;
    left = (int64_t)(l->timers->at - loop_now());
    left = left > 0 ? left : 0;
    return timeout_ns < 0 || left < timeout_ns ? left : timeout_ns;
}

/* ---- watches ---- */

/* In the guest, watches are an epoll of their own, in which the loop is one
 * descriptor more. */
static int need_epoll(struct capstan_loop *l)
{
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = &l->loop_item};

    if (l->epoll >= 0)
        return 0;
    l->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (l->epoll < 0)
        return -errno;
    return epoll_ctl(l->epoll, EPOLL_CTL_ADD, l->fd, &e) ? -errno : 0;
}

EXPORT int capstan_watch_start(struct capstan_loop *l,
                               struct capstan_watch *w)
{
    struct epoll_event e = {.events = w->events,
                            .data.u64 = (uint64_t)w | WATCH_TAG};
    int err = need_epoll(l);

    if (err)
        return err;
    return epoll_ctl(l->epoll, EPOLL_CTL_ADD, w->fd, &e) ? -errno : 0;
}

EXPORT int capstan_watch_stop(struct capstan_loop *l, struct capstan_watch *w)
{
    struct epoll_event e = {0};

    if (l->epoll < 0)
        return -ENOENT;
    l->nr_stops++;
    return epoll_ctl(l->epoll, EPOLL_CTL_DEL, w->fd, &e) ? -errno : 0;
}

int loop_ms(int64_t timeout_ns)
{
    const int64_t max_ms = 2000000;

    if (timeout_ns < 0)
        return -1;
    return timeout_ns > max_ms * 1000000
               ? (int)max_ms
               : (int)((timeout_ns + 999999) / 1000000);
}

/* One event at a time: a handler may stop any watch. Returns 1, 0 or an error. */
static int look_at_watches(struct capstan_loop *l, int64_t timeout_ns)
{
    struct epoll_event e;
    struct capstan_watch *w;
    int n = epoll_wait(l->epoll, &e, 1, loop_ms(timeout_ns));

    if (n <= 0)
        return n < 0 ? -errno : 0;
    if (!(e.data.u64 & WATCH_TAG))
        return 0; /* the loop itself */
    w = (struct capstan_watch *)(e.data.u64 & ~WATCH_TAG);
    w->ready(w, e.events);
    return 1;
}

/* ---- turns ---- */

static int native_turn(struct capstan_loop *l, int64_t timeout_ns)
{
    bool has_watches = l->epoll >= 0;
    int n = guest_loop_turn(l, has_watches ? 0 : timeout_ns), m;

    if (!has_watches || n < 0 || (n && ++l->turns % LOOK_EVERY))
        return n;
    m = look_at_watches(l, n ? 0 : timeout_ns);
    if (n || m)
        return n ? n : m;
    return guest_loop_turn(l, 0);
}

EXPORT int capstan_loop_turn(struct capstan_loop *l, int64_t timeout_ns)
{
    int64_t wait = until_timer(l, timeout_ns);
    int n = l->is_native ? native_turn(l, wait) : linux_loop_turn(l, wait);

    return n < 0 ? n : n + run_timers(l);
}

EXPORT int capstan_loop_run(struct capstan_loop *l)
{
    int n = 0;

    while (!__atomic_load_n(&l->stopped, __ATOMIC_ACQUIRE) &&
           (n >= 0 || n == -EINTR))
        n = capstan_loop_turn(l, -1);
    if (n < 0 && n != -EINTR)
        return n;
    __atomic_store_n(&l->stopped, 0, __ATOMIC_RELEASE);
    return 0;
}

/* ---- channels ---- */

struct wanted {
    int what; /* CAPSTAN_CHAN_* */
    const struct sockaddr *addr;
    socklen_t len;
};

static int make(struct capstan_loop *l, const struct wanted *w,
                const struct capstan_handlers *handlers, void *arg,
                struct capstan_channel **out)
{
    struct capstan_channel *c = calloc(1, sizeof(*c));
    int err;

    if (!c)
        return -ENOMEM;
    c->item.kind = WATCHED_CHANNEL;
    c->loop = l;
    c->handlers = handlers;
    c->arg = arg;
    c->kind = w->what & CAPSTAN_CHAN_KIND;
    err = l->is_native ? guest_make(l, w->what, w->addr, w->len, c)
                       : linux_make(l, w->what, w->addr, w->len, c);
    if (err)
        free(c);
    else if (out)
        *out = c;
    return err;
}

EXPORT int capstan_listen(struct capstan_loop *l, const struct sockaddr *addr,
                          socklen_t len, int flags,
                          const struct capstan_handlers *handlers, void *arg,
                          struct capstan_channel **out)
{
    struct wanted w = {CAPSTAN_CHAN_LISTEN, addr, len};

    if (flags & CAPSTAN_SHARED)
        w.what |= CAPSTAN_CHAN_SHARED;
    return make(l, &w, handlers, arg, out);
}

EXPORT int capstan_connect(struct capstan_loop *l, const struct sockaddr *addr,
                           socklen_t len,
                           const struct capstan_handlers *handlers, void *arg,
                           struct capstan_channel **out)
{
    struct wanted w = {CAPSTAN_CHAN_CONNECT, addr, len};

    return make(l, &w, handlers, arg, out);
}

EXPORT int capstan_datagram(struct capstan_loop *l,
                            const struct sockaddr *addr, socklen_t len,
                            int flags, const struct capstan_handlers *handlers,
                            void *arg, struct capstan_channel **out)
{
    struct wanted w = {CAPSTAN_CHAN_DATAGRAM, addr, len};

    if (flags & CAPSTAN_SHARED)
        w.what |= CAPSTAN_CHAN_SHARED;
    return make(l, &w, handlers, arg, out);
}

EXPORT void capstan_channel_close(struct capstan_channel *c)
{
    if (c->loop->is_native)
        guest_close(c, false);
    else
        linux_close(c, false);
}

EXPORT void capstan_channel_abort(struct capstan_channel *c)
{
    if (c->loop->is_native)
        guest_close(c, true);
    else
        linux_close(c, true);
}

EXPORT void capstan_channel_pause(struct capstan_channel *c, bool is_paused)
{
    if (c->loop->is_native)
        guest_call(CAPSTAN_CALL_CHAN_PAUSE, c->loop->fd, (long)c->handle,
                   is_paused);
    else
        linux_pause(c, is_paused);
}

EXPORT void capstan_channel_set(struct capstan_channel *c,
                                const struct capstan_handlers *handlers,
                                void *arg)
{
    c->handlers = handlers;
    c->arg = arg;
}

EXPORT void *capstan_channel_arg(const struct capstan_channel *c)
{
    return c->arg;
}

EXPORT struct capstan_loop *
capstan_channel_loop(const struct capstan_channel *c)
{
    return c->loop;
}

static int name(const struct capstan_channel *c, bool own,
                struct sockaddr *addr)
{
    if (c->loop->is_native)
        return (int)guest_call(CAPSTAN_CALL_CHAN_NAME, c->loop->fd,
                               (long)c->handle, own, (long)addr);
    return linux_name(c, own, addr);
}

EXPORT int capstan_channel_peer(const struct capstan_channel *c,
                                struct sockaddr *addr)
{
    return name(c, false, addr);
}

EXPORT int capstan_channel_local(const struct capstan_channel *c,
                                 struct sockaddr *addr)
{
    return name(c, true, addr);
}

/* ---- data ---- */

EXPORT ssize_t capstan_send(struct capstan_channel *c, const void *data,
                            size_t len)
{
    if (likely(c->loop->is_native))
        return guest_call(CAPSTAN_CALL_CHAN_SEND, c->loop->fd,
                          (long)c->handle, (long)data, (long)len, 0, 0);
    return linux_send(c, data, len);
}

EXPORT ssize_t capstan_send_to(struct capstan_channel *c, const void *data,
                               size_t len, const struct sockaddr *to,
                               socklen_t n)
{
    if (likely(c->loop->is_native)) {
        struct sockaddr_storage copy; /* `to` may be lent: not the program's */

        if (n > sizeof(copy))
            return -EINVAL;
        __builtin_memcpy(&copy, to, n);
        return guest_call(CAPSTAN_CALL_CHAN_SEND, c->loop->fd,
                          (long)c->handle, (long)data, (long)len, (long)&copy,
                          n);
    }
    return linux_send_to(c, data, len, to, n);
}

EXPORT int capstan_send_ref(struct capstan_channel *c, const void *data,
                            size_t len, uint64_t token)
{
    if (likely(c->loop->is_native))
        return (int)guest_call(CAPSTAN_CALL_CHAN_SEND_REF, c->loop->fd,
                               (long)c->handle, (long)data, (long)len,
                               (long)token);
    return linux_send_ref(c, data, len, token);
}

EXPORT int capstan_loop_memory(struct capstan_loop *l, size_t bytes,
                               void **out)
{
    if (!l->is_native)
        return linux_memory(l, bytes, out);
    return (int)guest_call(CAPSTAN_CALL_LOOP_MEMORY, l->fd, (long)bytes,
                           (long)out);
}

EXPORT int64_t capstan_hold(struct capstan_loop *l,
                            const struct capstan_data *d)
{
    if (!l->is_native)
        return linux_hold(l);
    return guest_call(CAPSTAN_CALL_CHAN_HOLD, l->fd, d->number);
}

EXPORT int capstan_drop(struct capstan_loop *l, int64_t held)
{
    if (!l->is_native)
        return linux_drop(l, held);
    return (int)guest_call(CAPSTAN_CALL_CHAN_DROP, l->fd, held);
}
