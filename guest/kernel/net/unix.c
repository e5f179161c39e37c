/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * AF_UNIX sockets (man 7 unix): creation, names, connections, the end.
 * Messages are in unix_io.c; locks and lifetimes in unix_internal.h.
 */
#include "net/unix_internal.h"

#include "linux/task.h"

#define SOMAXCONN 4096
#define PATH_OFFSET 2u   /* of sun_path */
#define SUN_LEN_MAX 110u /* sizeof(struct sockaddr_un) */

static struct {
    struct mutex lock;
    struct list bound;
    uint32_t next_auto;
} names = {
    .lock.waiters.waiters = LIST_INIT(names.lock.waiters.waiters),
    .bound = LIST_INIT(names.bound),
};

static const struct socket_ops unix_ops;

void unix_get(struct unix_sock *u)
{
    atomic_add(&u->refcount, 1u);
}

void unix_addr_put(struct unix_addr *a)
{
    if (a && atomic_sub(&a->refcount, 1u) == 0)
        kfree(a);
}

void unix_put(struct unix_sock *u)
{
    if (atomic_sub(&u->refcount, 1u) != 0)
        return;
    unix_addr_put(u->addr);
    kfree(u);
}

static void own_cred(struct ucred_abi *out)
{
    struct process *p = current_process();

    out->pid = p->pid;
    out->uid = p->euid;
    out->gid = p->egid;
}

static struct unix_sock *unix_alloc(int type, int protocol)
{
    struct unix_sock *u = kzalloc(sizeof(*u));

    if (!u)
        return NULL;
    socket_init_common(&u->s, &unix_ops, AF_UNIX, type, protocol);
    u->refcount = 1;
    mutex_init(&u->read_lock);
    waitq_init(&u->wait);
    list_init(&u->bound_link);
    list_init(&u->queue);
    list_init(&u->backlog);
    list_init(&u->backlog_link);
    u->peer_cred.uid = u->peer_cred.gid = ~0u;
    return u;
}

static int unix_check_type(int *type, int protocol)
{
    if (protocol && protocol != AF_UNIX)
        return -EPROTONOSUPPORT;
    if (*type == SOCK_RAW)
        *type = SOCK_DGRAM;
    if (*type != SOCK_STREAM && *type != SOCK_DGRAM &&
        *type != SOCK_SEQPACKET)
        return -ESOCKTNOSUPPORT;
    return 0;
}

static int unix_create(int type, int protocol, struct socket **out)
{
    struct unix_sock *u;
    int err = unix_check_type(&type, protocol);

    if (err)
        return err;
    u = unix_alloc(type, protocol);
    if (!u)
        return -ENOMEM;
    *out = &u->s;
    return 0;
}

static int unix_pair(int type, int protocol, struct socket **a,
                     struct socket **b)
{
    struct unix_sock *x, *y;
    int err = unix_check_type(&type, protocol);

    if (err)
        return err;
    x = unix_alloc(type, protocol);
    y = unix_alloc(type, protocol);
    if (!x || !y) {
        kfree(x);
        kfree(y);
        return -ENOMEM;
    }
    x->state = y->state = UNIX_CONNECTED;
    own_cred(&x->peer_cred);
    y->peer_cred = x->peer_cred;
    x->peer = y;
    y->peer = x;
    x->refcount = y->refcount = 2;
    *a = &x->s;
    *b = &y->s;
    return 0;
}

struct unix_sock *unix_peer(struct unix_sock *u)
{
    struct unix_sock *peer;

    spin_lock(&u->lock);
    peer = u->peer;
    if (peer)
        unix_get(peer);
    spin_unlock(&u->lock);
    return peer;
}

/* ---- names ---- */

static bool is_abstract(const struct socket_addr *a)
{
    return a->data[PATH_OFFSET] == 0;
}

/* Checks a sockaddr_un; paths come out NUL-terminated, length included. */
static int unix_clean_addr(const struct socket_addr *in,
                           struct socket_addr *out)
{
    size_t n;

    if (in->len < PATH_OFFSET || in->len > SUN_LEN_MAX ||
        in->family != AF_UNIX)
        return -EINVAL;
    memset(out, 0, sizeof(*out));
    memcpy(out->data, in->data, in->len);
    out->len = in->len;
    if (in->len == PATH_OFFSET)
        return -EINVAL;
    if (!is_abstract(out)) {
        n = strnlen((char *)out->data + PATH_OFFSET, in->len - PATH_OFFSET);
        out->data[PATH_OFFSET + n] = 0;
        out->len = (uint32_t)(PATH_OFFSET + n + 1);
    }
    return 0;
}

/* REQUIRES(names.lock). Returns owned or NULL. */
static struct unix_sock *find_abstract(const struct socket_addr *a, int type)
{
    struct unix_sock *u;

    list_for_each(u, &names.bound, bound_link) {
        if (u->addr->a.len == a->len && u->s.type == type &&
            memcmp(u->addr->a.data, a->data, a->len) == 0) {
            unix_get(u);
            return u;
        }
    }
    return NULL;
}

static struct unix_sock *find_inode(struct inode *i)
{
    struct unix_sock *u;

    list_for_each(u, &names.bound, bound_link) {
        if (u->inode == i) {
            unix_get(u);
            return u;
        }
    }
    return NULL;
}

int unix_find(const struct socket_addr *addr, int type,
              struct unix_sock **out)
{
    struct unix_sock *u = NULL;
    struct socket_addr a;
    struct dentry *d;
    int err = unix_clean_addr(addr, &a);

    if (err)
        return err;
    if (is_abstract(&a)) {
        mutex_lock(&names.lock);
        u = find_abstract(&a, type);
        mutex_unlock(&names.lock);
    } else {
        err = path_lookup(NULL, (char *)a.data + PATH_OFFSET, LOOKUP_FOLLOW,
                          &d);
        if (err)
            return err;
        err = inode_permission(d->inode, 2 /* MAY_WRITE */);
        if (!err) {
            mutex_lock(&names.lock);
            u = find_inode(d->inode);
            mutex_unlock(&names.lock);
        }
        dentry_put(d);
        if (err)
            return err;
    }
    if (!u)
        return -ECONNREFUSED;
    if (u->s.type != type) {
        unix_put(u);
        return -EPROTOTYPE;
    }
    *out = u;
    return 0;
}

/* A free abstract name of five hex digits. REQUIRES(names.lock) */
static int auto_name(struct socket_addr *a, int type)
{
    static const char digits[] = "0123456789abcdef";
    struct unix_sock *other;

    for (uint32_t tries = 0; tries < 1u << 20; tries++) {
        uint32_t n = names.next_auto++ & 0xfffff;

        memset(a, 0, sizeof(*a));
        a->family = AF_UNIX;
        a->len = PATH_OFFSET + 6;
        for (unsigned i = 0; i < 5; i++)
            a->data[PATH_OFFSET + 1 + i] =
                (uint8_t)digits[n >> (16 - 4 * i) & 15];
        other = find_abstract(a, type);
        if (!other)
            return 0;
        unix_put(other);
    }
    return -ENOSPC;
}

/* REQUIRES(names.lock). Makes the name; *inode owned for paths. */
static int claim_name(struct socket_addr *a, int type, struct inode **inode)
{
    struct unix_sock *other;
    struct dentry *d;
    int err;

    if (is_abstract(a)) {
        other = find_abstract(a, type);
        if (other)
            unix_put(other);
        return other ? -EADDRINUSE : 0;
    }
    err = vfs_mknod(NULL, (char *)a->data + PATH_OFFSET, S_IFSOCK | 0777, 0,
                    &d);
    if (err)
        return err == -EEXIST ? -EADDRINUSE : err;
    *inode = d->inode;
    inode_get(d->inode);
    dentry_put(d);
    return 0;
}

/* Linux makes the file first, then finds that the socket has a name. */
static int rebind_error(struct socket_addr *a)
{
    struct dentry *d;

    if (is_abstract(a) ||
        path_lookup(NULL, (char *)a->data + PATH_OFFSET, 0, &d))
        return -EINVAL;
    dentry_put(d);
    return -EADDRINUSE;
}

static int unix_bind(struct socket *s, const struct socket_addr *addr)
{
    struct unix_sock *u = to_unix(s);
    struct unix_addr *name = kzalloc(sizeof(*name));
    bool is_auto = addr->len == PATH_OFFSET && addr->family == AF_UNIX;
    int err = -ENOMEM;

    if (!name)
        return err;
    name->refcount = 1;
    err = is_auto ? 0 : unix_clean_addr(addr, &name->a);
    mutex_lock(&names.lock);
    if (!err && u->addr)
        err = is_auto ? 0 : rebind_error(&name->a);
    else if (!err)
        err = is_auto ? auto_name(&name->a, s->type)
                      : claim_name(&name->a, s->type, &u->inode);
    if (!err && !u->addr) {
        atomic_store_release(&u->addr, name);
        list_add(&names.bound, &u->bound_link);
        name = NULL;
    }
    mutex_unlock(&names.lock);
    kfree(name);
    return err;
}

static int unix_getname(struct socket *s, bool peer, struct socket_addr *out)
{
    struct unix_sock *u = to_unix(s), *p = NULL;
    struct unix_addr *name;

    if (peer) {
        p = unix_peer(u);
        if (!p)
            return -ENOTCONN;
        u = p;
    }
    name = atomic_load_acquire(&u->addr);
    if (name) {
        *out = name->a;
    } else {
        out->len = PATH_OFFSET;
        out->family = AF_UNIX;
    }
    if (p)
        unix_put(p);
    return 0;
}

/* ---- connections ---- */

static int unix_listen(struct socket *s, int backlog)
{
    struct unix_sock *u = to_unix(s);
    int err = 0;

    if (!unix_has_connection(u))
        return -ENOTSUP;
    if (!atomic_load_acquire(&u->addr))
        return -EINVAL;
    if (backlog < 0 || backlog > SOMAXCONN)
        backlog = SOMAXCONN;
    spin_lock(&u->lock);
    if (u->state == UNIX_CONNECTED) {
        err = -EINVAL;
    } else {
        u->state = UNIX_LISTENING;
        u->max_backlog = (uint32_t)backlog;
        own_cred(&u->own_cred);
        u->peer_cred = u->own_cred;
        s->is_listening = true;
    }
    spin_unlock(&u->lock);
    wait_wake(&u->wait, 1);
    return err;
}

/* REQUIRES nothing held. Puts `server` (Takes its reference on success) into
 * the listener's backlog, connected with u. -EAGAIN: full. */
static int unix_enqueue(struct unix_sock *u, struct unix_sock *listener,
                        struct unix_sock *server)
{
    int err = 0;

    spin_lock(&listener->lock);
    spin_lock(&u->lock);
    if (u->state != UNIX_OPEN)
        err = u->state == UNIX_CONNECTED ? -EISCONN : -EINVAL;
    else if (listener->is_dead || listener->state != UNIX_LISTENING ||
             (listener->shutdown & SHUTDOWN_RD))
        err = -ECONNREFUSED;
    else if (listener->nr_backlog > listener->max_backlog)
        err = -EAGAIN;
    if (!err) {
        server->state = u->state = UNIX_CONNECTED;
        u->peer_cred = listener->own_cred;
        unix_get(u);
        server->peer = u;
        unix_get(server);
        u->peer = server;
        server->addr = listener->addr;
        atomic_add(&server->addr->refcount, 1u);
        list_add_tail(&listener->backlog, &server->backlog_link);
        listener->nr_backlog++;
    }
    spin_unlock(&u->lock);
    spin_unlock(&listener->lock);
    return err;
}

static bool unix_backlog_has_room(struct unix_sock *l)
{
    return atomic_load_relaxed(&l->nr_backlog) <= l->max_backlog ||
           atomic_load_relaxed(&l->is_dead);
}

static int unix_connect_stream(struct unix_sock *u,
                               const struct socket_addr *addr, bool nonblock)
{
    nsec_t timeout = u->s.sndtimeo, deadline = socket_deadline(timeout);
    struct unix_sock *listener, *server;
    int err;

    if (addr->len >= 2 && addr->family != AF_UNIX)
        return -EINVAL;
    server = unix_alloc(u->s.type, u->s.protocol);
    if (!server)
        return -ENOMEM;
    own_cred(&server->peer_cred);
    for (;;) {
        err = unix_find(addr, u->s.type, &listener);
        if (err)
            break;
        err = unix_enqueue(u, listener, server);
        if (err == -EAGAIN && !nonblock) {
            err = wait_event(&listener->wait, unix_backlog_has_room(listener),
                             WAIT_INTERRUPTIBLE, deadline);
            unix_put(listener);
            if (!err)
                continue;
            err = socket_wait_error(err, timeout);
            break;
        }
        if (!err)
            wait_wake_key(&listener->wait, 1, EPOLLIN | EPOLLRDNORM);
        unix_put(listener);
        break;
    }
    if (err)
        unix_put(server);
    else
        wait_wake_key(&u->wait, 1, EPOLLOUT | EPOLLWRNORM);
    return err;
}

/* Datagram sockets only remember whom they talk to. */
static int unix_connect_dgram(struct unix_sock *u,
                              const struct socket_addr *addr)
{
    struct unix_sock *target = NULL, *old;
    bool is_refused;
    int err;

    if (addr->len >= 2 && addr->family != AF_UNSPEC) {
        err = unix_find(addr, SOCK_DGRAM, &target);
        if (err)
            return err;
        spin_lock(&target->lock);
        is_refused = target->peer && target->peer != u;
        spin_unlock(&target->lock);
        if (is_refused) {
            unix_put(target);
            return -EPERM;
        }
    }
    spin_lock(&u->lock);
    old = u->peer;
    u->peer = target;
    u->state = target ? UNIX_CONNECTED : UNIX_OPEN;
    spin_unlock(&u->lock);
    if (old)
        unix_put(old);
    return 0;
}

static int unix_connect(struct socket *s, const struct socket_addr *addr,
                        bool nonblock)
{
    struct unix_sock *u = to_unix(s);

    if (addr->len < 2)
        return -EINVAL;
    if (unix_has_connection(u))
        return unix_connect_stream(u, addr, nonblock);
    return unix_connect_dgram(u, addr);
}

static int unix_accept(struct socket *s, bool nonblock, struct socket **out)
{
    struct unix_sock *u = to_unix(s), *server = NULL;
    nsec_t timeout = s->rcvtimeo, deadline = socket_deadline(timeout);
    bool was_full = false;
    int err;

    if (!unix_has_connection(u))
        return -ENOTSUP;
    for (;;) {
        err = 0;
        spin_lock(&u->lock);
        if (u->state != UNIX_LISTENING) {
            err = -EINVAL;
        } else if (u->shutdown & SHUTDOWN_RD) {
            err = -EINVAL;
        } else if (!list_empty(&u->backlog)) {
            server = list_first(&u->backlog, struct unix_sock, backlog_link);
            list_del(&server->backlog_link);
            was_full = u->nr_backlog-- > u->max_backlog;
        }
        spin_unlock(&u->lock);
        if (err)
            return err;
        if (server)
            break;
        if (nonblock)
            return -EAGAIN;
        err = wait_event(&u->wait,
                         !list_empty(&u->backlog) ||
                             atomic_load_relaxed(&u->shutdown),
                         WAIT_INTERRUPTIBLE, deadline);
        if (err)
            return socket_wait_error(err, timeout);
    }
    if (was_full)
        wait_wake(&u->wait, 1);
    *out = &server->s;
    return 0;
}

static int unix_shutdown(struct socket *s, uint32_t how)
{
    struct unix_sock *u = to_unix(s), *peer;
    uint32_t peer_how = 0;

    spin_lock(&u->lock);
    u->shutdown |= how;
    spin_unlock(&u->lock);
    peer = unix_has_connection(u) ? unix_peer(u) : NULL;
    if (peer) {
        if (how & SHUTDOWN_RD)
            peer_how |= SHUTDOWN_WR;
        if (how & SHUTDOWN_WR)
            peer_how |= SHUTDOWN_RD;
        spin_lock(&peer->lock);
        peer->shutdown |= peer_how;
        spin_unlock(&peer->lock);
        wait_wake(&peer->wait, 1);
        unix_put(peer);
    }
    wait_wake(&u->wait, 1);
    return 0;
}

static uint32_t unix_poll(struct socket *s, struct file *f,
                          struct poll_table *pt)
{
    struct unix_sock *u = to_unix(s);
    uint32_t mask = 0;

    poll_add(f, &u->wait, pt);
    spin_lock(&u->lock);
    if (atomic_load_relaxed(&s->error))
        mask |= EPOLLERR;
    if (u->shutdown == SHUTDOWN_BOTH)
        mask |= EPOLLHUP;
    if (u->shutdown & SHUTDOWN_RD)
        mask |= EPOLLRDHUP | EPOLLIN | EPOLLRDNORM;
    if (!list_empty(&u->queue) || !list_empty(&u->backlog))
        mask |= EPOLLIN | EPOLLRDNORM;
    if (unix_has_connection(u) && u->state == UNIX_OPEN)
        mask |= EPOLLHUP;
    if (u->state != UNIX_LISTENING && unix_is_writable(u))
        mask |= EPOLLOUT | EPOLLWRNORM | EPOLLWRBAND;
    /* A full queue of the peer is looked at without its lock: a hint. */
    if (!unix_has_connection(u) && u->peer && u->peer->peer != u &&
        atomic_load_relaxed(&u->peer->nr_queued) > UNIX_DGRAM_QUEUE)
        mask &= ~(EPOLLOUT | EPOLLWRNORM | EPOLLWRBAND);
    spin_unlock(&u->lock);
    return mask;
}

static void unix_peercred(struct socket *s, struct ucred_abi *out)
{
    struct unix_sock *u = to_unix(s);

    spin_lock(&u->lock);
    *out = u->peer_cred;
    spin_unlock(&u->lock);
}

/* Tells the other end that u is gone. Takes the reference on peer. */
static void unix_hang_up(struct unix_sock *peer, bool is_reset)
{
    spin_lock(&peer->lock);
    peer->shutdown = SHUTDOWN_BOTH;
    spin_unlock(&peer->lock);
    if (is_reset)
        atomic_store_relaxed(&peer->s.error, ECONNRESET);
    wait_wake(&peer->wait, 1);
    unix_put(peer);
}

static void unix_close(struct unix_sock *u, bool is_embryo)
{
    struct list queue, backlog;
    struct unix_sock *peer, *server, *tmp;
    struct inode *inode;
    bool has_unread;

    mutex_lock(&names.lock);
    list_del(&u->bound_link);
    inode = u->inode;
    u->inode = NULL;
    mutex_unlock(&names.lock);
    list_init(&queue);
    list_init(&backlog);
    spin_lock(&u->lock);
    u->is_dead = true;
    u->shutdown = SHUTDOWN_BOTH;
    peer = u->peer;
    u->peer = NULL;
    has_unread = !list_empty(&u->queue);
    while (!list_empty(&u->queue)) {
        struct list *l = u->queue.next;

        list_del(l);
        list_add_tail(&queue, l);
    }
    while (!list_empty(&u->backlog)) {
        struct list *l = u->backlog.next;

        list_del(l);
        list_add_tail(&backlog, l);
    }
    spin_unlock(&u->lock);
    if (peer && unix_has_connection(u))
        unix_hang_up(peer, has_unread || is_embryo);
    else if (peer)
        unix_put(peer);
    wait_wake(&u->wait, 1);
    list_for_each_safe(server, tmp, &backlog, backlog_link) {
        list_del(&server->backlog_link);
        unix_close(server, true); /* has no backlog of its own */
    }
    unix_doom_messages(&queue);
    if (inode)
        inode_put(inode);
    unix_put(u);
}

static void unix_release(struct socket *s)
{
    unix_close(to_unix(s), false);
}

static const struct socket_ops unix_ops = {
    .bind = unix_bind,
    .connect = unix_connect,
    .listen = unix_listen,
    .accept = unix_accept,
    .getname = unix_getname,
    .sendmsg = unix_sendmsg,
    .recvmsg = unix_recvmsg,
    .shutdown = unix_shutdown,
    .poll = unix_poll,
    .ioctl = unix_ioctl,
    .peercred = unix_peercred,
    .release = unix_release,
};

const struct socket_family unix_family = {
    .family = AF_UNIX,
    .create = unix_create,
    .pair = unix_pair,
};
