/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * libcapstan's calls on loops and channels: arguments checked and converted,
 * the rest is net/channel.h. A loop is named by its descriptor.
 */
#include "capstan_calls.h"

#include "lib/errno.h"
#include "lib/string.h"
#include "linux/fsutil.h"
#include "linux/syscall.h"
#include "mm/mm.h"
#include "net/channel.h"
#include "net/inet_sock.h"

struct call { /* a call on a loop that was entered */
    struct chan_loop *loop;
    struct file *file; /* one reference */
};

static int call_begin(int fd, struct call *c)
{
    int err = -EBADF;

    c->file = fd_get(fd);
    if (!c->file)
        return err;
    c->loop = chan_loop_of(c->file);
    if (c->loop)
        err = chan_loop_enter(c->loop);
    if (err)
        file_put(c->file);
    return err;
}

static int64_t call_end(struct call *c, int64_t result)
{
    chan_loop_leave(c->loop);
    file_put(c->file);
    return result;
}

/* A struct sockaddr_in or _in6 of the program's. *family: 4 or 6. */
static int get_name(uint64_t from, uint64_t len, struct net_endpoint *out,
                    uint32_t *family)
{
    uint8_t b[SOCKADDR_IN6_BYTES] = {0};
    uint16_t f;
    int err;

    if (len < SOCKADDR_IN_BYTES)
        return -EINVAL;
    err = copy_from_user(b, (void *)from, MIN(len, sizeof(b)));
    if (err)
        return err;
    memcpy(&f, b, sizeof(f));
    *out = (struct net_endpoint){.port = wire_get16(b + 2)};
    if (f == AF_INET) {
        out->addr = addr_from_wire4(b + 4);
    } else if (f == AF_INET6 && len >= SOCKADDR_IN6_MIN) {
        out->addr = addr_from_wire6(b + 8);
        if (addr_is_link_local(&out->addr))
            memcpy(&out->scope, b + 24, sizeof(out->scope));
    } else {
        return f == AF_INET6 ? -EINVAL : -EAFNOSUPPORT;
    }
    *family = f == AF_INET ? 4 : 6;
    return 0;
}

/* ---- loops ---- */

static int64_t loop_create(uint64_t out)
{
    struct capstan_loop_abi made = {.max_events = CHAN_EVENTS};
    struct file *f;
    int64_t fd = chan_loop_create(&f);

    if (fd)
        return fd;
    made.events = chan_loop_of(f)->events;
    fd = copy_to_user((void *)out, &made, sizeof(made));
    if (!fd)
        fd = fd_install(f, 0, true);
    if (fd < 0)
        file_put(f);
    return fd;
}

static int64_t loop_turn(uint64_t fd, uint64_t timeout)
{
    struct call c;
    int64_t n = call_begin((int)fd, &c);

    if (n)
        return n;
    n = chan_loop_turn(c.loop, (nsec_t)timeout);
    if (n != -EBUSY)
        return call_end(&c, n);
    file_put(c.file); /* somebody else has entered it */
    return n;
}

/* From any thread and any signal handler. */
static int64_t loop_wake(uint64_t fd)
{
    struct file *f = fd_get((int)fd);
    struct chan_loop *l = f ? chan_loop_of(f) : NULL;

    if (l)
        chan_loop_wake(l);
    if (f)
        file_put(f);
    return l ? 0 : -EBADF;
}

static int64_t loop_memory(struct chan_loop *l, uint64_t bytes, uint64_t out)
{
    void *data;
    int err = chan_memory(l, bytes, &data);

    return err ? err : copy_to_user((void *)out, &data, sizeof(data));
}

/* ---- channels ---- */

static int64_t chan_make_call(struct chan_loop *l, uint64_t what,
                              uint64_t name, uint64_t len)
{
    struct chan_made m = {.is_shared = (what & CAPSTAN_CHAN_SHARED) != 0};
    struct net_endpoint e;
    uint64_t handle;
    int err = get_name(name, len, &e, &m.family);

    if (err)
        return err;
    switch (what & ~(uint64_t)CAPSTAN_CHAN_SHARED) {
    case CAPSTAN_CHAN_LISTEN:
        m.kind = CHAN_LISTENER;
        m.local = &e;
        break;
    case CAPSTAN_CHAN_CONNECT:
        m.kind = CHAN_TCP;
        m.remote = &e;
        break;
    case CAPSTAN_CHAN_DATAGRAM:
        m.kind = CHAN_UDP;
        m.local = &e;
        break;
    default:
        return -EINVAL;
    }
    if (m.remote && !e.port)
        return -EINVAL;
    err = chan_make(l, &m, &handle);
    return err ? err : (int64_t)handle;
}

static int64_t chan_send_call(struct chan *c, const uint64_t args[6])
{
    struct net_endpoint to;
    uint32_t family;
    int err;

    if (c->kind != CHAN_UDP)
        return args[4] ? -EISCONN
                       : chan_send(c, (void *)args[2], args[3], NULL);
    if (!args[4])
        return -EDESTADDRREQ;
    err = get_name(args[4], args[5], &to, &family);
    if (!err && family != c->ns->family)
        err = -EAFNOSUPPORT;
    return err ? err : chan_send(c, (void *)args[2], args[3], &to);
}

static int64_t chan_name_call(struct chan *c, uint64_t own, uint64_t out)
{
    struct net_endpoint e;
    uint8_t name[SOCKADDR_IN6_BYTES];
    uint32_t len;
    int err;

    sock_lock(c->ns);
    e = own ? c->ns->local : c->ns->remote;
    sock_unlock(c->ns);
    len = chan_put_name(c, &e, name);
    err = copy_to_user((void *)out, name, sizeof(name));
    return err ? err : (int64_t)len;
}

static int64_t on_channel(struct chan_loop *l, uint64_t nr,
                          const uint64_t args[6])
{
    struct chan *c = chan_find(l, args[1]);

    if (!c)
        return -EBADF;
    switch (nr) {
    case CAPSTAN_CALL_CHAN_SEND:
        return chan_send_call(c, args);
    case CAPSTAN_CALL_CHAN_SEND_REF:
        return chan_send_ref(c, (void *)args[2], args[3], args[4]);
    case CAPSTAN_CALL_CHAN_NAME:
        return chan_name_call(c, args[2], args[3]);
    case CAPSTAN_CALL_CHAN_PAUSE:
        chan_pause(c, args[2] != 0);
        return 0;
    default:
        chan_close(c, (args[2] & CAPSTAN_CHAN_ABORT) != 0);
        return 0;
    }
}

static int64_t on_loop(struct chan_loop *l, uint64_t nr,
                       const uint64_t args[6])
{
    switch (nr) {
    case CAPSTAN_CALL_CHAN_MAKE:
        return chan_make_call(l, args[1], args[2], args[3]);
    case CAPSTAN_CALL_CHAN_HOLD:
        return chan_hold(l, (uint32_t)args[1]);
    case CAPSTAN_CALL_CHAN_DROP:
        return chan_drop(l, args[1]);
    case CAPSTAN_CALL_LOOP_MEMORY:
        return loop_memory(l, args[1], args[2]);
    default:
        return on_channel(l, nr, args);
    }
}

int64_t capstan_channel_call(uint64_t nr, const uint64_t args[6])
{
    struct call c;
    int64_t err;

    switch (nr) {
    case CAPSTAN_CALL_LOOP_CREATE:
        return loop_create(args[0]);
    case CAPSTAN_CALL_LOOP_TURN:
        return loop_turn(args[0], args[1]);
    case CAPSTAN_CALL_LOOP_WAKE:
        return loop_wake(args[0]);
    default:
        break;
    }
    err = call_begin((int)args[0], &c);
    return err ? err : call_end(&c, on_loop(c.loop, nr, args));
}
