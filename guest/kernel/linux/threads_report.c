/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What `capstan top` shows: a line on the control port for each thread of the
 * program (docs/host-guest.md). Called by the control thread; nothing is sent
 * while the list of threads is locked.
 */
#include "drivers/drivers.h"
#include "linux/task.h"
#include "mm/heap.h"

#define SPARE_ROWS 16 /* for threads that start meanwhile */

struct row {
    int tid;
    char state;
    uint32_t cpu;
    nsec_t cpu_time;
    char name[sizeof(((struct thread *)0)->name)];
};

/* Printable in one line of text. */
static void copy_name(char *to, const char *from, size_t size)
{
    size_t i;

    for (i = 0; i + 1 < size && from[i]; i++)
        to[i] = from[i] < ' ' || from[i] == 0x7f ? '?' : from[i];
    to[i] = 0;
}

/* The rows of at most `max` threads; how many. */
static size_t collect(struct process *p, struct row *rows, size_t max)
{
    bool was_on = spin_lock_irqsave(&p->siglock);
    struct task *t;
    size_t n = 0;

    list_for_each(t, &p->threads, process_link) {
        struct row *row = &rows[n];

        if (n == max)
            break;
        row->tid = t->tid;
        row->state = task_state_letter(t);
        row->cpu = atomic_load_relaxed(&t->thread.cpu);
        row->cpu_time = thread_cpu_time(&t->thread);
        copy_name(row->name, t->thread.name, sizeof(row->name));
        n++;
    }
    spin_unlock_irqrestore(&p->siglock, was_on);
    return n;
}

void threads_report(void)
{
    struct process *p = init_process;
    size_t max = p ? atomic_load_relaxed(&p->nr_threads) + SPARE_ROWS : 0;
    struct row *rows = p ? kmalloc(max * sizeof(*rows)) : NULL;
    size_t n = rows ? collect(p, rows, max) : 0;

    for (size_t i = 0; i < n; i++)
        control_send("threads %d %d %c %u %lu %s", p->pid, rows[i].tid,
                     rows[i].state, rows[i].cpu,
                     (unsigned long)(rows[i].cpu_time / 1000000),
                     rows[i].name);
    kfree(rows);
    control_send("threads end");
}
