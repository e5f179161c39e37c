/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Loops and channels over the guest (net/channel.h there): a turn is one call;
 * the events it makes lie in the guest's memory, and so do the bytes they are
 * about.
 */
#define _GNU_SOURCE
#include "internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int guest_loop_create(struct capstan_loop *l)
{
    struct capstan_loop_abi made;
    long fd = guest_call(CAPSTAN_CALL_LOOP_CREATE, (long)&made);

    if (fd < 0)
        return (int)fd;
    l->fd = (int)fd;
    l->events = made.events;
    return 0;
}

void guest_loop_destroy(struct capstan_loop *l)
{
    for (uint32_t i = 0; i < l->nr_slots; i++)
        free(l->slots[i]);
    free(l->slots);
    close(l->fd); /* the guest closes the channels */
}

/* ---- channels by handle ---- */

static struct capstan_channel *find(const struct capstan_loop *l,
                                    uint64_t handle)
{
    uint32_t slot = (uint32_t)handle;
    struct capstan_channel *c = slot < l->nr_slots ? l->slots[slot] : NULL;

    return c && c->handle == handle ? c : NULL;
}

static bool enter(struct capstan_loop *l, struct capstan_channel *c,
                  uint64_t handle)
{
    uint32_t slot = (uint32_t)handle, n = l->nr_slots;
    struct capstan_channel **slots = l->slots;

    while (slot >= n)
        n = n ? 2 * n : 64;
    if (n > l->nr_slots) {
        slots = realloc(slots, n * sizeof(*slots));
        if (!slots)
            return false;
        memset(slots + l->nr_slots, 0, (n - l->nr_slots) * sizeof(*slots));
        l->slots = slots;
        l->nr_slots = n;
    }
    c->handle = handle;
    slots[slot] = c;
    return true;
}

static void guest_forget(struct capstan_loop *l, uint64_t handle, bool abort)
{
    guest_call(CAPSTAN_CALL_CHAN_CLOSE, l->fd, (long)handle,
               abort ? CAPSTAN_CHAN_ABORT : 0);
}

int guest_make(struct capstan_loop *l, int what, const struct sockaddr *addr,
               socklen_t len, struct capstan_channel *c)
{
    long handle = guest_call(CAPSTAN_CALL_CHAN_MAKE, l->fd, what, (long)addr,
                             (long)len);

    if (handle < 0)
        return (int)handle;
    if (enter(l, c, (uint64_t)handle))
        return 0;
    guest_forget(l, (uint64_t)handle, true);
    return -ENOMEM;
}

void guest_close(struct capstan_channel *c, bool abort)
{
    guest_forget(c->loop, c->handle, abort);
    c->loop->slots[(uint32_t)c->handle] = NULL;
    free(c);
}

/* ---- events ---- */

static void accepted(struct capstan_channel *listener, uint64_t handle)
{
    struct capstan_loop *l = listener->loop;
    struct capstan_channel *c = calloc(1, sizeof(*c));

    if (!c || !enter(l, c, handle)) {
        free(c);
        guest_forget(l, handle, true);
        return;
    }
    c->item.kind = WATCHED_CHANNEL;
    c->loop = l;
    c->handlers = listener->handlers;
    c->arg = listener->arg;
    c->kind = CAPSTAN_CHAN_CONNECT;
    if (c->handlers->accepted)
        c->handlers->accepted(listener, c);
}

static void received(struct capstan_channel *c,
                     const struct capstan_event_abi *e, uint32_t number)
{
    struct capstan_data d = {.bytes = e->data, .len = e->len,
                             .is_first = !(e->what & CAPSTAN_EV_SAME),
                             .is_last = !(e->what & CAPSTAN_EV_MORE),
                             .number = number};

    if (e->from_len) {
        d.from = (const struct sockaddr *)e->from;
        d.from_len = e->from_len;
    }
    if (likely(c->handlers->received != NULL))
        c->handlers->received(c, &d);
}

static void dispatch(struct capstan_loop *l, const struct capstan_event_abi *e,
                     uint32_t number)
{
    struct capstan_channel *c = find(l, e->handle);

    if ((e->what & 0xff) == CAPSTAN_EV_SENT) {
        if (l->sent)
            l->sent(l->sent_arg, e->value);
        return;
    }
    if (!c) { /* closed by a handler of this turn */
        if ((e->what & 0xff) == CAPSTAN_EV_ACCEPT)
            guest_forget(l, e->value, true);
        return;
    }
    switch (e->what & 0xff) {
    case CAPSTAN_EV_DATA:
        received(c, e, number);
        break;
    case CAPSTAN_EV_ACCEPT:
        accepted(c, e->value);
        break;
    case CAPSTAN_EV_END:
        loop_told_end(c, (int)e->value);
        break;
    case CAPSTAN_EV_OPEN:
        if (c->handlers->opened)
            c->handlers->opened(c);
        break;
    case CAPSTAN_EV_ROOM:
        if (c->handlers->room)
            c->handlers->room(c);
        break;
    default: /* of a newer guest */
        break;
    }
}

int guest_loop_turn(struct capstan_loop *l, int64_t timeout_ns)
{
    long n = guest_call(CAPSTAN_CALL_LOOP_TURN, l->fd, timeout_ns);

    for (long i = 0; i < n; i++)
        dispatch(l, &l->events[i], (uint32_t)i);
    return (int)n;
}
