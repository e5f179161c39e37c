/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Options of the levels IP and IPv6 (man 7 ip, man 7 ipv6). Tables say what a
 * boolean option's bit is; what the stack does not have is -ENOPROTOOPT.
 *
 * IP_RECVERR is accepted, since resolvers insist on it: errors reach connected
 * sockets through the calls and SO_ERROR, the error queue stays empty.
 *
 * Locks: fields of the stack's sockets under their lock.
 */
#include "net/inet_sock.h"

#include "net/route.h"

enum {
    IP_TOS = 1, IP_TTL, IP_OPTIONS = 4, IP_PKTINFO = 8, IP_MTU_DISCOVER = 10,
    IP_RECVERR, IP_RECVTTL, IP_RECVTOS, IP_MTU, IP_BIND_ADDRESS_NO_PORT = 24,
    IP_MULTICAST_IF = 32, IP_MULTICAST_TTL, IP_MULTICAST_LOOP,
    IP_ADD_MEMBERSHIP, IP_DROP_MEMBERSHIP, MCAST_JOIN_GROUP = 42,
    MCAST_LEAVE_GROUP = 45,
};

enum {
    IPV6_UNICAST_HOPS = 16, IPV6_MULTICAST_IF, IPV6_MULTICAST_HOPS,
    IPV6_MULTICAST_LOOP, IPV6_ADD_MEMBERSHIP, IPV6_DROP_MEMBERSHIP,
    IPV6_MTU_DISCOVER = 23, IPV6_MTU, IPV6_RECVERR, IPV6_V6ONLY,
    IPV6_RECVPKTINFO = 49, IPV6_RECVHOPLIMIT = 51, IPV6_DONTFRAG = 62,
    IPV6_RECVTCLASS = 66, IPV6_TCLASS,
};

#define PMTUDISC_WANT 1
#define PMTUDISC_DO 2
#define PMTUDISC_OMIT 5

static const struct {
    int level, name;
    uint32_t flag;
} booleans[] = {
    {IPPROTO_IP, IP_PKTINFO, INET_WANT_PKTINFO},
    {IPPROTO_IP, IP_RECVTTL, INET_WANT_TTL},
    {IPPROTO_IP, IP_RECVTOS, INET_WANT_TOS},
    {IPPROTO_IP, IP_RECVERR, INET_RECVERR},
    {IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, INET_LATE_PORT},
    {IPPROTO_IPV6, IPV6_RECVPKTINFO, INET_WANT_PKTINFO6},
    {IPPROTO_IPV6, IPV6_RECVHOPLIMIT, INET_WANT_HOPS6},
    {IPPROTO_IPV6, IPV6_RECVTCLASS, INET_WANT_TCLASS6},
    {IPPROTO_IPV6, IPV6_RECVERR, INET_RECVERR6},
};

static uint32_t boolean_flag(int level, int name)
{
    for (size_t k = 0; k < ARRAY_SIZE(booleans); k++)
        if (booleans[k].level == level && booleans[k].name == name)
            return booleans[k].flag;
    return 0;
}

static int set_boolean(struct inet_sock *i, uint32_t flag, bool on)
{
    if (on)
        (void)atomic_or(&i->flags, flag);
    else
        (void)atomic_and(&i->flags, ~flag);
    return 0;
}

/* Writes one byte of the stack's socket. */
static int set_byte(struct inet_sock *i, uint8_t *field, uint32_t v)
{
    sock_lock(i->ns);
    *field = (uint8_t)v;
    sock_unlock(i->ns);
    return 0;
}

static int set_mtu_discover(struct inet_sock *i, uint8_t *kept, int32_t v)
{
    if (v < 0 || v > PMTUDISC_OMIT)
        return -EINVAL;
    *kept = (uint8_t)v;
    if (i->kind == INET_TCP) /* never fragments */
        return 0;
    sock_lock(i->ns);
    i->udp->must_not_fragment = v >= PMTUDISC_DO && v != PMTUDISC_OMIT;
    sock_unlock(i->ns);
    return 0;
}

/* ---- multicast ---- */

static int nif_for(struct inet_sock *i, uint32_t index,
                   const struct net_addr *own, const struct net_addr *group,
                   struct netif **out)
{
    struct netstack *net = i->ns->net;
    struct net_route route;

    *out = NULL;
    if (index)
        *out = netif_by_index(net, index);
    else if (own && !addr_is_any(own))
        *out = netif_of_addr(net, own, ADDR_FREE);
    else if (!route_find(net, group, NULL, 0, &route))
        *out = route.nif;
    return *out ? 0 : -ENODEV;
}

static int join_or_leave(struct inet_sock *i, const struct net_addr *group,
                         struct netif *nif, bool is_join)
{
    if (!addr_is_multicast(group))
        return -EINVAL;
    return is_join ? inet_join(i, group, nif) : inet_leave(i, group, nif);
}

/* struct ip_mreq or ip_mreqn */
static int membership4(struct inet_sock *i, const void *value, uint32_t len,
                       bool is_join)
{
    const uint8_t *p = value;
    struct net_addr group, own;
    struct netif *nif;
    uint32_t index = 0;
    int err;

    if (len < 8)
        return -EINVAL;
    group = addr_from_wire4(p);
    own = addr_from_wire4(p + 4);
    if (len >= 12)
        memcpy(&index, p + 8, sizeof(index));
    if (!addr_is_multicast(&group))
        return -EINVAL;
    err = nif_for(i, index, &own, &group, &nif);
    return err ? err : join_or_leave(i, &group, nif, is_join);
}

/* struct ipv6_mreq */
static int membership6(struct inet_sock *i, const void *value, uint32_t len,
                       bool is_join)
{
    struct net_addr group;
    struct netif *nif;
    uint32_t index;
    int err;

    if (len < 20)
        return -EINVAL;
    group = addr_from_wire6(value);
    memcpy(&index, (const uint8_t *)value + 16, sizeof(index));
    if (group.b[0] != 0xff)
        return -EINVAL;
    err = nif_for(i, index, NULL, &group, &nif);
    return err ? err : join_or_leave(i, &group, nif, is_join);
}

/* struct group_req: interface, padding, sockaddr_storage */
static int membership_any(struct inet_sock *i, const void *value,
                          uint32_t len, bool is_join)
{
    const uint8_t *p = value;
    struct net_addr group;
    struct netif *nif;
    uint32_t index;
    uint16_t family;
    int err;

    if (len < 136)
        return -EINVAL;
    memcpy(&index, p, sizeof(index));
    memcpy(&family, p + 8, sizeof(family));
    if (family == AF_INET)
        group = addr_from_wire4(p + 12);
    else if (family == AF_INET6)
        group = addr_from_wire6(p + 16);
    else
        return -EADDRNOTAVAIL;
    err = nif_for(i, index, NULL, &group, &nif);
    return err ? err : join_or_leave(i, &group, nif, is_join);
}

/* in_addr, ip_mreq or ip_mreqn: the interface of what is sent */
static int set_multicast_if(struct inet_sock *i, const void *value,
                            uint32_t len)
{
    const uint8_t *p = value;
    struct net_addr own;
    struct netif *nif = NULL;
    uint32_t index = 0;

    if (i->kind == INET_TCP || len < 4)
        return -EINVAL;
    own = addr_from_wire4(len >= 8 ? p + 4 : p);
    if (len >= 12)
        memcpy(&index, p + 8, sizeof(index));
    if (index || !addr_is_any(&own)) {
        nif = index ? netif_by_index(i->ns->net, index)
                    : netif_of_addr(i->ns->net, &own, ADDR_FREE);
        if (!nif)
            return -EADDRNOTAVAIL;
    }
    sock_lock(i->ns);
    i->udp->multicast_nif = nif ? nif->index : 0;
    sock_unlock(i->ns);
    return 0;
}

static int set_multicast_if6(struct inet_sock *i, int32_t index)
{
    if (i->kind == INET_TCP)
        return -ENOPROTOOPT;
    if (index && (index < 0 ||
                  !netif_by_index(i->ns->net, (uint32_t)index)))
        return -ENODEV;
    sock_lock(i->ns);
    i->udp->multicast_nif = (uint32_t)index;
    sock_unlock(i->ns);
    return 0;
}

static int set_multicast_ttl(struct inet_sock *i, int32_t v)
{
    if (i->kind == INET_TCP || v < -1 || v > 255)
        return -EINVAL;
    return set_byte(i, &i->udp->multicast_ttl, v < 0 ? 1 : (uint32_t)v);
}

static int set_multicast_loop(struct inet_sock *i, int32_t v)
{
    if (i->kind == INET_TCP)
        return -EINVAL;
    sock_lock(i->ns);
    i->udp->multicast_loop = v != 0;
    sock_unlock(i->ns);
    return 0;
}

/* ---- IP ---- */

int inet_set_ip(struct inet_sock *i, int name, const void *value,
                uint32_t len)
{
    uint32_t flag = boolean_flag(IPPROTO_IP, name);
    int32_t v = 0;
    int err = inet_option_int(value, len, &v);

    switch (name) {
    case IP_OPTIONS: /* none, which is what there is */
        return len ? -ENOPROTOOPT : 0;
    case IP_MULTICAST_IF:
        return set_multicast_if(i, value, len);
    case IP_ADD_MEMBERSHIP:
    case IP_DROP_MEMBERSHIP:
        return membership4(i, value, len, name == IP_ADD_MEMBERSHIP);
    case MCAST_JOIN_GROUP:
    case MCAST_LEAVE_GROUP:
        return membership_any(i, value, len, name == MCAST_JOIN_GROUP);
    default:
        break;
    }
    if (flag)
        return err ? err : set_boolean(i, flag, v != 0);
    switch (name) {
    case IP_TOS:
        return set_byte(i, &i->ns->tos, (uint32_t)v & 0xff);
    case IP_TTL:
        if (err || (v != -1 && (v < 1 || v > 255)))
            return -EINVAL;
        return set_byte(i, &i->ns->ttl, v < 0 ? 0 : (uint32_t)v);
    case IP_MTU_DISCOVER:
        return err ? err : set_mtu_discover(i, &i->mtu_discover, v);
    case IP_MULTICAST_TTL:
        return err ? err : set_multicast_ttl(i, v);
    case IP_MULTICAST_LOOP:
        return err ? err : set_multicast_loop(i, v);
    default:
        return -ENOPROTOOPT;
    }
}

static int get_mtu(struct inet_sock *i, int32_t *out)
{
    struct net_route route;
    struct net_addr dst;

    sock_lock(i->ns);
    dst = i->ns->remote.addr;
    sock_unlock(i->ns);
    if (addr_is_any(&dst) ||
        route_find(i->ns->net, &dst, NULL, i->ns->bound_nif, &route))
        return -ENOTCONN;
    *out = (int32_t)route.mtu;
    return 0;
}

/* Linux: a short buffer gets a byte, if the value fits one. */
static int put_ip(void *value, uint32_t *len, int32_t v)
{
    uint8_t byte = (uint8_t)v;

    if (*len > 0 && *len < sizeof(v) && v >= 0 && v <= 255)
        return inet_option_put(value, len, &byte, 1);
    return inet_option_put(value, len, &v, sizeof(v));
}

static int get_udp_only(struct inet_sock *i, int name, void *value,
                        uint32_t *len)
{
    struct netif *nif;
    struct net_addr a = {.q = {0, 0}};

    if (name == IP_MULTICAST_TTL)
        return put_ip(value, len,
                      i->kind == INET_TCP ? 1 : i->udp->multicast_ttl);
    if (name == IP_MULTICAST_LOOP)
        return put_ip(value, len,
                      i->kind == INET_TCP ? 1 : i->udp->multicast_loop);
    nif = i->kind == INET_TCP
              ? NULL
              : netif_by_index(i->ns->net, i->udp->multicast_nif);
    if (nif)
        a = netif_first_addr(nif, true);
    return inet_option_put(value, len, &a.w[3], 4);
}

int inet_get_ip(struct inet_sock *i, int name, void *value, uint32_t *len)
{
    uint32_t flag = boolean_flag(IPPROTO_IP, name);
    int32_t v = 0;
    int err = 0;

    if (flag)
        return put_ip(value, len,
                      (atomic_load_relaxed(&i->flags) & flag) != 0);
    switch (name) {
    case IP_OPTIONS:
        *len = 0;
        return 0;
    case IP_TOS:
        v = i->ns->tos;
        break;
    case IP_TTL:
        v = i->ns->ttl ? i->ns->ttl : (int32_t)IP_DEFAULT_TTL;
        break;
    case IP_MTU_DISCOVER:
        v = i->mtu_discover;
        break;
    case IP_MTU:
        err = get_mtu(i, &v);
        break;
    case IP_MULTICAST_IF:
    case IP_MULTICAST_TTL:
    case IP_MULTICAST_LOOP:
        return get_udp_only(i, name, value, len);
    default:
        return -ENOPROTOOPT;
    }
    return err ? err : put_ip(value, len, v);
}

/* ---- IPv6 ---- */

static int set_v6only(struct inet_sock *i, bool on)
{
    int err = -EINVAL;

    sock_lock(i->ns);
    if (!i->ns->port_link && !i->ns->remote.port) { /* not bound yet */
        i->ns->is_v6only = on;
        err = 0;
    }
    sock_unlock(i->ns);
    return err;
}

/* Of no effect for TCP, as on Linux. */
static int set_mtu6(struct inet_sock *i, int32_t v)
{
    if (v && (uint32_t)v < IPV6_MIN_MTU)
        return -EINVAL;
    if (i->kind == INET_TCP)
        return 0;
    sock_lock(i->ns);
    i->udp->max_packet6 = (uint32_t)v;
    sock_unlock(i->ns);
    return 0;
}

int inet_set_ipv6(struct inet_sock *i, int name, const void *value,
                  uint32_t len)
{
    uint32_t flag = boolean_flag(IPPROTO_IPV6, name);
    int32_t v = 0;

    if (name == IPV6_ADD_MEMBERSHIP || name == IPV6_DROP_MEMBERSHIP)
        return membership6(i, value, len, name == IPV6_ADD_MEMBERSHIP);
    if (name == MCAST_JOIN_GROUP || name == MCAST_LEAVE_GROUP)
        return membership_any(i, value, len, name == MCAST_JOIN_GROUP);
    if (len >= sizeof(v))
        memcpy(&v, value, sizeof(v));
    if (flag)
        return len < 4 ? -EINVAL : set_boolean(i, flag, v != 0);
    switch (name) {
    case IPV6_V6ONLY:
        return len < 4 ? -EINVAL : set_v6only(i, v != 0);
    case IPV6_UNICAST_HOPS:
        if (len < 4 || v < -1 || v > 255)
            return -EINVAL;
        return set_byte(i, &i->ns->ttl, v < 0 ? 0 : (uint32_t)v);
    case IPV6_TCLASS:
        if (len < 4 || v < -1 || v > 255)
            return -EINVAL;
        return set_byte(i, &i->ns->tos, v < 0 ? 0 : (uint32_t)v);
    case IPV6_MTU_DISCOVER:
        return len < 4 ? -EINVAL
                       : set_mtu_discover(i, &i->mtu_discover6, v);
    case IPV6_DONTFRAG:
        return len < 4 ? -EINVAL
                       : set_mtu_discover(i, &i->mtu_discover6,
                                          v ? PMTUDISC_DO : PMTUDISC_WANT);
    case IPV6_MTU:
        return len < 4 ? -EINVAL : set_mtu6(i, v);
    case IPV6_MULTICAST_IF:
        return len < 4 ? -EINVAL : set_multicast_if6(i, v);
    case IPV6_MULTICAST_HOPS:
        return len < 4 ? -EINVAL : set_multicast_ttl(i, v);
    case IPV6_MULTICAST_LOOP:
        return len < 4 || v < 0 || v > 1 ? -EINVAL
                                         : set_multicast_loop(i, v);
    default:
        return -ENOPROTOOPT;
    }
}

int inet_get_ipv6(struct inet_sock *i, int name, void *value, uint32_t *len)
{
    uint32_t flag = boolean_flag(IPPROTO_IPV6, name);
    bool is_udp = i->kind != INET_TCP;
    int32_t v = 0;
    int err = 0;

    switch (name) {
    case IPV6_V6ONLY:
        v = i->ns->is_v6only;
        break;
    case IPV6_UNICAST_HOPS:
        v = i->ns->ttl ? i->ns->ttl : (int32_t)IP_DEFAULT_TTL;
        break;
    case IPV6_TCLASS:
        v = i->ns->tos;
        break;
    case IPV6_MTU_DISCOVER:
        v = i->mtu_discover6;
        break;
    case IPV6_DONTFRAG:
        v = i->mtu_discover6 == PMTUDISC_DO;
        break;
    case IPV6_MTU:
        err = get_mtu(i, &v);
        break;
    case IPV6_MULTICAST_IF:
        v = is_udp ? (int32_t)i->udp->multicast_nif : 0;
        break;
    case IPV6_MULTICAST_HOPS:
        v = is_udp ? i->udp->multicast_ttl : 1;
        break;
    case IPV6_MULTICAST_LOOP:
        v = is_udp ? i->udp->multicast_loop : 1;
        break;
    default:
        if (!flag)
            return -ENOPROTOOPT;
        v = (atomic_load_relaxed(&i->flags) & flag) != 0;
    }
    return err ? err : inet_option_put(value, len, &v, sizeof(v));
}
