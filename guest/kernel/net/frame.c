/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Allocation and counting of frames; cutting and copying them. See frame.h.
 */
#include "net/frame.h"

#include "lib/printk.h"
#include "lib/string.h"
#include "mm/heap.h"
#include "net/netstack.h"

_Static_assert(sizeof(struct frame) + FRAME_HEADROOM + 192 +
                       FRAME_MAX_FRAGS * sizeof(struct frame_frag) <=
                   FRAME_SMALL_BYTES,
               "headers, their room and fragments fit a small frame");
_Static_assert(sizeof(struct frame) + FRAME_HEADROOM + ETH_HEADER + 1504 <=
                   FRAME_SMALL_BYTES,
               "an Ethernet packet fits a small frame");

uint32_t frame_pool_keep(const struct netstack *net, enum frame_class c)
{
    uint64_t share = net->mem_max / 16 / net->nr_cpus / frame_class_bytes(c);

    return (uint32_t)MIN(share, c == FRAME_SMALL
                                    ? FRAME_POOL_KEEP_SMALL
                                    : (uint64_t)FRAME_POOL_KEEP_LARGE);
}

void frame_pool_init(struct frame_pool *p)
{
    memset(p, 0, sizeof(*p));
    spin_init(&p->lock);
}

static void frame_free_memory(struct frame *f)
{
    atomic_sub(&f->net->mem_used, frame_class_bytes(f->frame_class));
    kfree(f);
}

void frame_pool_drain(struct frame_pool *p)
{
    for (int c = 0; c < FRAME_CLASSES; c++) {
        bool was_on = spin_lock_irqsave(&p->lock);
        struct frame *f = p->free[c];

        p->free[c] = NULL;
        p->nr_free[c] = 0;
        spin_unlock_irqrestore(&p->lock, was_on);
        while (f) {
            struct frame *next = f->next;
            frame_free_memory(f);
            f = next;
        }
    }
}

static struct frame *pool_take(struct frame_pool *p, enum frame_class c)
{
    bool was_on = spin_lock_irqsave(&p->lock);
    struct frame *f = p->free[c];

    if (f) {
        p->free[c] = f->next;
        p->nr_free[c]--;
    }
    spin_unlock_irqrestore(&p->lock, was_on);
    return f;
}

static bool pool_give(struct frame_pool *p, struct frame *f)
{
    bool was_on = spin_lock_irqsave(&p->lock);
    bool is_kept = p->nr_free[f->frame_class] <
                   f->net->pool_keep[f->frame_class];

    if (is_kept) {
        f->next = p->free[f->frame_class];
        p->free[f->frame_class] = f;
        p->nr_free[f->frame_class]++;
    }
    spin_unlock_irqrestore(&p->lock, was_on);
    return is_kept;
}

static uint64_t limit_of(const struct netstack *net, enum frame_use use)
{
    switch (use) {
    case FRAME_FOR_DATA:
        return net->mem_max / 4 * 3;
    case FRAME_FOR_RECEIVE:
        return net->mem_max / 8 * 9;
    default:
        return net->mem_max;
    }
}

static struct frame *frame_new(struct netstack *net, enum frame_class c,
                               enum frame_use use)
{
    uint64_t bytes = frame_class_bytes(c);
    struct frame *f;

    if (atomic_add(&net->mem_used, bytes) > limit_of(net, use) ||
        (use == FRAME_FOR_DATA && net_is_short(net, 0)))
        goto err;
    f = kmalloc(bytes);
    if (!f)
        goto err;
    f->net = net;
    f->frame_class = (uint8_t)c;
    return f;
err:
    atomic_sub(&net->mem_used, bytes);
    net_count(net, NET_FRAME_NO_MEMORY);
    return NULL;
}

/* Whoever waits for memory takes what others have just put into the pool:
 * the limit is for those frames too, or programs' data would get all. */
static bool may_take(struct netstack *net, const struct frame_pool *p,
                     enum frame_use use)
{
    uint64_t used = atomic_load_relaxed(&net->mem_used), pooled = 0;
    uint64_t limit = limit_of(net, use);

    if (use != FRAME_FOR_DATA || likely(used <= limit))
        return true;
    for (int c = 0; c < FRAME_CLASSES; c++)
        pooled += atomic_load_relaxed(&p->nr_free[c]) *
                  frame_class_bytes((enum frame_class)c);
    return used <= limit + pooled;
}

static void frame_reset(struct frame *f, uint8_t *data)
{
    /* src, dst, and the protocol's words are written by who uses them. */
    f->next = NULL;
    f->refcount = 1;
    f->len = f->frag_len = 0;
    f->data = data;
    f->nr_frags = 0;
    f->flags = 0;
    f->gso = FRAME_GSO_NONE;
    f->gso_size = 0;
    f->csum_start = f->csum_offset = 0;
    f->nif = NULL;
    f->l3 = f->l4 = NULL;
    f->tos = 0;
    f->payload_off = 0;
}

struct frame *frame_alloc(struct netstack *net, enum frame_class c,
                          uint32_t headroom, enum frame_use use)
{
    struct frame_pool *p = &net_this_cpu(net)->pool;
    struct frame *f = may_take(net, p, use) ? pool_take(p, c) : NULL;

    if (!f)
        f = frame_new(net, c, use);
    if (f)
        frame_reset(f, (uint8_t *)(f + 1) + headroom);
    return f;
}

struct frame *frame_around(struct netstack *net, void *data, uint32_t len,
                           void (*gone)(struct frame_outside *o), void *owner)
{
    struct frame *f = frame_new(net, FRAME_OUTSIDE, FRAME_FOR_DATA);
    struct frame_outside *o = (struct frame_outside *)f;

    if (!f)
        return NULL;
    frame_reset(f, data);
    f->len = len;
    o->gone = gone;
    o->owner = owner;
    o->under = NULL;
    return f;
}

void frame_outside_free(struct frame_outside *o)
{
    frame_free_memory(&o->f);
}

void frame_get(struct frame *f)
{
    atomic_add(&f->refcount, 1u);
}

void frame_put(struct frame *f)
{
    struct netstack *net = f->net;

    /* The last owner needs no locked instruction; pairs with frame_get,
     * which only owners may call. */
    if (atomic_load_acquire(&f->refcount) != 1 &&
        atomic_sub(&f->refcount, 1u) != 0)
        return;
    if (unlikely(f->frame_class == FRAME_OUTSIDE)) {
        struct frame_outside *o = (struct frame_outside *)f;

        o->gone(o);
        return;
    }
    for (uint32_t i = 0; i < f->nr_frags; i++)
        if (frame_frags(f)[i].owner)
            frame_put(frame_frags(f)[i].owner);
    f->nr_frags = 0;
    if (!pool_give(&net_this_cpu(net)->pool, f))
        frame_free_memory(f);
}

uint8_t *frame_push(struct frame *f, uint32_t n)
{
    assert(frame_headroom(f) >= n);
    f->data -= n;
    f->len += n;
    return f->data;
}

uint8_t *frame_append(struct frame *f, uint32_t n)
{
    uint8_t *at = f->data + f->len;

    assert(!f->nr_frags && frame_tailroom(f) >= n);
    f->len += n;
    return at;
}

bool frame_add_frag(struct frame *f, struct frame *owner, uint8_t *data,
                    uint32_t len)
{
    struct frame_frag *g = frame_frags(f) + f->nr_frags;

    if (f->nr_frags && g[-1].owner == owner && g[-1].data + g[-1].len == data) {
        g[-1].len += len;
        f->frag_len += len;
        return true;
    }
    if (f->nr_frags == FRAME_MAX_FRAGS)
        return false;
    assert(f->frame_class == FRAME_SMALL &&
           f->data + f->len <= (uint8_t *)frame_frags(f));
    if (owner)
        frame_get(owner);
    *g = (struct frame_frag){owner, data, len};
    f->nr_frags++;
    f->frag_len += len;
    return true;
}

bool frame_share(struct frame *g, struct frame *f, uint32_t off, uint32_t n)
{
    struct frame_frag *from = frame_frags(f);
    uint32_t k;

    if (off < f->len && n) {
        k = MIN(n, f->len - off);
        if (!frame_add_frag(g, f, f->data + off, k))
            return false;
        off += k;
        n -= k;
    }
    off -= f->len;
    for (uint32_t i = 0; n && i < f->nr_frags; i++) {
        if (off >= from[i].len) {
            off -= from[i].len;
            continue;
        }
        k = MIN(n, from[i].len - off);
        if (!frame_add_frag(g, from[i].owner, from[i].data + off, k))
            return false;
        off = 0;
        n -= k;
    }
    return n == 0;
}

void frame_trim_head(struct frame *f, uint32_t n)
{
    uint32_t linear = MIN(n, f->len), gone = 0;
    struct frame_frag *g = frame_frags(f);

    assert(n <= frame_total(f));
    f->data += linear;
    f->len -= linear;
    n -= linear;
    f->frag_len -= n;
    for (; n && gone < f->nr_frags && g[gone].len <= n; gone++) {
        n -= g[gone].len;
        if (g[gone].owner)
            frame_put(g[gone].owner);
    }
    if (n) {
        g[gone].data += n;
        g[gone].len -= n;
    }
    if (gone) {
        f->nr_frags -= (uint16_t)gone;
        memmove(g, g + gone, f->nr_frags * sizeof(*g));
    }
}

void frame_trim_to(struct frame *f, uint32_t total)
{
    struct frame_frag *g = frame_frags(f);
    uint32_t left;

    assert(total <= frame_total(f));
    if (total <= f->len) {
        f->len = total;
        left = 0;
    } else {
        left = total - f->len;
    }
    f->frag_len = left;
    for (uint32_t i = 0; i < f->nr_frags; i++) {
        uint32_t keep = MIN(left, g[i].len);

        left -= keep;
        g[i].len = keep;
    }
    while (f->nr_frags && g[f->nr_frags - 1].len == 0) {
        f->nr_frags--;
        if (g[f->nr_frags].owner)
            frame_put(g[f->nr_frags].owner);
    }
}

uint32_t frame_piece(struct frame *f, uint32_t off, uint8_t **data)
{
    struct frame_frag *g = frame_frags(f);

    if (off < f->len) {
        *data = f->data + off;
        return f->len - off;
    }
    off -= f->len;
    for (uint32_t i = 0; i < f->nr_frags; i++) {
        if (off < g[i].len) {
            *data = g[i].data + off;
            return g[i].len - off;
        }
        off -= g[i].len;
    }
    return 0;
}

void frame_copy_out(const struct frame *f, uint32_t off, void *to, uint32_t n)
{
    uint8_t *out = to, *from;

    while (n) {
        uint32_t k = frame_piece((struct frame *)f, off, &from);

        assert(k);
        k = MIN(k, n);
        memcpy(out, from, k);
        out += k;
        off += k;
        n -= k;
    }
}

struct frame *frame_linearize(struct frame *f, uint32_t headroom)
{
    uint32_t total = frame_total(f);
    enum frame_class c = total <= frame_room(FRAME_SMALL, headroom)
                             ? FRAME_SMALL
                             : FRAME_LARGE;
    struct frame *n = NULL;
    uint32_t header = f->l3 && f->l3 < f->data
                          ? (uint32_t)(f->data - f->l3)
                          : 0;

    if (total <= frame_room(c, headroom))
        n = frame_alloc(f->net, c, headroom, FRAME_FOR_CONTROL);
    if (n) {
        frame_copy_out(f, 0, frame_append(n, total), total);
        n->nif = f->nif;
        n->src = f->src;
        n->dst = f->dst;
        n->proto = f->proto;
        n->flags = f->flags;
        n->ttl = f->ttl;
        n->tos = f->tos;
        n->sport = f->sport;
        n->dport = f->dport;
        n->payload_off = f->payload_off;
        n->eth_type = f->eth_type;
        n->proto_at = f->proto_at;
        if (header && header <= headroom) {
            n->l3 = n->data - header;
            n->l4 = n->data;
            memcpy(n->l3, f->l3, header);
        }
    }
    frame_put(f);
    return n;
}

void frame_list_add(struct frame_list *l, struct frame *f)
{
    f->next = NULL;
    if (l->tail)
        l->tail->next = f;
    else
        l->head = f;
    l->tail = f;
    l->nr++;
}

struct frame *frame_list_take(struct frame_list *l)
{
    struct frame *f = l->head;

    if (f) {
        l->head = f->next;
        if (!l->head)
            l->tail = NULL;
        l->nr--;
        f->next = NULL;
    }
    return f;
}

void frame_list_free(struct frame_list *l)
{
    struct frame *f;

    while ((f = frame_list_take(l)) != NULL)
        frame_put(f);
}
