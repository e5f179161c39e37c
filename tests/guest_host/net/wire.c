/* SPDX-License-Identifier: BSD-2-Clause */
/* See wire.h. */
#include "net/wire.h"

#include "check.h"
#include "mm/heap.h"
#include "net/neigh.h"
#include "net/route.h"

#include <string.h>

static const uint8_t peer_mac[ETH_ADDR] = {2, 0, 0, 0, 0, 2};
static size_t bytes_before;

struct net_addr wire_us(const struct wire *w)
{
    struct net_addr a = {.b = {0xfd, [15] = 1}};

    return w->is_v4 ? addr_from_v4(0x0a000001) : a;
}

struct net_addr wire_peer(const struct wire *w)
{
    struct net_addr a = {.b = {0xfd, [15] = 2}};

    return w->is_v4 ? addr_from_v4(0x0a000002) : a;
}

/* ARP, or a neighbour solicitation: the peer is still there. */
static bool is_question(const uint8_t *p)
{
    return wire_get16(p + 12) == ETH_TYPE_ARP ||
           (wire_get16(p + 12) == ETH_TYPE_IPV6 &&
            p[ETH_HEADER + 6] == IP_PROTO_ICMPV6 &&
            p[ETH_HEADER + IPV6_HEADER] == 135);
}

static void wire_transmit(struct netif *nif, struct frame_list *frames)
{
    struct wire *w = (struct wire *)nif;
    struct frame *f;

    while ((f = frame_list_take(frames)) != NULL) {
        uint32_t len = frame_total(f);
        struct wire_packet *p = malloc(sizeof(*p) + len);

        CHECK(p);
        frame_copy_out(f, 0, p->data, len);
        if (!w->keep_questions && is_question(p->data)) {
            w->must_answer = true;
            free(p);
            frame_put(f);
            continue;
        }
        p->next = NULL;
        p->len = len;
        if (w->last)
            w->last->next = p;
        else
            w->sent = p;
        w->last = p;
        frame_put(f);
    }
}

static const struct netif_ops wire_ops = {.transmit = wire_transmit};

static void answer(struct wire *w)
{
    struct neigh_news news = {.mac = peer_mac, .is_solicited = true,
                              .is_override = true, .may_create = true};
    struct net_addr p4 = addr_from_v4(0x0a000002);
    struct net_addr p6 = {.b = {0xfd, [15] = 2}};

    neigh_learn(&w->nif, &p4, &news);
    neigh_learn(&w->nif, &p6, &news);
    w->must_answer = false;
}

void wire_init(struct wire *w, uint32_t caps)
{
    struct net_addr v4 = addr_from_v4(0x0a000001);
    struct net_addr v6 = {.b = {0xfd, [15] = 1}};

    bytes_before = shim_bytes;
    memset(w, 0, sizeof(*w));
    w->is_v4 = true;
    host_env_init(&w->env, 42, 5000 * NSEC_PER_SEC);
    w->net = host_stack(&w->env, 1, 16 << 20);
    w->nif.ops = &wire_ops;
    w->nif.caps = caps;
    w->nif.max_mtu = 1500;
    memcpy(w->nif.mac, (uint8_t[]){2, 0, 0, 0, 0, 1}, ETH_ADDR);
    CHECK_EQ(netif_add(w->net, &w->nif), 0);
    CHECK_EQ(route_add_addr(&w->nif, &v4, IPV4_PREFIX(24)), 0);
    CHECK_EQ(route_add_addr(&w->nif, &v6, 64), 0);
    answer(w);
}

void wire_done(struct wire *w)
{
    wire_drop_all(w);
    wire_wait(w, 400 * NSEC_PER_SEC);
    wire_drop_all(w);
    net_destroy(w->net);
    CHECK_EQ(shim_bytes, bytes_before);
}

void wire_run(struct wire *w)
{
    if (net_next_deadline(w->net, 0) <= w->env.now)
        net_timer_run(w->net, 0);
    do {
        if (w->must_answer)
            answer(w);
        while (net_softwork(w->net, 0))
            continue;
    } while (w->must_answer);
    CHECK_EQ(spin_held(), 0);
}

void wire_wait(struct wire *w, nsec_t ns)
{
    nsec_t until = w->env.now + ns;

    wire_run(w);
    for (;;) {
        nsec_t next = net_next_deadline(w->net, 0);

        if (next > until)
            break;
        w->env.now = MAX(w->env.now, next);
        wire_run(w);
    }
    w->env.now = until;
    wire_run(w);
}

struct wire_packet *wire_take(struct wire *w)
{
    struct wire_packet *p;

    wire_run(w);
    p = w->sent;
    if (p) {
        w->sent = p->next;
        if (!w->sent)
            w->last = NULL;
    }
    return p;
}

void wire_drop_all(struct wire *w)
{
    struct wire_packet *p;

    while ((p = wire_take(w)) != NULL)
        free(p);
}

void wire_put(struct wire *w, const void *data, uint32_t len)
{
    bool is_big = len > frame_room(FRAME_SMALL, FRAME_HEADROOM);
    struct frame *f = frame_alloc(w->net, is_big ? FRAME_LARGE : FRAME_SMALL,
                                  FRAME_HEADROOM, FRAME_FOR_RECEIVE);

    CHECK(f);
    memcpy(frame_append(f, len), data, len);
    net_classify(&w->nif, f);
    wire_run(w);
}

void wire_put_ip(struct wire *w, uint32_t proto, const void *data,
                 uint32_t len)
{
    uint8_t *buf = calloc(1, ETH_HEADER + IPV6_HEADER + len);
    uint8_t *ip = buf + ETH_HEADER;
    struct net_addr us = wire_us(w), peer = wire_peer(w);
    uint32_t head = w->is_v4 ? IPV4_HEADER : IPV6_HEADER;

    CHECK(buf);
    memcpy(buf, w->nif.mac, ETH_ADDR);
    memcpy(buf + ETH_ADDR, peer_mac, ETH_ADDR);
    wire_put16(buf + 12, w->is_v4 ? ETH_TYPE_IPV4 : ETH_TYPE_IPV6);
    if (w->is_v4) {
        ip[0] = 0x45;
        wire_put16(ip + 2, head + len);
        ip[8] = 64;
        ip[9] = (uint8_t)proto;
        memcpy(ip + 12, peer.b + 12, 4);
        memcpy(ip + 16, us.b + 12, 4);
        csum_store(ip + 10, csum_add(0, ip, head));
    } else {
        ip[0] = 0x60;
        wire_put16(ip + 4, len);
        ip[6] = (uint8_t)proto;
        ip[7] = 64;
        memcpy(ip + 8, peer.b, 16);
        memcpy(ip + 24, us.b, 16);
    }
    memcpy(ip + head, data, len);
    wire_put(w, buf, ETH_HEADER + head + len);
    free(buf);
}

static uint32_t put_sacks(const struct seg *s, uint8_t *o)
{
    if (!s->nr_sacks)
        return 0;
    o[0] = o[1] = 1;
    o[2] = 5;
    o[3] = (uint8_t)(2 + 8 * s->nr_sacks);
    for (uint32_t i = 0; i < s->nr_sacks; i++) {
        wire_put32(o + 4 + 8 * i, s->sacks[i][0]);
        wire_put32(o + 8 + 8 * i, s->sacks[i][1]);
    }
    return 4 + 8 * s->nr_sacks;
}

static uint32_t put_options(const struct seg *s, uint8_t *o)
{
    uint32_t n = 0;

    if (s->mss) {
        o[n] = 2;
        o[n + 1] = 4;
        wire_put16(o + n + 2, s->mss);
        n += 4;
    }
    if (s->wscale >= 0 && (s->flags & TCP_SYN)) {
        o[n] = 3;
        o[n + 1] = 3;
        o[n + 2] = (uint8_t)s->wscale;
        o[n + 3] = 1;
        n += 4;
    }
    if (s->sack_ok) {
        o[n] = 4;
        o[n + 1] = 2;
        o[n + 2] = o[n + 3] = 1;
        n += 4;
    }
    if (s->has_ts) {
        o[n] = o[n + 1] = 1;
        o[n + 2] = 8;
        o[n + 3] = 10;
        wire_put32(o + n + 4, s->ts_val);
        wire_put32(o + n + 8, s->ts_ecr);
        n += 12;
    }
    return n + put_sacks(s, o + n);
}

void wire_put_seg(struct wire *w, const struct seg *s)
{
    uint8_t *p = calloc(1, 60 + s->len);
    struct net_addr us = wire_us(w), peer = wire_peer(w);
    uint32_t head = TCP_HEADER + put_options(s, p + TCP_HEADER);
    uint64_t sum;

    wire_put16(p, s->sport);
    wire_put16(p + 2, s->dport);
    wire_put32(p + 4, s->seq);
    wire_put32(p + 8, s->ack);
    p[12] = (uint8_t)(head / 4 << 4);
    p[13] = (uint8_t)s->flags;
    wire_put16(p + 14, s->wnd);
    if (s->payload)
        memcpy(p + head, s->payload, s->len);
    else
        memset(p + head, 'x', s->len);
    sum = csum_pseudo(&peer, &us, IP_PROTO_TCP, head + s->len);
    csum_store(p + 16, csum_add(sum, p, head + s->len));
    wire_put_ip(w, IP_PROTO_TCP, p, head + s->len);
    free(p);
}

static void get_options(struct seg *s, const uint8_t *p, uint32_t n)
{
    s->wscale = -1;
    for (uint32_t at = 0; at < n && p[at];) {
        uint32_t k = p[at] == 1 ? 1 : p[at + 1];

        CHECK(k && at + k <= n);
        if (p[at] == 2)
            s->mss = wire_get16(p + at + 2);
        if (p[at] == 3)
            s->wscale = p[at + 2];
        if (p[at] == 4)
            s->sack_ok = true;
        if (p[at] == 8) {
            s->has_ts = true;
            s->ts_val = wire_get32(p + at + 2);
            s->ts_ecr = wire_get32(p + at + 6);
        }
        if (p[at] == 5)
            for (s->nr_sacks = 0; s->nr_sacks < (k - 2) / 8; s->nr_sacks++) {
                s->sacks[s->nr_sacks][0] =
                    wire_get32(p + at + 2 + 8 * s->nr_sacks);
                s->sacks[s->nr_sacks][1] =
                    wire_get32(p + at + 6 + 8 * s->nr_sacks);
            }
        at += k;
    }
}

bool wire_get_seg(struct wire *w, struct seg *s)
{
    static uint8_t payload[70000];
    struct wire_packet *p = wire_take(w);
    uint32_t head, off;
    const uint8_t *t;

    memset(s, 0, sizeof(*s));
    if (!p)
        return false;
    off = ETH_HEADER + (wire_get16(p->data + 12) == ETH_TYPE_IPV4
                            ? (p->data[ETH_HEADER] & 15u) * 4
                            : IPV6_HEADER);
    t = p->data + off;
    CHECK_EQ(w->is_v4 ? p->data[ETH_HEADER + 9] : p->data[ETH_HEADER + 6],
             IP_PROTO_TCP);
    head = (t[12] >> 4) * 4u;
    s->sport = wire_get16(t);
    s->dport = wire_get16(t + 2);
    s->seq = wire_get32(t + 4);
    s->ack = wire_get32(t + 8);
    s->flags = t[13];
    s->wnd = wire_get16(t + 14);
    s->len = p->len - off - head;
    memcpy(payload, t + head, s->len);
    s->payload = payload;
    get_options(s, t + TCP_HEADER, head - TCP_HEADER);
    free(p);
    return true;
}
