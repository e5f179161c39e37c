/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Waiting on many files at once (poll, select).
 *
 * Wake protocol: every entry is a waiter with a callback in a file's queue.
 * The callback sets is_triggered and wakes the thread on pw->q; the thread
 * sleeps until is_triggered. Lock order: the file's queue -> pw->q.
 * Entries hold a reference to their file, so the queues stay. poll_wait_done
 * takes each entry out under the queue's lock: no callback runs afterwards.
 */
#include "fs/events.h"

#include "lib/errno.h"
#include "mm/heap.h"

#define CHUNK_ENTRIES 40

struct poll_chunk {
    struct poll_chunk *next;
    unsigned nr;
    struct poll_entry entries[CHUNK_ENTRIES];
};

void poll_add(struct file *f, struct waitq *q, struct poll_table *pt)
{
    if (pt)
        pt->add(pt, f, q);
}

static void poll_callback(struct waiter *w, uint32_t key)
{
    struct poll_entry *e = w->arg;

    if (key != ~0u && !(key & e->wanted))
        return;
    atomic_store_release(&e->owner->is_triggered, true);
    wait_wake(&e->owner->q, 1);
}

static struct poll_entry *poll_new_entry(struct poll_wait *pw)
{
    struct poll_chunk *c = pw->chunks;

    if (pw->nr_inline < POLL_INLINE)
        return &pw->entries[pw->nr_inline++];
    if (!c || c->nr == CHUNK_ENTRIES) {
        c = kmalloc(sizeof(*c));
        if (!c)
            return NULL;
        c->nr = 0;
        c->next = pw->chunks;
        pw->chunks = c;
    }
    return &c->entries[c->nr++];
}

static void poll_wait_add(struct poll_table *pt, struct file *f,
                          struct waitq *q)
{
    struct poll_wait *pw = (struct poll_wait *)pt;
    struct poll_entry *e = poll_new_entry(pw);

    if (!e) {
        pw->error = -ENOMEM;
        return;
    }
    waiter_init_callback(&e->waiter, poll_callback, e);
    e->q = q;
    e->file = f;
    file_get(f);
    e->owner = pw;
    e->wanted = pt->wanted | EPOLLERR | EPOLLHUP;
    wait_add(q, &e->waiter);
}

void poll_wait_init(struct poll_wait *pw)
{
    pw->pt.add = poll_wait_add;
    pw->pt.wanted = ~0u;
    waitq_init(&pw->q);
    pw->is_triggered = false;
    pw->error = 0;
    pw->nr_inline = 0;
    pw->chunks = NULL;
}

int poll_wait_sleep(struct poll_wait *pw, nsec_t deadline)
{
    int err = wait_event(&pw->q, atomic_load_acquire(&pw->is_triggered),
                         WAIT_INTERRUPTIBLE, deadline);

    /* Cleared before the files are looked at again. */
    (void)atomic_xchg(&pw->is_triggered, false);
    return err;
}

static void poll_entry_done(struct poll_entry *e)
{
    wait_remove(e->q, &e->waiter);
    file_put(e->file);
}

void poll_wait_done(struct poll_wait *pw)
{
    struct poll_chunk *c, *next;

    for (unsigned i = 0; i < pw->nr_inline; i++)
        poll_entry_done(&pw->entries[i]);
    for (c = pw->chunks; c; c = next) {
        next = c->next;
        for (unsigned i = 0; i < c->nr; i++)
            poll_entry_done(&c->entries[i]);
        kfree(c);
    }
}
