/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Addresses of Internet sockets: struct sockaddr_in and sockaddr_in6 (man 7
 * ip, man 7 ipv6) in and out, bind, names. No locks of its own; the stack's
 * socket lock is held while a pair of address and port is copied.
 */
#include "net/inet_sock.h"

#include "linux/task.h"
#include "net/route.h"

#define FIRST_FREE_PORT 1024u /* ip_unprivileged_port_start */

static void from_v4(const struct socket_addr *a, struct net_endpoint *out)
{
    out->port = wire_get16(a->data + 2);
    out->addr = addr_from_wire4(a->data + 4);
}

static void from_v6(const struct socket_addr *a, struct net_endpoint *out)
{
    uint32_t scope = 0;

    out->port = wire_get16(a->data + 2);
    out->addr = addr_from_wire6(a->data + 8);
    if (a->len >= SOCKADDR_IN6_BYTES)
        memcpy(&scope, a->data + 24, sizeof(scope));
    out->scope = addr_is_link_local(&out->addr) ||
                         addr_is_multicast(&out->addr)
                     ? scope
                     : 0;
}

static int get_v4(const struct socket_addr *a, enum inet_addr_use use,
                  struct net_endpoint *out)
{
    bool is_unspec = a->family == AF_UNSPEC;

    if (a->len < SOCKADDR_IN_BYTES)
        return -EINVAL;
    from_v4(a, out);
    if (a->family == AF_INET || (is_unspec && use == INET_FOR_SEND) ||
        (is_unspec && use == INET_FOR_BIND && addr_is_any(&out->addr)))
        return 0;
    return -EAFNOSUPPORT;
}

static int get_v6(struct inet_sock *i, const struct socket_addr *a,
                  enum inet_addr_use use, struct net_endpoint *out)
{
    bool v4_ok = i->kind == INET_UDP && use != INET_FOR_BIND;

    if (v4_ok && a->len >= sizeof(a->family) && a->family == AF_INET) {
        if (a->len < SOCKADDR_IN_BYTES)
            return -EINVAL;
        from_v4(a, out);
        if (i->ns->is_v6only && use == INET_FOR_CONNECT)
            return -EAFNOSUPPORT;
    } else if (a->len < SOCKADDR_IN6_MIN) {
        return -EINVAL;
    } else if (a->family != AF_INET6) {
        return use == INET_FOR_SEND ? -EINVAL : -EAFNOSUPPORT;
    } else {
        from_v6(a, out);
    }
    if (i->ns->is_v6only && addr_is_v4(&out->addr))
        return use == INET_FOR_BIND ? -EINVAL : -ENETUNREACH;
    return 0;
}

/* Nowhere in particular means this machine. */
static void any_to_loopback(struct net_addr *a)
{
    if (!addr_is_any(a))
        return;
    if (addr_is_v4(a))
        *a = addr_from_v4(0x7f000001);
    else
        a->b[15] = 1;
}

int inet_addr_get(struct inet_sock *i, const struct socket_addr *a,
                  enum inet_addr_use use, struct net_endpoint *out)
{
    struct net_endpoint e = {.port = 0};
    int err = inet_is_v6(i) ? get_v6(i, a, use, &e) : get_v4(a, use, &e);

    if (err)
        return err;
    if (use != INET_FOR_BIND)
        any_to_loopback(&e.addr);
    *out = e;
    return 0;
}

void inet_addr_put(struct inet_sock *i, const struct net_endpoint *e,
                   struct socket_addr *out)
{
    uint32_t scope = e->scope;

    if (!inet_is_v6(i)) {
        uint32_t v4 = addr_is_v4(&e->addr) ? addr_v4(&e->addr) : 0;

        memset(out->data, 0, SOCKADDR_IN_BYTES);
        out->len = SOCKADDR_IN_BYTES;
        out->family = AF_INET;
        wire_put16(out->data + 2, e->port);
        wire_put32(out->data + 4, v4);
        return;
    }
    memset(out->data, 0, SOCKADDR_IN6_BYTES);
    out->len = SOCKADDR_IN6_BYTES;
    out->family = AF_INET6;
    wire_put16(out->data + 2, e->port);
    memcpy(out->data + 8, e->addr.b, sizeof(e->addr.b));
    if (addr_is_link_local(&e->addr))
        memcpy(out->data + 24, &scope, sizeof(scope));
}

/* ---- bind and names ---- */

/* The address only. REQUIRES what inet_bind has checked. */
static int bind_address(struct inet_sock *i, const struct net_endpoint *local)
{
    bool is_any = addr_is_any(&local->addr);
    struct net_sock *ns = i->ns;
    int err = 0;

    if (!is_any && !netif_of_addr(ns->net, &local->addr, ADDR_FREE))
        return -EADDRNOTAVAIL;
    sock_lock(ns);
    if (ns->port_link || ns->remote.port || tcp_is_connected(i->tcp))
        err = -EINVAL;
    if (!err) {
        ns->local = *local;
        ns->is_bound = !is_any;
    }
    sock_unlock(ns);
    return err;
}

int inet_bind(struct socket *s, const struct socket_addr *addr)
{
    struct inet_sock *i = to_inet(s);
    struct net_endpoint local;
    int err = inet_addr_get(i, addr, INET_FOR_BIND, &local);

    if (err)
        return err;
    if (addr_is_link_local(&local.addr) && !local.scope)
        return -EINVAL;
    if (local.port && local.port < FIRST_FREE_PORT && i->kind != INET_PING &&
        current_process()->euid != 0)
        return -EACCES;
    if (i->kind == INET_TCP && !local.port &&
        (atomic_load_relaxed(&i->flags) & INET_LATE_PORT))
        return bind_address(i, &local);
    if (i->kind == INET_TCP)
        return tcp_bind(i->tcp, &local);
    if (i->kind == INET_UDP)
        return udp_bind(i->udp, &local);
    if (!addr_is_any(&local.addr) &&
        !netif_of_addr(i->ns->net, &local.addr, ADDR_FREE))
        return -EADDRNOTAVAIL;
    return ping_bind(i->udp, &local);
}

static bool has_peer(struct inet_sock *i, const struct net_endpoint *remote)
{
    if (i->kind == INET_TCP) /* written under the lock that is held */
        return i->tcp->state != TCP_CLOSE && i->tcp->state != TCP_LISTEN &&
               i->tcp->state != TCP_SYN_SENT;
    return i->kind == INET_UDP ? remote->port != 0
                               : !addr_is_any(&remote->addr);
}

int inet_getname(struct socket *s, bool peer, struct socket_addr *out)
{
    struct inet_sock *i = to_inet(s);
    struct net_endpoint e;
    bool is_there;

    sock_lock(i->ns);
    e = peer ? i->ns->remote : i->ns->local;
    is_there = !peer || has_peer(i, &e);
    sock_unlock(i->ns);
    if (!is_there)
        return -ENOTCONN;
    inet_addr_put(i, &e, out);
    return 0;
}
