/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The part of sockets all families share: files, options of SOL_SOCKET,
 * time-outs. No locks: see socket.h.
 */
#include "net/socket.h"

#include "lib/errno.h"
#include "lib/string.h"
#include "mm/heap.h"
#include "net/inet_sock.h"

/* man 7 socket, asm-generic/socket.h */
enum {
    SO_DEBUG = 1, SO_REUSEADDR, SO_TYPE, SO_ERROR, SO_DONTROUTE,
    SO_BROADCAST, SO_SNDBUF, SO_RCVBUF, SO_KEEPALIVE, SO_OOBINLINE,
    SO_PRIORITY = 12, SO_LINGER, SO_REUSEPORT = 15, SO_PASSCRED,
    SO_PEERCRED, SO_RCVLOWAT, SO_SNDLOWAT, SO_RCVTIMEO, SO_SNDTIMEO,
    SO_BINDTODEVICE = 25, SO_TIMESTAMP = 29, SO_ACCEPTCONN, SO_PEERSEC, SO_SNDBUFFORCE,
    SO_RCVBUFFORCE, SO_PROTOCOL = 38, SO_DOMAIN,
};

#define SOL_SOCKET 1
#define BUF_DEFAULT 212992u /* /proc/sys/net/core/wmem_default, wmem_max */
#define SNDBUF_MIN 4608u
#define RCVBUF_MIN 2304u
#define BOOL_OPTIONS                                                     \
    (1u << SO_DEBUG | 1u << SO_REUSEADDR | 1u << SO_DONTROUTE |          \
     1u << SO_BROADCAST | 1u << SO_KEEPALIVE | 1u << SO_OOBINLINE |      \
     1u << SO_REUSEPORT)

struct timeval_abi {
    int64_t sec, usec;
};

void socket_init_common(struct socket *s, const struct socket_ops *ops,
                        int family, int type, int protocol)
{
    s->ops = ops;
    s->family = family;
    s->type = type;
    s->protocol = protocol;
    s->sndbuf = s->rcvbuf = BUF_DEFAULT;
    s->rcvlowat = 1;
}

const struct socket_family *socket_find_family(int family)
{
    static const struct socket_family *const families[] = {
        &inet_family, &inet6_family, &unix_family, &netlink_family};

    for (size_t n = 0; n < ARRAY_SIZE(families); n++)
        if (families[n]->family == family)
            return families[n];
    return NULL;
}

int socket_take_error(struct socket *s)
{
    if (s->ops->take_error)
        return s->ops->take_error(s);
    if (likely(!atomic_load_relaxed(&s->error)))
        return 0;
    return atomic_xchg(&s->error, 0);
}

nsec_t socket_deadline(nsec_t timeout)
{
    return timeout ? clock_monotonic() + timeout : NO_DEADLINE;
}

int socket_wait_error(int err, nsec_t timeout)
{
    if (err == -ETIMEDOUT)
        return -EAGAIN;
    if (err == -EINTR)
        return timeout ? -EINTR : -ERESTARTSYS;
    return err;
}

void scm_free(struct scm *scm)
{
    for (uint32_t i = 0; i < scm->nr_files; i++)
        if (scm->files[i])
            file_put(scm->files[i]);
    kfree(scm->files);
    scm->files = NULL;
    scm->nr_files = 0;
}

/* ---- the file ---- */

static ssize_t socket_file_read(struct file *f, struct iov_iter *to,
                                off_t *pos)
{
    struct socket *s = f->priv;
    struct socket_msg m = {.iter = to};
    ssize_t n;

    if (!to->count) /* recv(2) of nothing waits, read(2) does not */
        return 0;
    n = s->ops->recvmsg(s, &m, f->flags & O_NONBLOCK ? MSG_DONTWAIT : 0);
    scm_free(&m.scm); /* read(2) drops what is attached */
    return n;
}

static ssize_t socket_file_write(struct file *f, struct iov_iter *from,
                                 off_t *pos)
{
    struct socket *s = f->priv;
    struct socket_msg m = {.iter = from};

    return s->ops->sendmsg(s, &m, f->flags & O_NONBLOCK ? MSG_DONTWAIT : 0);
}

static uint32_t socket_file_poll(struct file *f, struct poll_table *pt)
{
    struct socket *s = f->priv;

    return s->ops->poll(s, f, pt);
}

static int64_t socket_file_ioctl(struct file *f, uint32_t cmd, uint64_t arg)
{
    struct socket *s = f->priv;
    int64_t r = s->ops->ioctl ? s->ops->ioctl(s, cmd, arg) : -ENOTTY;

    return r == -ENOTTY ? netif_ioctl(cmd, arg) : r;
}

static void socket_file_release(struct file *f)
{
    struct socket *s = f->priv;

    s->ops->release(s);
}

static const struct file_ops socket_file_ops = {
    .read = socket_file_read,
    .write = socket_file_write,
    .poll = socket_file_poll,
    .ioctl = socket_file_ioctl,
    .release = socket_file_release,
};

int socket_file(struct socket *s, uint32_t flags, struct file **out)
{
    struct inode *inode;
    int err = anon_inode_create(S_IFSOCK | 0777, &inode);

    if (!err) {
        s->ino = inode->ino;
        err = file_create(inode, NULL, &socket_file_ops,
                          O_RDWR | (flags & O_NONBLOCK), s, out);
        inode_put(inode);
    }
    if (err)
        s->ops->release(s);
    return err;
}

struct socket *file_socket(struct file *f)
{
    return f->ops == &socket_file_ops ? f->priv : NULL;
}

/* ---- SOL_SOCKET ---- */

static int set_timeout(nsec_t *out, const void *value, uint32_t len)
{
    struct timeval_abi tv;

    if (len < sizeof(tv))
        return -EINVAL;
    memcpy(&tv, value, sizeof(tv));
    if (tv.usec < 0 || tv.usec >= 1000000)
        return -EDOM;
    if (tv.sec < 0) /* Linux: as if it were 0 but not waiting */
        atomic_store_relaxed(out, (nsec_t)1);
    else if (tv.sec > INT64_MAX / NSEC_PER_SEC / 2)
        atomic_store_relaxed(out, (nsec_t)0);
    else
        atomic_store_relaxed(out,
                             tv.sec * NSEC_PER_SEC + tv.usec * 1000);
    return 0;
}

static uint32_t doubled_size(int32_t v, bool is_forced, uint32_t min)
{
    uint32_t n = v < 0 && is_forced ? 0 : (uint32_t)v;

    if (!is_forced || n > INT32_MAX / 2)
        n = MIN(n, is_forced ? (uint32_t)INT32_MAX / 2 : BUF_DEFAULT);
    return MAX(n * 2, min);
}

static int set_option(struct socket *s, int name, const void *value,
                      uint32_t len)
{
    int32_t v;

    if (name == SO_RCVTIMEO)
        return set_timeout(&s->rcvtimeo, value, len);
    if (name == SO_SNDTIMEO)
        return set_timeout(&s->sndtimeo, value, len);
    if (name == SO_BINDTODEVICE) /* a name: the family's */
        return -ENOPROTOOPT;
    if (len < sizeof(v))
        return -EINVAL;
    memcpy(&v, value, sizeof(v));
    switch (name) {
    case SO_LINGER:
        if (len < 8)
            return -EINVAL;
        s->linger_on = v != 0;
        memcpy(&s->linger_sec, (const char *)value + 4, 4);
        return 0;
    case SO_SNDBUF:
    case SO_SNDBUFFORCE:
        s->sndbuf = doubled_size(v, name == SO_SNDBUFFORCE, SNDBUF_MIN);
        return 0;
    case SO_RCVBUF:
    case SO_RCVBUFFORCE:
        s->rcvbuf = doubled_size(v, name == SO_RCVBUFFORCE, RCVBUF_MIN);
        return 0;
    case SO_RCVLOWAT:
        s->rcvlowat = v < 0 ? INT32_MAX : MAX((uint32_t)v, 1u);
        return 0;
    case SO_PRIORITY:
        s->priority = (uint32_t)v;
        return 0;
    case SO_PASSCRED:
        s->pass_cred = v != 0;
        return 0;
    default:
        if (name < 0 || name >= 32 || !(BOOL_OPTIONS >> name & 1))
            return -ENOPROTOOPT;
        if (v)
            (void)atomic_or(&s->option_bits, 1u << name);
        else
            (void)atomic_and(&s->option_bits, ~(1u << name));
        return 0;
    }
}

int socket_set_option(struct socket *s, int name, const void *value,
                      uint32_t len)
{
    int err = set_option(s, name, value, len);

    if (err == -ENOPROTOOPT && s->ops->setsockopt)
        return s->ops->setsockopt(s, SOL_SOCKET, name, value, len);
    if (!err && s->ops->option_changed)
        s->ops->option_changed(s, name);
    return err;
}

static int get_bytes(void *value, uint32_t *len, const void *from, uint32_t n)
{
    *len = MIN(*len, n);
    memcpy(value, from, *len);
    return 0;
}

static int get_timeout(void *value, uint32_t *len, nsec_t t)
{
    struct timeval_abi tv = {t / NSEC_PER_SEC, t % NSEC_PER_SEC / 1000};

    return get_bytes(value, len, &tv, sizeof(tv));
}

/* value has room for *len bytes, at least 16. */
int socket_get_option(struct socket *s, int name, void *value, uint32_t *len)
{
    struct ucred_abi cred = {0, ~0u, ~0u};
    int32_t v[2] = {0, 0};

    switch (name) {
    case SO_TYPE:
        v[0] = s->type;
        break;
    case SO_ERROR:
        v[0] = socket_take_error(s);
        break;
    case SO_SNDBUF:
        v[0] = (int32_t)s->sndbuf;
        break;
    case SO_RCVBUF:
        v[0] = (int32_t)s->rcvbuf;
        break;
    case SO_RCVLOWAT:
        v[0] = (int32_t)s->rcvlowat;
        break;
    case SO_SNDLOWAT:
        v[0] = 1;
        break;
    case SO_PRIORITY:
        v[0] = (int32_t)s->priority;
        break;
    case SO_PASSCRED:
        v[0] = s->pass_cred;
        break;
    case SO_ACCEPTCONN:
        v[0] = s->is_listening;
        break;
    case SO_PROTOCOL:
        v[0] = s->protocol;
        break;
    case SO_DOMAIN:
        v[0] = s->family;
        break;
    case SO_LINGER:
        v[0] = s->linger_on;
        v[1] = s->linger_sec;
        return get_bytes(value, len, v, 8);
    case SO_PEERCRED:
        if (s->ops->peercred)
            s->ops->peercred(s, &cred);
        return get_bytes(value, len, &cred, sizeof(cred));
    case SO_RCVTIMEO:
        return get_timeout(value, len, s->rcvtimeo);
    case SO_SNDTIMEO:
        return get_timeout(value, len, s->sndtimeo);
    default:
        if (name < 0 || name >= 32 || !(BOOL_OPTIONS >> name & 1))
            return s->ops->getsockopt
                       ? s->ops->getsockopt(s, SOL_SOCKET, name, value, len)
                       : -ENOPROTOOPT;
        v[0] = (int32_t)(atomic_load_relaxed(&s->option_bits) >> name & 1);
    }
    return get_bytes(value, len, v, 4);
}
