/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * proc_net.c: /proc/net: sockets, interfaces, routes (man 5 proc). Formats are
 * fixed by those who parse them: netstat, ss, lsof, language runtimes.
 *
 * Reading about interfaces or routes makes the stack if there is none yet.
 *
 * Locks: conf_lock while one entry is copied.
 */
#include "fs/procfs.h"
#include "net/inet_sock.h"
#include "net/kernel.h"
#include "net/route.h"

/* Linux fills up the lines of these files, the first one too. */
#define WIDTH_TCP 149u
#define WIDTH_UDP 127u
#define WIDTH_ROUTE 127u

/* Ends the line that began at `start`: `width` characters and a newline. */
static void end_line(struct sbuf *s, size_t start, size_t width)
{
    size_t n = s->len - start;

    sbuf_printf(s, "%*s\n", n < width ? (int)(width - n) : 0, "");
}

/* ---- sockets ---- */

struct socket_rows {
    struct sbuf *out;
    enum inet_kind kind;
    int family;
    uint32_t nr;
    size_t width;
};

/* An address as words in memory order, as Linux prints them. */
static void put_end(struct sbuf *s, const struct net_endpoint *e, int family)
{
    struct net_addr a = e->addr;

    if (family == AF_INET)
        sbuf_printf(s, " %08X:%04X", addr_is_v4(&a) ? a.w[3] : 0, e->port);
    else
        sbuf_printf(s, " %08X%08X%08X%08X:%04X", a.w[0], a.w[1], a.w[2],
                    a.w[3], e->port);
}

static void put_socket(struct inet_sock *i, void *arg)
{
    struct socket_rows *r = arg;
    struct tcp_status st = {.state = TCP_CLOSE};
    struct net_endpoint local, remote;
    bool is_tcp = r->kind == INET_TCP;
    size_t start = r->out->len;
    uint32_t tx = 0, rx = 0;

    if (i->kind != r->kind || i->s.family != r->family)
        return;
    sock_lock(i->ns);
    local = i->ns->local;
    remote = i->ns->remote;
    sock_unlock(i->ns);
    if (is_tcp) {
        tcp_get_status(i->tcp, &st);
        tx = st.unacked + st.unsent;
        rx = st.unread;
    } else {
        st.state = remote.port ? TCP_ESTABLISHED : TCP_CLOSE;
        rx = atomic_load_relaxed(&i->udp->queued);
    }
    if (!local.port || (is_tcp && st.state == TCP_CLOSE))
        return; /* not in Linux' tables either */
    sbuf_printf(r->out, is_tcp ? "%4u:" : "%5u:", r->nr++);
    put_end(r->out, &local, r->family);
    put_end(r->out, &remote, r->family);
    sbuf_printf(r->out,
                " %02X %08X:%08X 00:00000000 00000000 %5u %8d %lu %u "
                "0000000000000000 ",
                st.state, tx, rx, 0u, 0, (unsigned long)i->s.ino, 1u);
    if (is_tcp)
        sbuf_printf(r->out, "%u 0 0 %u %d",
                    MAX(st.rto_us / 10000, 1u),
                    MAX(st.cwnd / MAX(st.mss, 1u), 1u), -1);
    else
        sbuf_printf(r->out, "0");
    end_line(r->out, start, r->width);
}

static int show_sockets(struct sbuf *s, enum inet_kind kind, int family)
{
    bool is_tcp = kind == INET_TCP, is_v4 = family == AF_INET;
    struct socket_rows r = {.out = s, .kind = kind, .family = family};
    size_t start = s->len;

    if (is_v4)
        r.width = is_tcp ? WIDTH_TCP : WIDTH_UDP;
    sbuf_printf(s, "%s", is_v4 && !is_tcp ? "   sl  " : "  sl  ");
    if (is_v4)
        sbuf_printf(s, "local_address rem_address   st tx_queue rx_queue tr "
                       "tm->when retrnsmt   uid  timeout inode");
    else
        sbuf_printf(s, "local_address                         "
                       "remote_address                        st tx_queue "
                       "rx_queue tr tm->when retrnsmt   uid  timeout inode");
    sbuf_printf(s, "%s", is_tcp ? "" : " ref pointer drops");
    end_line(s, start, r.width);
    return inet_for_each(put_socket, &r);
}

static int show_tcp(struct synth_inode *i, struct sbuf *s)
{
    return show_sockets(s, INET_TCP, AF_INET);
}

static int show_tcp6(struct synth_inode *i, struct sbuf *s)
{
    return show_sockets(s, INET_TCP, AF_INET6);
}

static int show_udp(struct synth_inode *i, struct sbuf *s)
{
    return show_sockets(s, INET_UDP, AF_INET);
}

static int show_udp6(struct synth_inode *i, struct sbuf *s)
{
    return show_sockets(s, INET_UDP, AF_INET6);
}

static int show_icmp(struct synth_inode *i, struct sbuf *s)
{
    return show_sockets(s, INET_PING, AF_INET);
}

static int show_icmp6(struct synth_inode *i, struct sbuf *s)
{
    return show_sockets(s, INET_PING, AF_INET6);
}

/* ---- interfaces ---- */

static int show_dev(struct synth_inode *i, struct sbuf *s)
{
    struct netstack *net = net_kernel_stack();
    uint32_t n = net ? atomic_load_acquire(&net->nr_nifs) : 0;

    sbuf_printf(s, "Inter-|   Receive                                       "
                   "         |  Transmit\n"
                   " face |bytes    packets errs drop fifo frame compressed "
                   "multicast|bytes    packets errs drop fifo colls carrier "
                   "compressed\n");
    for (uint32_t k = 0; k < n; k++) {
        struct netif *nif = net->nifs[k];

        sbuf_printf(s, "%6s: %7lu %7lu    0    0    0     0          0      "
                       "   0 %8lu %7lu    0    0    0     0       0          "
                       "0\n",
                    nif->name, (unsigned long)nif->bytes_in,
                    (unsigned long)nif->frames_in,
                    (unsigned long)nif->bytes_out,
                    (unsigned long)nif->frames_out);
    }
    return 0;
}

static int show_if_inet6(struct synth_inode *i, struct sbuf *s)
{
    struct netstack *net = net_kernel_stack();
    uint32_t n = net ? atomic_load_acquire(&net->nr_nifs) : 0;

    for (uint32_t k = 0; k < n * NETIF_MAX_ADDRS; k++) {
        struct netif *nif = net->nifs[k / NETIF_MAX_ADDRS];
        struct netif_addr a;
        uint32_t scope, flags = 0;

        spin_lock(&net->routes->conf_lock);
        a = nif->addrs[k % NETIF_MAX_ADDRS];
        spin_unlock(&net->routes->conf_lock);
        if (a.state == ADDR_FREE || addr_is_v4(&a.addr))
            continue;
        scope = addr_is_loopback(&a.addr)     ? 0x10
                : addr_is_link_local(&a.addr) ? 0x20
                                              : 0;
        if (a.valid_until == NET_NO_DEADLINE)
            flags |= 0x80; /* IFA_F_PERMANENT */
        if (a.state == ADDR_TENTATIVE)
            flags |= 0x40;
        for (uint32_t b = 0; b < 16; b++)
            sbuf_printf(s, "%02x", a.addr.b[b]);
        sbuf_printf(s, " %02x %02x %02x %02x %8s\n", nif->index, a.prefix,
                    scope, flags, nif->name);
    }
    return 0;
}

/* ---- routes ---- */

static int show_route(struct synth_inode *i, struct sbuf *s)
{
    struct netstack *net = net_kernel_stack();
    size_t start = s->len;

    sbuf_printf(s, "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\t"
                   "Mask\t\tMTU\tWindow\tIRTT");
    end_line(s, start, WIDTH_ROUTE);
    for (uint32_t k = 0; net && k < ROUTE_MAX; k++) {
        struct route_entry e;
        bool is_direct;
        uint32_t mask;

        spin_lock(&net->routes->conf_lock);
        e = net->routes->entries[k];
        spin_unlock(&net->routes->conf_lock);
        if (!e.nif || !addr_is_v4(&e.prefix) ||
            (e.nif->caps & NETIF_LOOPBACK))
            continue;
        is_direct = addr_is_any(&e.gateway);
        mask = e.bits > 96 ? ~0u << (128 - e.bits) : 0;
        start = s->len;
        sbuf_printf(s, "%s\t%08X\t%08X\t%04X\t0\t0\t0\t%08X\t0\t0\t0",
                    e.nif->name, e.prefix.w[3],
                    is_direct ? 0 : e.gateway.w[3], is_direct ? 1 : 3,
                    __builtin_bswap32(mask));
        end_line(s, start, WIDTH_ROUTE);
    }
    return 0;
}

const struct synth_node proc_net_table[] = {
    PROC_FILE("tcp", show_tcp),         PROC_FILE("tcp6", show_tcp6),
    PROC_FILE("udp", show_udp),         PROC_FILE("udp6", show_udp6),
    PROC_FILE("icmp", show_icmp),       PROC_FILE("icmp6", show_icmp6),
    PROC_FILE("snmp", proc_net_snmp),   PROC_FILE("netstat", proc_net_netstat),
    PROC_FILE("sockstat6", proc_net_sockstat6),
    PROC_FILE("arp", proc_net_arp),     PROC_FILE("dev", show_dev),
    PROC_FILE("ipv6_route", proc_net_ipv6_route),
    PROC_FILE("route", show_route),     PROC_FILE("if_inet6", show_if_inet6),
    PROC_FILE("sockstat", proc_show_sockstat),
    PROC_FILE("capstan", proc_show_net_capstan),
    PROC_END,
};
