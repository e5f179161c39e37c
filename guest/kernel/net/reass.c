/* SPDX-License-Identifier: BSD-2-Clause */
/* Reassembly. See reass.h. */
#include "net/reass.h"

#include "lib/errno.h"
#include "lib/printk.h"
#include "lib/string.h"
#include "mm/heap.h"
#include "net/icmp.h"

#define MAX_PAYLOAD 65535u
#define HEADER_COPY 64u /* linear bytes of the result: transport header */

struct piece {
    struct frame *f;
    uint32_t id, off;
    bool has_more;
};

static void reass_timer(struct net_timer *timer);

int reass_init(struct netstack *net)
{
    net->reass = kzalloc(sizeof(*net->reass));
    if (!net->reass)
        return -ENOMEM;
    net->reass->net = net;
    spin_init(&net->reass->lock);
    net_timer_init(&net->reass->timer, reass_timer);
    return 0;
}

static void free_parts(struct frame *f)
{
    while (f) {
        struct frame *next = f->next;
        frame_put(f);
        f = next;
    }
}

/* Takes the packet out of the table; its parts are the caller's. */
static struct frame *forget_locked(struct reass_table *t,
                                   struct reass_packet *p)
{
    struct frame *parts = p->parts;

    t->mem -= p->mem;
    memset(p, 0, sizeof(*p));
    return parts;
}

void reass_destroy(struct netstack *net)
{
    if (!net->reass)
        return;
    net_timer_cancel(&net->reass->timer);
    for (uint32_t i = 0; i < REASS_MAX_PACKETS; i++)
        free_parts(forget_locked(net->reass, &net->reass->packets[i]));
    kfree(net->reass);
}

static void reass_timer(struct net_timer *timer)
{
    struct reass_table *t = container_of(timer, struct reass_table, timer);
    nsec_t now = net_now(t->net), next = NET_NO_DEADLINE;
    struct frame *late = NULL;

    spin_lock(&t->lock);
    for (uint32_t i = 0; i < REASS_MAX_PACKETS; i++) {
        struct reass_packet *p = &t->packets[i];
        if (p->is_used && p->until <= now && !late)
            late = forget_locked(t, p);
        if (p->is_used)
            next = MIN(next, MAX(p->until, now));
    }
    t->timer_pending = next != NET_NO_DEADLINE;
    if (t->timer_pending)
        net_arm(t->net, &t->timer, next);
    spin_unlock(&t->lock);
    if (!late)
        return;
    net_count(t->net, NET_REASS_FAILED);
    if (late->frag_off == 0)
        icmp_error(t->net, late, IP_ERR_REASSEMBLY, 0);
    free_parts(late);
}

static uint32_t memory_of(const struct frame *f)
{
    return frame_class_bytes(f->frame_class) + f->frag_len;
}

static struct reass_packet *oldest_locked(struct reass_table *t)
{
    struct reass_packet *oldest = NULL;

    for (uint32_t i = 0; i < REASS_MAX_PACKETS; i++) {
        struct reass_packet *p = &t->packets[i];

        if (p->is_used && (!oldest || p->until < oldest->until))
            oldest = p;
    }
    return oldest;
}

/* Makes room for `bytes`; the parts of packets that had to go are put in front
 * of *evicted. A packet's every piece counts, not only its first: tiny ones
 * hold a whole frame each. */
static void make_room_locked(struct reass_table *t, uint32_t bytes,
                             struct frame **evicted)
{
    struct reass_packet *p;

    while (t->mem + bytes > REASS_MAX_BYTES &&
           (p = oldest_locked(t)) != NULL) {
        struct frame *parts = forget_locked(t, p), **link = &parts;

        while (*link)
            link = &(*link)->next;
        *link = *evicted;
        *evicted = parts;
    }
}

static bool is_same(const struct reass_packet *p, const struct piece *in)
{
    const struct frame *f = in->f;

    /* In IPv6 each piece may name another header (RFC 8200 4.5). */
    return p->is_used && p->id == in->id && addr_equal(&p->src, &f->src) &&
           addr_equal(&p->dst, &f->dst) &&
           (p->proto == f->proto || !addr_is_v4(&f->dst));
}

static struct reass_packet *find_locked(struct reass_table *t,
                                        const struct piece *in,
                                        struct frame **evicted)
{
    struct reass_packet *unused = NULL, *p;

    for (uint32_t i = 0; i < REASS_MAX_PACKETS; i++) {
        p = &t->packets[i];
        if (is_same(p, in))
            return p;
        if (!p->is_used)
            unused = p;
    }
    if (!unused) {
        unused = oldest_locked(t);
        assert(!*evicted); /* there was room, or somebody would have gone */
        *evicted = forget_locked(t, unused);
    }
    p = unused;
    p->is_used = true;
    p->id = in->id;
    p->proto = in->f->proto;
    p->src = in->f->src;
    p->dst = in->f->dst;
    p->until = net_now(t->net) + REASS_TIMEOUT_NS;
    if (!t->timer_pending) {
        t->timer_pending = true;
        net_arm(t->net, &t->timer, p->until);
    }
    return p;
}

/* 0: inserted; 1: had it; -EINVAL: the packet is spoilt. */
static int insert_locked(struct reass_table *t, struct reass_packet *p,
                         const struct piece *in)
{
    struct frame *f = in->f, **link = &p->parts;
    uint32_t end = in->off + frame_total(f);

    if (end == in->off)
        return 1; /* nothing in it */
    if (end > MAX_PAYLOAD || (in->has_more && frame_total(f) % 8) ||
        p->mem > REASS_PACKET_BYTES)
        return -EINVAL;
    if (p->total && (end > p->total || (!in->has_more && end != p->total)))
        return -EINVAL;
    while (*link && (*link)->frag_end <= in->off)
        link = &(*link)->next;
    if (*link && (*link)->frag_off < end)
        return (*link)->frag_off == in->off && (*link)->frag_end == end
                   ? 1
                   : -EINVAL;
    if (!in->has_more) {
        if (*link)
            return -EINVAL; /* something lies behind the end */
        p->total = end;
    }
    f->frag_off = in->off;
    f->frag_end = end;
    f->next = *link;
    *link = f;
    p->have += end - in->off;
    p->mem += memory_of(f);
    t->mem += memory_of(f);
    return 0;
}

/* Copies n bytes, that start at `off` of the packet, out of the parts. */
static void copy_parts(const struct frame *part, uint32_t off, uint8_t *to,
                       uint32_t n)
{
    for (; n; part = part->next) {
        if (part->frag_end <= off)
            continue;
        uint32_t k = MIN(n, part->frag_end - off);
        frame_copy_out(part, off - part->frag_off, to, k);
        off += k;
        to += k;
        n -= k;
    }
}

/* One frame of all parts. Takes them. */
static struct frame *join(struct netstack *net, struct frame *parts,
                          uint32_t total)
{
    uint32_t head = (uint32_t)(parts->data - parts->l3);
    uint32_t linear = MIN(total, HEADER_COPY), off = linear;
    struct frame *g = frame_alloc(net, FRAME_SMALL, FRAME_HEADROOM,
                                  FRAME_FOR_CONTROL), *more;

    if (!g || head > FRAME_HEADROOM)
        goto err;
    g->l3 = g->data - head;
    memcpy(g->l3, parts->l3, head);
    copy_parts(parts, 0, frame_append(g, linear), linear);
    g->nif = parts->nif;
    g->src = parts->src;
    g->dst = parts->dst;
    g->proto = parts->proto;
    g->proto_at = parts->proto_at;
    g->ttl = parts->ttl;
    g->tos = parts->tos;
    g->eth_type = parts->eth_type;
    g->flags = (uint8_t)((parts->flags & (FRAME_BROADCAST | FRAME_LOOPED)) |
                         FRAME_REASSEMBLED);
    while (off < total) {
        uint32_t n = MIN(total - off, frame_room(FRAME_LARGE, 0));

        more = frame_alloc(net, FRAME_LARGE, 0, FRAME_FOR_CONTROL);
        if (!more)
            goto err;
        copy_parts(parts, off, more->data, n);
        frame_add_frag(g, more, more->data, n);
        frame_put(more); /* the fragment has its own reference */
        off += n;
    }
    free_parts(parts);
    net_count(net, NET_REASS_DONE);
    return g;
err:
    if (g)
        frame_put(g);
    free_parts(parts);
    net_count(net, NET_REASS_FAILED);
    return NULL;
}

static struct frame *reass_add(struct netstack *net, const struct piece *in)
{
    struct reass_table *t = net->reass;
    struct frame *evicted = NULL, *done = NULL;
    struct reass_packet *p;
    uint32_t total = 0;
    int err;

    spin_lock(&t->lock);
    make_room_locked(t, memory_of(in->f), &evicted);
    p = find_locked(t, in, &evicted);
    err = insert_locked(t, p, in);
    if (err < 0) {
        done = forget_locked(t, p);
    } else if (p->total && p->have == p->total) {
        total = p->total;
        done = forget_locked(t, p);
    }
    spin_unlock(&t->lock);
    if (evicted) {
        net_count(net, NET_REASS_FAILED);
        free_parts(evicted);
    }
    if (err)
        frame_put(in->f);
    if (err < 0) {
        net_count(net, NET_REASS_FAILED);
        free_parts(done);
        return NULL;
    }
    return done ? join(net, done, total) : NULL;
}

struct frame *reass_add_v4(struct netstack *net, struct frame *f)
{
    uint32_t word = wire_get16(f->l3 + 6);
    struct piece in = {.f = f, .id = wire_get16(f->l3 + 4),
                       .off = (word & 0x1fff) * 8,
                       .has_more = (word & 0x2000) != 0};

    return reass_add(net, &in);
}

struct frame *reass_add_v6(struct netstack *net, struct frame *f,
                           const uint8_t *fragment_header)
{
    uint32_t word = wire_get16(fragment_header + 2);
    struct piece in = {.f = f, .id = wire_get32(fragment_header + 4),
                       .off = word & 0xfff8, .has_more = word & 1};

    return reass_add(net, &in);
}
