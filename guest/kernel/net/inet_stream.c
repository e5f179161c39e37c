/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * TCP sockets: connecting, accepting, moving bytes, closing (man 7 tcp). The
 * stack does not wait; the waiting is here. Locks: inet_sock.h.
 */
#include "net/inet_sock.h"

#include "fs/events.h"
#include "lib/printk.h"
#include "linux/task.h"
#include "net/kernel.h"
#include "net/port.h"

/* Looked at without the stack's lock: a hint, or known not to change. */
static uint8_t tcp_state_now(struct inet_sock *i)
{
    return atomic_load_relaxed(&i->tcp->state);
}

/* ---- connect ---- */

/* Is the handshake going on? Looks at what has come first. */
static bool is_shaking(struct inet_sock *i)
{
    uint8_t state;

    (void)inet_events(i);
    state = tcp_state_now(i);
    return state == TCP_SYN_SENT || state == TCP_SYN_RECV;
}

/* A connection that did not come about leaves no names but a bound one. The
 * socket is in no table of connections: those are found by the names. */
static void forget_names(struct inet_sock *i)
{
    struct net_addr any = inet_is_v6(i) ? (struct net_addr){.q = {0, 0}}
                                        : addr_from_v4(0);
    struct net_endpoint none = {.addr = any};
    struct net_sock *ns = i->ns;

    sock_lock(ns);
    assert(i->tcp->state == TCP_CLOSE);
    if (ns->is_bound)
        any = ns->local.addr;
    if (ns->port_link) {
        port_connect(ns, &any, &none);
    } else {
        ns->local.addr = any;
        ns->remote = none;
    }
    sock_unlock(ns);
}

/* The handshake is over: how? Only the state tells; an error may be of what
 * came later. REQUIRES(write_lock) */
static int connect_result(struct inet_sock *i)
{
    int err;

    if (i->state == INET_CONNECTED) /* another thread has told it */
        return -EISCONN;
    if (tcp_state_now(i) != TCP_CLOSE) {
        i->state = INET_CONNECTED;
        return 0;
    }
    err = sock_take_error(i->ns);
    i->state = INET_UNCONNECTED;
    forget_names(i);
    return err ? -err : -ECONNABORTED;
}

/* REQUIRES(write_lock), given up while waiting */
static int connect_wait(struct inet_sock *i, nsec_t deadline)
{
    int err;

    mutex_unlock(&i->write_lock);
    err = wait_event(&i->write_wait, !is_shaking(i), WAIT_INTERRUPTIBLE,
                     deadline);
    mutex_lock(&i->write_lock);
    if (err == -ETIMEDOUT)
        return -EINPROGRESS;
    return socket_wait_error(err, i->s.sndtimeo);
}

/* AF_UNSPEC: back to a socket that is not connected. REQUIRES(write_lock) */
static int disconnect(struct inet_sock *i)
{
    mutex_lock(&i->read_lock);
    tcp_disconnect(i->tcp);
    i->s.is_listening = false;
    i->state = INET_UNCONNECTED;
    forget_names(i);
    mutex_unlock(&i->read_lock);
    return 0;
}

/* REQUIRES(write_lock) */
static int start_connect(struct inet_sock *i, const struct socket_addr *addr)
{
    struct net_endpoint remote;
    int err = inet_addr_get(i, addr, INET_FOR_CONNECT, &remote);

    if (err)
        return err;
    if (i->state == INET_CONNECTED || tcp_state_now(i) == TCP_LISTEN)
        return -EISCONN;
    if (addr_is_link_local(&remote.addr) && !remote.scope &&
        !atomic_load_relaxed(&i->ns->bound_nif))
        return -EINVAL;
    err = tcp_connect(i->tcp, &remote);
    if (err == -EINPROGRESS)
        i->state = INET_CONNECTING;
    return err;
}

int inet_stream_connect(struct socket *s, const struct socket_addr *addr,
                        bool nonblock)
{
    struct inet_sock *i = to_inet(s);
    nsec_t deadline = socket_deadline(s->sndtimeo);
    bool is_first;
    int err;

    if (addr->len < sizeof(addr->family))
        return -EINVAL;
    mutex_lock(&i->write_lock);
    is_first = i->state != INET_CONNECTING;
    if (addr->family == AF_UNSPEC)
        err = disconnect(i);
    else
        err = is_first ? start_connect(i, addr) : -EALREADY;
    if (err == -EINPROGRESS || err == -EALREADY) {
        bool is_over = !is_shaking(i);

        if (!is_over && !nonblock)
            is_over = (err = connect_wait(i, deadline)) == 0;
        if (is_over && !(is_first && nonblock))
            err = connect_result(i);
    }
    mutex_unlock(&i->write_lock);
    return err;
}

/* ---- listen and accept ---- */

int inet_stream_listen(struct socket *s, int backlog)
{
    struct inet_sock *i = to_inet(s);
    int err;

    mutex_lock(&i->write_lock);
    err = i->state != INET_UNCONNECTED
              ? -EINVAL
              : tcp_listen(i->tcp, backlog < 0 ? ~0u : (uint32_t)backlog);
    if (!err)
        s->is_listening = true;
    mutex_unlock(&i->write_lock);
    return err;
}

int inet_stream_accept(struct socket *s, bool nonblock, struct socket **out)
{
    struct inet_sock *i = to_inet(s);
    nsec_t deadline = socket_deadline(s->rcvtimeo);
    struct tcp_conn *tcp;
    int err;

    for (;;) {
        err = tcp_accept(i->tcp, &tcp);
        if (!err)
            return inet_adopt(i, tcp, out);
        if (err == -EAGAIN && nonblock && net_kernel_look())
            continue;
        if (err != -EAGAIN || nonblock)
            return err;
        err = wait_event(&i->read_wait,
                         inet_events(i) & (NET_EV_IN | NET_EV_HUP),
                         WAIT_INTERRUPTIBLE | WAIT_EXCLUSIVE, deadline);
        if (err)
            return socket_wait_error(err, s->rcvtimeo);
    }
}

/* ---- sending ---- */

/* REQUIRES(write_lock) */
static ssize_t send_locked(struct inet_sock *i, struct inet_iter *from,
                           uint32_t flags)
{
    nsec_t deadline = socket_deadline(i->s.sndtimeo);
    uint32_t more = flags & MSG_MORE ? TCP_SEND_MORE : 0;
    ssize_t done = 0, n;
    int err;

    for (;;) {
        n = tcp_send(i->tcp, &from->it, more | (done ? TCP_KEEP_ERROR : 0));
        if (n > 0)
            done += n;
        if ((n < 0 && n != -EAGAIN) || (n >= 0 && !from->it.left) ||
            (flags & MSG_DONTWAIT))
            break;
        mutex_unlock(&i->write_lock);
        err = inet_wait(i, &i->write_wait, NET_EV_OUT, deadline,
                        i->s.sndtimeo);
        mutex_lock(&i->write_lock);
        if (err) {
            n = err;
            break;
        }
    }
    return done ? done : n;
}

ssize_t inet_stream_send(struct socket *s, struct socket_msg *m,
                         uint32_t flags)
{
    struct inet_sock *i = to_inet(s);
    struct inet_iter from;
    ssize_t n;

    if (flags & (MSG_OOB | MSG_FASTOPEN))
        return -ENOTSUP;
    if (i->state == INET_CONNECTING && tcp_state_now(i) != TCP_SYN_SENT) {
        mutex_lock(&i->write_lock); /* a write ends the connecting as well */
        if (i->state == INET_CONNECTING && tcp_is_connected(i->tcp))
            i->state = INET_CONNECTED;
        mutex_unlock(&i->write_lock);
    }
    inet_iter_from(&from, m->iter);
    mutex_lock(&i->write_lock);
    n = send_locked(i, &from, flags);
    mutex_unlock(&i->write_lock);
    if (n == -EPIPE && !(flags & MSG_NOSIGNAL))
        signal_broken_pipe();
    return n;
}

/* ---- receiving ---- */

/* Is there enough to be read, or will there be nothing more? */
static bool has_enough(struct inet_sock *i, size_t want)
{
    uint32_t events = inet_events(i);

    if (events & (NET_EV_RDHUP | NET_EV_ERR | NET_EV_HUP))
        return true;
    if (want <= 1 && atomic_load_relaxed(&i->s.rcvlowat) <= 1)
        return (events & NET_EV_IN) != 0;
    return tcp_unread(i->tcp) >= want;
}

/* REQUIRES(read_lock), given up while waiting */
static int recv_wait(struct inet_sock *i, size_t want, nsec_t deadline)
{
    int err;

    mutex_unlock(&i->read_lock);
    err = wait_event(&i->read_wait, has_enough(i, want), WAIT_INTERRUPTIBLE,
                     deadline);
    mutex_lock(&i->read_lock);
    return socket_wait_error(err, i->s.rcvtimeo);
}

/* How many bytes end the call. */
static size_t recv_target(struct inet_sock *i, size_t len, uint32_t flags)
{
    uint32_t low = atomic_load_relaxed(&i->s.rcvlowat);

    return MAX(flags & MSG_WAITALL ? len : MIN(len, (size_t)low), 1ul);
}

/* A peek takes nothing, so it cannot be repeated for more, and a read of
 * nothing says nothing: both look first. REQUIRES(read_lock) */
static int recv_prepare(struct inet_sock *i, size_t want, bool may_wait,
                        nsec_t deadline)
{
    if (has_enough(i, want))
        return 0;
    return may_wait ? recv_wait(i, want, deadline) : -EAGAIN;
}

/* REQUIRES(read_lock) */
static ssize_t recv_locked(struct inet_sock *i, struct inet_iter *to,
                           uint32_t flags)
{
    nsec_t deadline = socket_deadline(i->s.rcvtimeo);
    size_t target = recv_target(i, to->it.left, flags);
    uint32_t how = (flags & MSG_PEEK ? TCP_RECV_PEEK : 0) |
                   (flags & MSG_TRUNC ? TCP_RECV_DISCARD : 0);
    bool may_wait = !(flags & MSG_DONTWAIT), is_peek = flags & MSG_PEEK;
    ssize_t done = 0, n = 0;
    int err = 0;

    if (!to->it.left)
        err = recv_prepare(i, 1, may_wait, deadline);
    else if (is_peek && may_wait)
        err = recv_prepare(i, target, true, deadline);
    while (!err) {
        n = tcp_recv(i->tcp, &to->it, how | (done ? TCP_KEEP_ERROR : 0));
        if (n > 0)
            done += n;
        if (n == -EAGAIN && !done && !may_wait && net_kernel_look())
            continue;
        if (n == 0 || (n < 0 && n != -EAGAIN) || !may_wait || is_peek ||
            (size_t)done >= target)
            break;
        err = recv_wait(i, 1, deadline);
    }
    if (done)
        return done;
    if (n == -ENOTCONN && i->state == INET_CONNECTING)
        return 0; /* refused, and the error was taken */
    return err ? err : n;
}

ssize_t inet_stream_recv(struct socket *s, struct socket_msg *m,
                         uint32_t flags)
{
    struct inet_sock *i = to_inet(s);
    struct inet_iter to;
    uint8_t state = tcp_state_now(i);
    ssize_t n;

    if (flags & MSG_OOB)
        return -EINVAL; /* no urgent data here */
    if (flags & MSG_ERRQUEUE)
        return -EAGAIN;
    if (m->addr)
        m->addr->len = 0;
    if (state == TCP_LISTEN)
        return -ENOTCONN;
    inet_iter_to(&to, m->iter);
    mutex_lock(&i->read_lock);
    n = recv_locked(i, &to, flags);
    mutex_unlock(&i->read_lock);
    return n;
}

/* ---- the end ---- */

static bool is_closing(struct inet_sock *i)
{
    uint8_t state = tcp_state_now(i);

    return state == TCP_FIN_WAIT1 || state == TCP_CLOSING ||
           state == TCP_LAST_ACK;
}

void inet_stream_close(struct inet_sock *i)
{
    nsec_t patience = (nsec_t)i->s.linger_sec * NSEC_PER_SEC;
    bool is_abort = i->s.linger_on && i->s.linger_sec == 0;

    /* Unread bytes make it a reset: nothing to wait for. A process that ends
     * does not wait for each of its sockets either. */
    if (i->s.linger_on && !is_abort && !current_process()->exiting &&
        tcp_is_connected(i->tcp) && !tcp_unread(i->tcp) &&
        !tcp_shutdown(i->tcp, false, true))
        (void)wait_event(&i->write_wait, !is_closing(i), WAIT_INTERRUPTIBLE,
                         clock_monotonic() + patience);
    tcp_close(i->tcp, is_abort);
}
