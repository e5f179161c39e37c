/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Listening: the half-open table, what becomes of segments that belong to no
 * connection, and accept.
 *
 * A SYN makes an entry of the half-open table (a hundred bytes, no socket).
 * When the table is full, or an entry cannot be had, the answer is a cookie
 * and nothing is kept (tcp_cookie.c). The acknowledgement of our SYN makes the
 * connection; one that finds the listener's queue full is dropped, as on
 * Linux, and comes again.
 */
#include "net/tcp_listen.h"

#include "mm/heap.h"
#include "net/port.h"

#define TICK_NS (500 * NSEC_PER_SEC / 1000)
#define SYN_ACK_RETRIES 5u
#define FLOOD_RETRIES 2u
#define SYN_ACKS_PER_TICK 128u /* more at once would push out other packets */
#define PROMISED_BYTES 4096u /* of a connection that was not accepted yet */
#define FEW_CONNS 64u        /* a program that fills its memory serves some */
#define SHARE_MAX (4 * MIB)  /* for the requests of the others */
#define COOKIE_VALID_NS (180 * NSEC_PER_SEC)

static void halves_timer(struct net_timer *timer);

int tcp_halves_init(struct tcp_table *t)
{
    t->halves = kzalloc(sizeof(*t->halves));
    if (!t->halves)
        return -ENOMEM;
    t->halves->net = t->net;
    spin_init(&t->halves->lock);
    net_timer_init(&t->halves->timer, halves_timer);
    return 0;
}

void tcp_halves_destroy(struct tcp_table *t)
{
    if (!t->halves)
        return;
    net_timer_cancel(&t->halves->timer);
    for (uint32_t i = 0; i < HALF_BUCKETS; i++)
        while (t->halves->buckets[i]) {
            struct tcp_half *h = t->halves->buckets[i];
            t->halves->buckets[i] = h->next;
            kfree(h);
        }
    kfree(t->halves);
}

static uint32_t bucket_of(struct netstack *net,
                          const struct net_endpoint *local,
                          const struct net_endpoint *remote)
{
    return (uint32_t)siphash_tuple(&net->secret, local, remote, 1) %
           HALF_BUCKETS;
}

static void ends_of(const struct frame *f, struct net_endpoint *local,
                    struct net_endpoint *remote)
{
    *local = (struct net_endpoint){.addr = f->dst, .port = f->dport};
    *remote = (struct net_endpoint){.addr = f->src, .port = f->sport};
    if (addr_is_link_local(&f->src))
        remote->scope = f->nif->index;
}

static struct tcp_half **find_locked(struct tcp_half_table *t,
                                     const struct net_endpoint *local,
                                     const struct net_endpoint *remote)
{
    struct tcp_half **link = &t->buckets[bucket_of(t->net, local, remote)];

    while (*link && !((*link)->b.remote.port == remote->port &&
                      (*link)->b.local.port == local->port &&
                      addr_equal(&(*link)->b.remote.addr, &remote->addr) &&
                      addr_equal(&(*link)->b.local.addr, &local->addr)))
        link = &(*link)->next;
    return link;
}

static void remove_locked(struct tcp_half_table *t, struct tcp_half **link)
{
    struct tcp_half *h = *link;

    *link = h->next;
    atomic_store_relaxed(&t->nr, t->nr - 1);
    kfree(h);
}

/* Our side of the handshake, for an entry or a cookie. */
static void send_syn_ack(struct netstack *net, const struct tcp_birth *b,
                         uint32_t ts_val)
{
    struct net_route route;
    struct tcp_syn_options o = {.has_ts = b->peer.has_ts,
                                .has_sack = b->peer.has_sack,
                                .wscale = b->peer.wscale == 0xff ? 0xff
                                                                 : b->wscale,
                                .ts_val = ts_val, .ts_ecr = b->ts_recent};
    struct tcp_reply r = {.local = b->local, .remote = b->remote,
                          .seq = b->iss, .ack = b->irs + 1,
                          .wnd = 65535, .flags = TCP_SYN | TCP_ACK,
                          .syn = &o, .tos = b->tos};

    if (route_find(net, &b->remote.addr, &b->local.addr, b->remote.scope,
                   &route))
        return;
    o.mss = (uint16_t)tcp_mss_of_mtu(atomic_load_relaxed(&route.nif->mtu),
                                     &b->remote.addr);
    tcp_reply_send(net, &r);
}

static uint32_t ts_of(struct netstack *net, const struct tcp_birth *b)
{
    return tcp_now_ms(net) + tcp_ts_offset(net, &b->local, &b->remote);
}

/* What is due in one bucket; *left: how many SYN-ACKs may still go. */
static void tick_bucket(struct tcp_half_table *t, uint32_t i, uint32_t *left)
{
    /* In a flood most are nobody's: they go sooner, as on Linux. */
    uint32_t max = t->nr > HALF_MAX / 2 ? FLOOD_RETRIES : SYN_ACK_RETRIES;
    struct tcp_half **link = &t->buckets[i], *h;
    nsec_t now = net_now(t->net);

    while ((h = *link) != NULL) {
        if (h->at <= now && h->retries >= max) {
            remove_locked(t, link);
            continue;
        }
        if (h->at <= now && *left) {
            (*left)--;
            h->retries++;
            h->at = now + (NSEC_PER_SEC << h->retries);
            send_syn_ack(t->net, &h->b, ts_of(t->net, &h->b));
        }
        link = &h->next;
    }
}

static void halves_timer(struct net_timer *timer)
{
    struct tcp_half_table *t = container_of(timer, struct tcp_half_table,
                                            timer);
    uint32_t left = SYN_ACKS_PER_TICK, first;

    spin_lock(&t->lock);
    first = t->next_bucket;
    for (uint32_t i = 0; i < HALF_BUCKETS; i++) {
        uint32_t bucket = (first + i) % HALF_BUCKETS;

        tick_bucket(t, bucket, &left);
        if (left)
            t->next_bucket = bucket; /* where to begin next time */
    }
    t->timer_pending = t->nr != 0;
    if (t->timer_pending)
        net_arm(t->net, &t->timer, net_now(t->net) + TICK_NS);
    spin_unlock(&t->lock);
}

/* Keeps the entry; false: no room. */
static bool half_add(struct netstack *net, const struct tcp_birth *b)
{
    struct tcp_half_table *t = net->tcp->halves;
    struct tcp_half *h, **link;
    bool is_kept = false;

    spin_lock(&t->lock);
    h = t->nr < HALF_MAX ? kzalloc(sizeof(*h)) : NULL;
    if (h) {
        h->b = *b;
        h->sent_us = tcp_now_us(net);
        h->at = net_now(net) + NSEC_PER_SEC;
        link = &t->buckets[bucket_of(net, &b->local, &b->remote)];
        h->next = *link;
        *link = h;
        atomic_store_relaxed(&t->nr, t->nr + 1);
        is_kept = true;
        if (!t->timer_pending) {
            t->timer_pending = true;
            net_arm(net, &t->timer, net_now(net) + TICK_NS);
        }
    } else {
        t->cookies_until = net_now(net) + COOKIE_VALID_NS;
    }
    spin_unlock(&t->lock);
    return is_kept;
}

/* What is on its way to the program takes memory soon, ours and the program's,
 * and a share stays for the requests of those it has: who refuses only when
 * memory is gone has let in too many by then. */
static uint64_t promised_bytes(struct netstack *net, const struct tcp_accept *q)
{
    uint64_t nr = atomic_load_relaxed(&net->tcp->halves->nr);

    if (q)
        nr += atomic_load_relaxed(&q->nr);
    return MIN(net->mem_max / 4, SHARE_MAX) + nr * PROMISED_BYTES;
}

/* No more can be accepted: the peer tries again, and again later. The limit on
 * connections keeps most of the memory for the program. */
static bool queue_is_full(struct netstack *net, struct tcp_conn *listener)
{
    const struct tcp_accept *q = listener->accept;
    uint32_t nr = atomic_load_relaxed(&net->tcp->nr_conns);

    if (nr >= net->conns_max ||
        (nr >= FEW_CONNS && net_is_short(net, promised_bytes(net, q)))) {
        net_count(net, NET_TCP_CONNS_FULL);
        return true;
    }
    if (q && atomic_load_relaxed(&q->nr) <= q->backlog)
        return false;
    net_count(net, NET_TCP_BACKLOG_FULL);
    return true;
}

/* A SYN for a listener. isn 0: choose. Borrows f. */
static void listen_syn(struct tcp_conn *listener, const struct frame *f,
                       const struct tcp_in *in, uint32_t isn)
{
    struct netstack *net = listener->s.net;
    struct tcp_birth b = {.irs = in->seq, .ts_recent = in->ts_val,
                          .wscale = TCP_RCV_WSCALE, .tos = listener->s.tos};
    uint32_t ts;

    if (queue_is_full(net, listener))
        return;
    ends_of(f, &b.local, &b.remote);
    b.peer.has_ts = in->has_ts;
    b.peer.has_sack = in->sack_ok;
    b.peer.wscale = in->wscale;
    b.peer.mss = in->mss ? in->mss : TCP_DEFAULT_MSS;
    b.iss = isn ? isn : tcp_isn(net, &b.local, &b.remote);
    ts = ts_of(net, &b);
    if (!half_add(net, &b)) {
        net_count(net, NET_TCP_HALF_FULL);
        net_count(net, NET_TCP_COOKIE_OUT);
        tcp_cookie_make(net, &b, &ts);
    }
    send_syn_ack(net, &b, ts);
}

/* What an unacceptable segment gets (RFC 9293 3.10.7.4): a host that has begun
 * anew answers with a reset, and may connect then. */
static void send_half_ack(struct netstack *net, const struct tcp_birth *b)
{
    struct tcp_reply r = {.local = b->local, .remote = b->remote,
                          .seq = b->iss + 1, .ack = b->irs + 1,
                          .wnd = 65535, .flags = TCP_ACK, .tos = b->tos,
                          .has_ts = b->peer.has_ts, .ts_val = ts_of(net, b),
                          .ts_ecr = b->ts_recent};

    if (net_rate_allows(net, &net->challenge_rate, 1000))
        tcp_reply_send(net, &r);
}

/* A segment for a half-open connection. True: done with; else, with `b`
 * filled, the handshake is complete. */
static bool half_locked(struct tcp_half_table *t, struct tcp_half **link,
                        const struct tcp_in *in, struct tcp_birth *b,
                        bool *is_bad_ack)
{
    struct tcp_half *h = *link;

    if (in->flags & TCP_RST) {
        if (in->seq == h->b.irs + 1)
            remove_locked(t, link);
        return true;
    }
    if (in->flags & TCP_SYN) {
        if (in->seq == h->b.irs && !(in->flags & TCP_ACK))
            send_syn_ack(t->net, &h->b, ts_of(t->net, &h->b));
        else
            send_half_ack(t->net, &h->b);
        return true;
    }
    if (!(in->flags & TCP_ACK))
        return true;
    if (in->ack != h->b.iss + 1) {
        *is_bad_ack = true;
        return true;
    }
    /* Out of the window or older than the SYN: not of this connection. */
    if (!seq_le(h->b.irs + 1, in->seq) ||
        !seq_lt(in->seq, h->b.irs + 1 + 65535) ||
        (h->b.peer.has_ts && in->has_ts &&
         seq_lt(in->ts_val, h->b.ts_recent))) {
        send_half_ack(t->net, &h->b);
        return true;
    }
    *b = h->b;
    if (!h->retries)
        b->rtt_us = MAX(tcp_now_us(t->net) - h->sent_us, 1u);
    return false;
}

enum half_verdict { HALF_NONE, HALF_TAKEN, HALF_READY, HALF_BAD_ACK };

static enum half_verdict half_input(struct netstack *net,
                                    const struct frame *f,
                                    const struct tcp_in *in,
                                    struct tcp_birth *b)
{
    struct tcp_half_table *t = net->tcp->halves;
    struct net_endpoint local, remote;
    struct tcp_half **link;
    enum half_verdict v = HALF_NONE;
    bool is_bad_ack = false;

    ends_of(f, &local, &remote);
    spin_lock(&t->lock);
    link = find_locked(t, &local, &remote);
    if (*link)
        v = half_locked(t, link, in, b, &is_bad_ack) ? HALF_TAKEN
                                                     : HALF_READY;
    spin_unlock(&t->lock);
    return is_bad_ack ? HALF_BAD_ACK : v;
}

static void half_forget(struct netstack *net, const struct tcp_birth *b)
{
    struct tcp_half_table *t = net->tcp->halves;
    struct tcp_half **link;

    spin_lock(&t->lock);
    link = find_locked(t, &b->local, &b->remote);
    if (*link)
        remove_locked(t, link);
    spin_unlock(&t->lock);
}

static bool cookies_are_out(struct netstack *net)
{
    struct tcp_half_table *t = net->tcp->halves;
    bool are_out;

    spin_lock(&t->lock);
    are_out = net_now(net) < t->cookies_until;
    spin_unlock(&t->lock);
    return are_out;
}

/* For a listener, or nobody. Takes f.
 * Two CPUs may hold segments of one new connection: it is in the hash table
 * before it leaves the half-open one, whoever comes second finds it in one of
 * them, and who finds it in neither looks in the first again. */
static void listener_input(struct netstack *net, struct frame *f,
                           struct tcp_in *in, uint32_t isn)
{
    struct net_sock *s;
    struct tcp_birth b = {0};
    enum half_verdict v = half_input(net, f, in, &b);

    /* Nobody begins and ends at once, but scanners: as Linux does. */
    if (v == HALF_TAKEN ||
        (in->flags & (TCP_SYN | TCP_FIN)) == (TCP_SYN | TCP_FIN))
        goto drop;
    s = v == HALF_BAD_ACK ? NULL : port_find(net, PORT_TCP, f,
                                             tcp_spread(net, f));
    if (!s)
        goto reset;
    if (v == HALF_READY) {
        if (!queue_is_full(net, to_tcp(s))) {
            tcp_birth(net, to_tcp(s), &b, f);
            half_forget(net, &b);
            f = NULL;
        }
    } else if ((in->flags & (TCP_SYN | TCP_ACK | TCP_RST)) == TCP_SYN) {
        listen_syn(to_tcp(s), f, in, isn);
    } else if ((in->flags & (TCP_SYN | TCP_ACK | TCP_RST)) == TCP_ACK &&
               cookies_are_out(net) && tcp_cookie_check(net, f, in, &b)) {
        if (!queue_is_full(net, to_tcp(s))) {
            net_count(net, NET_TCP_COOKIE_IN);
            tcp_birth(net, to_tcp(s), &b, f);
            f = NULL;
        }
    } else if (in->flags & TCP_ACK) {
        sock_put(s);
        if (tcp_hash_give(net, f))
            return;
        /* Data that overtook the acknowledgement of a cookie, or whose
         * acknowledgement was lost: what opens the connection comes again. */
        if (in->len && cookies_are_out(net))
            goto drop;
        goto reset;
    }
    sock_put(s);
    if (f)
        goto drop;
    return;
reset:
    tcp_reply_reset(net, f, in);
drop:
    frame_put(f);
}

void tcp_stack_input(struct netstack *net, struct frame *f)
{
    struct tcp_in in;
    uint32_t isn = 0;

    if (tcp_hash_give(net, f)) /* it was made after the frame was looked at */
        return;
    net_count(net, NET_TCP_IN);
    if (!ip_check(net, f)) {
        frame_put(f);
        return;
    }
    tcp_parse(f, &in);
    if (tcp_tw_input(net, f, &in, &isn) == TW_TAKEN) {
        frame_put(f);
        return;
    }
    listener_input(net, f, &in, isn);
}

void tcp_totals(struct netstack *net, struct tcp_totals *out)
{
    struct tcp_half_table *h = net->tcp->halves;

    out->nr_conns = atomic_load_relaxed(&net->tcp->nr_conns);
    out->nr_time_wait = tcp_tw_count(net);
    spin_lock(&h->lock);
    out->nr_half_open = h->nr;
    spin_unlock(&h->lock);
}
