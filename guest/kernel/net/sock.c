/* SPDX-License-Identifier: BSD-2-Clause */
/* References, channels, work and events of sockets. See sock.h. */
#include "net/sock.h"

#include "lib/printk.h"
#include "lib/string.h"

void sock_init(struct net_sock *s, struct netstack *net,
               const struct sock_ops *ops, uint32_t proto, uint32_t family)
{
    memset(s, 0, sizeof(*s));
    s->net = net;
    s->ops = ops;
    s->refcount = 1;
    spin_init(&s->lock);
    s->proto = (uint8_t)proto;
    s->family = (uint8_t)family;
    s->local.addr = family == 4 ? addr_from_v4(0) : (struct net_addr){.q = {0}};
    s->remote.addr = s->local.addr;
}

void sock_get(struct net_sock *s)
{
    atomic_add(&s->refcount, 1u);
}

static void free_chain(struct frame *f)
{
    while (f) {
        struct frame *next = f->next;
        frame_put(f);
        f = next;
    }
}

void sock_put(struct net_sock *s)
{
    uint32_t left = atomic_sub(&s->refcount, 1u);

    assert(left < 0x80000000u);
    if (left)
        return;
    free_chain(atomic_xchg(&s->channel, (struct frame *)NULL));
    if (s->hooks && s->hooks->release)
        s->hooks->release(s);
    s->ops->destroy(s);
}

bool sock_channel_push(struct net_sock *s, struct frame *f, uint32_t max)
{
    struct frame *head = atomic_load_relaxed(&s->channel);

    if (atomic_add(&s->channel_frames, 1u) > max) {
        atomic_sub(&s->channel_frames, 1u);
        net_count(s->net, NET_CHANNEL_FULL);
        frame_put(f);
        return false;
    }
    do
        f->next = head; /* pairs with the exchange in sock_channel_take */
    while (!atomic_cmpxchg(&s->channel, &head, f));
    if (!head)
        sock_queue_work(s);
    return true;
}

struct frame *sock_channel_take(struct net_sock *s)
{
    struct frame *f, *oldest = NULL;
    uint32_t n = 0;

    if (!sock_channel_has(s))
        return NULL;
    f = atomic_xchg(&s->channel, (struct frame *)NULL);
    while (f) {
        struct frame *next = f->next;
        f->next = oldest;
        oldest = f;
        f = next;
        n++;
    }
    atomic_sub(&s->channel_frames, n);
    return oldest;
}

void sock_queue_work(struct net_sock *s)
{
    struct net_cpu *cpu;
    struct net_sock *head;

    if (atomic_load_relaxed(&s->work_flags) & SOCK_WORK_QUEUED ||
        atomic_or(&s->work_flags, SOCK_WORK_QUEUED) & SOCK_WORK_QUEUED)
        return;
    sock_get(s); /* put by net_softwork */
    cpu = net_this_cpu(s->net);
    head = atomic_load_relaxed(&cpu->work);
    do
        s->work_next = head; /* pairs with the exchange in net_softwork */
    while (!atomic_cmpxchg(&cpu->work, &head, s));
}

void sock_unlock(struct net_sock *s)
{
    uint32_t bits = s->events_due;
    const struct sock_hooks *hooks = s->hooks;

    s->events_due = 0;
    spin_unlock(&s->lock);
    if (unlikely(bits && hooks))
        hooks->event(s, bits);
}

int sock_take_error(struct net_sock *s)
{
    if (likely(!atomic_load_relaxed(&s->error)))
        return 0;
    return atomic_xchg(&s->error, 0);
}
