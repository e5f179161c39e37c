/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Interval timers: the common part, and setitimer, getitimer, alarm.
 *
 * - The callback runs with interrupts off: it takes it->lock, lets go, then
 *   sends the signal (siglock). Setting takes process->timers_lock.
 * - A signal still queued when the timer fires again is an overrun; the timer
 *   then waits at least MIN_REARM, so a tiny interval cannot eat the CPU.
 */
#include "lib/errno.h"
#include "lib/string.h"
#include "linux/clocks.h"
#include "linux/siginfo.h"
#include "linux/syscall_protos.h"
#include "mm/heap.h"

#define MIN_REARM 50000
#define CPU_CLOCK_LOOK 1000000 /* look at a CPU clock no more often */

static nsec_t now_on(const struct itimer *it)
{
    if (!it->is_cpu)
        return clock_monotonic();
    return it->cpu_task != NULL ? thread_cpu_time(&it->cpu_task->thread)
                                : process_cpu_time(it->process);
}

/* When to look: `left` on its clock from now. */
static nsec_t event_after(const struct itimer *it, nsec_t left)
{
    if (it->is_cpu && it->cpu_task == NULL)
        left /= (nsec_t)nr_cpus; /* threads run side by side */
    if (it->is_cpu)
        left = MAX(left, CPU_CLOCK_LOOK);
    return deadline_after(MAX(left, 0));
}

static void set_overruns(struct itimer *it, uint64_t n)
{
    it->queue.info.fields[0] =
        (uint32_t)it->id | MIN(n, 0x7ffffffful) << 32;
}

static void fire(struct timer *timer)
{
    struct itimer *it = timer->arg;
    nsec_t now = now_on(it), interval;
    uint64_t n = 1;
    bool due;

    spin_lock(&it->lock);
    due = it->expires != 0 && now >= it->expires;
    interval = it->interval;
    if (due && interval != 0) {
        n += (uint64_t)(now - it->expires) / (uint64_t)interval;
        it->expires += (nsec_t)n * interval;
    } else if (due) {
        it->expires = 0;
    }
    if (it->expires != 0)
        timer_set(&it->timer,
                  event_after(it, MAX(it->expires - now, MIN_REARM)));
    spin_unlock(&it->lock);
    if (!due || it->is_silent)
        return;
    /* Before it is sent: the program may take it at once. One that is still
     * queued gets the sum, which is what a handler will see. */
    set_overruns(it, n - 1);
    if (signal_send_queued(it->process, it->target, &it->queue))
        it->overruns = n - 1;
    else
        set_overruns(it, it->overruns += n);
}

void itimer_init(struct itimer *it, struct process *p, int clock, int signo)
{
    memset(it, 0, sizeof(*it));
    it->process = p;
    it->clock = clock;
    it->is_cpu = !clock_is_timeline(clock);
    list_init(&it->link);
    list_init(&it->queue.link);
    it->queue.owner = it;
    siginfo_fill(&it->queue.info, signo, SI_KERNEL, 0, 0);
    timer_init(&it->timer, fire, it);
}

void itimer_set(struct itimer *it, nsec_t value, nsec_t interval, bool is_abs)
{
    nsec_t now;
    bool was_on;

    timer_cancel(&it->timer);
    now = now_on(it);
    was_on = spin_lock_irqsave(&it->lock);
    if (value == 0)
        it->expires = 0;
    else if (!is_abs)
        it->expires = value >= NSEC_MAX - now ? NSEC_MAX : now + value;
    else
        it->expires = it->is_cpu ? value : deadline_on_clock(it->clock, value);
    it->interval = interval;
    it->overruns = 0;
    if (it->expires != 0)
        timer_set(&it->timer, event_after(it, it->expires - now));
    spin_unlock_irqrestore(&it->lock, was_on);
}

void itimer_get(struct itimer *it, nsec_t *value, nsec_t *interval)
{
    nsec_t now = now_on(it);
    bool was_on = spin_lock_irqsave(&it->lock);

    /* Due but not delivered yet: the smallest time that is not "off". */
    *value = it->expires == 0 ? 0 : MAX(it->expires - now, 1);
    *interval = it->interval;
    spin_unlock_irqrestore(&it->lock, was_on);
}

void itimer_stop(struct itimer *it)
{
    itimer_set(it, 0, 0, false);
    signal_unqueue(it->process, &it->queue);
}

/* --- ITIMER_* --- */

static struct itimer *get_itimer(unsigned which)
{
    static const int clocks[3] = {CLOCK_MONOTONIC, CLOCK_PROCESS_CPUTIME_ID,
                                  CLOCK_PROCESS_CPUTIME_ID};
    static const int signals[3] = {SIGALRM, SIGVTALRM, SIGPROF};
    struct process *p = current_process();
    struct itimer *it = p->itimers[which];

    if (it != NULL)
        return it;
    it = kmalloc(sizeof(*it));
    if (it != NULL)
        itimer_init(it, p, clocks[which], signals[which]);
    p->itimers[which] = it;
    return it;
}

struct itimerval64 {
    int64_t interval_sec, interval_usec, value_sec, value_usec;
};

static struct itimerval64 to_itimerval(nsec_t value, nsec_t interval)
{
    value = value == 0 ? 0 : MAX(value, 1000);
    return (struct itimerval64){
        interval / NSEC_PER_SEC, interval % NSEC_PER_SEC / 1000,
        value / NSEC_PER_SEC, value % NSEC_PER_SEC / 1000};
}

int64_t sys_getitimer(uint64_t which, uint64_t out, uint64_t c, uint64_t d,
                      uint64_t e, uint64_t f)
{
    struct process *p = current_process();
    nsec_t value = 0, interval = 0;

    if (which > 2)
        return -EINVAL;
    mutex_lock(&p->timers_lock);
    if (p->itimers[which] != NULL)
        itimer_get(p->itimers[which], &value, &interval);
    mutex_unlock(&p->timers_lock);
    return put_user((struct itimerval64 *)out, to_itimerval(value, interval));
}

static int set_itimer(unsigned which, nsec_t value, nsec_t interval,
                      nsec_t *old_value, nsec_t *old_interval)
{
    struct process *p = current_process();
    struct itimer *it;

    mutex_lock(&p->timers_lock);
    it = get_itimer(which);
    if (it != NULL) {
        itimer_get(it, old_value, old_interval);
        itimer_set(it, value, interval, false);
    }
    mutex_unlock(&p->timers_lock);
    return it != NULL ? 0 : -ENOMEM;
}

int64_t sys_setitimer(uint64_t which, uint64_t in, uint64_t out, uint64_t d,
                      uint64_t e, uint64_t f)
{
    nsec_t value = 0, interval = 0, old_value, old_interval;
    int err;

    if (which > 2)
        return -EINVAL;
    if (in != 0) {
        err = timeval_from_user(in, &interval);
        if (err == 0)
            err = timeval_from_user(in + 16, &value);
        if (err != 0)
            return err;
    }
    err = set_itimer((unsigned)which, value, interval, &old_value,
                     &old_interval);
    if (err != 0 || out == 0)
        return err;
    return put_user((struct itimerval64 *)out,
                    to_itimerval(old_value, old_interval));
}

int64_t sys_alarm(uint64_t seconds, uint64_t b, uint64_t c, uint64_t d,
                  uint64_t e, uint64_t f)
{
    nsec_t old_value, old_interval;
    nsec_t value = (nsec_t)(uint32_t)seconds * NSEC_PER_SEC;
    int err = set_itimer(0, value, 0, &old_value, &old_interval);

    if (err != 0)
        return err;
    if (old_value != 0 && old_value < NSEC_PER_SEC)
        return 1;
    return (old_value + NSEC_PER_SEC / 2) / NSEC_PER_SEC;
}
