/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Opening connections: initial numbers (RFC 6528), SYN, the answer to it,
 * routes and segment sizes.
 */
#include "net/port.h"
#include "net/tcp_listen.h"

/* Key changes for the different uses of one secret. */
#define ISN_SALT 0x49534eull
#define TS_SALT 0x5453ull
#define PORT_SALT 0x504f5254ull

uint32_t tcp_isn(struct netstack *net, const struct net_endpoint *local,
                 const struct net_endpoint *remote)
{
    uint32_t clock = (uint32_t)((uint64_t)net_now(net) >> 6); /* 64 ns */

    return clock +
           (uint32_t)siphash_tuple(&net->secret, local, remote, ISN_SALT);
}

/* One clock per pair of hosts: TIME_WAIT compares timestamps of different
 * connections (RFC 7323 5.4, 6191). */
uint32_t tcp_ts_offset(struct netstack *net, const struct net_endpoint *local,
                       const struct net_endpoint *remote)
{
    struct net_endpoint l = {.addr = local->addr}, r = {.addr = remote->addr};

    return (uint32_t)siphash_tuple(&net->secret, &l, &r, TS_SALT);
}

uint32_t tcp_mss_of_mtu(uint32_t mtu, const struct net_addr *dst)
{
    uint32_t headers = ip_header_bytes(dst) + TCP_HEADER;

    return mtu > headers + TCP_MIN_MSS ? MIN(mtu - headers, 65495u)
                                       : TCP_MIN_MSS;
}

/* What the peer may send: by the interface, not by the path we know. */
static uint32_t own_mss(const struct tcp_conn *c)
{
    uint32_t mss = tcp_mss_of_mtu(atomic_load_relaxed(&c->route.nif->mtu),
                                  &c->s.remote.addr);

    return c->p.max_seg ? MIN(mss, (uint32_t)c->p.max_seg) : mss;
}

bool tcp_check_route(struct tcp_conn *c)
{
    struct netstack *net = c->s.net;
    uint32_t mss;

    if (likely(route_is_current(net, &c->route)))
        return true;
    if (route_find(net, &c->s.remote.addr, &c->s.local.addr,
                   c->s.remote.scope ? c->s.remote.scope : c->s.bound_nif,
                   &c->route)) {
        c->route.nif = NULL;
        net_count(net, NET_NO_ROUTE);
        return false;
    }
    mss = tcp_mss_of_mtu(c->route.mtu, &c->s.remote.addr);
    mss = MIN(mss, (uint32_t)c->peer_mss);
    if (c->p.max_seg)
        mss = MIN(mss, (uint32_t)c->p.max_seg);
    c->mss = (uint16_t)MAX(mss, TCP_MIN_MSS);
    return true;
}

void tcp_send_syn(struct tcp_conn *c)
{
    struct tcp_syn_options o = {.wscale = TCP_RCV_WSCALE, .has_ts = true,
                                .has_sack = true};
    struct tcp_reply r = {.local = c->s.local, .remote = c->s.remote,
                          .flags = TCP_SYN, .syn = &o, .tos = c->s.tos};

    if (!tcp_check_route(c))
        return;
    o.mss = (uint16_t)own_mss(c);
    o.ts_val = tcp_ts_now(c);
    r.seq = c->iss;
    r.wnd = MIN(c->p.rcvbuf, 65535u);
    if (c->state == TCP_SYN_RECV) {
        r.flags |= TCP_ACK;
        r.ack = c->rcv_nxt;
        o.has_ts = c->has_ts;
        o.has_sack = c->has_sack;
        o.wscale = c->has_wscale ? TCP_RCV_WSCALE : 0xff;
        o.ts_ecr = c->ts_recent;
    }
    c->rcv_adv = c->rcv_nxt + r.wnd;
    c->last_send_us = tcp_now_us(c->s.net);
    tcp_reply_send(c->s.net, &r);
}

void tcp_established(struct tcp_conn *c)
{
    c->state = c->fin_queued ? TCP_FIN_WAIT1 : TCP_ESTABLISHED;
    c->was_open = true;
    c->last_rx_ms = tcp_now_ms(c->s.net);
    c->rexmit_kind = REXMIT_NONE;
    c->backoff = 0;
    c->quick_left = 16;
    c->snd_max_wnd = c->snd_wnd;
    c->rack_round = c->snd_una;
    c->rcv_mss = MIN((uint32_t)c->mss, TCP_DEFAULT_MSS);
    c->drs_space = c->p.rcvbuf / 2;
    if (!c->srtt8)
        c->rto_us = TCP_RTO_INITIAL_US;
    tcp_cc_init(c);
    c->last_send_us = tcp_now_us(c->s.net);
    tcp_start_keepalive(c);
    sock_note(&c->s, NET_EV_OUT);
}

/* What the peer's SYN offers and ours did too. */
static void take_options(struct tcp_conn *c, const struct tcp_in *in)
{
    c->peer_mss = in->mss ? MAX(in->mss, (uint16_t)TCP_MIN_MSS)
                          : (uint16_t)TCP_DEFAULT_MSS;
    c->has_ts = in->has_ts;
    c->has_sack = in->sack_ok;
    c->has_wscale = in->wscale != 0xff;
    c->snd_wscale = c->has_wscale ? in->wscale : 0;
    c->rcv_wscale = c->has_wscale ? TCP_RCV_WSCALE : 0;
    if (in->has_ts) {
        c->ts_recent = in->ts_val;
        c->ts_recent_ms = tcp_now_ms(c->s.net);
    }
    c->route.nif = NULL; /* mss is computed again */
    (void)tcp_check_route(c);
}

static void syn_answered(struct tcp_conn *c, const struct tcp_in *in)
{
    c->irs = in->seq;
    c->rcv_nxt = in->seq + 1;
    c->last_ack_sent = c->rcv_nxt;
    c->rcv_adv = c->rcv_nxt + MIN(c->p.rcvbuf, 65535u);
    take_options(c, in);
    c->snd_wnd = in->wnd; /* never scaled in a SYN */
    c->snd_wl1 = in->seq;
    c->snd_wl2 = in->ack;
}

void tcp_input_syn_sent(struct tcp_conn *c, struct frame *f,
                        const struct tcp_in *in)
{
    bool has_ack = in->flags & TCP_ACK;

    if (has_ack && in->ack != c->iss + 1) {
        tcp_reply_reset(c->s.net, f, in);
        goto done;
    }
    if (in->flags & TCP_RST) {
        if (has_ack)
            tcp_done(c, ECONNREFUSED);
        goto done;
    }
    if (!(in->flags & TCP_SYN))
        goto done;
    syn_answered(c, in);
    if (has_ack) {
        if (!c->backoff)
            tcp_rtt_sample(c, MAX(tcp_now_us(c->s.net) - c->last_send_us, 1u));
        c->snd_una = in->ack;
        tcp_established(c);
        c->ack_now = true;
    } else { /* both called at once (RFC 9293 3.5, figure 7) */
        c->state = TCP_SYN_RECV;
        c->backoff = 0;
        tcp_send_syn(c);
        c->rexmit_kind = REXMIT_RTO;
        c->rexmit_at = net_now(c->s.net) + tcp_rto_ns(c);
    }
done:
    frame_put(f);
}

/* Is the pair with this local port free? Then the connection has it. */
static bool try_port(struct tcp_conn *c, uint32_t port)
{
    struct netstack *net = c->s.net;
    uint32_t isn = 0;

    if (port_is_bound(net, PORT_TCP, port))
        return false;
    c->s.local.port = (uint16_t)port;
    if (!tcp_tw_may_reuse(net, &c->s.local, &c->s.remote, &isn))
        return false;
    c->iss = isn ? isn : tcp_isn(net, &c->s.local, &c->s.remote);
    return tcp_hash_insert(c) == 0;
}

/* RFC 6056, algorithm 3: a secret start per destination. */
static int pick_port(struct tcp_conn *c)
{
    struct netstack *net = c->s.net;
    uint32_t range = PORT_LAST - PORT_FIRST + 1;
    struct net_endpoint from = {.addr = c->s.local.addr};
    uint32_t start = (uint32_t)siphash_tuple(&net->secret, &from,
                                             &c->s.remote, PORT_SALT) +
                     atomic_add(&net->tcp->next_port, 1u);

    for (uint32_t i = 0; i < range; i++)
        if (try_port(c, PORT_FIRST + (start + i) % range))
            return 0;
    c->s.local.port = 0;
    return -EADDRNOTAVAIL;
}

static int take_bound_port(struct tcp_conn *c)
{
    uint32_t isn = 0;

    if (!tcp_tw_may_reuse(c->s.net, &c->s.local, &c->s.remote, &isn))
        return -EADDRNOTAVAIL;
    c->iss = isn ? isn : tcp_isn(c->s.net, &c->s.local, &c->s.remote);
    return tcp_hash_insert(c);
}

static int connect_locked(struct tcp_conn *c,
                          const struct net_endpoint *remote)
{
    struct netstack *net = c->s.net;
    bool is_bound = c->s.port_link != NULL;
    int err;

    if (c->state != TCP_CLOSE || c->was_open)
        return c->state == TCP_SYN_SENT ? -EALREADY : -EISCONN;
    if (addr_is_multicast(&remote->addr) || addr_is_broadcast(&remote->addr))
        return -ENETUNREACH;
    tcp_drain(c); /* nothing of an earlier connection may stay */
    tcp_clear(c);
    sock_set_error(&c->s, 0);
    err = route_find(net, &remote->addr,
                     c->s.is_bound ? &c->s.local.addr : NULL,
                     remote->scope ? remote->scope : c->s.bound_nif,
                     &c->route);
    if (err)
        return err;
    if (c->route.is_broadcast)
        return -ENETUNREACH;
    c->s.remote = *remote;
    if (is_bound)
        port_connect(&c->s, &c->route.src, remote);
    c->s.local.addr = c->route.src;
    c->peer_mss = 65535;
    err = is_bound ? take_bound_port(c) : pick_port(c);
    if (err)
        return err;
    c->ts_offset = tcp_ts_offset(net, &c->s.local, &c->s.remote);
    c->snd_una = c->iss;
    c->snd_nxt = c->snd_end = c->snd_small = c->iss + 1;
    c->state = TCP_SYN_SENT;
    c->rto_us = TCP_RTO_INITIAL_US;
    c->unacked_since_ms = tcp_now_ms(net);
    c->rexmit_kind = REXMIT_RTO;
    c->rexmit_at = net_now(net) + tcp_rto_ns(c);
    tcp_send_syn(c);
    tcp_timer_update(c);
    net_defer(net);
    return -EINPROGRESS;
}

int tcp_connect(struct tcp_conn *c, const struct net_endpoint *remote)
{
    int err;

    if (!remote->port)
        return -ECONNREFUSED;
    sock_lock(&c->s);
    err = connect_locked(c, remote);
    sock_unlock(&c->s);
    return err;
}
