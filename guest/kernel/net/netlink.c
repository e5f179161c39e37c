/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Netlink sockets: requests in, datagrams out. See netlink.h.
 *
 * The configuration of the network does not change behind a program's back
 * except for lease and router events, and those are not announced: joining a
 * group is accepted since programs do it before they ask, and nothing comes.
 */
#include "net/netlink.h"

#include "linux/task.h"
#include "mm/heap.h"
#include "mm/mm.h"
#include "net/kernel.h"
#include "net/socket.h"

#define AF_NETLINK 16
#define SOL_NETLINK 270
#define NETLINK_ROUTE 0
#define MESSAGE_MAX 512u /* bytes of a message we write: a link is the longest */
#define REQUEST_MAX 32768u

struct sockaddr_nl_abi {
    uint16_t family, pad;
    uint32_t pid, groups;
};

struct netlink_sock {
    struct socket s; /* first member */
    struct waitq wait;
    /* --- atomic --- */
    uint32_t port, groups;
    uint32_t options;  /* bit n: option n of SOL_NETLINK */
    /* --- protected by lock --- */
    struct spinlock lock;
    struct list queue; /* struct netlink_page */
};

static struct netlink_sock *to_netlink(struct socket *s)
{
    return (struct netlink_sock *)s;
}

/* ---- writing messages ---- */

static uint8_t *room(struct netlink_out *o, uint32_t n)
{
    uint8_t *p;

    if (o->err || !o->page || o->page->len + n > NETLINK_PAGE) {
        o->err = -ENOBUFS;
        return NULL;
    }
    p = o->page->data + o->page->len;
    memset(p, 0, n);
    o->page->len += n;
    return p;
}

static int new_page(struct netlink_out *o)
{
    struct netlink_page *p = kmalloc(sizeof(*p) + NETLINK_PAGE);

    if (!p)
        return -ENOBUFS;
    p->len = 0;
    list_add_tail(&o->pages, &p->link);
    o->page = p;
    return 0;
}

void *netlink_begin(struct netlink_out *o, uint32_t type, uint32_t flags,
                    uint32_t body_bytes)
{
    struct nlmsghdr_abi *h;

    if (!o->err && (!o->page || o->page->len + MESSAGE_MAX > NETLINK_PAGE))
        o->err = new_page(o);
    if (o->err)
        return NULL;
    o->at = o->page->len;
    h = (struct nlmsghdr_abi *)room(o, sizeof(*h));
    h->type = (uint16_t)type;
    h->flags = (uint16_t)flags;
    h->seq = o->request->seq;
    h->pid = o->port;
    return room(o, ALIGN_UP(body_bytes, 4u));
}

void netlink_attr(struct netlink_out *o, uint32_t type, const void *data,
                  uint32_t len)
{
    uint16_t head[2] = {(uint16_t)(4 + len), (uint16_t)type};
    uint8_t *p = room(o, ALIGN_UP(4 + len, 4u));

    if (!p)
        return;
    memcpy(p, head, sizeof(head));
    memcpy(p + 4, data, len);
}

void netlink_end(struct netlink_out *o)
{
    struct nlmsghdr_abi *h;

    if (o->err)
        return;
    h = (struct nlmsghdr_abi *)(o->page->data + o->at);
    h->len = o->page->len - o->at;
}

static void add_error(struct netlink_out *o, int err)
{
    const struct nlmsghdr_abi *r = o->request;
    /* An error brings the whole request back, an acknowledgement its head. */
    uint32_t n = err ? MIN(r->len, MESSAGE_MAX / 2) : (uint32_t)sizeof(*r);
    uint8_t *p = netlink_begin(o, NLMSG_ERROR, 0, 4 + n);

    if (!p)
        return;
    memcpy(p, &err, sizeof(err));
    memcpy(p + 4, r, n);
    netlink_end(o);
}

static void add_done(struct netlink_out *o)
{
    if (netlink_begin(o, NLMSG_DONE, NLM_F_MULTI, 4))
        netlink_end(o);
}

/* ---- requests ---- */

static void answer_one(struct netstack *net, struct netlink_out *o)
{
    const struct nlmsghdr_abi *r = o->request;
    bool is_dump = (r->flags & NLM_F_DUMP) == NLM_F_DUMP;
    int err;

    if (!(r->flags & NLM_F_REQUEST) || r->type < 16)
        return; /* control messages: for the kernel to ignore */
    err = netlink_route(net, o, r + 1, r->len - (uint32_t)sizeof(*r));
    if (err)
        add_error(o, err);
    else if (is_dump)
        add_done(o);
    else if (r->flags & NLM_F_ACK)
        add_error(o, 0);
}

/* Answers the requests in n bytes. */
static int answer_all(struct netlink_sock *k, const uint8_t *buf, size_t n)
{
    struct netstack *net = net_kernel_stack();
    struct netlink_out o = {.port = atomic_load_relaxed(&k->port)};
    size_t at = 0;

    if (!net)
        return -ENOBUFS;
    list_init(&o.pages);
    while (n - at >= sizeof(struct nlmsghdr_abi)) {
        o.request = (const struct nlmsghdr_abi *)(buf + at);
        if (o.request->len < sizeof(*o.request) ||
            o.request->len > n - at)
            break;
        answer_one(net, &o);
        o.page = NULL; /* answers to another request: another datagram */
        at += MIN((size_t)ALIGN_UP(o.request->len, 4u), n - at);
    }
    spin_lock(&k->lock);
    while (!list_empty(&o.pages)) {
        struct list *l = o.pages.next;

        list_del(l);
        list_add_tail(&k->queue, l);
    }
    spin_unlock(&k->lock);
    wait_wake_key(&k->wait, 1, EPOLLIN | EPOLLRDNORM);
    return o.err;
}

static void autobind(struct netlink_sock *k)
{
    static uint32_t next_port;
    uint32_t none = 0, port = (uint32_t)current_process()->pid;

    if (atomic_load_relaxed(&k->port))
        return;
    /* The first socket of a process has its id, further ones others. */
    if (atomic_add(&next_port, 1u) != 1)
        port = (uint32_t)-4096 - atomic_load_relaxed(&next_port);
    (void)atomic_cmpxchg(&k->port, &none, port);
}

static ssize_t netlink_sendmsg(struct socket *s, struct socket_msg *m,
                               uint32_t flags)
{
    struct netlink_sock *k = to_netlink(s);
    size_t n = m->iter->count;
    uint8_t *buf;
    int err = 0;

    if (flags & MSG_OOB)
        return -ENOTSUP;
    if (m->addr && m->addr->len &&
        (m->addr->len < sizeof(struct sockaddr_nl_abi) ||
         m->addr->family != AF_NETLINK))
        return -EINVAL;
    if (n > REQUEST_MAX)
        return -EMSGSIZE;
    autobind(k);
    buf = kmalloc(MAX(n, 1ul));
    if (!buf)
        return -ENOBUFS;
    if (n && iter_copy_from(m->iter, buf, n) != (ssize_t)n)
        err = -EFAULT;
    else
        err = answer_all(k, buf, n);
    kfree(buf);
    return err ? err : (ssize_t)n;
}

/* ---- receiving ---- */

static struct netlink_page *first_page(struct netlink_sock *k, bool take)
{
    struct netlink_page *p = NULL;

    spin_lock(&k->lock);
    if (!list_empty(&k->queue))
        p = list_first(&k->queue, struct netlink_page, link);
    if (p && take)
        list_del(&p->link);
    spin_unlock(&k->lock);
    return p;
}

static int wait_page(struct netlink_sock *k, uint32_t flags, nsec_t deadline)
{
    int err;

    if (first_page(k, false))
        return 0;
    if (flags & MSG_DONTWAIT)
        return -EAGAIN;
    err = wait_event(&k->wait, first_page(k, false) != NULL,
                     WAIT_INTERRUPTIBLE, deadline);
    return socket_wait_error(err, k->s.rcvtimeo);
}

static void kernel_address(struct socket_addr *a)
{
    struct sockaddr_nl_abi from = {.family = AF_NETLINK};

    memcpy(a->data, &from, sizeof(from));
    a->len = sizeof(from);
}

/* The page is off the queue; a peek puts it back at the front. */
static ssize_t netlink_recvmsg(struct socket *s, struct socket_msg *m,
                               uint32_t flags)
{
    struct netlink_sock *k = to_netlink(s);
    nsec_t deadline = socket_deadline(s->rcvtimeo);
    struct netlink_page *p;
    ssize_t n;
    int err;

    if (flags & MSG_OOB)
        return -ENOTSUP;
    do {
        err = wait_page(k, flags, deadline);
        if (err)
            return err;
        p = first_page(k, true);
    } while (!p);
    n = (ssize_t)MIN((size_t)p->len, m->iter->count);
    if (n && iter_copy_to(m->iter, p->data, (size_t)n) != n)
        err = -EFAULT;
    if (p->len > (size_t)n)
        m->flags_out |= MSG_TRUNC;
    if (flags & MSG_TRUNC)
        n = p->len;
    if (m->addr)
        kernel_address(m->addr);
    if (flags & MSG_PEEK) {
        spin_lock(&k->lock);
        list_add(&k->queue, &p->link);
        spin_unlock(&k->lock);
    } else {
        kfree(p);
    }
    return err ? err : n;
}

/* ---- names, options, the end ---- */

static int netlink_bind(struct socket *s, const struct socket_addr *addr)
{
    struct netlink_sock *k = to_netlink(s);
    struct sockaddr_nl_abi a;

    if (addr->len < sizeof(a) || addr->family != AF_NETLINK)
        return -EINVAL;
    memcpy(&a, addr->data, sizeof(a));
    if (a.pid && atomic_load_relaxed(&k->port) &&
        a.pid != atomic_load_relaxed(&k->port))
        return -EINVAL;
    if (a.pid)
        atomic_store_relaxed(&k->port, a.pid);
    autobind(k);
    atomic_store_relaxed(&k->groups, a.groups);
    return 0;
}

static int netlink_connect(struct socket *s, const struct socket_addr *addr,
                           bool nonblock)
{
    if (addr->len < sizeof(addr->family))
        return -EINVAL;
    if (addr->family != AF_UNSPEC &&
        (addr->len < sizeof(struct sockaddr_nl_abi) ||
         addr->family != AF_NETLINK))
        return -EINVAL;
    autobind(to_netlink(s)); /* the kernel is the only peer there is */
    return 0;
}

static int netlink_getname(struct socket *s, bool peer,
                           struct socket_addr *out)
{
    struct netlink_sock *k = to_netlink(s);
    struct sockaddr_nl_abi a = {.family = AF_NETLINK};

    if (!peer) {
        a.pid = atomic_load_relaxed(&k->port);
        a.groups = atomic_load_relaxed(&k->groups);
    }
    memcpy(out->data, &a, sizeof(a));
    out->len = sizeof(a);
    return 0;
}

static uint32_t netlink_poll(struct socket *s, struct file *f,
                             struct poll_table *pt)
{
    struct netlink_sock *k = to_netlink(s);
    uint32_t mask = EPOLLOUT | EPOLLWRNORM | EPOLLWRBAND;

    poll_add(f, &k->wait, pt);
    return first_page(k, false) ? mask | EPOLLIN | EPOLLRDNORM : mask;
}

/* NETLINK_ADD_MEMBERSHIP 1, DROP 2, EXT_ACK 11, GET_STRICT_CHK 12: noted. */
static int netlink_setsockopt(struct socket *s, int level, int name,
                              const void *value, uint32_t len)
{
    if (level != SOL_NETLINK)
        return -ENOPROTOOPT;
    if (len < 4)
        return -EINVAL;
    return name == 1 || name == 2 || name == 11 || name == 12 ? 0
                                                              : -ENOPROTOOPT;
}

static int netlink_listen(struct socket *s, int backlog)
{
    return -ENOTSUP;
}

static int netlink_accept(struct socket *s, bool nonblock,
                          struct socket **out)
{
    return -ENOTSUP;
}

static int netlink_shutdown(struct socket *s, uint32_t how)
{
    return -ENOTSUP;
}

static void netlink_release(struct socket *s)
{
    struct netlink_sock *k = to_netlink(s);
    struct netlink_page *p;

    while ((p = first_page(k, true)) != NULL)
        kfree(p);
    kfree(k);
}

static const struct socket_ops netlink_ops = {
    .bind = netlink_bind,
    .connect = netlink_connect,
    .listen = netlink_listen,
    .accept = netlink_accept,
    .getname = netlink_getname,
    .sendmsg = netlink_sendmsg,
    .recvmsg = netlink_recvmsg,
    .shutdown = netlink_shutdown,
    .poll = netlink_poll,
    .setsockopt = netlink_setsockopt,
    .release = netlink_release,
};

static int netlink_create(int type, int protocol, struct socket **out)
{
    struct netlink_sock *k;

    if (type != SOCK_RAW && type != SOCK_DGRAM)
        return -ESOCKTNOSUPPORT;
    if (protocol != NETLINK_ROUTE)
        return -EPROTONOSUPPORT;
    k = kzalloc(sizeof(*k));
    if (!k)
        return -ENOBUFS;
    socket_init_common(&k->s, &netlink_ops, AF_NETLINK, type, protocol);
    waitq_init(&k->wait);
    list_init(&k->queue);
    *out = &k->s;
    return 0;
}

const struct socket_family netlink_family = {
    .family = AF_NETLINK,
    .create = netlink_create,
};
