/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * clone, clone3: threads. Processes (no CLONE_VM, or CLONE_VM without
 * CLONE_THREAD) are not there yet: -ENOSYS, counted under the name "fork".
 *
 * The child returns from the same call with 0 and its own stack: its registers
 * are a copy of the caller's, as saved at the top of the kernel stack; nothing
 * is put on the program's stacks.
 */
#include "lib/errno.h"
#include "lib/string.h"
#include "linux/syscall_protos.h"
#include "linux/task.h"
#include "mm/heap.h"

#define CLONE_VM 0x100u
#define CLONE_FS 0x200u
#define CLONE_FILES 0x400u
#define CLONE_SIGHAND 0x800u
#define CLONE_PIDFD 0x1000u
#define CLONE_PTRACE 0x2000u
#define CLONE_VFORK 0x4000u
#define CLONE_PARENT 0x8000u
#define CLONE_THREAD 0x10000u
#define CLONE_NEWNS 0x20000u
#define CLONE_SYSVSEM 0x40000u
#define CLONE_SETTLS 0x80000u
#define CLONE_PARENT_SETTID 0x100000u
#define CLONE_CHILD_CLEARTID 0x200000u
#define CLONE_DETACHED 0x400000u
#define CLONE_UNTRACED 0x800000u
#define CLONE_CHILD_SETTID 0x1000000u

/* What every thread shares here. */
#define THREAD_SHARES \
    (CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD)
#define THREAD_FLAGS                                                     \
    (THREAD_SHARES | CLONE_SYSVSEM | CLONE_SETTLS | CLONE_PARENT_SETTID | \
     CLONE_CHILD_CLEARTID | CLONE_DETACHED | CLONE_UNTRACED |             \
     CLONE_CHILD_SETTID | CLONE_PTRACE)

struct clone_request { /* the ABI's struct clone_args, version 0..2 */
    uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack,
        stack_size, tls, set_tid, set_tid_size, cgroup;
};

static int check(const struct clone_request *r)
{
    uint64_t flags = r->flags;

    if ((flags & CLONE_SIGHAND) && !(flags & CLONE_VM))
        return -EINVAL;
    if ((flags & CLONE_THREAD) && !(flags & CLONE_SIGHAND))
        return -EINVAL;
    if (!(flags & CLONE_THREAD)) {
        syscall_count_missing("fork");
        return -ENOSYS;
    }
    /* Threads with files or a directory of their own, pidfds, namespaces. */
    if ((flags & THREAD_SHARES) != THREAD_SHARES || flags & ~THREAD_FLAGS)
        return -EINVAL;
    if ((flags & CLONE_SETTLS) && r->tls >= USER_TOP)
        return -EPERM;
    return 0;
}

static int64_t clone_thread(const struct clone_request *r)
{
    struct task *self = current_task(), *t;
    struct process *p = self->process;
    struct regs regs = *thread_regs(&self->thread);
    uint32_t tid;
    int err = check(r);

    if (err != 0)
        return err;
    err = task_create(p, self->thread.name, &t);
    if (err != 0)
        return err == -ENOMEM ? -EAGAIN : err;
    regs.rax = 0;
    if (r->stack != 0)
        regs.rsp = r->stack + r->stack_size;
    thread_set_program_entry(&t->thread, &regs);
    t->thread.fs_base =
        r->flags & CLONE_SETTLS ? r->tls : fs_base_read();
    t->thread.affinity = self->thread.affinity;
    t->blocked = self->blocked;
    t->nice = self->nice;
    t->sched_policy = self->sched_policy;
    t->sched_priority = self->sched_priority;
    t->timer_slack = self->timer_slack;
    t->no_new_privs = self->no_new_privs;
    if (r->flags & CLONE_CHILD_CLEARTID)
        t->clear_child_tid = (uint32_t *)r->child_tid;
    err = task_publish(t, 0);
    if (err != 0) {
        thread_put(&t->thread);
        return err;
    }
    tid = (uint32_t)t->tid;
    if (r->flags & CLONE_PARENT_SETTID)
        (void)!put_user((uint32_t *)r->parent_tid, tid);
    if (r->flags & CLONE_CHILD_SETTID) /* one address space: same word */
        (void)!put_user((uint32_t *)r->child_tid, tid);
    /* A fatal signal or exit may have come before the task was in the list
     * of those told: it looks by itself on its way out. */
    if (task_must_end(t))
        thread_set_work(&t->thread, WORK_SIGNAL);
    thread_start(&t->thread);
    return tid;
}

int64_t sys_clone(uint64_t flags, uint64_t stack, uint64_t parent_tid,
                  uint64_t child_tid, uint64_t tls, uint64_t f)
{
    struct clone_request r = {
        .flags = flags & 0xffffff00u,
        .exit_signal = flags & 0xff,
        .stack = stack,
        .parent_tid = parent_tid,
        .child_tid = child_tid,
        .tls = tls,
    };

    return clone_thread(&r);
}

int64_t sys_clone3(uint64_t args, uint64_t size, uint64_t c, uint64_t d,
                   uint64_t e, uint64_t f)
{
    struct clone_request r = {0};
    uint64_t extra;

    if (size > PAGE_SIZE)
        return -E2BIG;
    if (size < 64)
        return -EINVAL;
    if (copy_from_user(&r, (void *)args, MIN(size, sizeof(r))) != 0)
        return -EFAULT;
    /* A newer structure is fine as long as the new part is zero. */
    for (uint64_t at = sizeof(r); at + 8 <= size; at += 8) {
        if (get_user(extra, (uint64_t *)(args + at)) != 0)
            return -EFAULT;
        if (extra != 0)
            return -E2BIG;
    }
    if (r.flags & 0xff || r.set_tid_size != 0 || r.exit_signal > NSIG)
        return -EINVAL;
    if ((r.stack == 0) != (r.stack_size == 0))
        return -EINVAL;
    if ((r.flags & CLONE_THREAD) && r.exit_signal != 0)
        return -EINVAL;
    return clone_thread(&r);
}

int64_t sys_fork(uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e,
                 uint64_t f)
{
    syscall_count_missing("fork");
    return -ENOSYS;
}
