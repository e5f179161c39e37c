/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Pipes and FIFOs: a ring of bytes over pages that are allocated when first
 * reached. An empty pipe starts again at its first page, so a pair of threads
 * that pass small messages touches one page and allocates nothing.
 *
 * Locks: pipe->lock (mutex) for everything but the queues; user memory is
 * touched under it. fifo_lock (mutex) for the list of open FIFOs, before it.
 * Wake protocol: a writer puts bytes, unlocks, wakes rd_wait if somebody
 * is in it; a reader likewise wr_wait, when it made room. Opening and closing
 * wakes both. Sleepers check without the lock (indices are read atomically)
 * and look again under it.
 * Writes of at most PIPE_BUF bytes are atomic; a pipe is writable for poll
 * while PIPE_BUF bytes fit.
 */
#include "fs/events.h"
#include "fs/fs_internal.h"
#include "linux/task.h"

#define PIPE_BUF 4096u
#define PIPE_DEFAULT_PAGES 16u
#define PIPE_MAX_BYTES (1 * MIB) /* /proc/sys/fs/pipe-max-size */
#define SIGNAL_PIPE 13
#define FIONREAD 0x541b

#define READ_KEY (EPOLLIN | EPOLLRDNORM)
#define WRITE_KEY (EPOLLOUT | EPOLLWRNORM)

struct pipe {
    struct mutex lock;
    struct waitq rd_wait, wr_wait;
    /* --- protected by lock; counters are also read without --- */
    uint32_t head, tail;   /* bytes written and read, running */
    uint32_t nr_pages;     /* capacity, a power of two */
    void **pages;          /* NULL: not yet allocated */
    uint32_t nr_readers, nr_writers;
    uint32_t reader_opens, writer_opens; /* ever: FIFO rendezvous */
    /* --- FIFOs: protected by fifo_lock --- */
    struct inode *inode;   /* borrowed; NULL for pipes */
    struct list fifo_link;
    uint32_t nr_users;     /* opens under way or done */
};

static struct {
    struct mutex lock;
    struct list list;
} fifos = {
    .lock.waiters.waiters = LIST_INIT(fifos.lock.waiters.waiters),
    .list = LIST_INIT(fifos.list),
};

static uint32_t pipe_used(struct pipe *p)
{
    return atomic_load_relaxed(&p->head) - atomic_load_relaxed(&p->tail);
}

/* As on Linux a page is free again when all of it was read. */
static uint32_t pipe_room(struct pipe *p)
{
    uint32_t start = atomic_load_relaxed(&p->tail) & ~(PAGE_SIZE - 1);

    return p->nr_pages * PAGE_SIZE - (atomic_load_relaxed(&p->head) - start);
}

static struct pipe *pipe_alloc(void)
{
    struct pipe *p = kzalloc(sizeof(*p));

    if (!p)
        return NULL;
    p->pages = kzalloc(PIPE_DEFAULT_PAGES * sizeof(void *));
    if (!p->pages) {
        kfree(p);
        return NULL;
    }
    mutex_init(&p->lock);
    waitq_init(&p->rd_wait);
    waitq_init(&p->wr_wait);
    list_init(&p->fifo_link);
    p->nr_pages = PIPE_DEFAULT_PAGES;
    return p;
}

static void pipe_free_pages(struct pipe *p, uint32_t keep)
{
    for (uint32_t i = keep; i < p->nr_pages; i++) {
        if (p->pages[i])
            page_put(virt_to_page(p->pages[i]));
        p->pages[i] = NULL;
    }
}

static void pipe_free(struct pipe *p)
{
    pipe_free_pages(p, 0);
    kfree(p->pages);
    kfree(p);
}

void signal_broken_pipe(void)
{
    struct siginfo64 info;
    struct process *p = current_process();

    siginfo_fill(&info, SIGNAL_PIPE, 0, p->pid, p->uid);
    signal_send_task(current_task(), &info);
}

/* The memory at ring position `at`, allocated if need be; *n is cut to what
 * lies in one page. */
static char *pipe_at(struct pipe *p, uint32_t at, size_t *n)
{
    uint32_t i = at / PAGE_SIZE % p->nr_pages;
    struct page *page;

    *n = MIN(*n, PAGE_SIZE - at % PAGE_SIZE);
    if (!p->pages[i]) {
        page = page_alloc(0, 0);
        if (!page)
            return NULL;
        p->pages[i] = page_to_virt(page);
    }
    return (char *)p->pages[i] + at % PAGE_SIZE;
}

/* REQUIRES(p->lock) */
static ssize_t pipe_get(struct pipe *p, struct iov_iter *to)
{
    ssize_t done = 0, k = 0;

    while (to->count && pipe_used(p)) {
        size_t n = MIN((size_t)pipe_used(p), to->count);
        char *from = pipe_at(p, p->tail, &n);

        k = from ? iter_copy_to(to, from, n) : -ENOMEM;
        if (k <= 0)
            break;
        atomic_store_release(&p->tail, p->tail + (uint32_t)k);
        done += k;
        if ((size_t)k < n)
            break;
    }
    if (!pipe_used(p)) {
        if (p->tail > PAGE_SIZE)
            pipe_free_pages(p, 1);
        p->tail = p->head = 0;
    }
    return done ? done : k;
}

/* REQUIRES(p->lock). At most `max` bytes. */
static ssize_t pipe_put(struct pipe *p, struct iov_iter *from, size_t max)
{
    ssize_t done = 0, k = 0;

    while (max) {
        size_t n = max;
        char *to = pipe_at(p, p->head, &n);

        k = to ? iter_copy_from(from, to, n) : -ENOMEM;
        if (k <= 0)
            break;
        atomic_store_release(&p->head, p->head + (uint32_t)k);
        done += k;
        max -= (size_t)k;
        if ((size_t)k < n)
            break;
    }
    return done ? done : k;
}

static ssize_t pipe_read(struct file *f, struct iov_iter *to, off_t *pos)
{
    struct pipe *p = f->priv;
    ssize_t n;

    if (to->count == 0)
        return 0;
    for (;;) {
        bool has_writer;

        mutex_lock(&p->lock);
        n = pipe_get(p, to);
        has_writer = p->nr_writers != 0;
        mutex_unlock(&p->lock);
        if (n > 0)
            wait_wake_key(&p->wr_wait, 1, WRITE_KEY);
        if (n || !has_writer)
            return n;
        if (f->flags & O_NONBLOCK)
            return -EAGAIN;
        if (wait_event(&p->rd_wait,
                       pipe_used(p) || !atomic_load_relaxed(&p->nr_writers),
                       WAIT_INTERRUPTIBLE, NO_DEADLINE))
            return -ERESTARTSYS;
    }
}

/* tee: copies bytes that stay. 0 at the end, -EAGAIN when empty. */
ssize_t pipe_peek(struct file *f, void *buf, size_t n, bool is_nonblock)
{
    struct pipe *p = f->priv;

    for (;;) {
        size_t done = 0, used;
        bool has_writer;

        mutex_lock(&p->lock);
        used = pipe_used(p);
        while (done < n && done < used) {
            size_t k = MIN(n, used) - done;
            char *from = pipe_at(p, p->tail + (uint32_t)done, &k);

            if (!from)
                break;
            memcpy((char *)buf + done, from, k);
            done += k;
        }
        has_writer = p->nr_writers != 0;
        mutex_unlock(&p->lock);
        if (done || !has_writer)
            return (ssize_t)done;
        if (is_nonblock)
            return -EAGAIN;
        if (wait_event(&p->rd_wait,
                       pipe_used(p) || !atomic_load_relaxed(&p->nr_writers),
                       WAIT_INTERRUPTIBLE, NO_DEADLINE))
            return -ERESTARTSYS;
    }
}

static ssize_t pipe_write(struct file *f, struct iov_iter *from, off_t *pos)
{
    struct pipe *p = f->priv;
    ssize_t done = 0, n;

    if (from->count == 0)
        return 0;
    for (;;) {
        uint32_t need = done || from->count > PIPE_BUF
                            ? 1 : (uint32_t)from->count;
        uint32_t room;

        n = 0;
        mutex_lock(&p->lock);
        room = pipe_room(p);
        if (!p->nr_readers)
            n = -EPIPE;
        else if (room >= need)
            n = pipe_put(p, from, MIN((size_t)room, from->count));
        mutex_unlock(&p->lock);
        if (n > 0) {
            wait_wake_key(&p->rd_wait, 1, READ_KEY);
            done += n;
        }
        if (n < 0 || from->count == 0)
            break;
        if (f->flags & O_NONBLOCK) {
            n = -EAGAIN;
            break;
        }
        if (wait_event(&p->wr_wait,
                       pipe_room(p) >= need ||
                           !atomic_load_relaxed(&p->nr_readers),
                       WAIT_INTERRUPTIBLE, NO_DEADLINE)) {
            n = -ERESTARTSYS;
            break;
        }
    }
    if (n == -EPIPE)
        signal_broken_pipe();
    return done ? done : n;
}

static uint32_t pipe_poll(struct file *f, struct poll_table *pt)
{
    uint32_t mode = f->flags & O_ACCMODE, mask = 0;
    struct pipe *p = f->priv;

    if (mode != O_WRONLY) {
        poll_add(f, &p->rd_wait, pt);
        if (pipe_used(p))
            mask |= READ_KEY;
        if (!atomic_load_relaxed(&p->nr_writers) && p->writer_opens)
            mask |= EPOLLHUP;
    }
    if (mode != O_RDONLY) {
        poll_add(f, &p->wr_wait, pt);
        if (pipe_room(p) >= PIPE_BUF)
            mask |= WRITE_KEY;
        if (!atomic_load_relaxed(&p->nr_readers))
            mask |= EPOLLERR;
    }
    return mask;
}

static int64_t pipe_ioctl(struct file *f, uint32_t cmd, uint64_t arg)
{
    if (cmd != FIONREAD)
        return -ENOTTY;
    return put_user((int32_t __user *)arg, (int32_t)pipe_used(f->priv));
}

static void pipe_wake_all(struct pipe *p)
{
    wait_wake_key(&p->rd_wait, 1, READ_KEY | EPOLLHUP);
    wait_wake_key(&p->wr_wait, 1, WRITE_KEY | EPOLLERR);
}

/* Gives back one use; the last frees. */
static void pipe_put_user(struct pipe *p)
{
    bool is_last;

    if (!p->inode) {
        mutex_lock(&p->lock);
        is_last = --p->nr_users == 0;
        mutex_unlock(&p->lock);
    } else {
        mutex_lock(&fifos.lock);
        is_last = --p->nr_users == 0;
        if (is_last)
            list_del(&p->fifo_link);
        mutex_unlock(&fifos.lock);
    }
    if (is_last)
        pipe_free(p);
}

static void pipe_remove_ends(struct pipe *p, uint32_t flags)
{
    uint32_t mode = flags & O_ACCMODE;

    mutex_lock(&p->lock);
    if (mode != O_WRONLY)
        p->nr_readers--;
    if (mode != O_RDONLY)
        p->nr_writers--;
    mutex_unlock(&p->lock);
    pipe_wake_all(p);
}

static void pipe_release(struct file *f)
{
    pipe_remove_ends(f->priv, f->flags);
    pipe_put_user(f->priv);
}

static const struct file_ops pipe_ops = {
    .read = pipe_read,
    .write = pipe_write,
    .poll = pipe_poll,
    .ioctl = pipe_ioctl,
    .release = pipe_release,
};

int pipe_create(uint32_t flags, struct file **rd, struct file **wr)
{
    struct pipe *p = pipe_alloc();
    struct inode *inode;
    int err;

    if (!p)
        return -ENOMEM;
    err = anon_inode_create(S_IFIFO | 0600, &inode);
    if (err) {
        pipe_free(p);
        return err;
    }
    p->nr_users = 2;
    p->nr_readers = p->nr_writers = 1;
    p->reader_opens = p->writer_opens = 1;
    err = file_create(inode, NULL, &pipe_ops, O_RDONLY | flags, p, rd);
    if (err) {
        pipe_free(p);
    } else {
        err = file_create(inode, NULL, &pipe_ops, O_WRONLY | flags, p, wr);
        if (err) {
            p->nr_users = 1;
            file_put(*rd);
        }
    }
    inode_put(inode);
    return err;
}

int64_t pipe_get_size(struct file *f)
{
    struct pipe *p = f->priv;

    if (f->ops != &pipe_ops)
        return -EBADF;
    return (int64_t)(p->nr_pages * PAGE_SIZE);
}

/* The used bytes move to the start of the new ring, page by page where the
 * ring wraps inside a page: by copying, this is rare. */
int64_t pipe_set_size(struct file *f, uint64_t bytes)
{
    struct pipe *p = f->priv;
    uint32_t nr = 1, used, old_nr;
    void **pages, **old;

    if (f->ops != &pipe_ops)
        return -EBADF;
    if (bytes > 1ul << 31)
        return -EINVAL;
    if (bytes > PIPE_MAX_BYTES && current_process()->euid != 0)
        return -EPERM;
    while (nr * PAGE_SIZE < bytes)
        nr *= 2;
    pages = kzalloc(nr * sizeof(void *));
    if (!pages)
        return -ENOMEM;
    mutex_lock(&p->lock);
    used = pipe_used(p);
    if (used > nr * PAGE_SIZE) {
        mutex_unlock(&p->lock);
        kfree(pages);
        return -EBUSY;
    }
    old = p->pages;
    old_nr = p->nr_pages;
    for (uint32_t done = 0; done < used;) {
        uint32_t at = p->tail + done;
        uint32_t n = MIN(used - done, PAGE_SIZE - at % PAGE_SIZE);
        uint32_t k = MIN(n, PAGE_SIZE - done % PAGE_SIZE);
        void **to = &pages[done / PAGE_SIZE];

        if (!*to) {
            struct page *page = page_alloc(0, 0);

            if (!page)
                goto no_memory;
            *to = page_to_virt(page);
        }
        memcpy((char *)*to + done % PAGE_SIZE,
               (char *)old[at / PAGE_SIZE % old_nr] + at % PAGE_SIZE, k);
        done += k;
    }
    pipe_free_pages(p, 0);
    p->pages = pages;
    p->nr_pages = nr;
    p->tail = 0;
    p->head = used;
    mutex_unlock(&p->lock);
    kfree(old);
    wait_wake_key(&p->wr_wait, 1, WRITE_KEY);
    return (int64_t)(nr * PAGE_SIZE);
no_memory:
    for (uint32_t i = 0; i < nr; i++)
        if (pages[i])
            page_put(virt_to_page(pages[i]));
    mutex_unlock(&p->lock);
    kfree(pages);
    return -ENOMEM;
}

/* ---- FIFOs ---- */

/* The pipe behind FIFO i, one use taken. */
static struct pipe *fifo_find(struct inode *i)
{
    struct pipe *p;

    mutex_lock(&fifos.lock);
    list_for_each(p, &fifos.list, fifo_link) {
        if (p->inode == i)
            goto out;
    }
    p = pipe_alloc();
    if (p) {
        p->inode = i;
        list_add(&fifos.list, &p->fifo_link);
    }
out:
    if (p)
        p->nr_users++;
    mutex_unlock(&fifos.lock);
    return p;
}

/* man 7 fifo: an open for one direction waits for the other. */
int fifo_open(struct inode *i, struct file *f)
{
    uint32_t mode = f->flags & O_ACCMODE, readers, writers;
    struct pipe *p;
    int err = 0;

    if (mode == 3)
        return -EINVAL;
    p = fifo_find(i);
    if (!p)
        return -ENOMEM;
    mutex_lock(&p->lock);
    if (mode == O_WRONLY && (f->flags & O_NONBLOCK) && !p->nr_readers) {
        mutex_unlock(&p->lock);
        pipe_put_user(p);
        return -ENXIO;
    }
    if (mode != O_WRONLY) {
        p->nr_readers++;
        p->reader_opens++;
    }
    if (mode != O_RDONLY) {
        p->nr_writers++;
        p->writer_opens++;
    } else if (!p->nr_writers) {
        p->writer_opens = 0; /* no EPOLLHUP before the first writer */
    }
    readers = p->reader_opens;
    writers = p->writer_opens;
    if (p->nr_readers && mode == O_WRONLY)
        readers--; /* is there already */
    if (p->nr_writers && mode == O_RDONLY)
        writers--;
    mutex_unlock(&p->lock);
    pipe_wake_all(p);
    if (mode == O_WRONLY)
        err = wait_event(&p->wr_wait,
                         atomic_load_relaxed(&p->reader_opens) != readers,
                         WAIT_INTERRUPTIBLE, NO_DEADLINE);
    else if (mode == O_RDONLY && !(f->flags & O_NONBLOCK))
        err = wait_event(&p->rd_wait,
                         atomic_load_relaxed(&p->writer_opens) != writers,
                         WAIT_INTERRUPTIBLE, NO_DEADLINE);
    if (err) {
        pipe_remove_ends(p, f->flags);
        pipe_put_user(p);
        return -ERESTARTSYS;
    }
    f->ops = &pipe_ops;
    f->priv = p;
    return 0;
}
