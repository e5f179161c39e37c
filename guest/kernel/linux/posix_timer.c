/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * timer_create and its family (man 2 timer_create). The list is protected by
 * process->timers_lock, each timer as itimer.c says.
 */
#include "lib/errno.h"
#include "lib/string.h"
#include "linux/clocks.h"
#include "linux/siginfo.h"
#include "linux/syscall_protos.h"
#include "mm/heap.h"

#define SIGEV_SIGNAL 0
#define SIGEV_NONE 1
#define SIGEV_THREAD_ID 4
#define MAX_TIMERS 15000 /* RLIMIT_SIGPENDING, as set at boot */

struct sigevent64 {
    uint64_t value;
    int32_t signo, notify, tid, pad[11];
};
_Static_assert(sizeof(struct sigevent64) == 64, "struct sigevent");

struct itimerspec64 {
    struct timespec64 interval, value;
};

/* timers_lock held. */
static struct itimer *find(struct process *p, int id)
{
    struct itimer *it;

    list_for_each(it, &p->posix_timers, link) {
        if (it->id == id)
            return it;
    }
    return NULL;
}

static void timer_free(struct itimer *it)
{
    itimer_stop(it);
    list_del(&it->link);
    if (it->target != NULL)
        thread_put(&it->target->thread);
    if (it->cpu_task != NULL)
        thread_put(&it->cpu_task->thread);
    kfree(it);
}

/* The targets of a new timer. */
static int set_targets(struct itimer *it, int clock,
                       const struct sigevent64 *ev)
{
    if (it->is_cpu) {
        int err = clock_cpu_target(clock, &it->cpu_task);
        if (err != 0)
            return err;
    }
    if (ev->notify == SIGEV_THREAD_ID) {
        it->target = task_find(ev->tid);
        if (it->target == NULL)
            return -EINVAL;
    }
    return 0;
}

int64_t sys_timer_create(uint64_t clock, uint64_t event, uint64_t id_out,
                         uint64_t d, uint64_t e, uint64_t f)
{
    struct process *p = current_process();
    struct sigevent64 ev = {.signo = SIGALRM};
    struct itimer *it;
    int err;

    if (event != 0 && get_user(ev, (struct sigevent64 *)event) != 0)
        return -EFAULT;
    if (ev.notify != SIGEV_SIGNAL && ev.notify != SIGEV_NONE &&
        ev.notify != SIGEV_THREAD_ID)
        return -EINVAL;
    if (ev.notify != SIGEV_NONE && (ev.signo < 1 || ev.signo > NSIG))
        return -EINVAL;
    if (p->next_timer_id >= MAX_TIMERS * 100)
        return -EAGAIN;
    it = kmalloc(sizeof(*it));
    if (it == NULL)
        return -EAGAIN;
    itimer_init(it, p, (int)clock, ev.signo);
    it->is_silent = ev.notify == SIGEV_NONE;
    err = set_targets(it, (int)clock, &ev);
    mutex_lock(&p->timers_lock);
    list_add_tail(&p->posix_timers, &it->link);
    it->id = p->next_timer_id;
    it->queue.info.code = SI_TIMER;
    it->queue.info.fields[0] = (uint32_t)it->id;
    it->queue.info.fields[1] = event != 0 ? ev.value : (uint32_t)it->id;
    if (err == 0)
        err = put_user((int32_t *)id_out, (int32_t)it->id);
    if (err == 0)
        p->next_timer_id++;
    else
        timer_free(it);
    mutex_unlock(&p->timers_lock);
    return err;
}

static struct itimerspec64 to_spec(nsec_t value, nsec_t interval)
{
    return (struct itimerspec64){
        {interval / NSEC_PER_SEC, interval % NSEC_PER_SEC},
        {value / NSEC_PER_SEC, value % NSEC_PER_SEC}};
}

int64_t sys_timer_settime(uint64_t id, uint64_t flags, uint64_t in,
                          uint64_t out, uint64_t e, uint64_t f)
{
    struct process *p = current_process();
    nsec_t value, interval, old_value = 0, old_interval = 0;
    struct itimer *it;
    int err = in != 0 ? timespec_from_user(in, &interval) : -EINVAL;

    if (err == 0)
        err = timespec_from_user(in + 16, &value);
    if (err != 0)
        return err;
    mutex_lock(&p->timers_lock);
    it = find(p, (int)id);
    if (it == NULL) {
        err = -EINVAL;
    } else {
        itimer_get(it, &old_value, &old_interval);
        if (value == 0)
            itimer_stop(it);
        else
            itimer_set(it, value, interval, flags & TIMER_ABSTIME);
    }
    mutex_unlock(&p->timers_lock);
    if (err != 0 || out == 0)
        return err;
    return put_user((struct itimerspec64 *)out,
                    to_spec(old_value, old_interval));
}

int64_t sys_timer_gettime(uint64_t id, uint64_t out, uint64_t c, uint64_t d,
                          uint64_t e, uint64_t f)
{
    struct process *p = current_process();
    nsec_t value, interval;
    struct itimer *it;

    mutex_lock(&p->timers_lock);
    it = find(p, (int)id);
    if (it != NULL)
        itimer_get(it, &value, &interval);
    mutex_unlock(&p->timers_lock);
    if (it == NULL)
        return -EINVAL;
    return put_user((struct itimerspec64 *)out, to_spec(value, interval));
}

int64_t sys_timer_getoverrun(uint64_t id, uint64_t b, uint64_t c, uint64_t d,
                             uint64_t e, uint64_t f)
{
    struct process *p = current_process();
    struct itimer *it;
    int64_t n = -EINVAL;

    mutex_lock(&p->timers_lock);
    it = find(p, (int)id);
    if (it != NULL)
        n = (int64_t)MIN(it->overruns, 0x7ffffffful);
    mutex_unlock(&p->timers_lock);
    return n;
}

int64_t sys_timer_delete(uint64_t id, uint64_t b, uint64_t c, uint64_t d,
                         uint64_t e, uint64_t f)
{
    struct process *p = current_process();
    struct itimer *it;

    mutex_lock(&p->timers_lock);
    it = find(p, (int)id);
    if (it != NULL)
        timer_free(it);
    mutex_unlock(&p->timers_lock);
    return it != NULL ? 0 : -EINVAL;
}

void posix_timers_delete_all(struct process *p)
{
    struct itimer *it, *tmp;

    mutex_lock(&p->timers_lock);
    list_for_each_safe(it, tmp, &p->posix_timers, link)
        timer_free(it);
    mutex_unlock(&p->timers_lock);
}
