/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * System calls on events: pipe, eventfd, timerfd, signalfd, epoll, poll,
 * select, getrandom. They check and copy arguments; the work is in fs/.
 *
 * No locks here. A signal mask given to ppoll and its kin is set by
 * signal_mask_temporary(); dispatch puts the old one back.
 */
#include "fs/events.h"

#include "drivers/drivers.h"
#include "lib/errno.h"
#include "lib/string.h"
#include "linux/syscall_protos.h"
#include "linux/task.h"
#include "mm/heap.h"
#include "mm/mm.h"
#include "sched/poller.h"

#define RLIMIT_NOFILE 7
#define GRND_NONBLOCK 1u
#define GRND_RANDOM 2u
#define GRND_INSECURE 4u
#define DEADLINE_NOW 1 /* long past: look once, do not wait */
#define EPOLL_MAX_EVENTS (INT32_MAX / (int)sizeof(struct epoll_event_abi))

struct pollfd_abi {
    int32_t fd;
    int16_t events, revents;
};

struct timeval_abi {
    int64_t sec, usec;
};

/* ---- time-outs ---- */

/* A relative time as a deadline; -EINVAL. */
static int deadline_after(int64_t sec, int64_t nsec, nsec_t *out)
{
    if (sec < 0 || nsec < 0 || nsec >= NSEC_PER_SEC)
        return -EINVAL;
    if (sec == 0 && nsec == 0)
        *out = DEADLINE_NOW;
    else if (sec > INT64_MAX / NSEC_PER_SEC / 2)
        *out = NO_DEADLINE;
    else
        *out = clock_monotonic() + sec * NSEC_PER_SEC + nsec;
    return 0;
}

static int deadline_from_timespec(uint64_t user, nsec_t *out)
{
    struct timespec64 t;

    *out = NO_DEADLINE;
    if (!user)
        return 0;
    if (copy_from_user(&t, (void __user *)user, sizeof(t)))
        return -EFAULT;
    return deadline_after(t.sec, t.nsec, out);
}

static nsec_t deadline_from_ms(int ms)
{
    if (ms < 0)
        return NO_DEADLINE;
    if (ms == 0)
        return DEADLINE_NOW;
    return clock_monotonic() + ms * 1000000l;
}

static struct timespec64 time_left(nsec_t deadline)
{
    nsec_t left = deadline - clock_monotonic();
    struct timespec64 t;

    left = MAX(left, 0l);
    t.sec = left / NSEC_PER_SEC;
    t.nsec = left % NSEC_PER_SEC;
    return t;
}

static int temporary_mask(uint64_t user, uint64_t size)
{
    sigset_t64 mask;

    if (!user)
        return 0;
    if (size != sizeof(mask))
        return -EINVAL;
    if (copy_from_user(&mask, (void __user *)user, sizeof(mask)))
        return -EFAULT;
    signal_mask_temporary(mask);
    return 0;
}

static uint64_t max_fds(void)
{
    return atomic_load_relaxed(
        &current_process()->rlimits[RLIMIT_NOFILE].cur);
}

/* ---- descriptors ---- */

/* Installs f (Takes it) and returns the descriptor. */
static int64_t install_fd(struct file *f, uint64_t flags)
{
    int fd = fd_install(f, 0, (flags & O_CLOEXEC) != 0);

    if (fd < 0)
        file_put(f);
    return fd;
}

static int64_t do_pipe(uint64_t user, uint64_t flags)
{
    struct file *rd, *wr;
    int32_t fds[2];
    int err;

    if (flags & O_EXCL)
        return -ENOPKG; /* O_NOTIFICATION_PIPE */
    if (flags & ~(uint64_t)(O_CLOEXEC | O_NONBLOCK))
        return -EINVAL; /* O_DIRECT (packets) too */
    err = pipe_create(flags & O_NONBLOCK, &rd, &wr);
    if (err)
        return err;
    fds[0] = (int32_t)install_fd(rd, flags);
    if (fds[0] < 0) {
        file_put(wr);
        return fds[0];
    }
    fds[1] = (int32_t)install_fd(wr, flags);
    if (fds[1] < 0) {
        fd_close(fds[0]);
        return fds[1];
    }
    if (copy_to_user((void __user *)user, fds, sizeof(fds))) {
        fd_close(fds[0]);
        fd_close(fds[1]);
        return -EFAULT;
    }
    return 0;
}

int64_t sys_pipe(uint64_t fds, uint64_t b, uint64_t c, uint64_t d, uint64_t e,
                 uint64_t f)
{
    return do_pipe(fds, 0);
}

int64_t sys_pipe2(uint64_t fds, uint64_t flags, uint64_t c, uint64_t d,
                  uint64_t e, uint64_t f)
{
    return do_pipe(fds, (uint32_t)flags);
}

int64_t sys_eventfd2(uint64_t count, uint64_t flags, uint64_t c, uint64_t d,
                     uint64_t e, uint64_t f)
{
    struct file *file;
    int err;

    if ((uint32_t)flags & ~(O_CLOEXEC | O_NONBLOCK | EFD_SEMAPHORE))
        return -EINVAL;
    err = eventfd_create((uint32_t)count, (uint32_t)flags, &file);
    return err ? err : install_fd(file, flags);
}

int64_t sys_eventfd(uint64_t count, uint64_t b, uint64_t c, uint64_t d,
                    uint64_t e, uint64_t f)
{
    return sys_eventfd2(count, 0, 0, 0, 0, 0);
}

int64_t sys_timerfd_create(uint64_t clock, uint64_t flags, uint64_t c,
                           uint64_t d, uint64_t e, uint64_t f)
{
    struct file *file;
    int err;

    if ((uint32_t)flags & ~(O_CLOEXEC | O_NONBLOCK))
        return -EINVAL;
    /* REALTIME, MONOTONIC, BOOTTIME and the two ALARM clocks */
    if (clock != 0 && clock != 1 && (clock < 7 || clock > 9))
        return -EINVAL;
    err = timerfd_create_file((int)clock, (uint32_t)flags, &file);
    return err ? err : install_fd(file, flags);
}

int64_t sys_timerfd_settime(uint64_t fd, uint64_t flags, uint64_t set,
                            uint64_t old, uint64_t e, uint64_t f)
{
    struct itimerspec_abi in, out;
    struct file *file;
    int err;

    if ((uint32_t)flags & ~3u) /* ABSTIME, CANCEL_ON_SET */
        return -EINVAL;
    if (copy_from_user(&in, (void __user *)set, sizeof(in)))
        return -EFAULT;
    file = fd_get((int)fd);
    if (!file)
        return -EBADF;
    err = timerfd_set(file, (int)flags, &in, &out);
    file_put(file);
    if (!err && old)
        err = copy_to_user((void __user *)old, &out, sizeof(out));
    return err;
}

int64_t sys_timerfd_gettime(uint64_t fd, uint64_t user, uint64_t c,
                            uint64_t d, uint64_t e, uint64_t f)
{
    struct itimerspec_abi out;
    struct file *file = fd_get((int)fd);
    int err;

    if (!file)
        return -EBADF;
    err = timerfd_get(file, &out);
    file_put(file);
    if (!err)
        err = copy_to_user((void __user *)user, &out, sizeof(out));
    return err;
}

int64_t sys_signalfd4(uint64_t fd, uint64_t user, uint64_t size,
                      uint64_t flags, uint64_t e, uint64_t f)
{
    struct file *file;
    sigset_t64 mask;
    int err;

    if ((uint32_t)flags & ~(O_CLOEXEC | O_NONBLOCK))
        return -EINVAL;
    if (size != sizeof(mask))
        return -EINVAL;
    if (copy_from_user(&mask, (void __user *)user, sizeof(mask)))
        return -EFAULT;
    if ((int)fd == -1) {
        err = signalfd_create(mask, (uint32_t)flags, &file);
        return err ? err : install_fd(file, flags);
    }
    file = fd_get((int)fd);
    if (!file)
        return -EBADF;
    err = signalfd_set_mask(file, mask);
    file_put(file);
    return err ? err : (int64_t)fd;
}

int64_t sys_signalfd(uint64_t fd, uint64_t user, uint64_t size, uint64_t d,
                     uint64_t e, uint64_t f)
{
    return sys_signalfd4(fd, user, size, 0, 0, 0);
}

/* ---- epoll ---- */

int64_t sys_epoll_create1(uint64_t flags, uint64_t b, uint64_t c, uint64_t d,
                          uint64_t e, uint64_t f)
{
    struct file *file;
    int err;

    if ((uint32_t)flags & ~O_CLOEXEC)
        return -EINVAL;
    err = epoll_create_file((uint32_t)flags, &file);
    return err ? err : install_fd(file, flags);
}

int64_t sys_epoll_create(uint64_t size, uint64_t b, uint64_t c, uint64_t d,
                         uint64_t e, uint64_t f)
{
    if ((int)size <= 0)
        return -EINVAL;
    return sys_epoll_create1(0, 0, 0, 0, 0, 0);
}

int64_t sys_epoll_ctl(uint64_t epfd, uint64_t op, uint64_t fd, uint64_t event,
                      uint64_t e, uint64_t f)
{
    struct epoll_event_abi ev = {0};
    struct file *ep, *target;
    int err = -EBADF;

    if (op != 2 &&
        copy_from_user(&ev, (void __user *)event, sizeof(ev)))
        return -EFAULT;
    ep = fd_get((int)epfd);
    target = fd_get((int)fd);
    if (ep && target)
        err = epoll_control(ep, (int)op, target, (int)fd, &ev);
    if (target)
        file_put(target);
    if (ep)
        file_put(ep);
    return err;
}

static int64_t do_epoll_wait(uint64_t epfd, uint64_t events, uint64_t max,
                             nsec_t deadline)
{
    struct file *ep;
    int64_t n;

    if ((int)max <= 0 || (int)max > EPOLL_MAX_EVENTS)
        return -EINVAL;
    if (!user_range_ok((void __user *)events,
                       max * sizeof(struct epoll_event_abi)))
        return -EFAULT;
    ep = fd_get((int)epfd);
    if (!ep)
        return -EBADF;
    n = epoll_wait_events(ep, (struct epoll_event_abi __user *)events,
                          (int)max, deadline);
    file_put(ep);
    return n;
}

int64_t sys_epoll_wait(uint64_t epfd, uint64_t events, uint64_t max,
                       uint64_t ms, uint64_t e, uint64_t f)
{
    return do_epoll_wait(epfd, events, max, deadline_from_ms((int)ms));
}

int64_t sys_epoll_pwait(uint64_t epfd, uint64_t events, uint64_t max,
                        uint64_t ms, uint64_t mask, uint64_t size)
{
    int err = temporary_mask(mask, size);

    return err ? err
               : do_epoll_wait(epfd, events, max, deadline_from_ms((int)ms));
}

int64_t sys_epoll_pwait2(uint64_t epfd, uint64_t events, uint64_t max,
                         uint64_t timeout, uint64_t mask, uint64_t size)
{
    nsec_t deadline;
    int err = deadline_from_timespec(timeout, &deadline);

    if (!err)
        err = temporary_mask(mask, size);
    return err ? err : do_epoll_wait(epfd, events, max, deadline);
}

/* ---- poll ---- */

#define POLL_STACK 16

/* One look at all; how many have something to say. */
static int poll_look(struct pollfd_abi *fds, size_t n, struct poll_wait *pw)
{
    int nr_ready = 0;

    for (size_t i = 0; i < n; i++) {
        uint32_t wanted = (uint16_t)fds[i].events | EPOLLERR | EPOLLHUP;
        uint32_t mask = 0;
        struct file *file;

        if (fds[i].fd >= 0) {
            file = fd_get(fds[i].fd);
            mask = EPOLLNVAL;
            if (file) {
                if (pw)
                    pw->pt.wanted = wanted;
                mask = file_poll(file, pw ? &pw->pt : NULL) & wanted;
                file_put(file);
            }
        }
        fds[i].revents = (int16_t)mask;
        nr_ready += mask != 0;
        if (nr_ready)
            pw = NULL; /* there will be no sleep */
    }
    return nr_ready;
}

/* Count, 0 at the deadline, -EINTR, -ENOMEM. */
static int poll_kernel(struct pollfd_abi *fds, size_t n, nsec_t deadline)
{
    struct poll_wait pw;
    int nr_ready, err = 0;

    poller_turn();
    nr_ready = poll_look(fds, n, NULL);
    if (nr_ready || deadline == DEADLINE_NOW)
        return nr_ready;
    poll_wait_init(&pw);
    nr_ready = poll_look(fds, n, &pw);
    while (!nr_ready && !pw.error) {
        err = poll_wait_sleep(&pw, deadline);
        nr_ready = poll_look(fds, n, NULL);
        if (err)
            break;
    }
    poll_wait_done(&pw);
    if (nr_ready)
        return nr_ready;
    if (pw.error)
        return pw.error;
    return err == -ETIMEDOUT ? 0 : err;
}

static int64_t do_poll(uint64_t user, uint64_t n, nsec_t deadline)
{
    struct pollfd_abi stack_fds[POLL_STACK], *fds = stack_fds;
    struct pollfd_abi __user *ufds = (struct pollfd_abi __user *)user;
    int64_t ret;

    if (n > max_fds())
        return -EINVAL;
    if (n > POLL_STACK)
        fds = kmalloc(n * sizeof(*fds));
    if (!fds)
        return -ENOMEM;
    if (copy_from_user(fds, ufds, n * sizeof(*fds))) {
        ret = -EFAULT;
        goto out;
    }
    ret = poll_kernel(fds, n, deadline);
    if (ret < 0)
        goto out;
    for (uint64_t i = 0; i < n; i++) {
        if (put_user(&ufds[i].revents, fds[i].revents)) {
            ret = -EFAULT;
            break;
        }
    }
out:
    if (fds != stack_fds)
        kfree(fds);
    return ret;
}

static int64_t poll_restart(struct task *t)
{
    int64_t n = do_poll(t->restart_args[0], t->restart_args[1],
                        (nsec_t)t->restart_args[2]);

    return n == -EINTR ? -ERESTART_RESTARTBLOCK : n;
}

int64_t sys_poll(uint64_t fds, uint64_t n, uint64_t ms, uint64_t d,
                 uint64_t e, uint64_t f)
{
    nsec_t deadline = deadline_from_ms((int)ms);
    int64_t ret = do_poll(fds, (uint32_t)n, deadline);
    struct task *t = current_task();

    if (ret != -EINTR)
        return ret;
    t->restart_fn = poll_restart;
    t->restart_args[0] = fds;
    t->restart_args[1] = (uint32_t)n;
    t->restart_args[2] = (uint64_t)deadline;
    return -ERESTART_RESTARTBLOCK;
}

int64_t sys_ppoll(uint64_t fds, uint64_t n, uint64_t timeout, uint64_t mask,
                  uint64_t size, uint64_t f)
{
    nsec_t deadline;
    int64_t ret = deadline_from_timespec(timeout, &deadline);

    if (!ret)
        ret = temporary_mask(mask, size);
    if (ret)
        return ret;
    ret = do_poll(fds, (uint32_t)n, deadline);
    if (timeout && ret != -EFAULT) {
        struct timespec64 left = time_left(deadline);

        /* Read-only memory there is no error (select_tut). */
        if (deadline &&
            copy_to_user((void __user *)timeout, &left, sizeof(left)))
            return ret == -EINTR ? -EINTR : ret;
    }
    return ret == -EINTR ? -ERESTARTNOHAND : ret;
}

/* ---- select ---- */

#define SELECT_IN (EPOLLRDNORM | EPOLLRDBAND | EPOLLIN | EPOLLHUP | EPOLLERR)
#define SELECT_OUT (EPOLLWRBAND | EPOLLWRNORM | EPOLLOUT | EPOLLERR)
#define SELECT_EX EPOLLPRI
#define SELECT_STACK_WORDS 48 /* 512 descriptors */

/* Six bit sets of `words` words: wanted in, out, ex, then the results. */
struct select_sets {
    uint64_t *bits;
    size_t n, words;
};

static int select_one(struct select_sets *s, int fd, struct poll_wait *pw)
{
    static const uint32_t masks[3] = {SELECT_IN, SELECT_OUT, SELECT_EX};
    size_t word = (size_t)fd / 64;
    uint64_t bit = 1ul << (fd % 64);
    uint32_t wanted = 0, mask;
    struct file *file;
    int found = 0;

    for (int i = 0; i < 3; i++)
        if (s->bits[(size_t)i * s->words + word] & bit)
            wanted |= masks[i];
    file = fd_get(fd);
    if (!file)
        return -EBADF;
    if (pw)
        pw->pt.wanted = wanted;
    mask = file_poll(file, pw ? &pw->pt : NULL);
    file_put(file);
    for (int i = 0; i < 3; i++) {
        if (!(s->bits[(size_t)i * s->words + word] & bit) ||
            !(mask & masks[i]))
            continue;
        s->bits[(size_t)(i + 3) * s->words + word] |= bit;
        found++;
    }
    return found;
}

static int select_look(struct select_sets *s, struct poll_wait *pw)
{
    int nr_ready = 0;

    memset(s->bits + 3 * s->words, 0, 3 * s->words * sizeof(uint64_t));
    for (size_t word = 0; word < s->words; word++) {
        uint64_t all = s->bits[word] | s->bits[s->words + word] |
                       s->bits[2 * s->words + word];

        while (all) {
            int bit = __builtin_ctzl(all), n;

            all &= all - 1;
            if (word * 64 + (size_t)bit >= s->n)
                break;
            n = select_one(s, (int)(word * 64) + bit, pw);
            if (n < 0)
                return n;
            nr_ready += n;
            if (nr_ready)
                pw = NULL;
        }
    }
    return nr_ready;
}

static int select_kernel(struct select_sets *s, nsec_t deadline)
{
    struct poll_wait pw;
    int nr_ready, err = 0;

    poller_turn();
    nr_ready = select_look(s, NULL);
    if (nr_ready || deadline == DEADLINE_NOW)
        return nr_ready;
    poll_wait_init(&pw);
    nr_ready = select_look(s, &pw);
    while (!nr_ready && !pw.error) {
        err = poll_wait_sleep(&pw, deadline);
        nr_ready = select_look(s, NULL);
        if (err)
            break;
    }
    poll_wait_done(&pw);
    if (nr_ready)
        return nr_ready;
    if (pw.error)
        return pw.error;
    return err == -ETIMEDOUT ? 0 : err;
}

static int64_t do_select(uint64_t n, const uint64_t user[3], nsec_t deadline)
{
    uint64_t stack_bits[SELECT_STACK_WORDS];
    struct select_sets s = {.bits = stack_bits};
    int64_t ret = -EFAULT;
    size_t bytes;

    if ((int)n < 0)
        return -EINVAL;
    s.n = MIN((uint64_t)(uint32_t)n, max_fds());
    s.words = (s.n + 63) / 64;
    bytes = s.words * sizeof(uint64_t);
    if (6 * s.words > SELECT_STACK_WORDS)
        s.bits = kmalloc(6 * bytes);
    if (!s.bits)
        return -ENOMEM;
    memset(s.bits, 0, 6 * bytes);
    for (size_t i = 0; i < 3; i++)
        if (user[i] && copy_from_user(s.bits + i * s.words,
                                      (void __user *)user[i], bytes))
            goto out;
    ret = select_kernel(&s, deadline);
    for (size_t i = 0; i < 3 && ret >= 0; i++)
        if (user[i] && copy_to_user((void __user *)user[i],
                                    s.bits + (i + 3) * s.words, bytes))
            ret = -EFAULT;
out:
    if (s.bits != stack_bits)
        kfree(s.bits);
    return ret == -EINTR ? -ERESTARTNOHAND : ret;
}

int64_t sys_select(uint64_t n, uint64_t in, uint64_t out, uint64_t ex,
                   uint64_t timeout, uint64_t f)
{
    const uint64_t sets[3] = {in, out, ex};
    nsec_t deadline = NO_DEADLINE;
    struct timeval_abi tv;
    int64_t ret;

    if (timeout) {
        if (copy_from_user(&tv, (void __user *)timeout, sizeof(tv)))
            return -EFAULT;
        if (tv.sec < 0 || tv.usec < 0)
            return -EINVAL;
        if (tv.sec < INT64_MAX / 2)
            tv.sec += tv.usec / 1000000;
        ret = deadline_after(tv.sec, tv.usec % 1000000 * 1000, &deadline);
        if (ret)
            return ret;
    }
    ret = do_select(n, sets, deadline);
    if (timeout && deadline) {
        struct timespec64 left = time_left(deadline);

        tv.sec = left.sec;
        tv.usec = left.nsec / 1000;
        if (copy_to_user((void __user *)timeout, &tv, sizeof(tv)))
            return ret; /* not an error */
    }
    return ret;
}

int64_t sys_pselect6(uint64_t n, uint64_t in, uint64_t out, uint64_t ex,
                     uint64_t timeout, uint64_t sig)
{
    const uint64_t sets[3] = {in, out, ex};
    uint64_t mask[2] = {0, 0}; /* pointer, size */
    nsec_t deadline;
    int64_t ret;

    if (sig && copy_from_user(mask, (void __user *)sig, sizeof(mask)))
        return -EFAULT;
    ret = deadline_from_timespec(timeout, &deadline);
    if (!ret)
        ret = temporary_mask(mask[0], mask[1]);
    if (ret)
        return ret;
    ret = do_select(n, sets, deadline);
    if (timeout && deadline) {
        struct timespec64 left = time_left(deadline);

        if (copy_to_user((void __user *)timeout, &left, sizeof(left)))
            return ret; /* not an error */
    }
    return ret;
}

/* ---- others ---- */

int64_t sys_getrandom(uint64_t user, uint64_t n, uint64_t flags, uint64_t d,
                      uint64_t e, uint64_t f)
{
    uint64_t done = 0;
    uint8_t chunk[256];

    if ((uint32_t)flags & ~(GRND_NONBLOCK | GRND_RANDOM | GRND_INSECURE))
        return -EINVAL;
    if (((uint32_t)flags & (GRND_RANDOM | GRND_INSECURE)) ==
        (GRND_RANDOM | GRND_INSECURE))
        return -EINVAL;
    n = MIN(n, (uint64_t)INT32_MAX);
    random_reseed();
    while (done < n) {
        size_t k = MIN(n - done, sizeof(chunk));

        random_bytes(chunk, k);
        if (copy_to_user((char __user *)user + done, chunk, k)) {
            memset(chunk, 0, sizeof(chunk));
            return done ? (int64_t)done : -EFAULT;
        }
        done += k;
        if (done % 65536 == 0) {
            if (signal_pending())
                break;
            sched_yield_point();
        }
    }
    memset(chunk, 0, sizeof(chunk));
    return (int64_t)done;
}

int64_t sys_vhangup(uint64_t a, uint64_t b, uint64_t c, uint64_t d,
                    uint64_t e, uint64_t f)
{
    return -EPERM; /* as for a process without CAP_SYS_TTY_CONFIG */
}
