/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Resource limits and usage. Limits are single words written with atomic
 * stores; who enforces one reads it (STACK, AS, DATA: mm; NOFILE: fdtable).
 */
#include "lib/errno.h"
#include "lib/string.h"
#include "linux/syscall_protos.h"
#include "linux/task.h"

#define RLIMIT_DATA 2
#define RLIMIT_STACK 3
#define RLIMIT_NOFILE 7
#define RLIMIT_AS 9
#define NR_OPEN 1048576

static int set_limit(struct process *p, unsigned which,
                     const struct rlimit64 *limit)
{
    struct rlimit64 *l = &p->rlimits[which];

    if (limit->cur > limit->max)
        return -EINVAL;
    if (which == RLIMIT_NOFILE && limit->max > NR_OPEN)
        return -EPERM;
    if (limit->max > l->max && p->euid != 0)
        return -EPERM;
    atomic_store_relaxed(&l->cur, limit->cur);
    atomic_store_relaxed(&l->max, limit->max);
    if (which == RLIMIT_STACK)
        p->mm->limit_stack = limit->cur;
    else if (which == RLIMIT_AS)
        p->mm->limit_as = limit->cur;
    else if (which == RLIMIT_DATA)
        p->mm->limit_data = limit->cur;
    return 0;
}

int64_t sys_prlimit64(uint64_t pid, uint64_t which, uint64_t in, uint64_t out,
                      uint64_t e, uint64_t f)
{
    struct process *p = current_process();
    struct rlimit64 limit, old;
    int err = 0;

    if (which >= NR_RLIMITS)
        return -EINVAL;
    if (in != 0 && get_user(limit, (struct rlimit64 *)in) != 0)
        return -EFAULT;
    if ((int)pid != 0 && (int)pid != p->pid) {
        struct task *t = task_find((int)pid);
        if (t == NULL)
            return -ESRCH;
        thread_put(&t->thread);
    }
    old = p->rlimits[which];
    if (in != 0)
        err = set_limit(p, (unsigned)which, &limit);
    if (err == 0 && out != 0)
        err = put_user((struct rlimit64 *)out, old);
    return err;
}

int64_t sys_getrlimit(uint64_t which, uint64_t out, uint64_t c, uint64_t d,
                      uint64_t e, uint64_t f)
{
    if (out == 0)
        return which >= NR_RLIMITS ? -EINVAL : -EFAULT;
    return sys_prlimit64(0, which, 0, out, 0, 0);
}

int64_t sys_setrlimit(uint64_t which, uint64_t in, uint64_t c, uint64_t d,
                      uint64_t e, uint64_t f)
{
    if (in == 0)
        return -EFAULT;
    return sys_prlimit64(0, which, in, 0, 0, 0);
}

struct rusage64 {
    int64_t utime_sec, utime_usec, stime_sec, stime_usec;
    int64_t maxrss_kib, ixrss, idrss, isrss, minflt, majflt, nswap, inblock,
        oublock, msgsnd, msgrcv, nsignals, nvcsw, nivcsw;
};
_Static_assert(sizeof(struct rusage64) == 144, "struct rusage");

int64_t sys_getrusage(uint64_t who, uint64_t out, uint64_t c, uint64_t d,
                      uint64_t e, uint64_t f)
{
    struct process *p = current_process();
    struct rusage64 r;
    nsec_t t = 0;

    memset(&r, 0, sizeof(r));
    switch ((int)who) {
    case 0: /* RUSAGE_SELF */
        t = process_cpu_time(p);
        break;
    case 1: /* RUSAGE_THREAD */
        t = thread_cpu_time(current_thread());
        r.nvcsw = (int64_t)current_thread()->nr_switches;
        break;
    case -1: /* RUSAGE_CHILDREN: there are none */
        break;
    default:
        return -EINVAL;
    }
    if ((int)who != -1)
        r.maxrss_kib =
            (int64_t)atomic_load_relaxed(&p->mm->nr_pages) * 4;
    r.utime_sec = t / NSEC_PER_SEC;
    r.utime_usec = t % NSEC_PER_SEC / 1000;
    return put_user((struct rusage64 *)out, r);
}
