/* SPDX-License-Identifier: BSD-2-Clause */
/* Listeners' queues: connections made by a handshake, until accept. */
#include "mm/heap.h"
#include "net/port.h"
#include "net/tcp_listen.h"

#define BACKLOG_MAX 4096u /* /proc/sys/net/core/somaxconn */

uint32_t tcp_spread(struct netstack *net, const struct frame *f)
{
    struct net_endpoint l = {.addr = f->dst, .port = f->dport};
    struct net_endpoint r = {.addr = f->src, .port = f->sport};

    return (uint32_t)(siphash_tuple(&net->secret, &l, &r, 2) >> 32);
}

int tcp_listen(struct tcp_conn *c, uint32_t backlog)
{
    struct tcp_accept *q = kzalloc(sizeof(*q));
    struct net_endpoint any;
    int err = 0;

    if (!q)
        return -ENOMEM;
    sock_lock(&c->s);
    any = (struct net_endpoint){.addr = c->s.local.addr};
    if (c->state == TCP_LISTEN) { /* only the length changes */
        atomic_store_relaxed(&c->accept->backlog, MIN(backlog, BACKLOG_MAX));
        goto out;
    }
    if (c->state != TCP_CLOSE || c->was_open)
        err = -EINVAL;
    else if (!c->s.port_link)
        err = port_bind(&c->s, PORT_TCP, &any);
    if (!err)
        err = port_listen(&c->s);
    if (!err) {
        if (!c->accept) { /* else it listened before, and was shut down */
            c->accept = q;
            q = NULL;
        }
        atomic_store_relaxed(&c->accept->backlog, MIN(backlog, BACKLOG_MAX));
        c->state = TCP_LISTEN;
    }
out:
    sock_unlock(&c->s);
    kfree(q);
    return err;
}

int tcp_accept(struct tcp_conn *listener, struct tcp_conn **out)
{
    struct tcp_accept *q;
    struct tcp_conn *c;
    int err = 0;

    sock_lock(&listener->s);
    q = listener->accept;
    if (listener->state != TCP_LISTEN) {
        err = -EINVAL;
    } else if (!q->first) {
        err = -EAGAIN;
    } else {
        c = q->first;
        q->first = c->accept_next;
        if (!q->first)
            q->last = NULL;
        atomic_store_relaxed(&q->nr, q->nr - 1);
        c->accept_next = NULL;
        *out = c; /* with the queue's reference */
    }
    sock_unlock(&listener->s);
    return err;
}

/* The listener goes: so do those nobody accepted. */
void tcp_listener_closed(struct tcp_conn *listener)
{
    struct tcp_conn *c = NULL;

    sock_lock(&listener->s);
    if (listener->state == TCP_LISTEN) {
        listener->state = TCP_CLOSE;
        c = listener->accept->first;
        listener->accept->first = listener->accept->last = NULL;
        atomic_store_relaxed(&listener->accept->nr, 0u);
        port_unlisten(&listener->s); /* close gives the port back */
        sock_note(&listener->s, NET_EV_IN | NET_EV_HUP);
    }
    sock_unlock(&listener->s);
    while (c) {
        struct tcp_conn *next = c->accept_next;
        tcp_close(c, true);
        c = next;
    }
}

/* Takes the reference. False: the listener does not want it. */
static bool enqueue(struct tcp_conn *listener, struct tcp_conn *c)
{
    struct tcp_accept *q;
    bool is_taken = false;

    sock_lock(&listener->s);
    q = listener->accept;
    if (listener->state == TCP_LISTEN && q->nr <= q->backlog) {
        c->accept_next = NULL;
        if (q->last)
            q->last->accept_next = c;
        else
            q->first = c;
        q->last = c;
        atomic_store_relaxed(&q->nr, q->nr + 1);
        sock_note(&listener->s, NET_EV_IN);
        is_taken = true;
    }
    sock_unlock(&listener->s);
    return is_taken;
}

static void fill_in(struct tcp_conn *c, const struct tcp_conn *listener,
                    const struct tcp_birth *b)
{
    struct netstack *net = c->s.net;

    c->p = listener->p;
    c->s.tos = b->tos;
    c->s.ttl = listener->s.ttl;
    c->s.bound_nif = listener->s.bound_nif;
    c->s.is_v6only = listener->s.is_v6only;
    c->s.reuse_addr = listener->s.reuse_addr;
    c->s.reuse_port = listener->s.reuse_port;
    c->s.local = b->local;
    c->s.remote = b->remote;
    c->state = TCP_SYN_RECV;
    c->iss = c->snd_una = b->iss;
    c->snd_nxt = c->snd_end = c->snd_small = b->iss + 1;
    c->irs = b->irs;
    c->rcv_nxt = c->last_ack_sent = b->irs + 1;
    c->rcv_adv = c->rcv_nxt + 65535;
    c->has_ts = b->peer.has_ts;
    c->has_sack = b->peer.has_sack;
    c->has_wscale = b->peer.wscale != 0xff;
    c->snd_wscale = c->has_wscale ? b->peer.wscale : 0;
    c->rcv_wscale = c->has_wscale ? b->wscale : 0;
    c->peer_mss = MAX(b->peer.mss, (uint16_t)TCP_MIN_MSS);
    c->ts_recent = b->ts_recent;
    c->ts_recent_ms = tcp_now_ms(net);
    c->ts_offset = tcp_ts_offset(net, &b->local, &b->remote);
    c->last_send_us = tcp_now_us(net);
    if (b->rtt_us)
        tcp_rtt_sample(c, b->rtt_us);
}

void tcp_birth(struct netstack *net, struct tcp_conn *listener,
               const struct tcp_birth *b, struct frame *f)
{
    struct tcp_conn *c = tcp_new(net, listener->s.family);
    bool is_open = false, is_twin = false; /* another CPU made it just now */

    if (!c) {
        frame_put(f);
        return;
    }
    sock_lock(&c->s);
    fill_in(c, listener, b);
    if (!tcp_check_route(c)) {
        net_count(net, NET_NO_ROUTE);
    } else if (tcp_hash_insert(c)) {
        is_twin = true;
    } else {
        tcp_input(c, f);
        f = NULL;
        is_open = c->state != TCP_SYN_RECV && c->state != TCP_CLOSE;
        if (is_open) {
            tcp_output(c);
        } else {
            c->is_orphan = true;
            tcp_done(c, 0);
        }
    }
    sock_unlock(&c->s);
    if (is_twin && tcp_hash_give(net, f))
        f = NULL;
    if (f)
        frame_put(f);
    if (!is_open)
        sock_put(&c->s);
    else if (!enqueue(listener, c))
        tcp_close(c, true);
}
