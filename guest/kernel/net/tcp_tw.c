/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * TIME_WAIT in records of 64 bytes: a hash for segments, a queue by time. All
 * wait equally long, so the queue's first is the next to go; when there are
 * too many the oldest goes early. A pair of ports can be used again at once by
 * a SYN that is provably newer (RFC 6191; RFC 9293 3.6.1 by sequence), and by
 * our own connect after a second, when timestamps are on.
 *
 * Records are named by index + 1; 0 is none. They live in pages that are made
 * on demand and given back when nobody waits any more.
 * Locks: tcp_tw_table.lock.
 */
#include "mm/heap.h"
#include "net/tcp_internal.h"

#define TW_BUCKETS 16384u
#define TW_PER_PAGE 64u
#define TW_MAX 131072u
#define REUSE_AFTER_MS 1000u
#define SLACK_MS 250 /* records expire together: one timer for many */
#define TW_MS (TCP_TIME_WAIT_NS / 1000000)
#define ISN_STEP 65537u /* past everything of the old connection */

struct tcp_tw {
    uint32_t next, fifo_next;
    struct net_addr local, remote;
    uint16_t lport, rport;
    uint32_t snd_nxt, rcv_nxt, ts_recent;
    uint32_t until_ms;
    uint16_t wnd;
    uint8_t has_ts : 1, is_dead : 1; /* dead: not in the hash, in the queue */
    uint8_t is_renewed : 1;          /* its time is later than its place */
};
_Static_assert(sizeof(struct tcp_tw) == 64, "a cache line");

struct tcp_tw_table {
    struct netstack *net; /* set once */
    struct spinlock lock;
    /* --- protected by lock --- */
    uint32_t *buckets;     /* made on first use */
    struct tcp_tw **pages;
    uint32_t nr_made, nr_live, unused; /* unused: list through `next` */
    uint32_t first, last;
    bool timer_pending;
    struct net_timer timer;
};

static void tw_timer(struct net_timer *timer);

int tcp_tw_init(struct tcp_table *t)
{
    t->tw = kzalloc(sizeof(*t->tw));
    if (!t->tw)
        return -ENOMEM;
    t->tw->net = t->net;
    spin_init(&t->tw->lock);
    net_timer_init(&t->tw->timer, tw_timer);
    return 0;
}

static void free_pages_locked(struct tcp_tw_table *w)
{
    for (uint32_t i = 0; i * TW_PER_PAGE < w->nr_made; i++)
        kfree(w->pages[i]);
    w->nr_made = w->unused = 0;
}

void tcp_tw_destroy(struct tcp_table *t)
{
    struct tcp_tw_table *w = t->tw;

    if (!w)
        return;
    net_timer_cancel(&w->timer);
    free_pages_locked(w);
    kfree(w->pages);
    kfree(w->buckets);
    kfree(w);
}

static struct tcp_tw *record(struct tcp_tw_table *w, uint32_t name)
{
    return &w->pages[(name - 1) / TW_PER_PAGE][(name - 1) % TW_PER_PAGE];
}

static uint32_t bucket_of(struct netstack *net,
                          const struct net_endpoint *local,
                          const struct net_endpoint *remote)
{
    return (uint32_t)siphash_tuple(&net->secret, local, remote, 3) %
           TW_BUCKETS;
}

/* The place that names the record, or NULL. */
static uint32_t *find_locked(struct tcp_tw_table *w,
                             const struct net_endpoint *local,
                             const struct net_endpoint *remote)
{
    uint32_t *link;

    if (!w->buckets)
        return NULL;
    link = &w->buckets[bucket_of(w->net, local, remote)];
    for (; *link; link = &record(w, *link)->next) {
        const struct tcp_tw *r = record(w, *link);
        if (r->rport == remote->port && r->lport == local->port &&
            addr_equal(&r->remote, &remote->addr) &&
            addr_equal(&r->local, &local->addr))
            return link;
    }
    return NULL;
}

static void unhash_locked(struct tcp_tw_table *w, uint32_t *link)
{
    struct tcp_tw *r = record(w, *link);

    *link = r->next;
    r->is_dead = true;
    w->nr_live--;
}

/* Takes the first out of the queue. */
static uint32_t shift_locked(struct tcp_tw_table *w)
{
    uint32_t name = w->first;

    w->first = record(w, name)->fifo_next;
    if (!w->first)
        w->last = 0;
    return name;
}

/* Takes the queue's first out of everything. */
static void pop_locked(struct tcp_tw_table *w)
{
    uint32_t name = shift_locked(w);
    struct tcp_tw *r = record(w, name);

    if (!r->is_dead) {
        struct net_endpoint l = {.addr = r->local, .port = r->lport};
        struct net_endpoint p = {.addr = r->remote, .port = r->rport};
        uint32_t *link = find_locked(w, &l, &p);

        if (link)
            unhash_locked(w, link);
    }
    r->next = w->unused;
    w->unused = name;
}

static void push_locked(struct tcp_tw_table *w, uint32_t name)
{
    record(w, name)->fifo_next = 0;
    if (w->last)
        record(w, w->last)->fifo_next = name;
    else
        w->first = name;
    w->last = name;
}

/* The queue's first, whose wait was begun anew, must not hold up the others. */
static void requeue_locked(struct tcp_tw_table *w)
{
    uint32_t name = shift_locked(w);

    record(w, name)->is_renewed = false;
    push_locked(w, name);
}

static void arm_locked(struct tcp_tw_table *w)
{
    uint32_t now_ms = tcp_now_ms(w->net);
    int32_t left;

    if (w->timer_pending || !w->first)
        return;
    left = (int32_t)(record(w, w->first)->until_ms - now_ms);
    w->timer_pending = true;
    net_arm(w->net, &w->timer,
            net_now(w->net) + (nsec_t)MAX(left, SLACK_MS) * 1000000);
}

static void tw_timer(struct net_timer *timer)
{
    struct tcp_tw_table *w = container_of(timer, struct tcp_tw_table, timer);
    uint32_t now_ms = tcp_now_ms(w->net);

    spin_lock(&w->lock);
    w->timer_pending = false;
    while (w->first) {
        struct tcp_tw *r = record(w, w->first);

        if (r->is_dead || !seq_lt(now_ms, r->until_ms)) {
            pop_locked(w);
        } else if (r->is_renewed) {
            requeue_locked(w);
        } else {
            break;
        }
    }
    if (!w->first)
        free_pages_locked(w);
    arm_locked(w);
    spin_unlock(&w->lock);
}

static bool make_tables_locked(struct tcp_tw_table *w)
{
    if (!w->buckets)
        w->buckets = kzalloc(TW_BUCKETS * sizeof(*w->buckets));
    if (!w->pages)
        w->pages = kzalloc(TW_MAX / TW_PER_PAGE * sizeof(*w->pages));
    return w->buckets && w->pages;
}

/* An unused record; 0: none to be had. */
static uint32_t take_locked(struct tcp_tw_table *w)
{
    uint32_t name;

    if (!w->unused && w->nr_made < TW_MAX) {
        struct tcp_tw *page = kzalloc(TW_PER_PAGE * sizeof(*page));

        if (page) {
            w->pages[w->nr_made / TW_PER_PAGE] = page;
            for (uint32_t i = 0; i < TW_PER_PAGE; i++) {
                page[i].next = w->unused;
                w->unused = ++w->nr_made;
            }
        }
    }
    if (!w->unused && w->first) {
        net_count(w->net, NET_TCP_TW_RECYCLED);
        pop_locked(w);
    }
    name = w->unused;
    if (name)
        w->unused = record(w, name)->next;
    return name;
}

void tcp_tw_add(struct tcp_conn *c)
{
    struct tcp_tw_table *w = c->s.net->tcp->tw;
    uint32_t name, *bucket;
    struct tcp_tw *r;

    spin_lock(&w->lock);
    name = make_tables_locked(w) ? take_locked(w) : 0;
    if (name) {
        bucket = &w->buckets[bucket_of(w->net, &c->s.local, &c->s.remote)];
        r = record(w, name);
        *r = (struct tcp_tw){
            .next = *bucket, .local = c->s.local.addr,
            .remote = c->s.remote.addr, .lport = c->s.local.port,
            .rport = c->s.remote.port, .snd_nxt = c->snd_nxt,
            .rcv_nxt = c->rcv_nxt, .ts_recent = c->ts_recent,
            .until_ms = tcp_now_ms(w->net) + (uint32_t)TW_MS,
            .wnd = (uint16_t)tcp_window_field(c), .has_ts = c->has_ts};
        *bucket = name;
        w->nr_live++;
        push_locked(w, name);
        arm_locked(w);
    }
    spin_unlock(&w->lock);
}

static void acknowledge(struct netstack *net, const struct frame *f,
                        const struct tcp_tw *r)
{
    struct tcp_reply a = {.seq = r->snd_nxt, .ack = r->rcv_nxt, .wnd = r->wnd,
                          .flags = TCP_ACK, .has_ts = r->has_ts,
                          .ts_ecr = r->ts_recent};

    if (!net_rate_allows(net, &net->challenge_rate, 1000))
        return;
    a.local = (struct net_endpoint){.addr = r->local, .port = r->lport};
    a.remote = (struct net_endpoint){.addr = r->remote, .port = r->rport};
    if (addr_is_link_local(&f->src))
        a.remote.scope = f->nif->index;
    a.ts_val = tcp_now_ms(net) + tcp_ts_offset(net, &a.local, &a.remote);
    tcp_reply_send(net, &a);
}

static enum tcp_tw_verdict input_locked(struct tcp_tw_table *w,
                                        uint32_t *link,
                                        const struct tcp_in *in,
                                        bool *must_ack)
{
    struct tcp_tw *r = record(w, *link);
    bool is_old = r->has_ts && in->has_ts && seq_lt(in->ts_val, r->ts_recent);
    bool is_newer = r->has_ts && in->has_ts &&
                    seq_lt(r->ts_recent, in->ts_val);

    if (in->flags & TCP_RST)
        return TW_TAKEN; /* RFC 1337 */
    if ((in->flags & (TCP_SYN | TCP_ACK)) == TCP_SYN && !is_old &&
        (is_newer || seq_lt(r->rcv_nxt, in->seq))) {
        net_count(w->net, NET_TCP_TW_REUSED);
        unhash_locked(w, link);
        return TW_REOPEN;
    }
    if (!is_old && (in->flags & TCP_FIN) &&
        in->seq + in->len + 1 == r->rcv_nxt) {
        r->until_ms = tcp_now_ms(w->net) + (uint32_t)TW_MS;
        r->is_renewed = true;
    }
    /* A plain acknowledgement needs no answer; everything else does. */
    *must_ack = is_old || in->len || (in->flags & (TCP_SYN | TCP_FIN)) ||
                in->seq != r->rcv_nxt;
    return TW_TAKEN;
}

enum tcp_tw_verdict tcp_tw_input(struct netstack *net, const struct frame *f,
                                 const struct tcp_in *in, uint32_t *isn)
{
    struct tcp_tw_table *w = net->tcp->tw;
    struct net_endpoint l = {.addr = f->dst, .port = f->dport};
    struct net_endpoint p = {.addr = f->src, .port = f->sport};
    enum tcp_tw_verdict v = TW_NONE;
    bool must_ack = false;
    struct tcp_tw copy;
    uint32_t *link;

    spin_lock(&w->lock);
    link = find_locked(w, &l, &p);
    if (link) {
        copy = *record(w, *link);
        v = input_locked(w, link, in, &must_ack);
        *isn = copy.snd_nxt + ISN_STEP;
    }
    spin_unlock(&w->lock);
    if (must_ack)
        acknowledge(net, f, &copy);
    return v;
}

bool tcp_tw_may_reuse(struct netstack *net, const struct net_endpoint *local,
                      const struct net_endpoint *remote, uint32_t *isn)
{
    struct tcp_tw_table *w = net->tcp->tw;
    bool may = true;
    uint32_t *link;

    spin_lock(&w->lock);
    link = find_locked(w, local, remote);
    if (link) {
        const struct tcp_tw *r = record(w, *link);
        uint32_t age = tcp_now_ms(net) - (r->until_ms - (uint32_t)TW_MS);

        may = r->has_ts && age > REUSE_AFTER_MS;
        if (may) {
            *isn = r->snd_nxt + ISN_STEP;
            *isn += !*isn;
            net_count(net, NET_TCP_TW_REUSED);
            unhash_locked(w, link);
        }
    }
    spin_unlock(&w->lock);
    return may;
}

uint32_t tcp_tw_count(struct netstack *net)
{
    struct tcp_tw_table *w = net->tcp->tw;
    uint32_t n;

    spin_lock(&w->lock);
    n = w->nr_live;
    spin_unlock(&w->lock);
    return n;
}
