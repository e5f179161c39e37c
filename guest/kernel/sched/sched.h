/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What arch/ calls in the scheduler.
 */
#pragma once

#include "sched/thread.h"

/* run.c */
void sched_init(void); /* boot CPU: its current context becomes a thread */
/* Memory for a CPU about to start: idle thread; returns its stack's top. */
void *sched_prepare_cpu(struct cpu *c);
void sched_start_cpu(void) __noreturn; /* on the new CPU: the idle loop */
void sched_ipi(void);
void sched_timer_interrupt(void);
/* Prints the state of every CPU and queue. */
void sched_dump(void);
void thread_first_run(void) __noreturn;
/* timer.c: runs what is due; returns the next deadline or 0. */
nsec_t timer_run_due(void);
nsec_t timer_next(void);
/* Makes sure the hardware fires at or before `deadline`. */
void timer_arm_hardware(nsec_t deadline);
/* smp.c */
void smp_cpu_online(struct cpu *c);
/* power/idle: trap.S */
void arch_idle(void);
void context_switch(uint64_t *save_rsp, uint64_t new_rsp);
extern char thread_trampoline[];
