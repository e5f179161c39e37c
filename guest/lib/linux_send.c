/* SPDX-License-Identifier: BSD-2-Clause */
/* Sending over sockets of Linux. By reference means: the queue of the channel
 * has the rest that the socket did not take; what is sent later waits for it. */
#define _GNU_SOURCE
#include "internal.h"

#include <errno.h>
#include <stdlib.h>

#define REF_MAX (1ul << 20)

static void want_room(struct capstan_channel *c)
{
    c->wants_room = true;
    (void)linux_interest(c, c->interest | EPOLLOUT);
}

ssize_t linux_send(struct capstan_channel *c, const void *data, size_t len)
{
    ssize_t n = -1;

    if (c->kind == CAPSTAN_CHAN_DATAGRAM)
        return -EDESTADDRREQ;
    errno = EAGAIN;
    if (!c->refs && !c->is_connecting) /* else behind those */
        n = send(c->fd, data, len, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n < 0 && errno != EAGAIN)
        return -errno;
    if (n < (ssize_t)len)
        want_room(c);
    return n < 0 ? -EAGAIN : n;
}

ssize_t linux_send_to(struct capstan_channel *c, const void *data, size_t len,
                      const struct sockaddr *to, socklen_t n)
{
    ssize_t sent;

    if (c->kind != CAPSTAN_CHAN_DATAGRAM)
        return -EISCONN;
    sent = sendto(c->fd, data, len, MSG_NOSIGNAL | MSG_DONTWAIT, to, n);
    return sent < 0 ? -errno : sent;
}

int linux_send_refs(struct capstan_channel *c)
{
    while (c->refs) {
        struct pending_ref *r = c->refs;
        ssize_t n = send(c->fd, r->data, r->len, MSG_NOSIGNAL | MSG_DONTWAIT);

        if (n < 0)
            return errno == EAGAIN ? 0 : -errno;
        r->data += n;
        r->len -= (size_t)n;
        if (r->len)
            return 0;
        c->refs = r->next;
        if (!c->refs)
            c->refs_last = &c->refs;
        linux_ref_done(c->loop, r);
    }
    return 0;
}

static bool may_refer(struct capstan_loop *l, const void *data, size_t len)
{
    const uint8_t *p = data;

    if (l->buf && p >= l->buf->bytes && p + len <= l->buf->bytes + READ_BYTES)
        return true;
    for (struct loop_block *b = l->blocks; b; b = b->next)
        if (p >= b->data && p + len <= b->data + b->size)
            return true;
    return false;
}

int linux_send_ref(struct capstan_channel *c, const void *data, size_t len,
                   uint64_t token)
{
    struct pending_ref *r;
    int err;

    if (c->kind != CAPSTAN_CHAN_CONNECT || !len || len > REF_MAX)
        return -EINVAL;
    if (!may_refer(c->loop, data, len))
        return -EFAULT;
    if (c->refs || c->is_connecting) {
        want_room(c);
        return -EAGAIN;
    }
    r = malloc(sizeof(*r));
    if (!r)
        return -ENOBUFS;
    *r = (struct pending_ref){.data = data, .len = len, .token = token};
    *c->refs_last = r;
    c->refs_last = &r->next;
    err = linux_send_refs(c);
    if (c->refs)
        (void)linux_interest(c, c->interest | EPOLLOUT);
    return err;
}
