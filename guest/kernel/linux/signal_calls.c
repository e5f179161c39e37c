/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The system calls about signals; the machinery is in signal.c.
 */
#include "lib/errno.h"
#include "lib/string.h"
#include "linux/siginfo.h"
#include "linux/syscall_protos.h"
#include "linux/task.h"
#include "linux/timespec.h"
#include "mm/heap.h"

int64_t sys_rt_sigaction(uint64_t signo, uint64_t act, uint64_t old,
                         uint64_t size, uint64_t e, uint64_t f)
{
    struct process *p = current_process();
    struct ksigaction new_action, previous, *a;
    sigset_t64 mask;
    bool was_on;

    if (size != sizeof(sigset_t64) || signo < 1 || signo > NSIG)
        return -EINVAL;
    if (act != 0 && get_user(new_action, (struct ksigaction *)act) != 0)
        return -EFAULT;
    if (act != 0 && (signo == SIGKILL || signo == SIGSTOP))
        return -EINVAL;
    a = &p->actions[signo - 1];
    was_on = spin_lock_irqsave(&p->siglock);
    previous = *a;
    if (act != 0) {
        *a = new_action;
        a->mask &= ~(SIGMASK(SIGKILL) | SIGMASK(SIGSTOP));
        a->flags &= ~0x400ul; /* SA_UNSUPPORTED */
    }
    spin_unlock_irqrestore(&p->siglock, was_on);
    /* POSIX: setting "ignore" drops what is pending. */
    mask = SIGMASK(signo);
    if (act != 0 && signal_is_ignored_locked(p, (int)signo))
        signal_discard(p, mask);
    if (old != 0)
        return put_user((struct ksigaction *)old, previous);
    return 0;
}

int64_t sys_rt_sigprocmask(uint64_t how, uint64_t set, uint64_t old,
                           uint64_t size, uint64_t e, uint64_t f)
{
    struct task *t = current_task();
    sigset_t64 previous = t->blocked, mask;

    if (size != sizeof(sigset_t64))
        return -EINVAL;
    if (set != 0) {
        if (get_user(mask, (sigset_t64 *)set) != 0)
            return -EFAULT;
        switch ((int)how) {
        case 0:
            signal_set_blocked(previous | mask);
            break;
        case 1:
            signal_set_blocked(previous & ~mask);
            break;
        case 2:
            signal_set_blocked(mask);
            break;
        default:
            return -EINVAL;
        }
    }
    return old != 0 ? put_user((sigset_t64 *)old, previous) : 0;
}

int64_t sys_rt_sigpending(uint64_t set, uint64_t size, uint64_t c, uint64_t d,
                          uint64_t e, uint64_t f)
{
    sigset_t64 pending = signal_pending_set() & current_task()->blocked;

    if (size > sizeof(pending))
        return -EINVAL;
    return copy_to_user((void *)set, &pending, size);
}

/* Sleeps until a signal of `mask`, another one, or the deadline. */
static int64_t wait_for(sigset_t64 mask, nsec_t deadline,
                        struct siginfo64 *info)
{
    struct task *t = current_task();
    struct process *p = t->process;
    bool was_on;
    int err = 0;

    while (!signal_dequeue(mask, info)) {
        if (err == -EINTR && signal_pending())
            break;
        if (err == -ETIMEDOUT || deadline == 1)
            return -EAGAIN;
        was_on = spin_lock_irqsave(&p->siglock);
        t->waited = mask;
        spin_unlock_irqrestore(&p->siglock, was_on);
        if (!(signal_pending_set() & mask)) {
            struct waitq q;

            waitq_init(&q);
            err = wait_event(&q, (signal_pending_set() & mask) != 0,
                             WAIT_INTERRUPTIBLE, deadline);
        }
        was_on = spin_lock_irqsave(&p->siglock);
        t->waited = 0;
        signal_recalc_locked(t);
        spin_unlock_irqrestore(&p->siglock, was_on);
    }
    return err == -EINTR && info->signo == 0 ? -EINTR : info->signo;
}

int64_t sys_rt_sigtimedwait(uint64_t set, uint64_t info_out, uint64_t timeout,
                            uint64_t size, uint64_t e, uint64_t f)
{
    struct siginfo64 info = {0};
    sigset_t64 mask;
    nsec_t deadline = NO_DEADLINE, rel;
    int64_t r;

    if (size != sizeof(mask))
        return -EINVAL;
    if (get_user(mask, (sigset_t64 *)set) != 0)
        return -EFAULT;
    if (timeout != 0) {
        r = timespec_from_user(timeout, &rel);
        if (r != 0)
            return r;
        deadline = rel == 0 ? 1 : deadline_after(rel);
    }
    r = wait_for(mask & ~(SIGMASK(SIGKILL) | SIGMASK(SIGSTOP)), deadline,
                 &info);
    if (r > 0 && info_out != 0 &&
        put_user((struct siginfo64 *)info_out, info) != 0)
        return -EFAULT;
    return r;
}

int64_t sys_rt_sigsuspend(uint64_t set, uint64_t size, uint64_t c, uint64_t d,
                          uint64_t e, uint64_t f)
{
    struct waitq q;
    sigset_t64 mask;

    if (size != sizeof(mask))
        return -EINVAL;
    if (get_user(mask, (sigset_t64 *)set) != 0)
        return -EFAULT;
    signal_mask_temporary(mask);
    waitq_init(&q);
    wait_event(&q, signal_pending(), WAIT_INTERRUPTIBLE, NO_DEADLINE);
    return -ERESTARTNOHAND;
}

int64_t sys_pause(uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e,
                  uint64_t f)
{
    struct waitq q;

    waitq_init(&q);
    wait_event(&q, signal_pending(), WAIT_INTERRUPTIBLE, NO_DEADLINE);
    return -ERESTARTNOHAND;
}

/* --- sending --- */

/* The codes of kill and of the kernel are not for sending to others. */
static bool is_forged(const struct siginfo64 *info, uint64_t pid)
{
    return (info->code >= 0 || info->code == SI_TKILL) &&
           (int)pid != current_process()->pid;
}

/* Is `pid` the program, alone or as its group? 0, or -errno. -EPERM: process
 * 1, which is not ours to kill. */
static int find_process(int pid, struct process **out)
{
    struct process *p = current_process();

    *out = p;
    if (pid == p->pid || pid == 0 || pid == -1 || pid == -p->pgid)
        return 0;
    return pid == SESSION_PID ? -EPERM : -ESRCH;
}

int64_t sys_kill(uint64_t pid, uint64_t signo, uint64_t c, uint64_t d,
                 uint64_t e, uint64_t f)
{
    struct process *p;
    struct siginfo64 info;
    int err;

    if ((int)signo < 0 || (int)signo > NSIG)
        return -EINVAL;
    /* "All but the caller": there is nobody else. */
    if ((int)pid == -1)
        return -ESRCH;
    err = find_process((int)pid, &p);
    if ((int)signo == 0)
        return err == -EPERM ? 0 : err;
    if (err != 0)
        return err;
    siginfo_fill(&info, (int)signo, SI_USER, p->pid, p->uid);
    return signal_send_process(p, &info);
}

static int64_t send_to_task(int tgid, int tid, int signo,
                            const struct siginfo64 *info)
{
    struct task *t;
    int err = 0;

    if (tid <= 0 || signo < 0 || signo > NSIG)
        return -EINVAL;
    t = task_find(tid);
    if (t == NULL)
        return -ESRCH;
    if (tgid != 0 && t->process->pid != tgid)
        err = -ESRCH;
    else if (signo != 0)
        err = signal_send_task(t, info);
    thread_put(&t->thread);
    return err;
}

int64_t sys_tgkill(uint64_t tgid, uint64_t tid, uint64_t signo, uint64_t d,
                   uint64_t e, uint64_t f)
{
    struct process *p = current_process();
    struct siginfo64 info;

    if ((int)tgid <= 0)
        return -EINVAL;
    siginfo_fill(&info, (int)signo, SI_TKILL, p->pid, p->uid);
    return send_to_task((int)tgid, (int)tid, (int)signo, &info);
}

int64_t sys_tkill(uint64_t tid, uint64_t signo, uint64_t c, uint64_t d,
                  uint64_t e, uint64_t f)
{
    struct process *p = current_process();
    struct siginfo64 info;

    siginfo_fill(&info, (int)signo, SI_TKILL, p->pid, p->uid);
    return send_to_task(0, (int)tid, (int)signo, &info);
}

int64_t sys_rt_sigqueueinfo(uint64_t pid, uint64_t signo, uint64_t uinfo,
                            uint64_t d, uint64_t e, uint64_t f)
{
    struct process *p;
    struct siginfo64 info;
    int err;

    if (get_user(info, (struct siginfo64 *)uinfo) != 0)
        return -EFAULT;
    if (is_forged(&info, pid))
        return -EPERM;
    err = find_process((int)pid, &p);
    if (err != 0 || (int)pid <= 0)
        return err != 0 ? err : -ESRCH;
    if ((int)signo < 0 || (int)signo > NSIG)
        return -EINVAL;
    info.signo = (int)signo;
    return (int)signo == 0 ? 0 : signal_send_process(p, &info);
}

int64_t sys_rt_tgsigqueueinfo(uint64_t tgid, uint64_t tid, uint64_t signo,
                              uint64_t uinfo, uint64_t e, uint64_t f)
{
    struct siginfo64 info;

    if (get_user(info, (struct siginfo64 *)uinfo) != 0)
        return -EFAULT;
    if ((int)tgid <= 0 || (int)tid <= 0)
        return -EINVAL;
    if (is_forged(&info, tgid))
        return -EPERM;
    info.signo = (int)signo;
    return send_to_task((int)tgid, (int)tid, (int)signo, &info);
}
