/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Processes and tasks: creation, lookup, the end.
 *
 * - A task is born with task_create, becomes visible with task_publish, and
 *   leaves the process in task_exit; its memory goes when the scheduler drops
 *   the last reference (thread_destroy_hook).
 * - exit_group and execve ask the other threads to end: they see it in
 *   task_must_end() on their next way out of the kernel.
 * - The end of init_process is the end of the machine: nothing is torn down
 *   first, the memory is not going to be used again.
 */
#include "drivers/drivers.h"
#include "lib/errno.h"
#include "lib/printk.h"
#include "lib/string.h"
#include "linux/syscall_protos.h"
#include "linux/task.h"
#include "mm/heap.h"
#include "sched/futex.h"

#define MAX_TID 0x400000

struct process *init_process;
static uint32_t last_tid = INIT_PID; /* atomic */

static void task_destroy(struct thread *thread)
{
    struct task *t = container_of(thread, struct task, thread);
    struct process *p = t->process;

    kfree(t);
    process_put(p);
}

static void default_limits(struct process *p)
{
    /* Order of RLIMIT_*: CPU FSIZE DATA STACK CORE RSS NPROC NOFILE MEMLOCK
     * AS LOCKS SIGPENDING MSGQUEUE NICE RTPRIO RTTIME. */
    for (int i = 0; i < NR_RLIMITS; i++)
        p->rlimits[i].cur = p->rlimits[i].max = ~0ul;
    p->rlimits[3].cur = 8 * MIB;
    p->rlimits[4].cur = 0;
    p->rlimits[6] = (struct rlimit64){15000, 15000};
    p->rlimits[7] = (struct rlimit64){1024, 1048576};
    p->rlimits[8] = (struct rlimit64){8 * MIB, 8 * MIB};
    p->rlimits[11] = (struct rlimit64){15000, 15000};
    p->rlimits[12] = (struct rlimit64){819200, 819200};
    p->rlimits[13] = p->rlimits[14] = (struct rlimit64){0, 0};
}

int process_create_init(struct process **out)
{
    struct process *p = kzalloc(sizeof(*p));
    int err = -ENOMEM;

    if (p == NULL)
        return err;
    p->refcount = 1;
    p->pid = p->pgid = INIT_PID;
    p->ppid = p->sid = SESSION_PID;
    mutex_init(&p->fs_lock);
    mutex_init(&p->timers_lock);
    spin_init(&p->siglock);
    list_init(&p->shared_pending.queue);
    list_init(&p->threads);
    list_init(&p->posix_timers);
    waitq_init(&p->exit_wait);
    waitq_init(&p->signal_wait);
    p->umask = 022;
    p->dumpable = 1;
    p->start_time = clock_monotonic();
    default_limits(p);
    dentry_get(root_dentry());
    p->root = root_dentry();
    dentry_get(root_dentry());
    p->cwd = root_dentry();
    err = fdtable_create(&p->fds);
    if (err == 0)
        err = mm_create(&p->mm);
    if (err != 0) {
        kfree(p);
        return err;
    }
    p->mm->limit_as = p->mm->limit_data = ~0ul;
    p->mm->limit_stack = p->rlimits[3].cur;
    thread_destroy_hook = task_destroy;
    *out = p;
    return 0;
}

void process_get(struct process *p)
{
    atomic_add(&p->refcount, 1u);
}

void process_put(struct process *p)
{
    if (atomic_sub(&p->refcount, 1u) != 0)
        return;
    fdtable_put(p->fds);
    dentry_put(p->cwd);
    dentry_put(p->root);
    mm_put(p->mm);
    kfree(p->cmdline);
    kfree(p);
}

char task_state_letter(struct task *t)
{
    enum thread_state state = atomic_load_relaxed(&t->thread.state);

    if (t == current_task() || state == THREAD_RUNNING)
        return 'R';
    return state == THREAD_SLEEPING ? 'S' : 'X';
}

nsec_t process_cpu_time(struct process *p)
{
    bool was_on = spin_lock_irqsave(&p->siglock);
    nsec_t n = p->dead_cpu_time;
    struct task *t;

    list_for_each(t, &p->threads, process_link)
        n += thread_cpu_time(&t->thread);
    spin_unlock_irqrestore(&p->siglock, was_on);
    return n;
}

struct task *task_find(int tid)
{
    struct process *p = init_process;
    struct task *t, *found = NULL;
    bool was_on = spin_lock_irqsave(&p->siglock);

    list_for_each(t, &p->threads, process_link) {
        if (t->tid == tid) {
            found = t;
            thread_get(&t->thread);
            break;
        }
    }
    spin_unlock_irqrestore(&p->siglock, was_on);
    return found;
}

int task_create(struct process *p, const char *name, struct task **out)
{
    struct task *t = kzalloc(sizeof(*t));
    int err;

    if (t == NULL)
        return -ENOMEM;
    err = thread_init(&t->thread, name, p->mm);
    if (err != 0) {
        kfree(t);
        return err;
    }
    process_get(p);
    t->process = p;
    list_init(&t->process_link);
    list_init(&t->pending.queue);
    t->orig_rax = ~0ul;
    t->timer_slack = 50000;
    *out = t;
    return 0;
}

static int next_tid(void)
{
    uint32_t tid;
    struct task *t;

    for (;;) {
        tid = atomic_add(&last_tid, 1u);
        if (likely(tid < MAX_TID))
            return (int)tid;
        /* Wrapped: numbers are looked up from here on. */
        tid = tid % (MAX_TID - 300) + 300;
        t = task_find((int)tid);
        if (t == NULL)
            return (int)tid;
        thread_put(&t->thread);
    }
}

int task_publish(struct task *t, int tid)
{
    struct process *p = t->process;
    int err = 0;
    bool was_on;

    t->tid = tid != 0 ? tid : next_tid();
    was_on = spin_lock_irqsave(&p->siglock);
    if (p->exiting || p->exec_task != NULL) {
        err = -EAGAIN;
    } else {
        list_add_tail(&p->threads, &t->process_link);
        p->nr_threads++;
    }
    spin_unlock_irqrestore(&p->siglock, was_on);
    return err;
}

bool task_must_end(struct task *t)
{
    struct process *p = t->process;
    struct task *exec = atomic_load_acquire(&p->exec_task);

    return atomic_load_relaxed(&p->exiting) || (exec != NULL && exec != t);
}

static void clear_child_tid(struct task *t)
{
    uint32_t __user *word = t->clear_child_tid;

    if (word == NULL)
        return;
    t->clear_child_tid = NULL;
    if (put_user(word, 0u) == 0)
        futex_wake(word, false, 1, FUTEX_ANY_BIT);
}

static void drop_pending(struct sigpending *pending)
{
    struct sigqueue *q, *tmp;

    list_for_each_safe(q, tmp, &pending->queue, link) {
        list_del(&q->link);
        if (q->owner == NULL)
            kfree(q);
    }
}

void task_exit(int code)
{
    struct task *t = current_task();
    struct process *p = t->process;
    bool was_on, last;
    int status;

    futex_exit_robust(t);
    futex_exit_pi(t);
    if (p->nr_threads > 1) /* otherwise nobody can be waiting for it */
        clear_child_tid(t);
    was_on = spin_lock_irqsave(&p->siglock);
    list_del(&t->process_link);
    p->dead_cpu_time += thread_cpu_time(&t->thread);
    drop_pending(&t->pending);
    /* A process' status is its first thread's, unless exit_group set it. */
    if (!p->status_set && t->tid == p->pid)
        p->exit_status = code;
    last = --p->nr_threads == 0;
    status = p->exit_status;
    spin_unlock_irqrestore(&p->siglock, was_on);
    if (last && p == init_process)
        init_process_end(status);
    wait_wake(&p->exit_wait, 1 << 30);
    thread_exit();
}

/* All others of p: make them look at task_must_end(). */
static void kick_others_locked(struct process *p, struct task *self)
{
    struct task *t;

    list_for_each(t, &p->threads, process_link) {
        if (t == self)
            continue;
        thread_set_work(&t->thread, WORK_SIGNAL);
        thread_wake(&t->thread);
    }
}

void process_exit(int wait_status)
{
    struct task *self = current_task();
    struct process *p = self->process;
    bool was_on = spin_lock_irqsave(&p->siglock), first = !p->exiting;

    if (first) {
        p->exiting = p->status_set = true;
        p->exit_status = wait_status;
        kick_others_locked(p, self);
    }
    spin_unlock_irqrestore(&p->siglock, was_on);
    if (first && p == init_process)
        init_process_end(wait_status);
    task_exit(wait_status);
}

int process_end_other_threads(void)
{
    struct task *self = current_task();
    struct process *p = self->process;
    bool was_on = spin_lock_irqsave(&p->siglock);
    bool lost = p->exiting || p->exec_task != NULL;

    if (!lost && p->nr_threads > 1) {
        p->exec_task = self;
        kick_others_locked(p, self);
    }
    spin_unlock_irqrestore(&p->siglock, was_on);
    if (lost)
        return -EAGAIN;
    /* Not interruptible: the way back is already gone. */
    wait_event(&p->exit_wait, atomic_load_acquire(&p->nr_threads) == 1, 0,
               NO_DEADLINE);
    atomic_store_release(&p->exec_task, (struct task *)NULL);
    self->tid = p->pid; /* man 2 execve: the caller takes the leader's id */
    clear_child_tid(self);
    self->robust_list = NULL;
    return 0;
}

/* --- system calls --- */

int64_t sys_exit(uint64_t code, uint64_t b, uint64_t c, uint64_t d, uint64_t e,
                 uint64_t f)
{
    task_exit((int)(code & 0xff) << 8);
}

int64_t sys_exit_group(uint64_t code, uint64_t b, uint64_t c, uint64_t d,
                       uint64_t e, uint64_t f)
{
    process_exit((int)(code & 0xff) << 8);
}

int64_t sys_set_tid_address(uint64_t addr, uint64_t b, uint64_t c, uint64_t d,
                            uint64_t e, uint64_t f)
{
    current_task()->clear_child_tid = (uint32_t *)addr;
    return current_task()->tid;
}

int64_t sys_set_robust_list(uint64_t head, uint64_t len, uint64_t c,
                            uint64_t d, uint64_t e, uint64_t f)
{
    if (len != 24)
        return -EINVAL;
    current_task()->robust_list = (void *)head;
    current_task()->robust_list_len = len;
    return 0;
}

int64_t sys_get_robust_list(uint64_t tid, uint64_t head, uint64_t len,
                            uint64_t d, uint64_t e, uint64_t f)
{
    struct task *t = task_find(tid != 0 ? (int)tid : current_task()->tid);
    uint64_t list;

    if (t == NULL)
        return -ESRCH;
    list = (uint64_t)t->robust_list;
    thread_put(&t->thread);
    if (put_user((uint64_t *)len, 24ul) != 0)
        return -EFAULT;
    return put_user((uint64_t *)head, list);
}

/* There are no children: nothing can be waited for. */
int64_t sys_wait4(uint64_t pid, uint64_t status, uint64_t options, uint64_t ru,
                  uint64_t e, uint64_t f)
{
    /* WNOHANG, WUNTRACED, WCONTINUED, __WNOTHREAD, __WALL, __WCLONE */
    if (options & ~0xe000000bul)
        return -EINVAL;
    return (int32_t)pid == INT32_MIN ? -ESRCH : -ECHILD;
}

int64_t sys_waitid(uint64_t which, uint64_t pid, uint64_t info,
                   uint64_t options, uint64_t ru, uint64_t f)
{
    if (options & ~0xe100000ful || !(options & 0xe) || which > 3)
        return -EINVAL;
    if (which == 1 && (int32_t)pid <= 0)
        return -EINVAL;
    if (which == 3) { /* P_PIDFD: there are none */
        struct file *file = fd_get((int)pid);
        if (file == NULL)
            return -EBADF;
        file_put(file);
        return -EBADF;
    }
    return -ECHILD;
}

static char **copy_strings(uint64_t addr, int *err)
{
    char **v = NULL, *buf = kmalloc(32 * PAGE_SIZE);
    size_t n = 0, room = 0, total = 0;
    uint64_t p;
    ssize_t len;

    *err = buf != NULL ? 0 : -ENOMEM;
    while (*err == 0) {
        if (n + 1 >= room) {
            room = room != 0 ? room * 2 : 32;
            char **bigger = krealloc(v, room * sizeof(char *));
            if (bigger == NULL) {
                *err = -ENOMEM;
                break;
            }
            v = bigger;
        }
        v[n] = NULL;
        p = 0;
        if (addr == 0)
            break;
        if (get_user(p, (uint64_t *)addr + n) != 0)
            *err = -EFAULT;
        else if (p == 0)
            break;
        else if ((len = strncpy_from_user(buf, (char *)p,
                                          32 * PAGE_SIZE)) < 0)
            *err = len == -ENAMETOOLONG ? -E2BIG : (int)len;
        else if ((total += (size_t)len + 9) > 2 * MIB)
            *err = -E2BIG;
        else if ((v[n] = kmemdup(buf, (size_t)len + 1)) == NULL)
            *err = -ENOMEM;
        else
            v[++n] = NULL;
    }
    kfree(buf);
    return v;
}

static void free_strings(char **v)
{
    for (size_t i = 0; v != NULL && v[i] != NULL; i++)
        kfree(v[i]);
    kfree(v);
}

/* dirfd as in openat; the name is made absolute through /proc/self/fd. */
static int64_t do_execve(int dirfd, uint64_t path, uint64_t argv,
                         uint64_t envp, uint64_t flags)
{
    struct regs *regs = thread_regs(current_thread());
    char *name = kmalloc(2 * PAGE_SIZE), **args = NULL, **env = NULL;
    int err = -ENOMEM, prefix = 0;
    ssize_t len;

    if (name == NULL)
        return err;
    if (dirfd != AT_FDCWD)
        prefix = snprintf(name, 64, "/dev/fd/%d/", dirfd);
    len = strncpy_from_user(name + prefix, (char *)path, PAGE_SIZE);
    err = len < 0 ? (int)len : 0;
    if (err == 0 && name[prefix] == '/')
        memmove(name, name + prefix, (size_t)len + 1);
    else if (err == 0 && len == 0 && !(flags & 0x1000))
        err = -ENOENT;
    else if (err == 0 && len == 0 && prefix != 0)
        name[prefix - 1] = '\0';
    if (err == 0)
        args = copy_strings(argv, &err);
    if (err == 0)
        env = copy_strings(envp, &err);
    if (err == 0)
        err = exec_load(name, args, env, regs);
    free_strings(args);
    free_strings(env);
    kfree(name);
    if (err != 0)
        return err;
    current_task()->orig_rax = ~0ul;
    atomic_or(&current_thread()->work, WORK_FULL);
    return 0;
}

int64_t sys_execve(uint64_t path, uint64_t argv, uint64_t envp, uint64_t d,
                   uint64_t e, uint64_t f)
{
    return do_execve(AT_FDCWD, path, argv, envp, 0);
}

int64_t sys_execveat(uint64_t dirfd, uint64_t path, uint64_t argv,
                     uint64_t envp, uint64_t flags, uint64_t f)
{
    if (flags & ~0x1100ul)
        return -EINVAL;
    if (flags & 0x100) /* AT_SYMLINK_NOFOLLOW: not honoured */
        return -EINVAL;
    return do_execve((int)dirfd, path, argv, envp, flags);
}
