/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * epoll(7).
 *
 * An item is a watched (file, fd). Its waiters sit in the file's queues; their
 * callback puts the item on the ready list. epoll_wait takes items off that
 * list, asks each file what is true now, reports it, and puts level-triggered
 * ones back at the tail: the cost is that of the ready ones, and none starves.
 * An item off the list whose file becomes ready is put back by its callback;
 * it is taken off before the file is asked, so nothing is lost.
 *
 * Locks, outermost first:
 *   tree_lock (global mutex): a file or an epoll goes away; epolls that watch
 *     epolls are linked (loop check).
 *   ep->lock (mutex): items, their fields; of an inner epoll after the outer.
 *   the watched file's queue (spinlock) -> ep->ready_lock (irq-safe): the
 *     ready list -> ep->wait, ep->poll_wait.
 *   links_lock (spinlock): file->epoll_links of all files.
 * Items hold no reference to their file: file_put calls epoll_file_gone
 * before the file is released.
 */
#include "fs/events.h"
#include "fs/fs_internal.h"
#include "sched/poller.h"

#define MAX_NESTS 4
#define MIN_BUCKETS 8u
#define EVENTS_PRIVATE \
    (EPOLLEXCLUSIVE | EPOLLWAKEUP | EPOLLONESHOT | EPOLLET)
#define EXCLUSIVE_OK                                                    \
    (EPOLLIN | EPOLLOUT | EPOLLERR | EPOLLHUP | EPOLLWAKEUP | EPOLLET | \
     EPOLLEXCLUSIVE)

enum { CTL_ADD = 1, CTL_DEL, CTL_MOD };

struct epoll {
    struct mutex lock;
    struct waitq wait;      /* epoll_wait sleepers */
    struct waitq poll_wait; /* pollers of the epoll file itself */
    struct spinlock ready_lock;
    struct list ready;      /* protected by ready_lock */
    /* --- protected by lock --- */
    struct list *buckets;
    uint32_t nr_buckets, nr_items;
};

/* One queue an item waits in. */
struct epoll_hook {
    struct epoll_hook *next;
    struct waiter waiter; /* arg: the item */
    struct waitq *q;
};

struct epoll_item {
    struct list hash_link;  /* protected by ep->lock */
    struct list ready_link; /* protected by ep->ready_lock */
    struct list file_link;  /* protected by links_lock */
    struct epoll *ep;
    struct file *file;      /* borrowed */
    int fd;
    int error;              /* a hook could not be added */
    uint32_t events;        /* atomic: changed with ep->lock */
    uint64_t data;
    struct epoll_hook *hooks;
    struct epoll_hook first; /* most files have one queue */
};

struct epoll_table {
    struct poll_table pt; /* first member */
    struct epoll_item *item;
};

static struct mutex tree_lock = {
    .waiters.waiters = LIST_INIT(tree_lock.waiters.waiters)};
static struct spinlock links_lock;
static const struct file_ops epoll_ops;

/* ---- items ---- */

static struct list *epoll_bucket(struct epoll *ep, struct file *f, int fd)
{
    uint64_t h = ((uint64_t)f >> 6) + (uint32_t)fd * 0x9e3779b97f4a7c15ul;

    return &ep->buckets[(h >> 32 ^ h) % ep->nr_buckets];
}

static struct epoll_item *epoll_find(struct epoll *ep, struct file *f, int fd)
{
    struct epoll_item *item;

    list_for_each(item, epoll_bucket(ep, f, fd), hash_link) {
        if (item->file == f && item->fd == fd)
            return item;
    }
    return NULL;
}

/* Twice as many buckets when items crowd; staying small is no error. */
static void epoll_grow(struct epoll *ep)
{
    uint32_t old_nr = ep->nr_buckets, nr = old_nr * 4;
    struct list *old = ep->buckets;
    struct list *new_buckets;
    struct epoll_item *item, *tmp;

    if (ep->nr_items < 2 * old_nr)
        return;
    new_buckets = kmalloc(nr * sizeof(*new_buckets));
    if (!new_buckets)
        return;
    for (uint32_t i = 0; i < nr; i++)
        list_init(&new_buckets[i]);
    ep->buckets = new_buckets;
    ep->nr_buckets = nr;
    for (uint32_t i = 0; i < old_nr; i++) {
        list_for_each_safe(item, tmp, &old[i], hash_link) {
            list_del(&item->hash_link);
            list_add(epoll_bucket(ep, item->file, item->fd),
                     &item->hash_link);
        }
    }
    kfree(old);
}

/* Puts the item on the ready list if it is not there; wakes who waits. */
static void epoll_make_ready(struct epoll_item *item, bool do_wake)
{
    struct epoll *ep = item->ep;
    bool on = spin_lock_irqsave(&ep->ready_lock);

    if (list_empty(&item->ready_link))
        list_add_tail(&ep->ready, &item->ready_link);
    spin_unlock_irqrestore(&ep->ready_lock, on);
    if (!do_wake)
        return;
    wait_wake_key(&ep->wait, 1, EPOLLIN);
    wait_wake_key(&ep->poll_wait, 1, EPOLLIN | EPOLLRDNORM);
}

static void epoll_callback(struct waiter *w, uint32_t key)
{
    struct epoll_item *item = w->arg;
    uint32_t events = atomic_load_relaxed(&item->events);

    if (!(events & ~EVENTS_PRIVATE)) /* one-shot, done */
        return;
    if (key != ~0u && !(key & events))
        return;
    epoll_make_ready(item, true);
}

static void epoll_hook_add(struct poll_table *pt, struct file *f,
                           struct waitq *q)
{
    struct epoll_item *item = ((struct epoll_table *)pt)->item;
    struct epoll_hook *h = &item->first;

    if (item->hooks)
        h = kmalloc(sizeof(*h));
    if (!h) {
        item->error = -ENOMEM;
        return;
    }
    waiter_init_callback(&h->waiter, epoll_callback, item);
    h->q = q;
    h->next = item->hooks;
    item->hooks = h;
    wait_add(q, &h->waiter);
}

/* REQUIRES(ep->lock) */
static void epoll_remove_item(struct epoll *ep, struct epoll_item *item)
{
    struct epoll_hook *h, *next;
    bool on;

    for (h = item->hooks; h; h = next) {
        next = h->next;
        wait_remove(h->q, &h->waiter);
        if (h != &item->first)
            kfree(h);
    }
    on = spin_lock_irqsave(&ep->ready_lock);
    list_del(&item->ready_link);
    spin_unlock_irqrestore(&ep->ready_lock, on);
    spin_lock(&links_lock);
    list_del(&item->file_link);
    spin_unlock(&links_lock);
    list_del(&item->hash_link);
    ep->nr_items--;
    kfree(item);
}

static uint32_t epoll_item_mask(struct epoll_item *item)
{
    return file_poll(item->file, NULL) & item->events;
}

/* ---- epoll_ctl ---- */

/* REQUIRES(ep->lock) */
static int epoll_add(struct epoll *ep, struct file *f, int fd,
                     const struct epoll_event_abi *event)
{
    struct epoll_item *item = kzalloc(sizeof(*item));
    struct epoll_table table = {.pt.add = epoll_hook_add, .item = item};

    if (!item)
        return -ENOMEM;
    list_init(&item->ready_link);
    item->ep = ep;
    item->file = f;
    item->fd = fd;
    item->data = event->data;
    item->events = event->events | EPOLLERR | EPOLLHUP;
    table.pt.wanted = item->events;
    epoll_grow(ep);
    list_add(epoll_bucket(ep, f, fd), &item->hash_link);
    ep->nr_items++;
    spin_lock(&links_lock);
    list_add(&f->epoll_links, &item->file_link);
    spin_unlock(&links_lock);
    if (file_poll(f, &table.pt) & item->events)
        epoll_make_ready(item, true);
    if (item->error) {
        epoll_remove_item(ep, item);
        return -ENOMEM;
    }
    return 0;
}

/* REQUIRES(ep->lock) */
static int epoll_modify(struct epoll_item *item,
                        const struct epoll_event_abi *event)
{
    if ((item->events | event->events) & EPOLLEXCLUSIVE)
        return -EINVAL;
    item->data = event->data;
    atomic_store_seq(&item->events, event->events | EPOLLERR | EPOLLHUP);
    /* Hooks saw everything all along; only the state counts now. */
    if (epoll_item_mask(item))
        epoll_make_ready(item, true);
    return 0;
}

/* Can `from` reach `target` by watching, or is the chain too long?
 * REQUIRES(tree_lock). Recursion is bounded by MAX_NESTS. */
static bool epoll_reaches(struct epoll *from, struct epoll *target, int depth)
{
    struct epoll_item *item;
    bool found = from == target || depth > MAX_NESTS;

    if (found)
        return true;
    mutex_lock(&from->lock);
    for (uint32_t i = 0; i < from->nr_buckets && !found; i++) {
        list_for_each(item, &from->buckets[i], hash_link) {
            if (item->file->ops != &epoll_ops)
                continue;
            found = epoll_reaches(item->file->priv, target, depth + 1);
            if (found)
                break;
        }
    }
    mutex_unlock(&from->lock);
    return found;
}

static int epoll_check(struct file *epf, int op, struct file *f,
                       const struct epoll_event_abi *event)
{
    if (!f->ops->poll)
        return -EPERM;
    if (epf == f || epf->ops != &epoll_ops)
        return -EINVAL;
    if (op == CTL_DEL || !(event->events & EPOLLEXCLUSIVE))
        return 0;
    if (op == CTL_MOD || f->ops == &epoll_ops ||
        (event->events & ~EXCLUSIVE_OK))
        return -EINVAL;
    return 0;
}

int epoll_control(struct file *epf, int op, struct file *f, int fd,
                  const struct epoll_event_abi *event)
{
    struct epoll *ep = epf->priv;
    struct epoll_item *item;
    bool is_nesting = op == CTL_ADD && f->ops == &epoll_ops;
    int err = epoll_check(epf, op, f, event);

    if (err)
        return err;
    if (is_nesting) {
        mutex_lock(&tree_lock);
        if (epoll_reaches(f->priv, ep, 1)) {
            mutex_unlock(&tree_lock);
            return -ELOOP;
        }
    }
    mutex_lock(&ep->lock);
    item = epoll_find(ep, f, fd);
    if (op == CTL_ADD) {
        err = item ? -EEXIST : epoll_add(ep, f, fd, event);
    } else if (op == CTL_MOD) {
        err = item ? epoll_modify(item, event) : -ENOENT;
    } else if (op == CTL_DEL) {
        err = item ? 0 : -ENOENT;
        if (item)
            epoll_remove_item(ep, item);
    } else {
        err = -EINVAL;
    }
    mutex_unlock(&ep->lock);
    if (is_nesting)
        mutex_unlock(&tree_lock);
    return err;
}

void epoll_file_gone(struct file *f)
{
    struct epoll_item *item;

    mutex_lock(&tree_lock);
    for (;;) {
        struct epoll *ep;

        item = NULL;
        spin_lock(&links_lock);
        if (!list_empty(&f->epoll_links))
            item = list_first(&f->epoll_links, struct epoll_item, file_link);
        spin_unlock(&links_lock);
        if (!item)
            break;
        ep = item->ep; /* stays: its release needs tree_lock */
        mutex_lock(&ep->lock);
        epoll_remove_item(ep, item);
        mutex_unlock(&ep->lock);
    }
    mutex_unlock(&tree_lock);
}

/* ---- epoll_wait ---- */

static bool epoll_has_ready(struct epoll *ep)
{
    return atomic_load_acquire(&ep->ready.next) != &ep->ready;
}

/* Takes the first ready item off the list; NULL: none. REQUIRES(ep->lock) */
static struct epoll_item *epoll_pop(struct epoll *ep)
{
    struct epoll_item *item = NULL;
    bool on = spin_lock_irqsave(&ep->ready_lock);

    if (!list_empty(&ep->ready)) {
        item = list_first(&ep->ready, struct epoll_item, ready_link);
        list_del(&item->ready_link);
    }
    spin_unlock_irqrestore(&ep->ready_lock, on);
    return item;
}

/* Puts back what is on `again` and not ready on its own. */
static void epoll_put_back(struct epoll *ep, struct epoll_item **again,
                           int nr)
{
    for (int i = 0; i < nr; i++)
        epoll_make_ready(again[i], false);
}

#define BATCH 16

/* One look at the list: up to `max` (<= BATCH) events into `out`.
 * *nr_seen counts the items taken. REQUIRES(ep->lock) */
static int epoll_collect(struct epoll *ep, struct epoll_event_abi *out,
                         int max, struct epoll_item **again, int *nr_again)
{
    int n = 0;

    while (n < max) {
        struct epoll_item *item = epoll_pop(ep);
        uint32_t mask;

        if (!item)
            break;
        mask = epoll_item_mask(item);
        if (!mask)
            continue;
        out[n].events = mask;
        out[n++].data = item->data;
        if (item->events & EPOLLONESHOT)
            atomic_store_relaxed(&item->events,
                                 item->events & EVENTS_PRIVATE);
        else if (!(item->events & EPOLLET))
            again[(*nr_again)++] = item;
    }
    return n;
}

/* Copies events out in batches. Items of earlier batches come back only at
 * the end, so none is reported twice. */
static int epoll_report(struct epoll *ep, struct epoll_event_abi __user *to,
                        int max)
{
    struct epoll_event_abi out[BATCH];
    struct epoll_item *inline_again[BATCH], **again = inline_again;
    int done = 0, nr_again = 0, n, err = 0;

    if (max > BATCH) {
        uint32_t most;

        mutex_lock(&ep->lock);
        most = ep->nr_items;
        mutex_unlock(&ep->lock);
        max = (int)MIN((uint32_t)max, MAX(most, (uint32_t)BATCH));
        if (max > BATCH)
            again = kmalloc((size_t)max * sizeof(*again));
        if (!again) {
            again = inline_again;
            max = BATCH;
        }
    }
    mutex_lock(&ep->lock);
    while (done < max && !err) {
        n = epoll_collect(ep, out, MIN(max - done, BATCH), again, &nr_again);
        if (n == 0)
            break;
        if (copy_to_user(to + done, out, (size_t)n * sizeof(out[0])))
            err = -EFAULT;
        else
            done += n;
    }
    epoll_put_back(ep, again, nr_again);
    mutex_unlock(&ep->lock);
    if (again != inline_again)
        kfree(again);
    if (epoll_has_ready(ep))
        wait_wake_key(&ep->wait, 1, EPOLLIN); /* there is work for another */
    return done ? done : err;
}

int epoll_wait_events(struct file *epf, struct epoll_event_abi __user *events,
                      int max, nsec_t deadline)
{
    struct epoll *ep = epf->priv;
    int n, err;

    if (epf->ops != &epoll_ops)
        return -EINVAL;
    poller_turn();
    for (;;) {
        if (epoll_has_ready(ep)) {
            n = epoll_report(ep, events, max);
            if (n)
                return n;
        }
        if (deadline == 1)
            return 0;
        err = wait_event(&ep->wait, epoll_has_ready(ep),
                         WAIT_INTERRUPTIBLE | WAIT_EXCLUSIVE, deadline);
        if (err == -ETIMEDOUT)
            return 0;
        if (err)
            return err;
    }
}

/* ---- the epoll file ---- */

/* Is one of the ready items truly ready? Stale ones are dropped. */
static uint32_t epoll_poll(struct file *f, struct poll_table *pt)
{
    struct epoll *ep = f->priv;
    struct epoll_item *item;
    uint32_t mask = 0;

    poll_add(f, &ep->poll_wait, pt);
    if (!epoll_has_ready(ep))
        return 0;
    mutex_lock(&ep->lock);
    while (!mask && (item = epoll_pop(ep))) {
        if (epoll_item_mask(item)) {
            epoll_make_ready(item, false);
            mask = EPOLLIN | EPOLLRDNORM;
        }
    }
    mutex_unlock(&ep->lock);
    return mask;
}

static void epoll_release(struct file *f)
{
    struct epoll *ep = f->priv;
    struct epoll_item *item, *tmp;

    mutex_lock(&tree_lock);
    mutex_lock(&ep->lock);
    for (uint32_t i = 0; i < ep->nr_buckets; i++)
        list_for_each_safe(item, tmp, &ep->buckets[i], hash_link)
            epoll_remove_item(ep, item);
    mutex_unlock(&ep->lock);
    mutex_unlock(&tree_lock);
    kfree(ep->buckets);
    kfree(ep);
}

static const struct file_ops epoll_ops = {
    .name = "[eventpoll]",
    .poll = epoll_poll,
    .release = epoll_release,
};

int epoll_create_file(uint32_t flags, struct file **out)
{
    struct epoll *ep = kzalloc(sizeof(*ep));
    struct inode *inode;
    int err = -ENOMEM;

    if (!ep)
        return -ENOMEM;
    mutex_init(&ep->lock);
    waitq_init(&ep->wait);
    waitq_init(&ep->poll_wait);
    list_init(&ep->ready);
    ep->nr_buckets = MIN_BUCKETS;
    ep->buckets = kmalloc(MIN_BUCKETS * sizeof(*ep->buckets));
    if (!ep->buckets)
        goto err_free;
    for (uint32_t i = 0; i < MIN_BUCKETS; i++)
        list_init(&ep->buckets[i]);
    err = anon_inode_create(0600, &inode);
    if (err)
        goto err_free;
    err = file_create(inode, NULL, &epoll_ops, O_RDWR, ep, out);
    inode_put(inode);
    if (!err)
        return 0;
err_free:
    kfree(ep->buckets);
    kfree(ep);
    return err;
}
