/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Options of Internet sockets: what SOL_SOCKET means here, and the way to the
 * levels IP, IPv6 and TCP (man 7 socket). What the stack keeps per socket is
 * written under its lock; the rest is in `struct inet_sock`, atomic.
 */
#include "net/inet_sock.h"

#include "lib/printk.h"

#define SOL_SOCKET 1

enum {
    SO_REUSEADDR = 2, SO_BROADCAST = 6, SO_SNDBUF, SO_RCVBUF, SO_KEEPALIVE,
    SO_REUSEPORT = 15, SO_RCVLOWAT = 18, SO_BINDTODEVICE = 25,
    SO_TIMESTAMP = 29, SO_SNDBUFFORCE = 32, SO_RCVBUFFORCE,
    SO_TIMESTAMPNS = 35, SO_COOKIE = 57, SO_BINDTOIFINDEX = 62,
};

int inet_option_int(const void *value, uint32_t len, int32_t *out)
{
    if (len >= sizeof(*out))
        memcpy(out, value, sizeof(*out));
    else if (len >= 1)
        *out = *(const uint8_t *)value;
    else
        return -EINVAL;
    return 0;
}

int inet_option_put(void *value, uint32_t *len, const void *from, uint32_t n)
{
    *len = MIN(*len, n);
    memcpy(value, from, *len);
    return 0;
}

/* ---- fields of struct socket that the stack has as well ---- */

static void changed_tcp(struct inet_sock *i, int name, bool on)
{
    uint32_t lowat;
    int err = 0;

    if (name == SO_KEEPALIVE)
        err = tcp_set_option(i->tcp, TCP_OPT_KEEPALIVE, on);
    else if (name == SO_RCVBUF || name == SO_RCVBUFFORCE)
        err = tcp_set_option(i->tcp, TCP_OPT_RCVBUF, i->s.rcvbuf);
    else if (name == SO_SNDBUF || name == SO_SNDBUFFORCE)
        err = tcp_set_option(i->tcp, TCP_OPT_SNDBUF, i->s.sndbuf);
    else if (name == SO_RCVLOWAT)
        err = tcp_set_option(i->tcp, TCP_OPT_RCVLOWAT, i->s.rcvlowat);
    assert(!err); /* these take any value */
    if (name == SO_RCVLOWAT && !tcp_get_option(i->tcp, TCP_OPT_RCVLOWAT,
                                               &lowat))
        atomic_store_relaxed(&i->s.rcvlowat, lowat); /* as far as it fits */
}

static void changed_udp(struct inet_sock *i, int name, bool on)
{
    sock_lock(i->ns);
    if (name == SO_BROADCAST)
        i->udp->may_broadcast = on;
    else if (name == SO_RCVBUF || name == SO_RCVBUFFORCE)
        i->udp->rcvbuf = i->s.rcvbuf;
    sock_unlock(i->ns);
}

void inet_option_changed(struct socket *s, int name)
{
    struct inet_sock *i = to_inet(s);
    bool on = name >= 0 && name < 32 &&
              (atomic_load_relaxed(&s->option_bits) >> name & 1);

    if (name == SO_REUSEADDR || name == SO_REUSEPORT) {
        sock_lock(i->ns);
        if (name == SO_REUSEADDR)
            i->ns->reuse_addr = on;
        else
            i->ns->reuse_port = on;
        sock_unlock(i->ns);
    } else if (i->kind == INET_TCP) {
        changed_tcp(i, name, on);
    } else {
        changed_udp(i, name, on);
    }
}

/* ---- the rest of SOL_SOCKET ---- */

static int bind_to_nif(struct inet_sock *i, uint32_t index)
{
    if (index && !netif_by_index(i->ns->net, index))
        return -ENODEV;
    sock_lock(i->ns);
    i->ns->bound_nif = index;
    sock_unlock(i->ns);
    return 0;
}

/* The name need not be terminated; an empty one unbinds. */
static int bind_to_device(struct inet_sock *i, const char *name, uint32_t len)
{
    struct netstack *net = i->ns->net;
    uint32_t n = atomic_load_acquire(&net->nr_nifs);
    char text[16] = {0};

    memcpy(text, name, MIN(len, (uint32_t)sizeof(text) - 1));
    if (!text[0])
        return bind_to_nif(i, 0);
    for (uint32_t k = 0; k < n; k++)
        if (!strcmp(net->nifs[k]->name, text))
            return bind_to_nif(i, net->nifs[k]->index);
    return -ENODEV;
}

static void set_flag(struct inet_sock *i, uint32_t flag, bool on)
{
    if (on)
        (void)atomic_or(&i->flags, flag);
    else
        (void)atomic_and(&i->flags, ~flag);
}

static int set_socket(struct inet_sock *i, int name, const void *value,
                      uint32_t len)
{
    int32_t v;

    if (name == SO_BINDTODEVICE)
        return bind_to_device(i, value, len);
    if (name != SO_TIMESTAMP && name != SO_TIMESTAMPNS &&
        name != SO_BINDTOIFINDEX)
        return -ENOPROTOOPT;
    if (len < sizeof(v))
        return -EINVAL;
    memcpy(&v, value, sizeof(v));
    if (name == SO_BINDTOIFINDEX)
        return v < 0 ? -EINVAL : bind_to_nif(i, (uint32_t)v);
    set_flag(i, INET_WANT_STAMP | INET_WANT_STAMP_NS, false);
    set_flag(i, name == SO_TIMESTAMP ? INET_WANT_STAMP : INET_WANT_STAMP_NS,
             v != 0);
    return 0;
}

static int get_socket(struct inet_sock *i, int name, void *value,
                      uint32_t *len)
{
    uint32_t flags = atomic_load_relaxed(&i->flags), v;
    struct netif *nif = NULL;
    uint64_t cookie = i->s.ino;

    switch (name) {
    case SO_TIMESTAMP:
        v = (flags & INET_WANT_STAMP) != 0;
        break;
    case SO_TIMESTAMPNS:
        v = (flags & INET_WANT_STAMP_NS) != 0;
        break;
    case SO_BINDTOIFINDEX:
        v = atomic_load_relaxed(&i->ns->bound_nif);
        break;
    case SO_COOKIE:
        if (*len < sizeof(cookie))
            return -EINVAL;
        return inet_option_put(value, len, &cookie, sizeof(cookie));
    case SO_BINDTODEVICE:
        v = atomic_load_relaxed(&i->ns->bound_nif);
        nif = v ? netif_by_index(i->ns->net, v) : NULL;
        if (nif && *len < sizeof(nif->name))
            return -EINVAL;
        return nif ? inet_option_put(value, len, nif->name,
                                     (uint32_t)strlen(nif->name) + 1)
                   : inet_option_put(value, len, "", 0);
    default:
        return -ENOPROTOOPT;
    }
    return inet_option_put(value, len, &v, sizeof(v));
}

/* ---- levels ---- */

int inet_set_option(struct socket *s, int level, int name, const void *value,
                    uint32_t len)
{
    struct inet_sock *i = to_inet(s);

    if (level == SOL_SOCKET)
        return set_socket(i, name, value, len);
    if (level == IPPROTO_IP)
        return inet_set_ip(i, name, value, len);
    if (level == IPPROTO_IPV6 && inet_is_v6(i))
        return inet_set_ipv6(i, name, value, len);
    if (level == (int)IP_PROTO_TCP && i->kind == INET_TCP)
        return inet_set_tcp(i, name, value, len);
    return -ENOPROTOOPT;
}

int inet_get_option(struct socket *s, int level, int name, void *value,
                    uint32_t *len)
{
    struct inet_sock *i = to_inet(s);

    if (level == SOL_SOCKET)
        return get_socket(i, name, value, len);
    if (level == IPPROTO_IP)
        return inet_get_ip(i, name, value, len);
    if (level == IPPROTO_IPV6 && inet_is_v6(i))
        return inet_get_ipv6(i, name, value, len);
    if (level == (int)IP_PROTO_TCP && i->kind == INET_TCP)
        return inet_get_tcp(i, name, value, len);
    return -ENOPROTOOPT;
}
