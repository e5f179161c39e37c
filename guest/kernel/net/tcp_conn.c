/* SPDX-License-Identifier: BSD-2-Clause */
/* The life of a connection: making, closing, ending it. See tcp.h. */
#include "mm/heap.h"
#include "net/port.h"
#include "net/tcp_internal.h"

static void tcp_sock_icmp(struct net_sock *s, const struct frame *quoted,
                          int error, uint32_t mtu)
{
    /* TCP finds its connection by itself: tcp_icmp.c. */
    (void)s, (void)quoted, (void)error, (void)mtu;
}

static void conn_destroy(struct net_sock *s)
{
    struct tcp_conn *c = to_tcp(s);

    assert(!c->timer_pending && !c->is_hashed);
    tcp_free_send_queue(c);
    tcp_free_recv_queue(c);
    kfree(c->accept);
    kfree(c);
}

static const struct sock_ops tcp_ops = {
    .work = tcp_work,
    .icmp = tcp_sock_icmp,
    .destroy = conn_destroy,
};

int tcp_init(struct netstack *net)
{
    struct tcp_table *t = kzalloc(sizeof(*t));
    int err;

    if (!t)
        return -ENOMEM;
    t->net = net;
    net->tcp = t;
    t->next_port = net_random32(net);
    err = tcp_hash_init(t);
    if (!err)
        err = tcp_halves_init(t);
    return err ? err : tcp_tw_init(t);
}

void tcp_destroy(struct netstack *net)
{
    if (!net->tcp)
        return;
    tcp_tw_destroy(net->tcp);
    tcp_halves_destroy(net->tcp);
    tcp_hash_destroy(net->tcp);
    kfree(net->tcp);
}

void tcp_clear(struct tcp_conn *c)
{
    size_t from = offsetof(struct tcp_conn, state);

    assert(!c->sndq && !c->rcvq && !c->ooo && !c->segs);
    memset((uint8_t *)c + from, 0, offsetof(struct tcp_conn, p) - from);
    memset(&c->route, 0, sizeof(c->route));
    c->soft_error = 0;
    c->total_retrans = 0;
    c->state = TCP_CLOSE;
    c->rto_us = TCP_RTO_INITIAL_US;
}

struct tcp_conn *tcp_new(struct netstack *net, uint32_t family)
{
    struct tcp_conn *c = kzalloc(sizeof(*c));

    if (!c)
        return NULL;
    sock_init(&c->s, net, &tcp_ops, IP_PROTO_TCP, family);
    net_timer_init(&c->timer, tcp_timer_fired);
    tcp_clear(c);
    c->p = (struct tcp_params){.rcvbuf = TCP_RCVBUF_START,
                               .sndbuf = TCP_SNDBUF_START,
                               .rcvlowat = 1,
                               .keep_idle = 7200,
                               .keep_interval = 75,
                               .keep_count = 9,
                               .syn_count = 6};
    return c;
}

struct tcp_conn *tcp_create(struct netstack *net, uint32_t family)
{
    return tcp_new(net, family);
}

int tcp_bind(struct tcp_conn *c, const struct net_endpoint *local)
{
    int err;

    if (!addr_is_any(&local->addr) &&
        !netif_of_addr(c->s.net, &local->addr, ADDR_FREE))
        return -EADDRNOTAVAIL;
    sock_lock(&c->s);
    if (c->state != TCP_CLOSE || c->was_open)
        err = -EINVAL;
    else
        err = port_bind(&c->s, PORT_TCP, local);
    if (!err)
        c->s.is_bound = !addr_is_any(&local->addr);
    sock_unlock(&c->s);
    return err;
}

static void free_frames(struct frame *f)
{
    while (f) {
        struct frame *next = f->next;
        f->next = NULL;
        frame_put(f);
        f = next;
    }
}

void tcp_free_send_queue(struct tcp_conn *c)
{
    tcp_segs_free(c);
    free_frames(c->sndq);
    c->sndq = c->sndq_last = c->snd_chunk = NULL;
    c->snd_chunk_off = 0;
}

void tcp_free_recv_queue(struct tcp_conn *c)
{
    tcp_prune_ooo(c);
    free_frames(c->rcvq);
    c->rcvq = c->rcvq_last = NULL;
    c->rcvq_bytes = c->rcvq_mem = c->rcvq_off = 0;
}

static void stop_timer(struct tcp_conn *c)
{
    c->rexmit_kind = REXMIT_NONE;
    c->delack_at = c->aux_at = c->room_at = 0;
    c->ack_now = false;
    if (c->timer_pending && net_timer_cancel(&c->timer)) {
        c->timer_pending = false;
        sock_put(&c->s); /* the timer's; the caller has another */
    }
}

void tcp_done(struct tcp_conn *c, int error)
{
    if (c->state == TCP_CLOSE)
        return;
    c->state = TCP_CLOSE;
    stop_timer(c);
    tcp_free_send_queue(c);
    tcp_prune_ooo(c);
    if (c->is_orphan) {
        tcp_free_recv_queue(c);
        port_unbind(&c->s);
    }
    tcp_hash_remove(c);
    if (error)
        sock_set_error(&c->s, error);
    sock_note(&c->s, NET_EV_IN | NET_EV_OUT | NET_EV_HUP | NET_EV_RDHUP |
                         (error ? NET_EV_ERR : 0));
}

void tcp_abort(struct tcp_conn *c, int error)
{
    if (tcp_is_synced(c))
        tcp_send_reset(c);
    tcp_done(c, error);
}

void tcp_enter_time_wait(struct tcp_conn *c)
{
    tcp_tw_add(c);
    tcp_done(c, 0);
}

/* No more data from the program. */
static void queue_fin(struct tcp_conn *c)
{
    if (c->fin_queued)
        return;
    c->fin_queued = true;
    if (c->state != TCP_SYN_RECV) /* else when it is open: tcp_established */
        c->state = c->state == TCP_CLOSE_WAIT ? TCP_LAST_ACK : TCP_FIN_WAIT1;
}

int tcp_shutdown(struct tcp_conn *c, bool read, bool write)
{
    int err = 0;

    sock_lock(&c->s);
    tcp_drain(c);
    if (c->state == TCP_CLOSE || c->state == TCP_SYN_SENT) {
        err = c->was_open ? 0 : -ENOTCONN;
        if (c->state == TCP_SYN_SENT && write)
            tcp_done(c, 0);
    } else if (c->state != TCP_LISTEN) {
        if (read && !c->is_read_shut) {
            c->is_read_shut = true;
            sock_note(&c->s, NET_EV_IN | NET_EV_RDHUP);
        }
        if (write && (tcp_may_send(c) || c->state == TCP_SYN_RECV))
            queue_fin(c);
        sock_queue_work(&c->s);
        net_defer(c->s.net);
    }
    sock_unlock(&c->s);
    if (!err && c->accept && read)
        tcp_listener_closed(c);
    return err;
}

/* Ends with a reset. What the program sent before goes out first as far as it
 * may: only this turn has kept it back, and an answer with a reset behind it
 * often arrives. */
static void reset_after_data(struct tcp_conn *c)
{
    c->p.nodelay = true;
    c->p.cork = c->more_coming = false;
    tcp_output(c);
    tcp_abort(c, 0);
}

static void close_locked(struct tcp_conn *c, bool abort)
{
    tcp_drain(c);
    c->is_orphan = true;
    switch (c->state) {
    case TCP_CLOSE:
        tcp_free_recv_queue(c);
        port_unbind(&c->s);
        return;
    case TCP_SYN_SENT:
    case TCP_SYN_RECV:
        tcp_abort(c, 0);
        return;
    default:
        break;
    }
    /* Bytes nobody will read: the peer must not think they were
     * (RFC 2525 2.17). */
    if (abort || c->rcvq_bytes) {
        reset_after_data(c);
        return;
    }
    if (tcp_may_send(c))
        queue_fin(c);
    else if (c->state == TCP_FIN_WAIT2)
        c->aux_at = net_now(c->s.net) + TCP_FIN_WAIT2_NS;
    c->p.keepalive = false;
    c->p.cork = c->more_coming = false;
    sock_queue_work(&c->s);
    net_defer(c->s.net);
}

void tcp_close(struct tcp_conn *c, bool abort)
{
    if (c->accept)
        tcp_listener_closed(c);
    sock_lock(&c->s);
    close_locked(c, abort);
    sock_unlock(&c->s);
    sock_put(&c->s);
}

void tcp_disconnect(struct tcp_conn *c)
{
    if (c->accept)
        tcp_listener_closed(c);
    sock_lock(&c->s);
    tcp_drain(c);
    if (c->state != TCP_CLOSE)
        tcp_abort(c, ECONNRESET);
    tcp_free_recv_queue(c);
    c->was_open = c->fin_received = c->is_read_shut = false;
    sock_unlock(&c->s);
}

static uint32_t poll_locked(struct tcp_conn *c)
{
    uint32_t bits = 0;

    if (c->state == TCP_LISTEN)
        return c->accept->first ? NET_EV_IN : 0;
    if (atomic_load_relaxed(&c->s.error))
        bits |= NET_EV_ERR;
    if (c->state == TCP_SYN_SENT || c->state == TCP_SYN_RECV)
        return bits;
    if (c->state == TCP_CLOSE)
        return bits | NET_EV_OUT | NET_EV_HUP |
               (c->was_open || bits ? NET_EV_IN | NET_EV_RDHUP : 0);
    if (c->fin_received || c->is_read_shut)
        bits |= NET_EV_IN | NET_EV_RDHUP;
    if (c->rcvq_bytes >= c->p.rcvlowat)
        bits |= NET_EV_IN;
    if (c->fin_queued ||
        (!c->room_at &&
         c->snd_end - c->snd_una <= c->p.sndbuf - c->p.sndbuf / 3))
        bits |= NET_EV_OUT;
    else
        c->is_snd_full = true; /* an event comes when there is room */
    if (c->fin_queued && (c->fin_received || c->is_read_shut))
        bits |= NET_EV_HUP;
    return bits;
}

uint32_t tcp_poll(struct tcp_conn *c)
{
    uint32_t bits;

    sock_lock(&c->s);
    if (sock_channel_has(&c->s)) {
        tcp_drain(c);
        sock_queue_work(&c->s);
        net_defer(c->s.net);
    }
    bits = poll_locked(c);
    sock_unlock(&c->s);
    return bits;
}

bool tcp_is_connected(struct tcp_conn *c)
{
    return tcp_is_synced(c);
}
