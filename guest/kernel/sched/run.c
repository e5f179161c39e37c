/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Run queues and the switch.
 *
 * - One queue per CPU, round robin. `active` (thread->queued) is true from the
 *   moment a thread is put in a queue until it goes to sleep; with `state` it
 *   is protected by the run-queue lock of thread->cpu. A wake-up between
 *   "state = SLEEPING" and schedule() just sets the state back.
 * - A thread is taken by another CPU only after on_cpu is 0: its registers
 *   are in memory then.
 * - A wake-up goes to the waker's CPU unless the thread's last CPU is polling
 *   (an IPI to a halted CPU costs 60,000+ cycles). The slice timer, armed only
 *   when a second thread is runnable, kicks an idle CPU when work piles up.
 */
#include "arch/machine.h"
#include "lib/printk.h"
#include "lib/string.h"
#include "mm/heap.h"
#include "mm/mm.h"
#include "mm/page.h"
#include "param.h"
#include "sched/poller.h"
#include "sched/sched.h"

#define SLICE_NS 4000000
#define SPREAD_NS 300000 /* queued work waits this long for an idle CPU */
#define POLL_NS 20000    /* idle: poll before halting (several CPUs only) */
#define TORTURE_NS 50000

struct runqueue {
    struct spinlock lock; /* irq-safe */
    struct list threads;
    uint32_t nr;          /* atomic reads */
    nsec_t slice_end;     /* 0: not running */
    struct thread *dead;  /* owner CPU: to be freed after the switch */
};

static struct runqueue queues[MAX_CPUS];
static struct thread idle_threads[MAX_CPUS];

void (*signal_work_hook)(struct regs *regs);
const struct sched_poller *sched_poller;

static bool enqueue_locked(struct runqueue *q, struct thread *t, unsigned cpu)
{
    assert(list_empty(&t->run_link));
    t->cpu = cpu;
    t->queued = 1;
    list_add_tail(&q->threads, &t->run_link);
    q->nr++;
    return q->nr == 1;
}

static struct thread *dequeue_locked(struct runqueue *q, unsigned cpu,
                                     bool stealing, struct thread *prev)
{
    struct thread *t;

    list_for_each(t, &q->threads, run_link) {
        /* One that another CPU is just leaving waits for the next round:
         * two CPUs that spin for each other's thread would never end. */
        if (t != prev && atomic_load_acquire(&t->on_cpu))
            continue;
        if (stealing && !(t->affinity >> cpu & 1))
            continue;
        list_del(&t->run_link);
        q->nr--;
        return t;
    }
    return NULL;
}

/* Takes a waiting thread from another CPU. */
static struct thread *steal(unsigned me)
{
    for (unsigned n = 1; n < nr_cpus; n++) {
        unsigned victim = (me + n) % nr_cpus;
        struct runqueue *q = &queues[victim];
        struct thread *t;
        if (!atomic_load_relaxed(&q->nr))
            continue;
        spin_lock(&q->lock);
        t = dequeue_locked(q, me, true, NULL);
        if (t)
            t->cpu = me;
        spin_unlock(&q->lock);
        if (t)
            return t;
    }
    return NULL;
}

static void arm_slice(struct runqueue *q)
{
    nsec_t slice = SLICE_NS;

    for (unsigned i = 0; i < nr_cpus && nr_cpus > 1; i++) {
        if (cpus[i]->idle)
            slice = SPREAD_NS;
    }
    if (boot_params.torture)
        slice = TORTURE_NS;
    q->slice_end = clock_monotonic() + slice;
    timer_arm_hardware(q->slice_end);
}

static void load_mm(struct cpu *c, struct thread *next)
{
    struct mm *mm = next->mm;
    uint64_t bit = 1ul << c->id;

    if (!mm)
        return; /* kernel threads use whatever is loaded */
    if (c->mm && c->mm != mm)
        atomic_and(&c->mm->active_cpus, ~bit);
    atomic_or(&mm->active_cpus, bit); /* pairs with tlb_flush */
    uint64_t gen = atomic_load_acquire(&mm->tlb_gen);
    if (c->mm == mm && c->mm_gen == gen)
        return;
    c->mm = mm;
    c->mm_gen = gen;
    __asm__ volatile("mov %0, %%cr3" ::"r"(mm->pml4) : "memory");
}

/* On the new thread's stack, interrupts off. */
static void finish_switch(struct thread *prev)
{
    bool dead = prev->state == THREAD_DEAD;

    atomic_store_release(&prev->on_cpu, 0u);
    if (dead)
        thread_put(prev);
}

static struct thread *switched_from[MAX_CPUS];

static void switch_to(struct cpu *c, struct thread *prev, struct thread *next)
{
    nsec_t now = clock_monotonic();

    prev->cpu_time += now - prev->switched_in;
    next->switched_in = now;
    next->nr_switches++;
    if (prev->fpu && prev->state != THREAD_DEAD) {
        fpu_save(prev->fpu);
        prev->fs_base = fs_base_read();
    }
    if (prev->mm && (!next->mm && next == c->idle_thread))
        atomic_and(&prev->mm->active_cpus, ~(1ul << c->id));
    load_mm(c, next);
    assert(!next->on_cpu && c->current == prev);
    atomic_store_relaxed(&next->on_cpu, 1u);
    c->current = next;
    c->kernel_stack = (uint64_t)next->stack + KERNEL_STACK_SIZE;
    if (next->fpu) {
        fpu_restore(next->fpu);
        fs_base_write(next->fs_base);
    }
    switched_from[c->id] = prev;
    count_event(COUNT_SWITCHES);
    context_switch(&prev->saved_rsp, next->saved_rsp);
    finish_switch(switched_from[this_cpu()->id]);
}

/* Torture: a thread that could go on is sent to the next CPU. Its state cannot
 * change meanwhile: it is runnable and this CPU is not running it any more. */
static bool push_away(struct thread *prev, struct cpu *c)
{
    unsigned to = (c->id + 1) % nr_cpus;

    if (to == c->id || prev == c->idle_thread ||
        prev->state != THREAD_RUNNING || !(prev->affinity >> to & 1))
        return false;
    spin_lock(&queues[to].lock);
    enqueue_locked(&queues[to], prev, to);
    spin_unlock(&queues[to].lock);
    smp_ipi(cpus[to], IPI_RESCHED);
    return true;
}

/* A thread that may not stay here (sched_setaffinity) goes where it may. As
 * above: it is runnable and this CPU is not running it any more. */
static bool send_home(struct thread *prev, struct cpu *c)
{
    if (prev == c->idle_thread || prev->state != THREAD_RUNNING ||
        prev->affinity >> c->id & 1)
        return false;
    for (unsigned i = 0; i < nr_cpus; i++) {
        if (prev->affinity >> i & 1) {
            spin_lock(&queues[i].lock);
            enqueue_locked(&queues[i], prev, i);
            spin_unlock(&queues[i].lock);
            smp_ipi(cpus[i], IPI_RESCHED);
            return true;
        }
    }
    return false;
}

static struct thread *pick_next(struct cpu *c, struct runqueue *q,
                                struct thread *prev)
{
    struct thread *next;
    unsigned me = c->id;

    if ((boot_params.torture && push_away(prev, c)) || send_home(prev, c))
        prev = c->idle_thread;
    spin_lock(&q->lock);
    if (prev != c->idle_thread) {
        if (prev->state == THREAD_RUNNING)
            enqueue_locked(q, prev, me);
        else
            prev->queued = 0;
    }
    next = dequeue_locked(q, me, false, prev);
    if (next && next != prev && !(next->affinity >> me & 1) && nr_cpus > 1) {
        /* Its affinity changed while it waited here: pass it on. */
        for (unsigned i = 0; i < nr_cpus; i++) {
            if (next->affinity >> i & 1) {
                spin_unlock(&q->lock);
                spin_lock(&queues[i].lock);
                enqueue_locked(&queues[i], next, i);
                spin_unlock(&queues[i].lock);
                smp_ipi(cpus[i], IPI_RESCHED);
                return pick_next(c, q, c->idle_thread);
            }
        }
    }
    spin_unlock(&q->lock);
    if (!next)
        next = steal(me);
    return next ? next : c->idle_thread;
}

void schedule(void)
{
    struct thread *prev = current_thread(), *next;
    bool was_on, is_asked = false;
    struct cpu *c;
    struct runqueue *q;

    /* Before the turn: an interrupt that asks for one while the turn ends
     * asks for another. */
    atomic_and(&prev->work, ~WORK_RESCHED);
    poller_turn(); /* it may wake the current thread */
    was_on = irq_save();
    c = this_cpu();
    q = &queues[c->id];

    if (unlikely(thread_has_work(prev, WORK_RESCHED))) {
        is_asked = poller_has_work();
        atomic_and(&prev->work, ~WORK_RESCHED);
    }
    next = pick_next(c, q, prev);
    if (atomic_load_relaxed(&q->nr) && next != c->idle_thread)
        arm_slice(q);
    else
        q->slice_end = 0;
    if (unlikely(is_asked)) /* on its way back to the program */
        atomic_or(&next->work, WORK_RESCHED);
    if (next != prev)
        switch_to(c, prev, next);
    irq_restore(was_on);
}

void sched_yield(void)
{
    if (!atomic_load_relaxed(&queues[this_cpu()->id].nr) && nr_cpus == 1)
        return;
    schedule();
}

void sched_yield_point(void)
{
    if (thread_has_work(current_thread(), WORK_RESCHED))
        schedule();
}

void thread_first_run(void)
{
    struct thread *t = current_thread();

    finish_switch(switched_from[this_cpu()->id]);
    if (t->entry) {
        irq_on();
        t->entry(t->arg);
        thread_exit();
    }
    return_to_program(thread_regs(t));
}

static unsigned choose_cpu(struct thread *t)
{
    unsigned me = this_cpu()->id, last = t->cpu;

    if (last != me && t->affinity >> last & 1 &&
        (cpus[last]->idle == 1 || !(t->affinity >> me & 1)))
        return last;
    if (t->affinity >> me & 1)
        return me;
    for (unsigned i = 0; i < nr_cpus; i++) {
        if (t->affinity >> i & 1)
            return i;
    }
    return last;
}

void thread_wake(struct thread *t)
{
    bool was_on = irq_save();
    bool wake = false, first = false;
    unsigned cpu;

    for (;;) {
        cpu = atomic_load_relaxed(&t->cpu);
        spin_lock(&queues[cpu].lock);
        if (cpu == t->cpu)
            break;
        spin_unlock(&queues[cpu].lock);
    }
    if (t->state == THREAD_SLEEPING) {
        t->state = THREAD_RUNNING;
        wake = !t->queued;
        if (wake) /* nobody else can queue it now */
            t->queued = 1;
    }
    spin_unlock(&queues[cpu].lock);
    if (wake) {
        cpu = choose_cpu(t);
        spin_lock(&queues[cpu].lock);
        first = enqueue_locked(&queues[cpu], t, cpu);
        spin_unlock(&queues[cpu].lock);
        struct cpu *me = this_cpu();
        if (cpu != me->id) {
            smp_mb(); /* pairs with the idle loop */
            if (cpus[cpu]->idle != 1)
                smp_ipi(cpus[cpu], IPI_RESCHED);
        } else if (me->current == me->idle_thread) {
            atomic_or(&me->current->work, WORK_RESCHED);
        } else if (first && !queues[cpu].slice_end) {
            arm_slice(&queues[cpu]);
        }
    }
    irq_restore(was_on);
}

void thread_set_work(struct thread *t, uint32_t bits)
{
    uint32_t cpu = atomic_load_relaxed(&t->cpu);

    atomic_or(&t->work, bits);
    if (t != current_thread() && atomic_load_relaxed(&t->on_cpu) &&
        cpus[cpu] != this_cpu())
        smp_ipi(cpus[cpu], IPI_RESCHED);
}

int thread_set_affinity(struct thread *t, uint64_t mask)
{
    atomic_store_relaxed(&t->affinity, mask);
    if (mask >> atomic_load_relaxed(&t->cpu) & 1)
        return 0;
    if (t == current_thread())
        schedule();
    else
        thread_set_work(t, WORK_RESCHED); /* send_home */
    return 0;
}

nsec_t thread_cpu_time(struct thread *t)
{
    nsec_t n = t->cpu_time;

    if (t->on_cpu)
        n += clock_monotonic() - t->switched_in;
    return n;
}

void sched_ipi(void)
{
    struct cpu *c = this_cpu();

    /* Whoever sent it set the reason: work bits or a queue entry. */
    if (c->current == c->idle_thread || queues[c->id].nr)
        atomic_or(&c->current->work, WORK_RESCHED);
}

/* Work is waiting here while others idle: one of them may steal it. */
static void kick_idle(struct cpu *me)
{
    for (unsigned i = 0; i < nr_cpus; i++) {
        if (cpus[i] != me && cpus[i]->idle == 2) {
            smp_ipi(cpus[i], IPI_RESCHED);
            return;
        }
    }
}

void sched_timer_interrupt(void)
{
    struct cpu *c = this_cpu();
    struct runqueue *q = &queues[c->id];
    nsec_t next;

    c->timer_armed = 0;
    next = timer_run_due();
    if (q->slice_end) {
        if (clock_monotonic() >= q->slice_end) {
            q->slice_end = 0;
            if (nr_cpus > 1 && q->nr)
                kick_idle(c);
            atomic_or(&c->current->work, WORK_RESCHED);
        } else {
            next = next ? MIN(next, q->slice_end) : q->slice_end;
        }
    } else if (boot_params.torture) {
        atomic_or(&c->current->work, WORK_RESCHED);
        next = clock_monotonic() + TORTURE_NS;
    }
    if (next)
        timer_arm_hardware(next);
}

static bool anything_to_run(unsigned me)
{
    for (unsigned i = 0; i < nr_cpus; i++) {
        if (atomic_load_relaxed(&queues[i].nr) &&
            (i == me || !cpus[i]->idle))
            return true;
    }
    return false;
}

static __noreturn void idle_loop(void)
{
    struct cpu *c = this_cpu();

    for (;;) {
        nsec_t until = nr_cpus > 1 ? clock_monotonic() + POLL_NS : 0;
        until = poller_idle(until);
        c->idle = 1;
        smp_mb(); /* pairs with thread_wake */
        while (until && !anything_to_run(c->id) && !poller_has_work() &&
               !thread_has_work(c->current, WORK_RESCHED) &&
               clock_monotonic() < until)
            cpu_relax();
        irq_off();
        c->idle = 2;
        smp_mb(); /* pairs with thread_wake */
        if (!atomic_load_relaxed(&queues[c->id].nr) &&
            !thread_has_work(c->current, WORK_RESCHED) && poller_may_halt())
            arch_idle(); /* turns interrupts on */
        c->idle = 0;
        irq_on();
        schedule();
    }
}

static struct thread *make_idle(struct cpu *c, void *stack)
{
    struct thread *t = &idle_threads[c->id];

    list_init(&queues[c->id].threads);
    snprintf(t->name, sizeof(t->name), "idle/%u", c->id);
    t->stack = stack;
    t->state = THREAD_RUNNING;
    t->on_cpu = 1;
    t->refcount = 1;
    t->cpu = c->id;
    t->affinity = 1ul << c->id;
    list_init(&t->run_link);
    c->idle_thread = c->current = t;
    c->kernel_stack = (uint64_t)stack + KERNEL_STACK_SIZE;
    return t;
}

void *sched_prepare_cpu(struct cpu *c)
{
    void *stack = kmalloc(KERNEL_STACK_SIZE);

    if (!stack)
        return NULL;
    make_idle(c, stack);
    return (char *)stack + KERNEL_STACK_SIZE;
}

void sched_init(void)
{
    extern char boot_stack[];
    make_idle(this_cpu(), boot_stack);
}

void sched_start_cpu(void)
{
    if (boot_params.torture)
        timer_arm_hardware(clock_monotonic() + TORTURE_NS);
    irq_on();
    idle_loop();
}

void sched_dump(void)
{
    for (unsigned i = 0; i < nr_cpus; i++) {
        struct cpu *c = cpus[i];
        printk("cpu %u: current %s idle %u queue %u slice %ld armed %ld "
               "ipi %x now %ld\n",
               i, c->current->name, c->idle, queues[i].nr,
               queues[i].slice_end, c->timer_armed, c->ipi_work,
               clock_monotonic());
    }
}
