/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The life of a thread: creation, first run, end.
 */
#include "arch/machine.h"
#include "lib/errno.h"
#include "lib/printk.h"
#include "lib/string.h"
#include "mm/heap.h"
#include "mm/mm.h"
#include "sched/sched.h"

void (*thread_destroy_hook)(struct thread *t);
static uint32_t next_id = MAX_CPUS;

struct regs *thread_regs(struct thread *t)
{
    return (struct regs *)((char *)t->stack + KERNEL_STACK_SIZE) - 1;
}

int thread_init(struct thread *t, const char *name, struct mm *mm)
{
    uint64_t *sp;

    t->stack = kmalloc(KERNEL_STACK_SIZE);
    if (!t->stack)
        return -ENOMEM;
    if (mm) {
        t->fpu = kmalloc(fpu_area_size());
        if (!t->fpu) {
            kfree(t->stack);
            return -ENOMEM;
        }
        fpu_area_init(t->fpu); /* XSAVEC leaves parts of it alone */
        if (current_thread()->fpu) /* a new thread inherits the state */
            fpu_save(t->fpu);
        mm_get(mm);
        t->mm = mm;
    }
    strlcpy(t->name, name, sizeof(t->name));
    t->id = atomic_add(&next_id, 1u);
    t->refcount = 1;
    t->state = THREAD_SLEEPING;
    t->cpu = this_cpu()->id;
    t->affinity = ~0ul;
    list_init(&t->run_link);
    /* context_switch pops six registers and returns to the trampoline, which
     * finds the stack 16-byte aligned below the register frame. */
    sp = (uint64_t *)thread_regs(t) - 9;
    memset(sp, 0, 9 * 8);
    sp[6] = (uint64_t)thread_trampoline;
    t->saved_rsp = (uint64_t)sp;
    return 0;
}

void thread_set_program_entry(struct thread *t, const struct regs *regs)
{
    *thread_regs(t) = *regs;
}

void thread_start(struct thread *t)
{
    thread_wake(t);
}

struct thread *kthread_create(const char *name, void (*entry)(void *),
                              void *arg)
{
    struct thread *t = kzalloc(sizeof(*t));

    if (!t || thread_init(t, name, NULL)) {
        kfree(t);
        return NULL;
    }
    t->entry = entry;
    t->arg = arg;
    thread_start(t);
    return t;
}

void thread_exit(void)
{
    irq_off();
    current_thread()->state = THREAD_DEAD;
    schedule();
    panic("a dead thread ran");
}

void thread_get(struct thread *t)
{
    atomic_add(&t->refcount, 1u);
}

/* The last reference of a thread that ran is dropped after its last switch,
 * so its stack is not in use. */
void thread_put(struct thread *t)
{
    if (atomic_sub(&t->refcount, 1u))
        return;
    kfree(t->stack);
    kfree(t->fpu);
    if (t->mm)
        mm_put(t->mm);
    if (t->entry || !thread_destroy_hook)
        kfree(t);
    else
        thread_destroy_hook(t);
}
