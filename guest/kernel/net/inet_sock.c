/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Internet sockets: making them, their events, waiting, poll, the end. See
 * inet_sock.h.
 */
#include "net/inet_sock.h"

#include "mm/heap.h"
#include "net/channel.h"
#include "net/kernel.h"
#include "net/tcp_internal.h"

#define LIST_SLACK 64u /* sockets made while the list is being copied */
#define DRAIN_STEP_NS 1000000l

/* All sockets that exist, those closed by the program but not yet by TCP too:
 * the last reference may go in an interrupt. */
static struct {
    struct spinlock lock; /* irq-safe */
    struct list sockets;  /* inet_sock.link, oldest first */
    uint32_t nr;
} all = {.sockets = LIST_INIT(all.sockets)};

/* ---- events ---- */

static uint32_t poll_bits(uint32_t events)
{
    uint32_t mask = events & (EPOLLIN | EPOLLPRI | EPOLLOUT | EPOLLERR |
                              EPOLLHUP | EPOLLRDHUP);

    if (events & NET_EV_IN)
        mask |= EPOLLRDNORM;
    if (events & NET_EV_OUT)
        mask |= EPOLLWRNORM;
    return mask;
}

/* A connection is for one of those who accept, the end is for all of them. */
static void inet_event(struct net_sock *ns, uint32_t bits)
{
    struct inet_sock *i = ns->owner;
    int nr = bits & NET_EV_HUP ? INT32_MAX : 1;

    if (bits & ~NET_EV_OUT && waitq_active(&i->read_wait))
        wait_wake_key(&i->read_wait, nr, bits);
    if (bits & ~NET_EV_IN && waitq_active(&i->write_wait))
        wait_wake_key(&i->write_wait, nr, bits);
    if (waitq_active(&i->poll_wait))
        wait_wake_key(&i->poll_wait, 1, poll_bits(bits));
}

static void inet_freed(struct net_sock *ns)
{
    struct inet_sock *i = ns->owner;
    bool was_on = spin_lock_irqsave(&all.lock);

    list_del(&i->link);
    all.nr--;
    spin_unlock_irqrestore(&all.lock, was_on);
    kfree(i);
}

static const struct sock_hooks inet_hooks = {
    .event = inet_event,
    .release = inet_freed,
};

uint32_t inet_events(struct inet_sock *i)
{
    return i->kind == INET_TCP ? tcp_poll(i->tcp) : udp_poll(i->udp);
}

int inet_wait(struct inet_sock *i, struct waitq *q, uint32_t events,
              nsec_t deadline, nsec_t timeout)
{
    int err = wait_event(q,
                         inet_events(i) & (events | NET_EV_ERR | NET_EV_HUP),
                         WAIT_INTERRUPTIBLE, deadline);

    return socket_wait_error(err, timeout);
}

static uint32_t inet_poll(struct socket *s, struct file *f,
                          struct poll_table *pt)
{
    struct inet_sock *i = to_inet(s);

    poll_add(f, &i->poll_wait, pt);
    return poll_bits(inet_events(i));
}

/* ---- program memory ---- */

static size_t copy_to_program(struct net_iter *it, void *kernel, size_t n)
{
    struct inet_iter *to = (struct inet_iter *)it;
    ssize_t done = iter_copy_to(to->iov, kernel, MIN(n, it->left));

    if (done < 0)
        return 0;
    it->left -= (size_t)done;
    return (size_t)done;
}

static size_t copy_from_program(struct net_iter *it, void *kernel, size_t n)
{
    struct inet_iter *from = (struct inet_iter *)it;
    ssize_t done = iter_copy_from(from->iov, kernel, MIN(n, it->left));

    if (done < 0)
        return 0;
    it->left -= (size_t)done;
    return (size_t)done;
}

void inet_iter_to(struct inet_iter *it, struct iov_iter *iov)
{
    it->it.copy = copy_to_program;
    it->it.left = iov->count;
    it->iov = iov;
}

void inet_iter_from(struct inet_iter *it, struct iov_iter *iov)
{
    it->it.copy = copy_from_program;
    it->it.left = iov->count;
    it->iov = iov;
}

/* ---- life ---- */

static int inet_shutdown(struct socket *s, uint32_t how)
{
    struct inet_sock *i = to_inet(s);
    bool read = how & SHUTDOWN_RD, write = how & SHUTDOWN_WR;
    int err;

    if (i->kind != INET_TCP)
        err = udp_shutdown(i->udp, read, write);
    else if (atomic_load_relaxed(&i->tcp->state) == TCP_CLOSE)
        err = -ENOTCONN; /* over, or not begun */
    else
        err = tcp_shutdown(i->tcp, read, write);
    /* Whoever waits looks again. */
    inet_event(i->ns, NET_EV_IN | NET_EV_OUT | NET_EV_HUP | NET_EV_RDHUP);
    if (i->kind == INET_TCP && read)
        s->is_listening = false;
    return err;
}

static void inet_release(struct socket *s)
{
    struct inet_sock *i = to_inet(s);

    inet_leave_all(i);
    if (i->kind == INET_TCP)
        inet_stream_close(i);
    else
        udp_close(i->udp);
}

static int inet_take_error(struct socket *s)
{
    return sock_take_error(to_inet(s)->ns);
}

static int inet_no_listen(struct socket *s, int backlog)
{
    return -ENOTSUP;
}

static int inet_no_accept(struct socket *s, bool nonblock,
                          struct socket **out)
{
    return -ENOTSUP;
}

#define INET_COMMON_OPS                                                    \
    .bind = inet_bind, .getname = inet_getname, .shutdown = inet_shutdown, \
    .poll = inet_poll, .ioctl = inet_ioctl, .release = inet_release,       \
    .setsockopt = inet_set_option, .getsockopt = inet_get_option,          \
    .option_changed = inet_option_changed, .take_error = inet_take_error

static const struct socket_ops stream_ops = {
    INET_COMMON_OPS,
    .connect = inet_stream_connect,
    .listen = inet_stream_listen,
    .accept = inet_stream_accept,
    .sendmsg = inet_stream_send,
    .recvmsg = inet_stream_recv,
};

static const struct socket_ops dgram_ops = {
    INET_COMMON_OPS,
    .connect = inet_dgram_connect,
    .listen = inet_no_listen,
    .accept = inet_no_accept,
    .sendmsg = inet_dgram_send,
    .recvmsg = inet_dgram_recv,
};

/* Around a socket of the stack that no program has seen. Takes ns. */
static void inet_init(struct inet_sock *i, struct net_sock *ns,
                      enum inet_kind kind, int family)
{
    bool is_tcp = kind == INET_TCP, was_on;

    socket_init_common(&i->s, is_tcp ? &stream_ops : &dgram_ops, family,
                       is_tcp ? SOCK_STREAM : SOCK_DGRAM, ns->proto);
    i->ns = ns;
    i->kind = (uint8_t)kind;
    i->mtu_discover = i->mtu_discover6 = 1; /* IP_PMTUDISC_WANT */
    waitq_init(&i->poll_wait);
    waitq_init(&i->read_wait);
    waitq_init(&i->write_wait);
    mutex_init(&i->read_lock);
    mutex_init(&i->write_lock);
    if (is_tcp) {
        i->s.rcvbuf = TCP_RCVBUF_START;
        i->s.sndbuf = TCP_SNDBUF_START;
    }
    sock_lock(ns); /* the stack reads them under it */
    ns->owner = i;
    ns->hooks = &inet_hooks;
    sock_unlock(ns);
    was_on = spin_lock_irqsave(&all.lock);
    list_add_tail(&all.sockets, &i->link);
    all.nr++;
    spin_unlock_irqrestore(&all.lock, was_on);
}

int inet_adopt(struct inet_sock *listener, struct tcp_conn *tcp,
               struct socket **out)
{
    struct inet_sock *i = kzalloc(sizeof(*i));

    if (!i) {
        tcp_close(tcp, true);
        return -ENOMEM;
    }
    inet_init(i, &tcp->s, INET_TCP, listener->s.family);
    i->state = INET_CONNECTED;
    i->s.option_bits = atomic_load_relaxed(&listener->s.option_bits);
    i->s.rcvbuf = listener->s.rcvbuf;
    i->s.sndbuf = listener->s.sndbuf;
    i->s.rcvlowat = listener->s.rcvlowat;
    i->s.priority = listener->s.priority;
    i->s.rcvtimeo = listener->s.rcvtimeo;
    i->s.sndtimeo = listener->s.sndtimeo;
    i->s.linger_on = listener->s.linger_on;
    i->s.linger_sec = listener->s.linger_sec;
    i->linger2 = listener->linger2;
    i->flags = atomic_load_relaxed(&listener->flags);
    *out = &i->s;
    return 0;
}

static struct net_sock *stack_socket(enum inet_kind kind, uint32_t family)
{
    struct netstack *net = net_kernel_stack();
    struct tcp_conn *tcp;
    struct udp_sock *udp;

    if (!net)
        return NULL;
    if (kind == INET_TCP) {
        tcp = tcp_create(net, family);
        return tcp ? &tcp->s : NULL;
    }
    udp = kind == INET_UDP ? udp_create(net, family)
                           : ping_create(net, family);
    return udp ? &udp->s : NULL;
}

/* Which kind serves (type, protocol); family 4 or 6. */
static int inet_find_kind(int type, int protocol, int family,
                          enum inet_kind *out)
{
    int echo = family == 4 ? (int)IP_PROTO_ICMP : (int)IP_PROTO_ICMPV6;

    if (protocol < 0 || protocol >= 263) /* IPPROTO_MAX */
        return -EINVAL;
    if (type == SOCK_STREAM &&
        (protocol == 0 || protocol == (int)IP_PROTO_TCP))
        *out = INET_TCP;
    else if (type == SOCK_DGRAM &&
             (protocol == 0 || protocol == (int)IP_PROTO_UDP))
        *out = INET_UDP;
    else if (type == SOCK_DGRAM && protocol == echo)
        *out = INET_PING;
    else if (type == SOCK_STREAM || type == SOCK_DGRAM ||
             (type == SOCK_RAW && protocol))
        return -EPROTONOSUPPORT; /* raw sockets: the stack has none */
    else
        return type == SOCK_RAW ? -EPROTONOSUPPORT : -ESOCKTNOSUPPORT;
    return 0;
}

static int inet_make(int type, int protocol, int family, struct socket **out)
{
    struct inet_sock *i;
    struct net_sock *ns;
    enum inet_kind kind;
    int err = inet_find_kind(type, protocol, family, &kind);

    if (err)
        return err;
    i = kzalloc(sizeof(*i));
    ns = i ? stack_socket(kind, (uint32_t)family) : NULL;
    if (!ns) {
        kfree(i);
        return -ENOBUFS;
    }
    inet_init(i, ns, kind, family == 4 ? AF_INET : AF_INET6);
    *out = &i->s;
    return 0;
}

static int inet4_create(int type, int protocol, struct socket **out)
{
    return inet_make(type, protocol, 4, out);
}

static int inet6_create(int type, int protocol, struct socket **out)
{
    return inet_make(type, protocol, 6, out);
}

const struct socket_family inet_family = {
    .family = AF_INET,
    .create = inet4_create,
};

const struct socket_family inet6_family = {
    .family = AF_INET6,
    .create = inet6_create,
};

/* ---- all of them ---- */

/* A reference unless the last one is gone already. */
static bool try_get(struct net_sock *ns)
{
    uint32_t n = atomic_load_relaxed(&ns->refcount);

    do {
        if (!n)
            return false;
    } while (!atomic_cmpxchg(&ns->refcount, &n, n + 1));
    return true;
}

/* References on up to `max` sockets. */
static uint32_t collect(struct inet_sock **out, uint32_t max)
{
    bool was_on = spin_lock_irqsave(&all.lock);
    struct inet_sock *i;
    uint32_t n = 0;

    list_for_each(i, &all.sockets, link) {
        if (n == max)
            break;
        if (try_get(i->ns))
            out[n++] = i;
    }
    spin_unlock_irqrestore(&all.lock, was_on);
    return n;
}

int inet_for_each(void (*visit)(struct inet_sock *i, void *arg), void *arg)
{
    uint32_t max = atomic_load_relaxed(&all.nr) + LIST_SLACK, n;
    struct inet_sock **found = kmalloc(max * sizeof(struct inet_sock *));

    if (!found)
        return -ENOMEM;
    n = collect(found, max);
    for (uint32_t k = 0; k < n; k++) {
        visit(found[k], arg);
        sock_put(found[k]->ns);
    }
    kfree(found);
    return 0;
}

/* Bytes and ends of connections that the peer has not acknowledged: sockets'
 * and channels'. */
static void count_unsent(struct tcp_conn *c, void *arg)
{
    struct tcp_status st;
    uint64_t *sum = arg;

    tcp_get_status(c, &st);
    if (st.state == TCP_ESTABLISHED || st.state == TCP_CLOSE_WAIT)
        *sum += st.unacked + st.unsent;
    else if (st.state == TCP_FIN_WAIT1 || st.state == TCP_CLOSING ||
             st.state == TCP_LAST_ACK)
        *sum += st.unacked + st.unsent + 1;
}

bool socket_any_inet(void)
{
    return atomic_load_relaxed(&all.nr) || chan_any();
}

void socket_drain(nsec_t patience, nsec_t limit)
{
    struct netstack *net = net_kernel_stack();
    nsec_t now = clock_monotonic(), end = now + limit;
    nsec_t give_up = now + patience;
    uint64_t before = ~0ul, left;

    while (net && socket_any_inet() && now < MIN(end, give_up)) {
        left = 0;
        tcp_for_each(net, count_unsent, &left);
        if (!left)
            return;
        if (left < before)
            give_up = now + patience;
        before = left;
        if (sleep_until(now + DRAIN_STEP_NS, false))
            return;
        now = clock_monotonic();
    }
}
