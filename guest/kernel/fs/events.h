/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Files that are events: pipes, eventfd, timerfd, signalfd, epoll, and how
 * poll waits.
 *
 * Layer below: sched (wait queues). Above: linux/event.c, net/.
 *
 * - Whoever changes the state of a file wakes its queue with the EPOLL* bits
 *   that became true; a waiter that wants none of them is not bothered.
 * - A poll operation registers first (poll_add), then looks: a change in
 *   between is seen by one of the two.
 * - poll_add may allocate but not sleep; a poll operation may take the file's
 *   mutex.
 */
#pragma once

#include "fs/vfs.h"
#include "sched/wait.h"

#define EPOLLEXCLUSIVE (1u << 28)
#define EPOLLWAKEUP (1u << 29)
#define EPOLLONESHOT (1u << 30)
#define EPOLLET (1u << 31)
/* What a file without a poll operation is: always ready. */
#define POLL_DEFAULT (EPOLLIN | EPOLLOUT | EPOLLRDNORM | EPOLLWRNORM)

struct poll_table {
    void (*add)(struct poll_table *pt, struct file *f, struct waitq *q);
    uint32_t wanted; /* EPOLL* bits; set before each poll operation */
};

static inline uint32_t file_poll(struct file *f, struct poll_table *pt)
{
    return f->ops->poll ? f->ops->poll(f, pt) : POLL_DEFAULT;
}

/* poll.c: a set of queues one thread waits on */
#define POLL_INLINE 4

struct poll_entry {
    struct waiter waiter; /* arg: the entry */
    struct waitq *q;
    struct file *file;    /* owned */
    struct poll_wait *owner;
    uint32_t wanted;
};

struct poll_chunk;

struct poll_wait {
    struct poll_table pt; /* first member */
    struct waitq q;       /* the thread sleeps here */
    bool is_triggered;    /* atomic */
    int error;            /* -ENOMEM: an entry could not be added */
    unsigned nr_inline;
    struct poll_chunk *chunks;
    struct poll_entry entries[POLL_INLINE];
};

void poll_wait_init(struct poll_wait *pw);
/* 0, -EINTR, -ETIMEDOUT. */
int poll_wait_sleep(struct poll_wait *pw, nsec_t deadline);
void poll_wait_done(struct poll_wait *pw);

/* pipe.c */
int pipe_create(uint32_t flags, struct file **rd, struct file **wr);
/* fcntl F_GETPIPE_SZ, F_SETPIPE_SZ: bytes or -EBADF (no pipe), -EINVAL,
 * -EBUSY, -EPERM. */
int64_t pipe_get_size(struct file *f);
int64_t pipe_set_size(struct file *f, uint64_t bytes);
/* SIGPIPE for the calling thread. */
void signal_broken_pipe(void);
/* Copies up to n bytes that stay in the pipe: the count, 0 at its end, -EAGAIN
 * when it is empty and is_nonblock. */
ssize_t pipe_peek(struct file *f, void *buf, size_t n, bool is_nonblock);

/* eventfd.c, timerfd.c, signalfd.c, epoll.c: Return owned files. */
int eventfd_create(uint64_t count, uint32_t flags, struct file **out);
#define EFD_SEMAPHORE 1u

struct itimerspec_abi {
    struct timespec64 interval, value;
};
int timerfd_create_file(int clock, uint32_t flags, struct file **out);
int timerfd_set(struct file *f, int flags, const struct itimerspec_abi *set,
                struct itimerspec_abi *old);
int timerfd_get(struct file *f, struct itimerspec_abi *out);

int signalfd_create(uint64_t mask, uint32_t flags, struct file **out);
int signalfd_set_mask(struct file *f, uint64_t mask);

struct epoll_event_abi {
    uint32_t events;
    uint64_t data;
} __packed;
_Static_assert(sizeof(struct epoll_event_abi) == 12, "man 2 epoll_ctl");
int epoll_create_file(uint32_t flags, struct file **out);
/* op: EPOLL_CTL_ADD 1, DEL 2, MOD 3. */
int epoll_control(struct file *ep, int op, struct file *target, int fd,
                  const struct epoll_event_abi *event);
/* deadline: NO_DEADLINE for ever, 1 for not at all. Count or -errno. */
int epoll_wait_events(struct file *ep, struct epoll_event_abi __user *events,
                      int max, nsec_t deadline);
