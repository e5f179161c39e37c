/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Scheduling parameters: affinity is real, classes and priorities are
 * remembered (there is one class), real-time classes are refused as to a
 * process without CAP_SYS_NICE.
 */
#include "lib/errno.h"
#include "lib/string.h"
#include "linux/syscall_protos.h"
#include "linux/task.h"

#define SCHED_OTHER 0
#define SCHED_FIFO 1
#define SCHED_RR 2
#define SCHED_BATCH 3
#define SCHED_IDLE 5
#define SCHED_DEADLINE 6
#define SCHED_RESET_ON_FORK 0x40000000

/* Returns owned; 0 is the caller. */
static struct task *target(uint64_t tid)
{
    if ((int)tid < 0)
        return NULL;
    return task_find((int)tid != 0 ? (int)tid : current_task()->tid);
}

static uint64_t online_mask(void)
{
    return (1ul << nr_cpus) - 1;
}

int64_t sys_sched_yield(uint64_t a, uint64_t b, uint64_t c, uint64_t d,
                        uint64_t e, uint64_t f)
{
    sched_yield();
    return 0;
}

int64_t sys_sched_setaffinity(uint64_t tid, uint64_t len, uint64_t mask_addr,
                              uint64_t d, uint64_t e, uint64_t f)
{
    struct task *t;
    uint64_t mask = 0;
    int err;

    if (copy_from_user(&mask, (void *)mask_addr, MIN(len, sizeof(mask))) != 0)
        return -EFAULT;
    t = target(tid);
    if (t == NULL)
        return -ESRCH;
    mask &= online_mask();
    err = mask == 0 ? -EINVAL : thread_set_affinity(&t->thread, mask);
    thread_put(&t->thread);
    return err;
}

int64_t sys_sched_getaffinity(uint64_t tid, uint64_t len, uint64_t mask_addr,
                              uint64_t d, uint64_t e, uint64_t f)
{
    struct task *t;
    uint64_t mask;

    if (len < 8 || len & 7)
        return -EINVAL;
    t = target(tid);
    if (t == NULL)
        return -ESRCH;
    mask = atomic_load_relaxed(&t->thread.affinity) & online_mask();
    thread_put(&t->thread);
    return put_user((uint64_t *)mask_addr, mask) != 0 ? -EFAULT : 8;
}

int64_t sys_getcpu(uint64_t cpu, uint64_t node, uint64_t c, uint64_t d,
                   uint64_t e, uint64_t f)
{
    if (cpu != 0 && put_user((uint32_t *)cpu, this_cpu()->id) != 0)
        return -EFAULT;
    return node != 0 ? put_user((uint32_t *)node, 0u) : 0;
}

static bool is_known_policy(int policy)
{
    return (policy >= SCHED_OTHER && policy <= SCHED_BATCH) ||
           policy == SCHED_IDLE || policy == SCHED_DEADLINE;
}

static int set_policy(uint64_t tid, int policy, int priority)
{
    struct task *t;
    int err = 0;

    policy &= ~SCHED_RESET_ON_FORK;
    if (!is_known_policy(policy) || policy == SCHED_DEADLINE)
        return -EINVAL;
    if (policy == SCHED_FIFO || policy == SCHED_RR) {
        if (priority < 1 || priority > 99)
            return -EINVAL;
        err = -EPERM;
    } else if (priority != 0) {
        return -EINVAL;
    }
    t = target(tid);
    if (t == NULL)
        return -ESRCH;
    if (err == 0)
        atomic_store_relaxed(&t->sched_policy, policy);
    thread_put(&t->thread);
    return err;
}

int64_t sys_sched_setscheduler(uint64_t tid, uint64_t policy, uint64_t param,
                               uint64_t d, uint64_t e, uint64_t f)
{
    int32_t priority;

    if ((int)policy < 0 || param == 0)
        return -EINVAL;
    if (get_user(priority, (int32_t *)param) != 0)
        return -EFAULT;
    return set_policy(tid, (int)policy, priority);
}

int64_t sys_sched_getscheduler(uint64_t tid, uint64_t b, uint64_t c,
                               uint64_t d, uint64_t e, uint64_t f)
{
    struct task *t = target(tid);
    int policy;

    if (t == NULL)
        return (int)tid < 0 ? -EINVAL : -ESRCH;
    policy = t->sched_policy;
    thread_put(&t->thread);
    return policy;
}

int64_t sys_sched_setparam(uint64_t tid, uint64_t param, uint64_t c,
                           uint64_t d, uint64_t e, uint64_t f)
{
    int64_t policy;

    if (param == 0)
        return -EINVAL;
    policy = sys_sched_getscheduler(tid, 0, 0, 0, 0, 0);
    if (policy < 0)
        return policy;
    return sys_sched_setscheduler(tid, (uint64_t)policy, param, 0, 0, 0);
}

int64_t sys_sched_getparam(uint64_t tid, uint64_t param, uint64_t c,
                           uint64_t d, uint64_t e, uint64_t f)
{
    struct task *t;

    if (param == 0)
        return -EINVAL;
    t = target(tid);
    if (t == NULL)
        return (int)tid < 0 ? -EINVAL : -ESRCH;
    thread_put(&t->thread);
    return put_user((int32_t *)param, 0);
}

int64_t sys_sched_get_priority_max(uint64_t policy, uint64_t b, uint64_t c,
                                   uint64_t d, uint64_t e, uint64_t f)
{
    if (!is_known_policy((int)policy))
        return -EINVAL;
    return policy == SCHED_FIFO || policy == SCHED_RR ? 99 : 0;
}

int64_t sys_sched_get_priority_min(uint64_t policy, uint64_t b, uint64_t c,
                                   uint64_t d, uint64_t e, uint64_t f)
{
    if (!is_known_policy((int)policy))
        return -EINVAL;
    return policy == SCHED_FIFO || policy == SCHED_RR ? 1 : 0;
}

int64_t sys_sched_rr_get_interval(uint64_t tid, uint64_t out, uint64_t c,
                                  uint64_t d, uint64_t e, uint64_t f)
{
    struct timespec64 slice = {0, 4000000}; /* run.c's */
    struct task *t = target(tid);

    if (t == NULL)
        return (int)tid < 0 ? -EINVAL : -ESRCH;
    thread_put(&t->thread);
    return put_user((struct timespec64 *)out, slice);
}

struct sched_attr64 { /* version 0 of the ABI */
    uint32_t size, policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t runtime, deadline, period;
};
_Static_assert(sizeof(struct sched_attr64) == 48, "struct sched_attr");

int64_t sys_sched_setattr(uint64_t tid, uint64_t addr, uint64_t flags,
                          uint64_t d, uint64_t e, uint64_t f)
{
    struct sched_attr64 a;
    struct task *t;
    int err;

    if (addr == 0 || flags != 0 || (int)tid < 0)
        return -EINVAL;
    if (get_user(a, (struct sched_attr64 *)addr) != 0)
        return -EFAULT;
    if (a.size != 0 && a.size < sizeof(a))
        return -E2BIG;
    if (a.flags & ~1ul)
        return -EINVAL;
    err = set_policy(tid, (int)a.policy, (int)a.priority);
    t = err == 0 ? target(tid) : NULL;
    if (t != NULL) {
        atomic_store_relaxed(&t->nice, MAX(-20, MIN(a.nice, 19)));
        thread_put(&t->thread);
    }
    return err;
}

int64_t sys_sched_getattr(uint64_t tid, uint64_t addr, uint64_t size,
                          uint64_t flags, uint64_t e, uint64_t f)
{
    struct sched_attr64 a = {.size = sizeof(a)};
    struct task *t;

    if (addr == 0 || flags != 0 || size < sizeof(a) || size > PAGE_SIZE)
        return -EINVAL;
    t = target(tid);
    if (t == NULL)
        return (int)tid < 0 ? -EINVAL : -ESRCH;
    a.policy = (uint32_t)t->sched_policy;
    a.nice = t->nice;
    thread_put(&t->thread);
    return put_user((struct sched_attr64 *)addr, a);
}

/* PRIO_PROCESS, PRIO_PGRP, PRIO_USER: one process stands for all three. */
static struct task *priority_target(uint64_t which, uint64_t who)
{
    struct process *p = current_process();

    if (which == 0)
        return target(who);
    if ((which == 1 && (who == 0 || (int)who == p->pgid)) ||
        (which == 2 && (who == 0 || (uint32_t)who == p->uid)))
        return target(0);
    return NULL;
}

int64_t sys_getpriority(uint64_t which, uint64_t who, uint64_t c, uint64_t d,
                        uint64_t e, uint64_t f)
{
    struct task *t;
    int nice;

    if (which > 2)
        return -EINVAL;
    t = priority_target(which, who);
    if (t == NULL)
        return -ESRCH;
    nice = t->nice;
    thread_put(&t->thread);
    return 20 - nice;
}

int64_t sys_setpriority(uint64_t which, uint64_t who, uint64_t nice,
                        uint64_t d, uint64_t e, uint64_t f)
{
    struct task *t;
    int n = MAX(-20, MIN((int)nice, 19));

    if (which > 2)
        return -EINVAL;
    t = priority_target(which, who);
    if (t == NULL)
        return -ESRCH;
    atomic_store_relaxed(&t->nice, n);
    thread_put(&t->thread);
    return 0;
}

#define IOPRIO_DEFAULT 0x4004 /* best effort, level 4 */

int64_t sys_ioprio_get(uint64_t which, uint64_t who, uint64_t c, uint64_t d,
                       uint64_t e, uint64_t f)
{
    return which < 1 || which > 3 ? -EINVAL : IOPRIO_DEFAULT;
}

int64_t sys_ioprio_set(uint64_t which, uint64_t who, uint64_t value,
                       uint64_t d, uint64_t e, uint64_t f)
{
    unsigned class = (unsigned)value >> 13;

    if (which < 1 || which > 3 || class > 3)
        return -EINVAL;
    return class == 1 ? -EPERM : 0;
}
