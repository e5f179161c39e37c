/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Linux's view of threads and processes: `struct task` embeds the scheduler's
 * thread, `struct process` is what its threads share.
 *
 * One process per guest runs today; nothing here assumes it (design.md 10).
 */
#pragma once

#include "fs/vfs.h"
#include "mm/mm.h"
#include "sched/thread.h"
#include "sched/timer.h"

#define NSIG 64
typedef uint64_t sigset_t64; /* bit n-1 = signal n */
#define SIGMASK(n) (1ul << ((n) - 1))

struct ksigaction { /* the kernel ABI's layout: rt_sigaction(2) */
    uint64_t handler;
    uint64_t flags;
    uint64_t restorer;
    sigset_t64 mask;
};

struct siginfo64 { /* 128 bytes: the ABI's siginfo_t */
    int32_t signo, error, code, pad;
    uint64_t fields[14];
};

/* One queued signal. `owner` != NULL: embedded in a timer, never freed. */
struct sigqueue {
    struct list link; /* list_empty: not queued; protected by siglock */
    struct siginfo64 info;
    void *owner;
};

struct sigpending { /* protected by siglock */
    sigset_t64 set;
    struct list queue; /* struct sigqueue, oldest first */
};

/* The program is process 2, started by a "shell" 1 that leads its session:
 * process 1 is special on Linux (default actions do not apply to it). */
#define INIT_PID 2
#define SESSION_PID 1

struct rlimit64 {
    uint64_t cur, max;
};
#define NR_RLIMITS 16

/* Inside the kernel, with those of lib/errno.h: restart in any case. */
#define ERESTARTNOINTR 513

struct process {
    uint32_t refcount; /* atomic */
    int pid, ppid, pgid, sid;
    /* --- set by exec --- */
    struct mm *mm;
    char exe_path[256];
    char *cmdline; /* NUL-separated, for /proc/self/cmdline */
    size_t cmdline_len;
    /* --- own locks inside --- */
    struct fdtable *fds;
    struct mutex fs_lock;
    struct dentry *cwd, *root; /* owned; protected by fs_lock */
    uint32_t umask;
    /* --- protected by siglock (irq-safe) --- */
    struct spinlock siglock;
    struct ksigaction actions[NSIG];
    struct sigpending shared_pending;
    struct task *exec_task; /* execve: all other threads must end */
    struct list threads; /* of struct task.process_link */
    uint32_t nr_threads;
    bool exiting;
    bool status_set;     /* exit_status is valid (leader or exit_group) */
    int exit_status;     /* wait(2) encoding */
    struct waitq exit_wait;
    /* Woken with EPOLLIN when a signal was queued (signalfd). */
    struct waitq signal_wait;
    /* --- credentials: one user, root unless told otherwise --- */
    uint32_t uid, gid, euid, egid, suid, sgid;
    uint32_t groups[64]; /* setgroups; more are refused */
    size_t nr_groups;
    /* --- set with atomic stores --- */
    struct rlimit64 rlimits[NR_RLIMITS];
    struct itimer *itimers[3]; /* ITIMER_*; timer.c, made on first use */
    uint32_t personality;
    uint32_t dumpable;
    uint32_t keep_caps;
    bool subreaper;
    nsec_t start_time;
    nsec_t dead_cpu_time; /* of threads that are gone */
    struct mutex timers_lock;
    struct list posix_timers; /* protected by timers_lock */
    int next_timer_id;        /* protected by timers_lock */
};

struct task {
    struct thread thread; /* first member */
    int tid;
    struct process *process; /* owned reference */
    struct list process_link; /* protected by process->siglock */
    /* --- owner thread only --- */
    uint32_t __user *clear_child_tid;
    void __user *robust_list;
    size_t robust_list_len;
    void __user *rseq;
    uint64_t sas_sp, sas_size; /* sigaltstack */
    uint32_t sas_flags;
    sigset_t64 saved_mask;     /* sigsuspend, ppoll, ... */
    bool restore_saved_mask;
    int64_t (*restart_fn)(struct task *); /* restart_syscall(2) */
    uint64_t restart_args[6];
    uint64_t orig_rax;         /* number of the call being made, -1 none */
    vaddr_t echo_start;        /* CAPSTAN_CALL_ECHO */
    size_t echo_len;
    uint64_t fault_vec, fault_error, fault_addr; /* last fault, for frames */
    nsec_t timer_slack;
    int pdeath_signal;
    bool no_new_privs;
    /* --- protected by process->siglock --- */
    sigset_t64 blocked;
    sigset_t64 waited;         /* sigtimedwait: wake for these too */
    struct sigpending pending;
    int exit_code;             /* of this thread, wait(2) encoding */
    /* --- accepted, no effect (atomic) --- */
    int nice;
    int sched_policy, sched_priority;
};

static inline struct task *current_task(void)
{
    return (struct task *)current_thread();
}

static inline struct process *current_process(void)
{
    return current_task()->process;
}

/* process.c */
int process_create_init(struct process **out); /* INIT_PID, no mm yet */
void process_get(struct process *p);
void process_put(struct process *p);
/* Ends every thread; status in wait(2) encoding. */
void process_exit(int wait_status) __noreturn;
struct task *task_find(int tid); /* Returns owned (thread_put) or NULL */
/* A task of p, not started, not yet in p's list. Returns owned. */
int __must_check task_create(struct process *p, const char *name,
                             struct task **out);
/* Gives it a tid (0: choose) and adds it to p's list; -EAGAIN: p ends. */
int __must_check task_publish(struct task *t, int tid);
/* Ends the calling thread only; code in wait(2) encoding. */
void task_exit(int code) __noreturn;
/* Is the calling thread told to end (exit_group, execve elsewhere)? */
bool task_must_end(struct task *t);
/* execve: returns when the caller is the only thread; -EAGAIN: it must end. */
int __must_check process_end_other_threads(void);
nsec_t process_cpu_time(struct process *p);
char task_state_letter(struct task *t); /* as /proc/PID/stat: R, S or X */
extern struct process *init_process;
/* signal.c */
int signal_send_process(struct process *p, const struct siginfo64 *info);
int signal_send_task(struct task *t, const struct siginfo64 *info);
/* A fault of the current program: forced, kills when blocked or ignored.
 * code: SEGV_MAPERR ... */
void signal_fault(int signo, int code, vaddr_t addr, struct regs *regs);
/* From the host (control channel, tty): to the init process. */
void signal_from_host(int signo);
/* signalfd, sigtimedwait: takes the first pending signal (of the calling
 * thread, then of its process) that is in `mask`. False: none. */
bool signal_dequeue(sigset_t64 mask, struct siginfo64 *out);
/* Pending for the calling thread or its process. */
sigset_t64 signal_pending_set(void);
/* ppoll, pselect, epoll_pwait, sigsuspend: sets the mask for this call only;
 * dispatch puts the old one back (after the handler when a signal came). */
void signal_mask_temporary(sigset_t64 mask);
/* rt_sigprocmask's core: sets the caller's mask (SIGKILL, SIGSTOP stay out). */
void signal_set_blocked(sigset_t64 mask);
/* Fills SI_USER-like fields. */
void siginfo_fill(struct siginfo64 *info, int signo, int code, int pid,
                  uint32_t uid);
/* Recomputes the caller's WORK_SIGNAL; siglock held, interrupts off. */
void signal_recalc_locked(struct task *t);
/* Sends q (embedded in a timer; interrupts off allowed). False: it was still
 * queued (an overrun). t NULL: to the process. */
bool signal_send_queued(struct process *p, struct task *t, struct sigqueue *q);
/* Takes q out of whatever queue it is in (timer deletion). */
void signal_unqueue(struct process *p, struct sigqueue *q);
/* SIG_IGN, or SIG_DFL whose action is to ignore. siglock held. */
bool signal_is_ignored_locked(struct process *p, int signo);
/* Forgets pending signals of `mask`, process-wide. */
void signal_discard(struct process *p, sigset_t64 mask);
/* execve: caught signals to default, alternate stack gone. */
void signal_exec_reset(void);
/* Sets signal_work_hook; at boot. */
void signal_init(void);

/* exec.c: loads `path` into the current process and fills *regs; on failure
 * before the point of no return -errno and nothing changed. */
int exec_load(const char *path, char *const *argv, char *const *envp,
              struct regs *regs);
/* misc.c: what uname says; /proc says the same. */
#define UTS_RELEASE "6.1.0-capstan"
#define UTS_VERSION "#1 SMP PREEMPT_DYNAMIC capstan"
void uts_hostname(char *buf, size_t size);
/* crash.c: tells the user why the program dies. regs: at the fault. */
void crash_report(int signo, const struct siginfo64 *info, struct regs *regs);
/* init.c: reports the end of init_process to the host and stops. */
void init_process_end(int wait_status) __noreturn;
/* threads_report.c: tells the host the program's threads (control port). */
void threads_report(void);
/* The boot path: starts pid 1 from the parameters. Never returns to the
 * caller's code: the calling kernel thread waits and then ends the machine. */
void init_process_run(void);
