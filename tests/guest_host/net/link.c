/* SPDX-License-Identifier: BSD-2-Clause */
/* See link.h. */
#include "net/link.h"

#include "check.h"
#include "mm/heap.h"
#include "net/checksum.h"
#include "net/route.h"

#include <string.h>

#define L4_PROTO_V4 9u
#define MAX_FRAME 66000u

static bool chance(struct link *l, uint32_t per_mille)
{
    return per_mille && rng_below(&l->rng, 1000) < per_mille;
}

struct net_addr link_addr(uint32_t side, bool is_v4)
{
    struct net_addr a = {.b = {0xfd, [15] = (uint8_t)(side + 1)}};

    return is_v4 ? addr_from_v4(0x0a000001 + side) : a;
}

/* ---- what a device does with a frame ---- */

static void pcap_write(struct link *l, const uint8_t *data, uint32_t len)
{
    uint32_t head[4] = {(uint32_t)(l->env.now / NSEC_PER_SEC),
                        (uint32_t)(l->env.now % NSEC_PER_SEC / 1000), len,
                        len};

    if (!l->pcap)
        return;
    fwrite(head, sizeof(head), 1, l->pcap);
    fwrite(data, len, 1, l->pcap);
}

/* Where the TCP header is; 0: not TCP, or a fragment. */
static uint32_t tcp_offset(const uint8_t *p, uint32_t len)
{
    if (len < ETH_HEADER + IPV6_HEADER)
        return 0;
    if (wire_get16(p + 12) == ETH_TYPE_IPV4)
        return p[ETH_HEADER + 9] == IP_PROTO_TCP &&
                       !(wire_get16(p + ETH_HEADER + 6) & 0x3fff)
                   ? ETH_HEADER + (p[ETH_HEADER] & 15u) * 4
                   : 0;
    return wire_get16(p + 12) == ETH_TYPE_IPV6 &&
                   p[ETH_HEADER + 6] == IP_PROTO_TCP
               ? ETH_HEADER + IPV6_HEADER
               : 0;
}

static void set_lengths_and_sums(uint8_t *p, uint32_t len, uint32_t tcp)
{
    uint8_t *ip = p + ETH_HEADER;
    struct net_addr src, dst;
    uint64_t sum;

    if (wire_get16(p + 12) == ETH_TYPE_IPV4) {
        wire_put16(ip + 2, len - ETH_HEADER);
        ip[10] = ip[11] = 0;
        csum_store(ip + 10, csum_add(0, ip, tcp - ETH_HEADER));
        src = addr_from_wire4(ip + 12);
        dst = addr_from_wire4(ip + 16);
    } else {
        wire_put16(ip + 4, len - ETH_HEADER - IPV6_HEADER);
        src = addr_from_wire6(ip + 8);
        dst = addr_from_wire6(ip + 24);
    }
    wire_put16(p + tcp + 16, 0);
    sum = csum_pseudo(&src, &dst, IP_PROTO_TCP, len - tcp);
    csum_store(p + tcp + 16, csum_add(sum, p + tcp, len - tcp));
}

/* Erases options of a SYN. */
static void erase_options(struct link *l, uint8_t *p, uint32_t len)
{
    uint32_t tcp = tcp_offset(p, len), at, end;
    bool did = false;

    if (!tcp || !(p[tcp + 13] & 2) ||
        !(l->p.no_sack | l->p.no_ts | l->p.no_wscale))
        return;
    end = tcp + (p[tcp + 12] >> 4) * 4u;
    for (at = tcp + 20; at + 1 < end && p[at];) {
        uint32_t n = p[at] == 1 ? 1 : p[at + 1];

        if (n == 0 || at + n > end)
            break;
        if ((p[at] == 4 && l->p.no_sack) || (p[at] == 8 && l->p.no_ts) ||
            (p[at] == 3 && l->p.no_wscale)) {
            memset(p + at, 1, n);
            did = true;
        }
        at += n;
    }
    if (did)
        set_lengths_and_sums(p, len, tcp);
}

static void enqueue(struct link *l, struct packet *pk)
{
    struct packet **link = &l->queue;

    while (*link && (*link)->at <= pk->at)
        link = &(*link)->next;
    pk->next = *link;
    *link = pk;
}

static struct packet *make_packet(struct link *l, uint32_t to,
                                  const uint8_t *data, uint32_t len)
{
    struct packet *pk = malloc(sizeof(*pk) + len);

    CHECK(pk);
    memset(pk, 0, sizeof(*pk));
    pk->at = l->env.now;
    pk->to = to;
    pk->len = len;
    memcpy(pk->data, data, len);
    return pk;
}

/* One packet on the line. */
static void line_send(struct link_side *s, uint8_t *data, uint32_t len,
                      uint32_t gso_size)
{
    struct link *l = s->link;
    nsec_t now = l->env.now, start = MAX(now, s->line_free);
    struct packet *pk;

    CHECK(len <= l->p.mtu + ETH_HEADER || gso_size);
    l->nr_sent++;
    pcap_write(l, data, len);
    if (l->watch && !l->watch(l, s->idx, data, len))
        return;
    erase_options(l, data, len);
    if (chance(l, l->p.loss)) {
        l->nr_lost++;
        return;
    }
    if (l->p.bytes_per_sec) {
        nsec_t cost = (nsec_t)((uint64_t)len * NSEC_PER_SEC /
                               l->p.bytes_per_sec);
        if (start - now > cost * (nsec_t)l->p.queue_max) {
            l->nr_lost++;
            return;
        }
        s->line_free = start + cost;
        start += cost;
    }
    for (uint32_t i = 0; i < 1u + chance(l, l->p.dup); i++) {
        pk = make_packet(l, 1 - s->idx, data, len);
        pk->gso_size = gso_size;
        pk->csum_ok = gso_size != 0 || rng_below(&l->rng, 2);
        pk->at = start + l->p.delay;
        if (l->p.jitter)
            pk->at += (nsec_t)rng_below(&l->rng, (uint64_t)l->p.jitter);
        if (chance(l, l->p.reorder))
            pk->at += (nsec_t)rng_below(
                &l->rng, (uint64_t)l->p.delay + 2000000);
        if (chance(l, l->p.corrupt) && !gso_size) {
            pk->csum_ok = false;
            pk->data[rng_below(&l->rng, len)] ^=
                (uint8_t)(1u << rng_below(&l->rng, 8));
        }
        enqueue(l, pk);
    }
}

/* TSO: one large segment into what the MTU allows. */
static void cut(struct link_side *s, uint8_t *data, uint32_t len,
                uint32_t gso_size)
{
    uint32_t tcp = tcp_offset(data, len);
    uint32_t head = tcp + (data[tcp + 12] >> 4) * 4u;
    uint32_t seq = wire_get32(data + tcp + 4);
    uint8_t flags = data[tcp + 13], *one = malloc(head + gso_size);

    CHECK(tcp && one && gso_size);
    for (uint32_t off = head; off < len; off += gso_size) {
        uint32_t n = MIN(gso_size, len - off);

        memcpy(one, data, head);
        memcpy(one + head, data + off, n);
        wire_put32(one + tcp + 4, seq + off - head);
        one[tcp + 13] = off + n < len ? flags & (uint8_t)~9u : flags;
        set_lengths_and_sums(one, head + n, tcp);
        line_send(s, one, head + n, 0);
    }
    free(one);
}

static void send_frame(struct link_side *s, struct frame *f)
{
    static uint8_t buf[MAX_FRAME];
    uint32_t len = frame_total(f), caps = s->nif.caps;
    bool keep = s->link->p.keep_large && rng_below(&s->link->rng, 2);

    CHECK(len <= sizeof(buf));
    frame_copy_out(f, 0, buf, len);
    if (f->flags & FRAME_CSUM_PARTIAL) {
        uint8_t *field = buf + f->csum_start + f->csum_offset;

        CHECK(caps & NETIF_CSUM);
        CHECK(f->csum_start + f->csum_offset + 2u <= f->len);
        if (!f->gso)
            csum_store(field, csum_add(0, buf + f->csum_start,
                                       len - f->csum_start));
    }
    if (!f->gso) {
        line_send(s, buf, len, 0);
        return;
    }
    CHECK(caps & (f->gso == FRAME_GSO_TCP4 ? NETIF_TSO4 : NETIF_TSO6));
    CHECK(f->gso_size && len > f->gso_size);
    if (keep) {
        set_lengths_and_sums(buf, len, tcp_offset(buf, len));
        line_send(s, buf, len, f->gso_size);
    } else {
        cut(s, buf, len, f->gso_size);
    }
}

static void link_transmit(struct netif *nif, struct frame_list *frames)
{
    struct frame *f;

    while ((f = frame_list_take(frames)) != NULL) {
        send_frame((struct link_side *)nif, f);
        frame_put(f);
    }
}

static const struct netif_ops link_ops = {.transmit = link_transmit};

/* ---- what a device does with a packet ---- */

/* Bytes behind the headers go into fragments of any size. */
static bool add_pieces(struct link *l, struct frame *f, const uint8_t *p,
                       uint32_t n)
{
    while (n) {
        uint32_t room = frame_room(FRAME_LARGE, 0), k = MIN(n, room);
        struct frame *more;

        if (n / room + 4 < FRAME_MAX_FRAGS - f->nr_frags)
            k = 1 + (uint32_t)rng_below(&l->rng, k);
        more = frame_alloc(f->net, FRAME_LARGE, 0, FRAME_FOR_RECEIVE);
        if (!more)
            return false;
        memcpy(more->data, p, k);
        CHECK(frame_add_frag(f, more, more->data, k));
        frame_put(more);
        p += k;
        n -= k;
    }
    return true;
}

static void receive(struct link *l, struct packet *pk)
{
    struct link_side *s = &l->side[pk->to];
    uint32_t room = frame_room(FRAME_SMALL, FRAME_HEADROOM), head = pk->len;
    struct frame *f = frame_alloc(s->net, FRAME_SMALL, FRAME_HEADROOM,
                                  FRAME_FOR_RECEIVE);

    if (!f)
        return;
    if (head > room || (head > 200 && rng_below(&l->rng, 4) == 0))
        head = 128;
    memcpy(frame_append(f, head), pk->data, head);
    f->flags = pk->csum_ok ? FRAME_CSUM_OK : 0;
    f->gso_size = (uint16_t)pk->gso_size;
    if (pk->len > head && !add_pieces(l, f, pk->data + head, pk->len - head)) {
        frame_put(f);
        return;
    }
    net_classify(&s->nif, f);
}

void link_inject(struct link *l, uint32_t to, const uint8_t *data,
                 uint32_t len)
{
    struct packet *pk = make_packet(l, to, data, len);

    receive(l, pk);
    free(pk);
}

/* ---- time ---- */

bool link_run(struct link *l)
{
    bool did = false;

    while (l->queue && l->queue->at <= l->env.now) {
        struct packet *pk = l->queue;

        l->queue = pk->next;
        receive(l, pk);
        free(pk);
        did = true;
    }
    for (uint32_t i = 0; i < 2; i++) {
        struct link_side *s = &l->side[i];

        if (net_next_deadline(s->net, 0) <= l->env.now) {
            net_timer_run(s->net, 0);
            s->next_work = 0;
            did = true;
        }
        if (l->p.lazy && s->next_work == 0 && rng_below(&l->rng, 2))
            s->next_work = l->env.now + (nsec_t)rng_below(&l->rng, 300000);
        if (net_work_pending(s->net, 0) && s->next_work <= l->env.now) {
            while (net_softwork(s->net, 0))
                continue;
            s->next_work = 0;
            did = true;
        }
        CHECK_EQ(spin_held(), 0);
    }
    return did;
}

nsec_t link_next(struct link *l)
{
    nsec_t next = l->queue ? l->queue->at : NET_NO_DEADLINE;

    for (uint32_t i = 0; i < 2; i++) {
        struct link_side *s = &l->side[i];

        next = MIN(next, net_next_deadline(s->net, 0));
        if (net_work_pending(s->net, 0))
            next = MIN(next, MAX(s->next_work, l->env.now));
    }
    return next;
}

void link_run_until(struct link *l, nsec_t until)
{
    for (;;) {
        nsec_t next = link_next(l);

        if (next > until)
            break;
        l->env.now = MAX(l->env.now, next);
        link_run(l);
    }
    l->env.now = MAX(l->env.now, until);
}

static void side_init(struct link *l, uint32_t i)
{
    struct link_side *s = &l->side[i];
    struct net_addr v4 = link_addr(i, true), v6 = link_addr(i, false);

    s->link = l;
    s->idx = i;
    s->nif.ops = &link_ops;
    strcpy(s->nif.name, "eth0");
    memcpy(s->nif.mac, (uint8_t[]){2, 0, 0, 0, 0, (uint8_t)(i + 1)}, 6);
    s->nif.max_mtu = l->p.mtu;
    s->nif.caps = l->p.caps;
    s->net = host_stack(&l->env, 1, l->p.mem_max);
    CHECK_EQ(netif_add(s->net, &s->nif), 0);
    CHECK_EQ(route_add_addr(&s->nif, &v4, IPV4_PREFIX(24)), 0);
    CHECK_EQ(route_add_addr(&s->nif, &v6, 64), 0);
}

void link_init(struct link *l, uint64_t seed, const struct link_params *p)
{
    memset(l, 0, sizeof(*l));
    l->p = *p;
    if (!l->p.mem_max)
        l->p.mem_max = 64 << 20;
    host_env_init(&l->env, seed, 1000 * NSEC_PER_SEC);
    l->rng = seed * 0x2545F4914F6CDD1Dull | 1;
    side_init(l, 0);
    side_init(l, 1);
}

void link_destroy(struct link *l)
{
    while (l->queue) {
        struct packet *pk = l->queue;
        l->queue = pk->next;
        free(pk);
    }
    for (uint32_t i = 0; i < 2; i++)
        net_destroy(l->side[i].net);
}
