/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * timerfd_create(2): a timer that is a file.
 *
 * The kernel timer fires once; periods that have passed are counted and the
 * next one armed when somebody reads, so a timer nobody reads costs one
 * interrupt. Deadlines are kept on clock_monotonic().
 * Locks: set_lock (mutex) around changes of the timer, then lock (irq-safe),
 * which the callback takes too: timer_cancel is never called under `lock`.
 * Wake protocol: the callback sets is_expired under lock, then wakes `wait`.
 */
#include "fs/events.h"
#include "fs/fs_internal.h"
#include "sched/timer.h"

#define CLOCK_REALTIME 0
#define CLOCK_REALTIME_ALARM 8
#define TFD_TIMER_ABSTIME 1
#define NSEC_MAX INT64_MAX

struct timerfd {
    int clock;
    struct mutex set_lock;
    struct timer timer;
    struct waitq wait;
    /* --- protected by lock --- */
    struct spinlock lock; /* irq-safe */
    nsec_t deadline;      /* of the next expiry; 0 = disarmed */
    nsec_t interval;
    bool is_expired;      /* deadline has passed; also read without lock */
};

static void timerfd_fire(struct timer *t)
{
    struct timerfd *tf = t->arg;
    bool on = spin_lock_irqsave(&tf->lock);

    atomic_store_release(&tf->is_expired, true);
    spin_unlock_irqrestore(&tf->lock, on);
    wait_wake_key(&tf->wait, 1, EPOLLIN);
}

/* The number of expiries until now; moves on to the next. REQUIRES(set_lock).
 */
static uint64_t timerfd_take(struct timerfd *tf)
{
    nsec_t now = clock_monotonic(), next = 0;
    uint64_t ticks = 0;
    bool on = spin_lock_irqsave(&tf->lock);

    if (tf->is_expired) {
        tf->is_expired = false;
        ticks = 1;
        if (tf->interval) {
            if (now > tf->deadline)
                ticks += (uint64_t)(now - tf->deadline) /
                         (uint64_t)tf->interval;
            tf->deadline += (nsec_t)ticks * tf->interval;
            next = tf->deadline;
        } else {
            tf->deadline = 0;
        }
    }
    spin_unlock_irqrestore(&tf->lock, on);
    if (next)
        timer_set(&tf->timer, next);
    return ticks;
}

static ssize_t timerfd_read(struct file *f, struct iov_iter *to, off_t *pos)
{
    struct timerfd *tf = f->priv;
    uint64_t ticks;

    if (to->count < sizeof(ticks))
        return -EINVAL;
    for (;;) {
        mutex_lock(&tf->set_lock);
        ticks = timerfd_take(tf);
        mutex_unlock(&tf->set_lock);
        if (ticks)
            return iter_copy_to(to, &ticks, sizeof(ticks));
        if (f->flags & O_NONBLOCK)
            return -EAGAIN;
        if (wait_event(&tf->wait, atomic_load_acquire(&tf->is_expired),
                       WAIT_INTERRUPTIBLE, NO_DEADLINE))
            return -ERESTARTSYS;
    }
}

static uint32_t timerfd_poll(struct file *f, struct poll_table *pt)
{
    struct timerfd *tf = f->priv;

    poll_add(f, &tf->wait, pt);
    return atomic_load_acquire(&tf->is_expired) ? EPOLLIN : 0;
}

static void timerfd_release(struct file *f)
{
    struct timerfd *tf = f->priv;

    timer_cancel(&tf->timer);
    kfree(tf);
}

static const struct file_ops timerfd_ops = {
    .name = "[timerfd]",
    .read = timerfd_read,
    .poll = timerfd_poll,
    .release = timerfd_release,
};

static nsec_t to_nsec(const struct timespec64 *t)
{
    if (t->sec >= NSEC_MAX / NSEC_PER_SEC - 1)
        return NSEC_MAX / 2;
    return t->sec * NSEC_PER_SEC + t->nsec;
}

static void from_nsec(nsec_t ns, struct timespec64 *out)
{
    out->sec = ns / NSEC_PER_SEC;
    out->nsec = ns % NSEC_PER_SEC;
}

static bool timespec_ok(const struct timespec64 *t)
{
    return t->sec >= 0 && t->nsec >= 0 && t->nsec < NSEC_PER_SEC;
}

/* REQUIRES(set_lock) */
static void timerfd_get_locked(struct timerfd *tf, struct itimerspec_abi *out)
{
    nsec_t now = clock_monotonic(), deadline, interval;
    bool on = spin_lock_irqsave(&tf->lock);

    deadline = tf->deadline;
    interval = tf->interval;
    if (tf->is_expired && !interval)
        deadline = 0;
    spin_unlock_irqrestore(&tf->lock, on);
    if (deadline && interval && deadline <= now)
        deadline += ((now - deadline) / interval + 1) * interval;
    from_nsec(interval, &out->interval);
    from_nsec(deadline ? MAX(deadline - now, 1l) : 0, &out->value);
}

int timerfd_get(struct file *f, struct itimerspec_abi *out)
{
    struct timerfd *tf = f->priv;

    if (f->ops != &timerfd_ops)
        return -EINVAL;
    mutex_lock(&tf->set_lock);
    timerfd_get_locked(tf, out);
    mutex_unlock(&tf->set_lock);
    return 0;
}

int timerfd_set(struct file *f, int flags, const struct itimerspec_abi *set,
                struct itimerspec_abi *old)
{
    struct timerfd *tf = f->priv;
    nsec_t now, value;
    bool on;

    if (f->ops != &timerfd_ops || !timespec_ok(&set->value) ||
        !timespec_ok(&set->interval))
        return -EINVAL;
    mutex_lock(&tf->set_lock);
    timer_cancel(&tf->timer);
    timerfd_get_locked(tf, old);
    now = clock_monotonic();
    value = to_nsec(&set->value);
    if (value && !(flags & TFD_TIMER_ABSTIME))
        value += now;
    else if (value && (tf->clock == CLOCK_REALTIME ||
                       tf->clock == CLOCK_REALTIME_ALARM))
        value = MAX(value - (clock_realtime() - now), 1l);
    on = spin_lock_irqsave(&tf->lock);
    tf->is_expired = false;
    tf->deadline = value;
    tf->interval = to_nsec(&set->interval);
    spin_unlock_irqrestore(&tf->lock, on);
    if (value)
        timer_set(&tf->timer, value);
    mutex_unlock(&tf->set_lock);
    return 0;
}

int timerfd_create_file(int clock, uint32_t flags, struct file **out)
{
    struct timerfd *tf = kzalloc(sizeof(*tf));
    struct inode *inode;
    int err;

    if (!tf)
        return -ENOMEM;
    tf->clock = clock;
    mutex_init(&tf->set_lock);
    waitq_init(&tf->wait);
    timer_init(&tf->timer, timerfd_fire, tf);
    err = anon_inode_create(0600, &inode);
    if (!err) {
        err = file_create(inode, NULL, &timerfd_ops,
                          O_RDWR | (flags & O_NONBLOCK), tf, out);
        inode_put(inode);
    }
    if (err)
        kfree(tf);
    return err;
}
