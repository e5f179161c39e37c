/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * proc_net_stat.c: /proc/net: counters of protocols, sockets of IPv6,
 * neighbours, IPv6 routes (man 5 proc). Columns that nothing counts here are
 * left out: those who read these files go by the names in the first line.
 *
 * Locks: conf_lock while one entry is copied.
 */
#include "fs/procfs.h"
#include "mm/heap.h"
#include "net/inet_sock.h"
#include "net/kernel.h"
#include "net/neigh.h"
#include "net/route.h"

#define ATF_COM 0x2u /* the link address is known */
#define RTF_UP 0x1u
#define RTF_GATEWAY 0x2u
#define RTF_ADDRCONF 0x40000u

/* ---- counters ---- */

struct column {
    const char *name;
    int counter; /* enum net_counter, or a number of its own */
};
#define IS_FORWARDING (-2) /* 2: does not */
#define IS_TTL (-3)
#define IS_ESTABLISHED (-4)

static const struct column ip_columns[] = {
    {"Forwarding", IS_FORWARDING}, {"DefaultTTL", IS_TTL},
    {"InHdrErrors", NET_BAD_FRAME}, {"InAddrErrors", NET_NOT_FOR_US},
    {"OutNoRoutes", NET_NO_ROUTE}, {"ReasmOKs", NET_REASS_DONE},
    {"ReasmFails", NET_REASS_FAILED}, {NULL, 0},
};
static const struct column icmp_columns[] = {
    {"InMsgs", NET_ICMP_IN}, {"OutMsgs", NET_ICMP_OUT},
    {"OutRateLimitGlobal", NET_ICMP_LIMITED}, {NULL, 0},
};
static const struct column tcp_columns[] = {
    {"CurrEstab", IS_ESTABLISHED}, {"InSegs", NET_TCP_IN},
    {"OutSegs", NET_TCP_OUT}, {"RetransSegs", NET_TCP_RETRANS},
    {"OutRsts", NET_TCP_RST_OUT}, {NULL, 0},
};
static const struct column udp_columns[] = {
    {"InDatagrams", NET_UDP_IN}, {"NoPorts", NET_UDP_NO_PORT},
    {"OutDatagrams", NET_UDP_OUT}, {"RcvbufErrors", NET_UDP_FULL}, {NULL, 0},
};
static const struct column tcp_ext_columns[] = {
    {"SyncookiesSent", NET_TCP_COOKIE_OUT},
    {"SyncookiesRecv", NET_TCP_COOKIE_IN},
    {"TWRecycled", NET_TCP_TW_RECYCLED}, {"TWReused", NET_TCP_TW_REUSED},
    {"PAWSEstab", NET_TCP_PAWS}, {"ListenOverflows", NET_TCP_BACKLOG_FULL},
    {"TCPTimeouts", NET_TCP_RTO}, {"TCPLossProbes", NET_TCP_TLP},
    {"TCPOFOQueue", NET_TCP_OUT_OF_ORDER},
    {"TCPChallengeACK", NET_TCP_CHALLENGE}, {NULL, 0},
};

struct socket_count {
    uint32_t nr[2][INET_PING + 1]; /* [0]: IPv4, [1]: IPv6 */
    uint32_t nr_established;
};

static void count_socket(struct inet_sock *i, void *arg)
{
    struct socket_count *c = arg;
    struct tcp_status st = {.state = TCP_CLOSE};

    if (i->kind == INET_TCP) {
        tcp_get_status(i->tcp, &st);
        if (st.state == TCP_CLOSE)
            return;
        c->nr_established += st.state == TCP_ESTABLISHED ||
                             st.state == TCP_CLOSE_WAIT;
    }
    c->nr[inet_is_v6(i)][i->kind]++;
}

static void put_columns(struct sbuf *s, struct netstack *net,
                        const char *title, const struct column *columns)
{
    struct socket_count n = {.nr_established = 0};

    sbuf_printf(s, "%s:", title);
    for (const struct column *c = columns; c->name; c++)
        sbuf_printf(s, " %s", c->name);
    sbuf_printf(s, "\n%s:", title);
    for (const struct column *c = columns; c->name; c++) {
        uint64_t v = c->counter == IS_FORWARDING ? 2
                     : c->counter == IS_TTL      ? IP_DEFAULT_TTL
                                                 : 0;

        if (c->counter == IS_ESTABLISHED && !inet_for_each(count_socket, &n))
            v = n.nr_established;
        else if (c->counter >= 0)
            v = net_counter_sum(net, (enum net_counter)c->counter);
        sbuf_printf(s, " %lu", (unsigned long)v);
    }
    sbuf_printf(s, "\n");
}

int proc_net_snmp(struct synth_inode *i, struct sbuf *s)
{
    struct netstack *net = net_kernel_stack();

    if (!net)
        return -ENOMEM;
    put_columns(s, net, "Ip", ip_columns);
    put_columns(s, net, "Icmp", icmp_columns);
    put_columns(s, net, "Tcp", tcp_columns);
    put_columns(s, net, "Udp", udp_columns);
    return 0;
}

int proc_net_netstat(struct synth_inode *i, struct sbuf *s)
{
    struct netstack *net = net_kernel_stack();

    if (!net)
        return -ENOMEM;
    put_columns(s, net, "TcpExt", tcp_ext_columns);
    return 0;
}

int proc_net_sockstat6(struct synth_inode *i, struct sbuf *s)
{
    struct socket_count n = {.nr_established = 0};
    int err = inet_for_each(count_socket, &n);

    if (!err)
        sbuf_printf(s, "TCP6: inuse %u\nUDP6: inuse %u\nRAW6: inuse %u\n",
                    n.nr[1][INET_TCP], n.nr[1][INET_UDP], 0u);
    return err;
}

/* ---- neighbours ---- */

int proc_net_arp(struct synth_inode *i, struct sbuf *s)
{
    struct netstack *net = net_kernel_stack();
    struct neigh_info *all = kmalloc(NEIGH_MAX * sizeof(*all));
    uint32_t n = all && net ? neigh_list(net, all, NEIGH_MAX) : 0;

    sbuf_printf(s, "IP address       HW type     Flags       HW address       "
                   "     Mask     Device\n");
    for (uint32_t k = 0; k < n; k++) {
        const uint8_t *m = all[k].mac;
        uint32_t a = addr_v4(&all[k].addr);
        char text[16];

        if (!addr_is_v4(&all[k].addr))
            continue;
        snprintf(text, sizeof(text), "%u.%u.%u.%u", a >> 24, a >> 16 & 255,
                 a >> 8 & 255, a & 255);
        sbuf_printf(s, "%-16s 0x%-10x0x%-10x%02x:%02x:%02x:%02x:%02x:%02x"
                       "     *        %s\n",
                    text, 1u, all[k].state > NEIGH_INCOMPLETE ? ATF_COM : 0,
                    m[0], m[1], m[2], m[3], m[4], m[5], all[k].nif->name);
    }
    kfree(all);
    return 0;
}

/* ---- IPv6 routes ---- */

static void put_hex(struct sbuf *s, const struct net_addr *a)
{
    for (uint32_t k = 0; k < sizeof(a->b); k++)
        sbuf_printf(s, "%02x", a->b[k]);
}

int proc_net_ipv6_route(struct synth_inode *i, struct sbuf *s)
{
    static const struct net_addr none;
    struct netstack *net = net_kernel_stack();

    for (uint32_t k = 0; net && k < ROUTE_MAX; k++) {
        struct route_entry e;
        uint32_t flags = RTF_UP;

        spin_lock(&net->routes->conf_lock);
        e = net->routes->entries[k];
        spin_unlock(&net->routes->conf_lock);
        if (!e.nif || addr_is_v4(&e.prefix))
            continue;
        flags |= (addr_is_any(&e.gateway) ? 0 : RTF_GATEWAY) |
                 (e.is_auto ? RTF_ADDRCONF : 0);
        put_hex(s, &e.prefix);
        sbuf_printf(s, " %02x ", e.bits);
        put_hex(s, &none); /* routes by source: there are none */
        sbuf_printf(s, " 00 ");
        put_hex(s, &e.gateway);
        sbuf_printf(s, " %08x %08x %08x %08x %8s\n", 0x100u, 1u, 0u, flags,
                    e.nif->name);
    }
    return 0;
}
