/* SPDX-License-Identifier: BSD-2-Clause */
/* Sending on channels, by copy and by reference. See channel.h. */
#include "net/channel.h"

#include "lib/errno.h"
#include "lib/string.h"
#include "mm/mm.h"
#include "mm/page.h"

#define REF_MAX (1u << 20) /* bytes of one piece of a send queue */

/* Bytes of the program's, or of ours that it may send. */
struct chan_iter {
    struct net_iter it; /* first member */
    const uint8_t *from;
    bool is_ours;
};

static size_t copy(struct net_iter *it, void *kernel, size_t n)
{
    struct chan_iter *i = (struct chan_iter *)it;

    n = MIN(n, it->left);
    if (i->is_ours)
        memcpy(kernel, i->from, n);
    else
        n -= copy_from_user_partial(kernel, i->from, n);
    i->from += n;
    it->left -= n;
    return n;
}

static struct chan_block *block_of(struct chan_loop *l, const void *data,
                                   size_t len)
{
    const uint8_t *p = data;
    uint32_t low = 0, high = l->nr_blocks;
    struct chan_block *b;

    while (low < high) { /* the first block behind p */
        uint32_t at = (low + high) / 2;

        if (l->blocks[at].data <= p)
            low = at + 1;
        else
            high = at;
    }
    if (!low)
        return NULL;
    b = &l->blocks[low - 1];
    if ((size_t)(p - b->data) >= PAGE_SIZE << b->order ||
        len > (PAGE_SIZE << b->order) - (size_t)(p - b->data))
        return NULL;
    return b;
}

static ssize_t send_udp(struct chan *c, struct chan_iter *from,
                        const struct net_endpoint *to)
{
    struct udp_send m = {.from = &from->it, .len = (uint32_t)from->it.left,
                         .to = to};

    return from->it.left > UDP_MAX_PAYLOAD ? -EMSGSIZE : udp_send(c->udp, &m);
}

ssize_t chan_send(struct chan *c, const void *data, size_t len,
                  const struct net_endpoint *to)
{
    struct chan_iter from = {.it = {copy, len}, .from = data};
    ssize_t n;

    if (unlikely(!user_range_ok(data, len))) {
        from.is_ours = block_of(c->loop, data, len) ||
                       chan_lent(c->loop, data, len);
        if (!from.is_ours)
            return -EFAULT;
    }
    if (c->kind == CHAN_UDP)
        return send_udp(c, &from, to);
    if (c->kind != CHAN_TCP)
        return -EINVAL;
    n = tcp_send(c->tcp, &from.it, 0);
    if (n == -EAGAIN || (n >= 0 && (size_t)n < len))
        c->wants_room = true;
    return n;
}

/* ---- by reference ---- */

/* Any context; the driver's locks may be held. */
static void ref_gone(struct frame_outside *o)
{
    struct chan_loop *l = o->owner;
    bool was_on = spin_lock_irqsave(&l->lock), is_dead = l->is_dead;

    if (!is_dead) {
        o->f.next = NULL;
        *l->sent_last = &o->f;
        l->sent_last = &o->f.next;
        if (waitq_active(&l->wait)) /* the lock keeps o, and so l, alive */
            wait_wake_key(&l->wait, 1, EPOLLIN | EPOLLRDNORM);
    }
    spin_unlock_irqrestore(&l->lock, was_on);
    if (is_dead)
        chan_sent_free(o);
}

struct frame_outside *chan_sent_take(struct chan_loop *l)
{
    struct frame *f;
    bool was_on;

    if (!atomic_load_relaxed(&l->sent))
        return NULL;
    was_on = spin_lock_irqsave(&l->lock);
    f = l->sent;
    if (f) {
        l->sent = f->next;
        if (!l->sent)
            l->sent_last = &l->sent;
    }
    spin_unlock_irqrestore(&l->lock, was_on);
    return (struct frame_outside *)f;
}

void chan_sent_free(struct frame_outside *o)
{
    struct chan_loop *l = o->owner;

    if (o->under)
        frame_put(o->under);
    frame_outside_free(o);
    chan_loop_put(l); /* taken by chan_send_ref */
}

int chan_send_ref(struct chan *c, void *data, size_t len, uint64_t token)
{
    struct chan_loop *l = c->loop;
    struct frame_outside *o;
    struct frame *f, *under;
    int err;

    if (c->kind != CHAN_TCP || !len || len > REF_MAX)
        return -EINVAL;
    under = chan_lent(l, data, len);
    if (!under && !block_of(l, data, len))
        return -EFAULT;
    f = frame_around(l->net, data, (uint32_t)len, ref_gone, l);
    if (!f)
        return -ENOBUFS;
    o = (struct frame_outside *)f;
    o->token = token;
    o->under = under;
    if (under)
        frame_get(under);
    atomic_add(&l->refcount, 1u);
    err = tcp_send_frame(c->tcp, f);
    if (err)
        chan_sent_free(o); /* nobody saw it */
    if (err == -EAGAIN)
        c->wants_room = true;
    return err;
}

/* ---- memory ---- */

int chan_memory(struct chan_loop *l, size_t bytes, void **out)
{
    uint32_t order = 0, at = l->nr_blocks;
    struct page *p;

    if (!bytes || bytes > PAGE_SIZE << MAX_ORDER ||
        l->nr_blocks == CHAN_BLOCKS_MAX)
        return -EINVAL;
    while (PAGE_SIZE << order < bytes)
        order++;
    p = page_alloc(order, PAGE_ZERO);
    if (!p)
        return -ENOMEM;
    *out = page_to_virt(p);
    for (; at && l->blocks[at - 1].data > (uint8_t *)*out; at--)
        l->blocks[at] = l->blocks[at - 1];
    l->blocks[at] = (struct chan_block){.data = *out, .order = order};
    l->nr_blocks++;
    return 0;
}

void chan_memory_free(struct chan_loop *l)
{
    for (uint32_t i = 0; i < l->nr_blocks; i++)
        page_free(virt_to_page(l->blocks[i].data), l->blocks[i].order);
}
