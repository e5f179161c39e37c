/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Threads and the scheduler: per-CPU run queues, no preemption inside the
 * kernel, switches on return to the program and at explicit waits.
 *
 * Interface rules:
 * - Whoever wants to sleep uses a wait queue (sched/wait.h) or a mutex.
 * - A thread is woken with thread_wake(); waking a runnable thread is a no-op
 *   that is remembered by wait_prepare()'s protocol, so no wake-up is lost.
 * - `work` bits are checked on every return to the program.
 * - Long loops in the kernel call sched_yield_point().
 */
#pragma once

#include "sched/lockorder.h"
#include "arch/arch.h"
#include "lib/list.h"
#include "lib/lock.h"
#include "lib/types.h"

#define KERNEL_STACK_SIZE (16 * KIB)

enum thread_state {
    THREAD_RUNNING,  /* on a CPU or in a run queue */
    THREAD_SLEEPING, /* waits; signals wake it if interruptible */
    THREAD_DEAD,
};

/* thread.work bits: reasons to take the slow way out of the kernel. */
#define WORK_RESCHED 1u  /* another thread should run */
#define WORK_SIGNAL 2u   /* a signal may be deliverable, or exit requested */
#define WORK_FULL 4u     /* registers were replaced: restore all of them */
#define WORK_TRACE 8u    /* strace: report calls */

struct thread {
    /* --- fixed by switch.S --- */
    uint64_t saved_rsp; /* +0, while not running */

    /* --- set once at creation --- */
    void *stack;            /* KERNEL_STACK_SIZE bytes */
    struct mm *mm;          /* NULL for kernel threads */
    void (*entry)(void *);  /* kernel threads */
    void *arg;
    void *fpu;              /* 64-byte aligned save area, or NULL */
    uint32_t id;            /* kernel-wide number, for messages */

    /* --- atomic --- */
    uint32_t work;          /* WORK_* */
    uint32_t refcount;      /* refcounted: thread_get/thread_put */

    /* --- protected by the run-queue lock of `cpu` --- */
    uint32_t state;         /* enum thread_state; see wait.h */
    uint32_t cpu;           /* where it runs or ran last */
    uint32_t on_cpu;        /* 1 while its registers are in a CPU */
    uint32_t queued;        /* in a run queue */
    struct list run_link;
    uint64_t affinity;      /* bit per CPU */
    nsec_t slice_end;

    /* --- owner thread only --- */
    uint64_t fs_base;       /* while not running */
    nsec_t cpu_time;        /* accumulated; add now - switched_in if running */
    nsec_t switched_in;
    uint64_t nr_switches;
    bool in_fault;          /* DEBUG: nesting check */
    char name[16];
#ifdef DEBUG
    uint8_t nr_held, held[LOCKORDER_MAX_HELD]; /* lockorder.h */
#endif
};

static inline bool thread_has_work(struct thread *t, uint32_t bits)
{
    return (atomic_load_relaxed(&t->work) & bits) != 0;
}

/* thread.c */
/* Initialises the embedded thread `t` (zeroed by the caller), allocates its
 * stack and, when mm is not NULL, its FPU area. -ENOMEM. Refcount 1. */
int __must_check thread_init(struct thread *t, const char *name,
                             struct mm *mm);
/* The thread will start in the program with *regs. */
void thread_set_program_entry(struct thread *t, const struct regs *regs);
/* Makes it runnable for the first time. */
void thread_start(struct thread *t);
/* A kernel thread running entry(arg); Returns owned by itself. */
struct thread *kthread_create(const char *name, void (*entry)(void *),
                              void *arg);
/* Ends the current thread. `destroy` is called with it once it is off its
 * stack and its last reference is gone (NULL: kernel thread, kfree). */
void thread_exit(void) __noreturn;
extern void (*thread_destroy_hook)(struct thread *t);
void thread_get(struct thread *t);
void thread_put(struct thread *t);
/* The registers the program had on entry (top of the kernel stack). */
struct regs *thread_regs(struct thread *t);

/* run.c */
void schedule(void);            /* gives the CPU away; state decides */
void sched_yield(void);         /* back of the queue */
void sched_yield_point(void);   /* schedule() if WORK_RESCHED is set */
void thread_wake(struct thread *t);
/* Sets work bits; the thread sees them on its next return to the program
 * (a running one is interrupted). Does not wake a sleeper. */
void thread_set_work(struct thread *t, uint32_t bits);
int thread_set_affinity(struct thread *t, uint64_t mask);
nsec_t thread_cpu_time(struct thread *t);
/* Hooks the upper layers set at init: */
extern void (*signal_work_hook)(struct regs *regs); /* WORK_SIGNAL, irqs on */
