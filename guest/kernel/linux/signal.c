/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Signals: queueing, choosing the thread, delivery, restarting system calls.
 * System calls are in signal_calls.c, frames in signal_frame.c.
 *
 * - process->siglock (irq-safe) protects masks, actions and queues. Wait
 *   queues of others (signalfd) are woken after it is released.
 * - WORK_SIGNAL of a task is set by whoever makes a signal deliverable and
 *   cleared only by the task itself, under siglock (signal_recalc_locked).
 * - From interrupt handlers only queue entries that exist already are sent.
 * - There is no job control: signals whose default is to stop are ignored.
 */
#include "drivers/drivers.h"
#include "lib/errno.h"
#include "lib/string.h"
#include "linux/siginfo.h"
#include "linux/task.h"
#include "mm/heap.h"

#define UNBLOCKABLE (SIGMASK(SIGKILL) | SIGMASK(SIGSTOP))
#define STOP_SIGNALS \
    (SIGMASK(SIGSTOP) | SIGMASK(SIGTSTP) | SIGMASK(SIGTTIN) | SIGMASK(SIGTTOU))
#define DEFAULT_IGNORED                                           \
    (STOP_SIGNALS | SIGMASK(SIGCHLD) | SIGMASK(SIGCONT) |         \
     SIGMASK(SIGURG) | SIGMASK(SIGWINCH))
/* Raised by the instruction stream: delivered before the others. */
#define SYNCHRONOUS                                               \
    (SIGMASK(SIGSEGV) | SIGMASK(SIGBUS) | SIGMASK(SIGILL) |       \
     SIGMASK(SIGTRAP) | SIGMASK(SIGFPE) | SIGMASK(SIGSYS))
#define CORE_SIGNALS                                              \
    (SYNCHRONOUS | SIGMASK(SIGQUIT) | SIGMASK(SIGABRT) |          \
     SIGMASK(SIGXCPU) | SIGMASK(SIGXFSZ))

bool signal_pending(void)
{
    return thread_has_work(current_thread(), WORK_SIGNAL);
}

void siginfo_fill(struct siginfo64 *info, int signo, int code, int pid,
                  uint32_t uid)
{
    memset(info, 0, sizeof(*info));
    info->signo = signo;
    info->code = code;
    info->fields[0] = (uint32_t)pid | (uint64_t)uid << 32;
}

bool signal_is_ignored_locked(struct process *p, int signo)
{
    uint64_t handler = p->actions[signo - 1].handler;

    return handler == SIG_IGN ||
           (handler == SIG_DFL && (DEFAULT_IGNORED & SIGMASK(signo)));
}

void signal_recalc_locked(struct task *t)
{
    sigset_t64 set = t->pending.set | t->process->shared_pending.set;

    if ((set & ~t->blocked) != 0 || task_must_end(t))
        atomic_or(&t->thread.work, WORK_SIGNAL);
    else
        atomic_and(&t->thread.work, ~WORK_SIGNAL);
}

/* --- sending --- */

static bool wants(struct task *t, int signo)
{
    return !(t->blocked & SIGMASK(signo)) || (t->waited & SIGMASK(signo));
}

static void notify(struct task *t)
{
    thread_set_work(&t->thread, WORK_SIGNAL);
    thread_wake(&t->thread);
}

/* Somebody of p who can take a process-directed signal: the first thread (it
 * heads the list) if it wants it, else the next. */
static struct task *choose(struct process *p, int signo)
{
    struct task *t;

    list_for_each(t, &p->threads, process_link) {
        if (wants(t, signo))
            return t;
    }
    return NULL;
}

static bool drop(struct process *p, struct task *t, int signo)
{
    struct task *first = t;

    if (t == NULL && !list_empty(&p->threads))
        first = list_first(&p->threads, struct task, process_link);
    /* A blocked signal is kept: its action may change (as on Linux). */
    if (first != NULL && !wants(first, signo))
        return false;
    if (first != NULL && (first->waited & SIGMASK(signo)))
        return false;
    return signal_is_ignored_locked(p, signo);
}

/* t NULL: to the process. q: Takes; NULL: the set's bit must do. */
static void post_locked(struct process *p, struct task *t, int signo,
                        struct sigqueue *q)
{
    struct sigpending *pending = t != NULL ? &t->pending : &p->shared_pending;

    pending->set |= SIGMASK(signo);
    if (q != NULL)
        list_add_tail(&pending->queue, &q->link);
    if (t == NULL)
        t = choose(p, signo);
    if (t != NULL && wants(t, signo))
        notify(t);
}

static int send(struct process *p, struct task *t, const struct siginfo64 *info)
{
    struct sigpending *pending = t != NULL ? &t->pending : &p->shared_pending;
    int signo = info->signo;
    struct sigqueue *q = NULL;
    bool was_on, posted = false;

    /* Interrupt handlers cannot allocate: the bit alone says SI_USER. */
    if (irq_enabled()) {
        q = kmalloc(sizeof(*q));
        if (q != NULL) {
            q->info = *info;
            q->owner = NULL;
            list_init(&q->link);
        } else if (signo >= SIGRTMIN && info->code != SI_USER) {
            return -EAGAIN;
        }
    }
    was_on = spin_lock_irqsave(&p->siglock);
    if (!drop(p, t, signo) && !p->exiting) {
        /* A standard signal is pending once. */
        if (signo >= SIGRTMIN || !(pending->set & SIGMASK(signo))) {
            post_locked(p, t, signo, q);
            q = NULL;
        }
        posted = true;
    }
    spin_unlock_irqrestore(&p->siglock, was_on);
    kfree(q);
    if (posted && waitq_active(&p->signal_wait))
        wait_wake_key(&p->signal_wait, 1 << 30, EPOLLIN | EPOLLRDNORM);
    return 0;
}

int signal_send_process(struct process *p, const struct siginfo64 *info)
{
    return send(p, NULL, info);
}

int signal_send_task(struct task *t, const struct siginfo64 *info)
{
    return send(t->process, t, info);
}

bool signal_send_queued(struct process *p, struct task *t, struct sigqueue *q)
{
    bool was_on = spin_lock_irqsave(&p->siglock);
    bool is_free = list_empty(&q->link);
    bool posted = is_free && !p->exiting && !drop(p, t, q->info.signo);

    if (posted)
        post_locked(p, t, q->info.signo, q);
    spin_unlock_irqrestore(&p->siglock, was_on);
    if (posted && waitq_active(&p->signal_wait))
        wait_wake_key(&p->signal_wait, 1 << 30, EPOLLIN | EPOLLRDNORM);
    return is_free;
}

void signal_unqueue(struct process *p, struct sigqueue *q)
{
    bool was_on = spin_lock_irqsave(&p->siglock), more = false;
    struct sigqueue *other;
    struct list *head;

    if (!list_empty(&q->link)) {
        /* Whose queue? Walk to its head, which is one of the process'. */
        struct sigpending *pending = &p->shared_pending;
        struct task *t;

        list_for_each(t, &p->threads, process_link) {
            for (head = q->link.next; head != &q->link; head = head->next) {
                if (head == &t->pending.queue)
                    pending = &t->pending;
            }
        }
        list_del(&q->link);
        list_for_each(other, &pending->queue, link)
            more |= other->info.signo == q->info.signo;
        if (!more)
            pending->set &= ~SIGMASK(q->info.signo);
    }
    spin_unlock_irqrestore(&p->siglock, was_on);
}

void signal_from_host(int signo)
{
    struct siginfo64 info;

    if (init_process == NULL || signo < 1 || signo > NSIG)
        return;
    siginfo_fill(&info, signo, SI_KERNEL, 0, 0);
    send(init_process, NULL, &info);
}

/* Which floating-point exception it was: the live x87 or SSE status (Intel SDM
 * vol. 1, 8.1.3 and 10.2.3: flags in the order invalid, denormal, divide,
 * overflow, underflow, precision). */
static int fpe_code(uint64_t vec)
{
    static const uint8_t codes[6] = {7, 5, 3, 4, 5, 6}; /* FPE_FLT* */
    static const uint8_t order[6] = {0, 2, 3, 4, 1, 5};
    char *image = kzalloc(ALIGN_UP(fpu_user_size(), 64ul));
    uint32_t flags, mxcsr;
    uint16_t control, status;
    int code = 0;

    if (image == NULL)
        return 0;
    fpu_save_user(image);
    memcpy(&control, image, 2);
    memcpy(&status, image + 2, 2);
    memcpy(&mxcsr, image + 24, 4);
    kfree(image);
    flags = vec == 19 ? mxcsr & ~(mxcsr >> 7) : status & ~(uint32_t)control;
    for (int i = 0; i < 6 && code == 0; i++) {
        if (flags >> order[i] & 1)
            code = codes[order[i]];
    }
    return code;
}

void signal_fault(int signo, int code, vaddr_t addr, struct regs *regs)
{
    struct task *t = current_task();
    struct process *p = t->process;
    struct siginfo64 info;
    struct ksigaction *a = &p->actions[signo - 1];
    bool was_on;

    if (signo == SIGFPE && (regs->vec == 16 || regs->vec == 19))
        code = fpe_code(regs->vec);
    siginfo_fill(&info, signo, code, 0, 0);
    info.fields[0] = code == SI_KERNEL ? 0 : addr;
    if (signo == SIGKILL) { /* the page fault found no memory */
        crash_report(signo, &info, regs);
        process_exit(SIGKILL);
    }
    t->fault_vec = regs->vec < 32 ? regs->vec : 13;
    t->fault_error = regs->vec < 32 ? regs->error : 0;
    if (regs->vec == VEC_PAGE_FAULT) {
        t->fault_error |= 4; /* from user mode, as programs know it */
        t->fault_addr = addr;
    }
    was_on = spin_lock_irqsave(&p->siglock);
    /* Not to be ignored: the instruction would fault again for ever. */
    if ((t->blocked & SIGMASK(signo)) || a->handler == SIG_IGN) {
        a->handler = SIG_DFL;
        t->blocked &= ~SIGMASK(signo);
    }
    spin_unlock_irqrestore(&p->siglock, was_on);
    send(p, t, &info);
}

/* --- taking --- */

/* Takes the best signal of `pending` that is in `mask`; 0: none. */
static int take_locked(struct sigpending *pending, sigset_t64 mask,
                       struct siginfo64 *info, struct sigqueue **to_free)
{
    sigset_t64 set = pending->set & mask;
    struct sigqueue *q, *found = NULL;
    bool more = false;
    int signo;

    if (set == 0)
        return 0;
    if (set & SYNCHRONOUS)
        set &= SYNCHRONOUS;
    signo = __builtin_ctzl(set) + 1;
    list_for_each(q, &pending->queue, link) {
        if (q->info.signo != signo)
            continue;
        more = found != NULL;
        if (more)
            break;
        found = q;
    }
    if (!more)
        pending->set &= ~SIGMASK(signo);
    if (found == NULL) {
        siginfo_fill(info, signo, SI_USER, 0, 0);
        return signo;
    }
    *info = found->info;
    list_del(&found->link);
    *to_free = found->owner == NULL ? found : NULL;
    return signo;
}

static int take_any_locked(struct task *t, sigset_t64 mask,
                           struct siginfo64 *info, struct sigqueue **to_free)
{
    int signo = take_locked(&t->pending, mask, info, to_free);

    if (signo == 0)
        signo = take_locked(&t->process->shared_pending, mask, info, to_free);
    return signo;
}

bool signal_dequeue(sigset_t64 mask, struct siginfo64 *out)
{
    struct task *t = current_task();
    struct process *p = t->process;
    struct sigqueue *to_free = NULL;
    bool was_on = spin_lock_irqsave(&p->siglock);
    int signo = take_any_locked(t, mask & ~UNBLOCKABLE, out, &to_free);

    signal_recalc_locked(t);
    spin_unlock_irqrestore(&p->siglock, was_on);
    kfree(to_free);
    return signo != 0;
}

sigset_t64 signal_pending_set(void)
{
    struct task *t = current_task();

    return atomic_load_relaxed(&t->pending.set) |
           atomic_load_relaxed(&t->process->shared_pending.set);
}

static void set_blocked_locked(struct task *t, sigset_t64 mask)
{
    struct process *p = t->process;
    sigset_t64 newly = mask & ~UNBLOCKABLE & ~t->blocked;
    sigset_t64 left = p->shared_pending.set & newly;
    struct task *other;

    t->blocked = mask & ~UNBLOCKABLE;
    signal_recalc_locked(t);
    /* Signals of the process this thread was to take: others may. */
    while (left != 0) {
        int signo = __builtin_ctzl(left) + 1;

        left &= left - 1;
        other = choose(p, signo);
        if (other != NULL)
            notify(other);
    }
}

void signal_set_blocked(sigset_t64 mask)
{
    struct task *t = current_task();
    bool was_on;

    if (t->blocked == (mask & ~UNBLOCKABLE))
        return;
    was_on = spin_lock_irqsave(&t->process->siglock);
    set_blocked_locked(t, mask);
    spin_unlock_irqrestore(&t->process->siglock, was_on);
}

void signal_mask_temporary(sigset_t64 mask)
{
    struct task *t = current_task();

    t->saved_mask = t->blocked;
    t->restore_saved_mask = true;
    signal_set_blocked(mask);
}

static void discard_locked(struct sigpending *pending, sigset_t64 mask)
{
    struct sigqueue *q, *tmp;

    if (!(pending->set & mask))
        return;
    pending->set &= ~mask;
    list_for_each_safe(q, tmp, &pending->queue, link) {
        if (!(mask & SIGMASK(q->info.signo)))
            continue;
        list_del(&q->link);
        if (q->owner == NULL)
            kfree(q);
    }
}

void signal_discard(struct process *p, sigset_t64 mask)
{
    bool was_on = spin_lock_irqsave(&p->siglock);
    struct task *t;

    discard_locked(&p->shared_pending, mask);
    list_for_each(t, &p->threads, process_link)
        discard_locked(&t->pending, mask);
    spin_unlock_irqrestore(&p->siglock, was_on);
}

void signal_exec_reset(void)
{
    struct task *t = current_task();
    struct process *p = t->process;
    bool was_on = spin_lock_irqsave(&p->siglock);

    for (int i = 0; i < NSIG; i++) {
        bool ignored = p->actions[i].handler == SIG_IGN;

        memset(&p->actions[i], 0, sizeof(p->actions[i]));
        p->actions[i].handler = ignored ? SIG_IGN : SIG_DFL;
    }
    spin_unlock_irqrestore(&p->siglock, was_on);
    t->sas_sp = t->sas_size = 0;
    t->sas_flags = 0;
}

/* --- delivery, on the way back to the program --- */

/* What becomes of an interrupted system call when a handler runs. */
static void restart_for_handler(struct task *t, struct regs *regs,
                                const struct ksigaction *a)
{
    if (regs->vec != VEC_SYSCALL || t->orig_rax == ~0ul)
        return;
    switch ((int64_t)regs->rax) {
    case -ERESTARTSYS:
        if (!(a->flags & SA_RESTART)) {
            regs->rax = (uint64_t)-EINTR;
            break;
        }
        /* fallthrough */
    case -ERESTARTNOINTR:
        regs->rax = t->orig_rax;
        regs->rip -= 2;
        break;
    case -ERESTARTNOHAND:
    case -ERESTART_RESTARTBLOCK:
        regs->rax = (uint64_t)-EINTR;
        break;
    }
    t->orig_rax = ~0ul;
}

/* No handler ran: the call goes on. */
static void restart_silently(struct task *t, struct regs *regs)
{
    if (regs->vec != VEC_SYSCALL || t->orig_rax == ~0ul)
        return;
    switch ((int64_t)regs->rax) {
    case -ERESTARTSYS:
    case -ERESTARTNOINTR:
    case -ERESTARTNOHAND:
        regs->rax = t->orig_rax;
        regs->rip -= 2;
        break;
    case -ERESTART_RESTARTBLOCK:
        regs->rax = 219; /* restart_syscall */
        regs->rip -= 2;
        break;
    }
    t->orig_rax = ~0ul;
}

static __noreturn void die(int signo, const struct siginfo64 *info,
                           struct regs *regs)
{
    if (CORE_SIGNALS & SIGMASK(signo))
        crash_report(signo, info, regs);
    process_exit(signo);
}

/* Runs a handler for a taken signal. */
static void handle(struct task *t, struct regs *regs,
                   const struct ksigaction *a, struct siginfo64 *info)
{
    struct process *p = t->process;
    sigset_t64 old = t->restore_saved_mask ? t->saved_mask : t->blocked;
    bool was_on;

    restart_for_handler(t, regs, a);
    if (signal_frame_push(regs, a, info, old) != 0) {
        /* No stack to run it on: SIGSEGV, fatal if this is one already. */
        if (info->signo == SIGSEGV)
            die(SIGSEGV, info, regs);
        signal_fault(SIGSEGV, SI_KERNEL, 0, regs);
        return;
    }
    t->restore_saved_mask = false;
    was_on = spin_lock_irqsave(&p->siglock);
    set_blocked_locked(t, t->blocked | a->mask |
                              (a->flags & SA_NODEFER ? 0
                                                     : SIGMASK(info->signo)));
    spin_unlock_irqrestore(&p->siglock, was_on);
}

/* Takes signals until one has a handler. 0: none is left. */
static int next_to_handle(struct task *t, struct siginfo64 *info,
                          struct ksigaction *action, struct regs *regs)
{
    struct process *p = t->process;
    struct sigqueue *to_free = NULL;
    bool was_on = spin_lock_irqsave(&p->siglock);
    int signo;

    for (;;) {
        signo = take_any_locked(t, ~t->blocked, info, &to_free);
        if (signo == 0)
            break;
        *action = p->actions[signo - 1];
        if (action->handler > SIG_IGN) {
            if (action->flags & SA_RESETHAND)
                p->actions[signo - 1].handler = SIG_DFL;
            break;
        }
        if (action->handler == SIG_IGN ||
            (DEFAULT_IGNORED & SIGMASK(signo))) {
            if (to_free != NULL)
                kfree(to_free);
            to_free = NULL;
            continue;
        }
        spin_unlock_irqrestore(&p->siglock, was_on);
        die(signo, info, regs);
    }
    if (signo == 0)
        signal_recalc_locked(t);
    spin_unlock_irqrestore(&p->siglock, was_on);
    kfree(to_free);
    return signo;
}

static void signal_work(struct regs *regs)
{
    struct task *t = current_task();
    struct ksigaction action;
    struct siginfo64 info;

    for (;;) {
        if (task_must_end(t))
            task_exit(t->process->exit_status);
        if (next_to_handle(t, &info, &action, regs) == 0)
            break;
        handle(t, regs, &action, &info);
    }
    restart_silently(t, regs);
    if (t->restore_saved_mask) {
        t->restore_saved_mask = false;
        signal_set_blocked(t->saved_mask);
    }
    atomic_or(&t->thread.work, WORK_FULL);
}

void signal_init(void)
{
    signal_work_hook = signal_work;
}
