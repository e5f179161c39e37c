/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * AF_UNIX messages: sending, receiving, what is attached to them.
 *
 * A stream is a list of messages that are read as one; reading stops at a
 * message that carries descriptors, and between senders of different
 * credentials when SO_PASSCRED is set. Locks: unix_internal.h. A reader
 * holds read_lock while it copies out of the first message: only readers and
 * the release of the socket remove messages.
 */
#include "net/unix_internal.h"

#include "linux/task.h"
#include "mm/mm.h"

#define STREAM_PIECE (16 * KIB - sizeof(struct unix_msg))
#define SIOCINQ 0x541b
#define SIOCOUTQ 0x5411

/* ---- messages ---- */

bool unix_is_writable(struct unix_sock *u)
{
    return (uint64_t)atomic_load_relaxed(&u->in_flight) * 4 <= u->s.sndbuf;
}

/* `n` bytes of u's were read. */
static void unix_credit(struct unix_sock *u, uint32_t n)
{
    uint32_t left = atomic_sub(&u->in_flight, n);

    if ((uint64_t)(left + n) * 4 > u->s.sndbuf)
        wait_wake_key(&u->wait, 1, EPOLLOUT | EPOLLWRNORM | EPOLLWRBAND);
}

static void unix_msg_free(struct unix_msg *m)
{
    scm_free(&m->scm);
    unix_credit(m->sender, m->len - m->offset);
    unix_put(m->sender);
    unix_addr_put(m->addr);
    kfree(m);
}

/* Freeing a message may close sockets whose queues hold messages that ...:
 * one thread at a time empties a common list instead of recursing. */
static struct {
    struct spinlock lock;
    struct list list;
    struct thread *drainer;
} doomed = {.list = LIST_INIT(doomed.list)};

void unix_doom_messages(struct list *queue)
{
    struct unix_msg *m;

    if (list_empty(queue))
        return;
    spin_lock(&doomed.lock);
    while (!list_empty(queue)) {
        struct list *l = queue->next;

        list_del(l);
        list_add_tail(&doomed.list, l);
    }
    if (doomed.drainer) {
        spin_unlock(&doomed.lock);
        return;
    }
    doomed.drainer = current_thread();
    while (!list_empty(&doomed.list)) {
        m = list_first(&doomed.list, struct unix_msg, link);
        list_del(&m->link);
        spin_unlock(&doomed.lock);
        unix_msg_free(m);
        spin_lock(&doomed.lock);
    }
    doomed.drainer = NULL;
    spin_unlock(&doomed.lock);
}

/* A message of u's with n bytes from the iterator, in flight. */
static int unix_msg_make(struct unix_sock *u, struct iov_iter *from, size_t n,
                         struct unix_msg **out)
{
    struct unix_msg *m = kmalloc(sizeof(*m) + n);
    struct process *p = current_process();
    ssize_t k;

    if (!m)
        return -ENOBUFS;
    memset(m, 0, sizeof(*m));
    k = n ? iter_copy_from(from, m->data, n) : 0;
    if (k < (ssize_t)n && (k <= 0 || !unix_is_stream(u))) {
        kfree(m);
        return -EFAULT;
    }
    m->len = (uint32_t)k;
    m->scm.has_cred = true;
    m->scm.cred.pid = p->pid;
    m->scm.cred.uid = p->uid;
    m->scm.cred.gid = p->gid;
    m->sender = u;
    unix_get(u);
    m->addr = atomic_load_acquire(&u->addr);
    if (m->addr)
        atomic_add(&m->addr->refcount, 1u);
    atomic_add(&u->in_flight, m->len);
    *out = m;
    return 0;
}

/* Moves what the program attached into the message. */
static void unix_attach(struct unix_msg *m, struct scm *scm)
{
    m->scm.files = scm->files;
    m->scm.nr_files = scm->nr_files;
    if (scm->has_cred)
        m->scm.cred = scm->cred;
    scm->files = NULL;
    scm->nr_files = 0;
}

/* Gives m to `to`: 0, -EPIPE, -ECONNREFUSED, -EAGAIN (queue full). */
static int unix_deliver(struct unix_sock *from, struct unix_sock *to,
                        struct unix_msg *m)
{
    int err = 0;

    spin_lock(&to->lock);
    if (to->is_dead)
        err = unix_has_connection(to) ? -EPIPE : -ECONNREFUSED;
    else if (to->shutdown & SHUTDOWN_RD)
        err = -EPIPE;
    else if (!unix_has_connection(to) && to->peer && to->peer != from)
        err = -EPERM;
    else if (!unix_has_connection(to) && to->peer != from &&
             to->nr_queued > UNIX_DGRAM_QUEUE)
        err = -EAGAIN;
    if (!err) {
        list_add_tail(&to->queue, &m->link);
        to->queued_bytes += m->len;
        to->nr_queued++;
    }
    spin_unlock(&to->lock);
    if (!err)
        wait_wake_key(&to->wait, 1, EPOLLIN | EPOLLRDNORM | EPOLLRDBAND);
    return err;
}

/* ---- sending ---- */

static size_t unix_room(struct unix_sock *u)
{
    uint32_t used = atomic_load_relaxed(&u->in_flight);

    return used < u->s.sndbuf ? u->s.sndbuf - used : 0;
}

/* Waits until `need` bytes of send buffer are free or the socket is shut. */
static int unix_wait_room(struct unix_sock *u, size_t need, uint32_t flags,
                          nsec_t deadline)
{
    int err;

    if (unix_room(u) >= need)
        return 0;
    if (flags & MSG_DONTWAIT)
        return -EAGAIN;
    err = wait_event(&u->wait,
                     unix_room(u) >= need ||
                         (atomic_load_relaxed(&u->shutdown) & SHUTDOWN_WR),
                     WAIT_INTERRUPTIBLE, deadline);
    return socket_wait_error(err, u->s.sndtimeo);
}

static ssize_t unix_send_stream(struct unix_sock *u, struct unix_sock *peer,
                                struct socket_msg *sm, uint32_t flags)
{
    nsec_t deadline = socket_deadline(u->s.sndtimeo);
    struct unix_msg *m;
    ssize_t done = 0;
    int err = 0;

    while (sm->iter->count) {
        size_t n;

        if (atomic_load_relaxed(&u->shutdown) & SHUTDOWN_WR)
            err = -EPIPE;
        if (!err)
            err = unix_wait_room(u, 1, flags, deadline);
        if (err)
            break;
        n = MIN(MIN(unix_room(u), sm->iter->count), STREAM_PIECE);
        if (n == 0)
            continue;
        err = unix_msg_make(u, sm->iter, n, &m);
        if (err)
            break;
        unix_attach(m, &sm->scm);
        n = m->len;
        err = unix_deliver(u, peer, m);
        if (err) {
            unix_msg_free(m);
            break;
        }
        done += (ssize_t)n;
    }
    if (err == -EPIPE && !done && !(flags & MSG_NOSIGNAL))
        signal_broken_pipe();
    return done ? done : err;
}

/* Whom a datagram goes to: Returns owned. */
static int unix_target(struct unix_sock *u, struct socket_msg *sm,
                       struct unix_sock **out)
{
    if (!unix_has_connection(u) && sm->addr && sm->addr->len)
        return unix_find(sm->addr, SOCK_DGRAM, out);
    *out = unix_peer(u);
    return *out ? 0 : -ENOTCONN;
}

static bool unix_queue_has_room(struct unix_sock *to)
{
    return atomic_load_relaxed(&to->nr_queued) <= UNIX_DGRAM_QUEUE ||
           atomic_load_relaxed(&to->shutdown);
}

/* A connected datagram socket whose peer has gone forgets it. */
static void unix_forget_peer(struct unix_sock *u, struct unix_sock *peer)
{
    bool was_peer;

    spin_lock(&u->lock);
    was_peer = u->peer == peer;
    if (was_peer) {
        u->peer = NULL;
        u->state = UNIX_OPEN;
    }
    spin_unlock(&u->lock);
    if (was_peer)
        unix_put(peer);
}

static ssize_t unix_send_message(struct unix_sock *u, struct socket_msg *sm,
                                 uint32_t flags)
{
    nsec_t deadline = socket_deadline(u->s.sndtimeo);
    size_t len = sm->iter->count;
    struct unix_sock *to;
    struct unix_msg *m;
    int err;

    if (len > u->s.sndbuf - 32)
        return -EMSGSIZE;
    err = unix_target(u, sm, &to);
    if (err)
        return err;
    if (atomic_load_relaxed(&u->shutdown) & SHUTDOWN_WR)
        err = -EPIPE;
    if (!err)
        err = unix_wait_room(u, len, flags, deadline);
    if (!err)
        err = unix_msg_make(u, sm->iter, len, &m);
    if (err)
        goto out;
    unix_attach(m, &sm->scm);
    while ((err = unix_deliver(u, to, m)) == -EAGAIN) {
        if (flags & MSG_DONTWAIT)
            break;
        err = wait_event(&to->wait, unix_queue_has_room(to),
                         WAIT_INTERRUPTIBLE, deadline);
        err = socket_wait_error(err, u->s.sndtimeo);
        if (err)
            break;
    }
    if (err)
        unix_msg_free(m);
    if (err == -ECONNREFUSED)
        unix_forget_peer(u, to);
out:
    unix_put(to);
    return err ? err : (ssize_t)len;
}

ssize_t unix_sendmsg(struct socket *s, struct socket_msg *m, uint32_t flags)
{
    struct unix_sock *u = to_unix(s), *peer;
    ssize_t n;

    if (flags & MSG_OOB)
        return -ENOTSUP;
    if (!unix_is_stream(u)) {
        if (unix_has_connection(u) && u->state != UNIX_CONNECTED)
            return -ENOTCONN;
        return unix_send_message(u, m, flags);
    }
    peer = unix_peer(u);
    if (m->addr && m->addr->len) {
        n = u->state == UNIX_CONNECTED ? -EISCONN : -ENOTSUP;
    } else if (!peer) {
        n = -ENOTCONN;
    } else {
        n = unix_send_stream(u, peer, m, flags);
    }
    if (peer)
        unix_put(peer);
    return n;
}

/* ---- receiving ---- */

static struct unix_msg *unix_first(struct unix_sock *u)
{
    struct unix_msg *m = NULL;

    spin_lock(&u->lock);
    if (!list_empty(&u->queue))
        m = list_first(&u->queue, struct unix_msg, link);
    spin_unlock(&u->lock);
    return m;
}

static void unix_dequeue(struct unix_sock *u, struct unix_msg *m)
{
    bool was_full;

    spin_lock(&u->lock);
    list_del(&m->link);
    u->queued_bytes -= m->len - m->offset;
    was_full = u->nr_queued-- > UNIX_DGRAM_QUEUE;
    spin_unlock(&u->lock);
    if (was_full && !unix_has_connection(u)) {
        wait_wake_key(&u->wait, 1, EPOLLOUT); /* blocked senders */
        wait_wake_key(&m->sender->wait, 1, EPOLLOUT | EPOLLWRNORM);
    }
}

/* Hands out what is attached to m: moved, or copied for a peek. */
static int unix_take_scm(struct unix_msg *m, struct scm *out, bool peek)
{
    out->has_cred = m->scm.has_cred;
    out->cred = m->scm.cred;
    if (!m->scm.nr_files)
        return 0;
    if (peek) {
        out->files = kmalloc(m->scm.nr_files * sizeof(*out->files));
        if (!out->files)
            return -ENOMEM;
        for (uint32_t i = 0; i < m->scm.nr_files; i++) {
            out->files[i] = m->scm.files[i];
            file_get(out->files[i]);
        }
    } else {
        out->files = m->scm.files;
        m->scm.files = NULL;
    }
    out->nr_files = m->scm.nr_files;
    if (!peek)
        m->scm.nr_files = 0;
    return 0;
}

static void unix_take_addr(struct unix_msg *m, struct socket_addr *out)
{
    if (!out)
        return;
    if (m->addr)
        *out = m->addr->a;
    else
        out->len = 0;
}

/* Nothing is queued: an error, 0 for end of file, or 1: wait. */
static int unix_why_empty(struct unix_sock *u, uint32_t flags)
{
    int err = socket_take_error(&u->s);

    if (err)
        return -err;
    if (atomic_load_relaxed(&u->shutdown) & SHUTDOWN_RD)
        return 0;
    return flags & MSG_DONTWAIT ? -EAGAIN : 1;
}

/* Waits for a message with read_lock released. 0 or what recvmsg returns. */
static int unix_wait_message(struct unix_sock *u, nsec_t deadline)
{
    int err;

    mutex_unlock(&u->read_lock);
    err = wait_event(&u->wait,
                     !list_empty(&u->queue) ||
                         (atomic_load_relaxed(&u->shutdown) & SHUTDOWN_RD) ||
                         atomic_load_relaxed(&u->s.error),
                     WAIT_INTERRUPTIBLE, deadline);
    mutex_lock(&u->read_lock);
    return socket_wait_error(err, u->s.rcvtimeo);
}

static bool same_cred(const struct ucred_abi *a, const struct ucred_abi *b)
{
    return a->pid == b->pid && a->uid == b->uid && a->gid == b->gid;
}

/* Copies out of m from m->offset on; consumes unless peeking. */
static ssize_t unix_stream_piece(struct unix_sock *u, struct unix_msg *m,
                                 struct iov_iter *to, bool peek)
{
    size_t n = MIN((size_t)(m->len - m->offset), to->count);
    ssize_t k = iter_copy_to(to, m->data + m->offset, n);

    if (k <= 0 || peek)
        return k;
    spin_lock(&u->lock);
    m->offset += (uint32_t)k;
    u->queued_bytes -= (uint32_t)k;
    spin_unlock(&u->lock);
    unix_credit(m->sender, (uint32_t)k);
    if (m->offset == m->len) {
        unix_dequeue(u, m);
        unix_msg_free(m);
    }
    return k;
}

/* A peek walks on along the queue; the list only grows at its end, and only
 * readers remove. */
static struct unix_msg *unix_next(struct unix_sock *u, struct unix_msg *m)
{
    struct unix_msg *next = NULL;

    spin_lock(&u->lock);
    if (m->link.next != &u->queue)
        next = list_entry(m->link.next, struct unix_msg, link);
    spin_unlock(&u->lock);
    return next;
}

static ssize_t unix_recv_stream(struct unix_sock *u, struct socket_msg *sm,
                                uint32_t flags)
{
    nsec_t deadline = socket_deadline(u->s.rcvtimeo);
    bool peek = flags & MSG_PEEK, has_scm = false, stop = false;
    struct unix_msg *m, *peeked = NULL;
    ssize_t done = 0, k;
    int err = 0;

    mutex_lock(&u->read_lock);
    while (sm->iter->count && !stop) {
        m = peeked ? unix_next(u, peeked) : unix_first(u);
        if (!m) {
            if (done && (!(flags & MSG_WAITALL) || peek))
                break;
            err = unix_why_empty(u, flags);
            if (err <= 0)
                break;
            err = unix_wait_message(u, deadline);
            if (err)
                break;
            continue;
        }
        /* man 7 unix: a message with descriptors ends a read, but does not
         * keep it from taking what came before. */
        if (has_scm && u->s.pass_cred &&
            !same_cred(&m->scm.cred, &sm->scm.cred))
            break;
        if (!has_scm) {
            unix_take_addr(m, sm->addr);
            err = 0;
        }
        stop = m->scm.nr_files != 0;
        if (!has_scm || stop)
            err = unix_take_scm(m, &sm->scm, peek);
        if (err)
            break;
        has_scm = true;
        k = unix_stream_piece(u, m, sm->iter, peek);
        if (k <= 0) {
            err = (int)k;
            break;
        }
        if (peek)
            peeked = m;
        done += k;
    }
    mutex_unlock(&u->read_lock);
    return done ? done : err;
}

static ssize_t unix_recv_message(struct unix_sock *u, struct socket_msg *sm,
                                 uint32_t flags)
{
    nsec_t deadline = socket_deadline(u->s.rcvtimeo);
    bool peek = flags & MSG_PEEK;
    struct unix_msg *m;
    ssize_t n = 0;
    int err = 0;

    mutex_lock(&u->read_lock);
    while (!(m = unix_first(u))) {
        err = unix_why_empty(u, flags);
        if (err > 0)
            err = unix_wait_message(u, deadline);
        else
            break;
        if (err)
            break;
    }
    if (m) {
        n = (ssize_t)MIN((size_t)m->len, sm->iter->count);
        if (n && iter_copy_to(sm->iter, m->data, (size_t)n) != n)
            err = -EFAULT;
        else
            err = unix_take_scm(m, &sm->scm, peek);
    }
    if (m && !err) {
        unix_take_addr(m, sm->addr);
        if (m->len > (size_t)n)
            sm->flags_out |= MSG_TRUNC;
        if (flags & MSG_TRUNC)
            n = m->len;
        if (!peek) {
            unix_dequeue(u, m);
            unix_msg_free(m);
        }
    }
    mutex_unlock(&u->read_lock);
    return err ? err : n;
}

ssize_t unix_recvmsg(struct socket *s, struct socket_msg *m, uint32_t flags)
{
    struct unix_sock *u = to_unix(s);

    if (flags & MSG_OOB)
        return -ENOTSUP;
    if (flags & MSG_ERRQUEUE)
        return -EAGAIN;
    if (m->addr)
        m->addr->len = 0;
    if (!unix_is_stream(u)) {
        if (unix_has_connection(u) && u->state != UNIX_CONNECTED)
            return -ENOTCONN;
        return unix_recv_message(u, m, flags);
    }
    if (u->state != UNIX_CONNECTED)
        return -EINVAL;
    return unix_recv_stream(u, m, flags);
}

int64_t unix_ioctl(struct socket *s, uint32_t cmd, uint64_t arg)
{
    struct unix_sock *u = to_unix(s);
    struct unix_msg *m;
    int32_t n;

    if (cmd == SIOCOUTQ) {
        n = (int32_t)atomic_load_relaxed(&u->in_flight);
    } else if (cmd == SIOCINQ) {
        if (u->state == UNIX_LISTENING)
            return -EINVAL;
        spin_lock(&u->lock);
        n = (int32_t)u->queued_bytes;
        if (u->s.type == SOCK_DGRAM) { /* the next one; others: all */
            m = list_first(&u->queue, struct unix_msg, link);
            n = list_empty(&u->queue) ? 0 : (int32_t)m->len;
        }
        spin_unlock(&u->lock);
    } else {
        return -ENOTTY;
    }
    return put_user((int32_t __user *)arg, n);
}
