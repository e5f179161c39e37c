/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * From a number to a handler, and what the guest lacks.
 *
 * The tables come from syscalls.def. Counters are atomic; nothing is locked.
 */
#include "capstan_calls.h"

#include "drivers/drivers.h"
#include "lib/atomic.h"
#include "lib/errno.h"
#include "lib/string.h"
#include "linux/syscall_protos.h"
#include "linux/task.h"
#include "param.h"

#define MAX_MISSING 8

static const syscall_fn handlers[NR_SYSCALLS] = {
#define SYSCALL(nr, name, handler, level, nr_args, formats, note) \
    [nr] = handler,
#include "linux/syscalls.def"
#undef SYSCALL
};

const struct syscall_info syscall_table[NR_SYSCALLS] = {
#define SYSCALL(nr, name, handler, level, nr_args, formats, note) \
    [nr] = {#name, formats, SYS_##level, nr_args},
#include "linux/syscalls.def"
#undef SYSCALL
};

static uint16_t absent_counts[NR_SYSCALLS]; /* atomic, saturating */
static struct {
    const char *what;
    uint32_t count; /* atomic */
} missing[MAX_MISSING];
#ifdef DEBUG
static uint64_t total; /* atomic */
#endif

const char *syscall_name(uint64_t nr)
{
    return nr < NR_SYSCALLS ? syscall_table[nr].name : NULL;
}

uint64_t syscall_total(void)
{
#ifdef DEBUG
    return atomic_load_relaxed(&total);
#else
    return 0;
#endif
}

/* A temporary mask ends with its call, unless a signal's handler needs it:
 * then signal.c puts it in the frame. */
static void end_temporary_mask(struct task *t, int64_t result)
{
    if (result == -EINTR || result <= -ERESTARTSYS) {
        atomic_or(&t->thread.work, WORK_SIGNAL);
        return;
    }
    t->restore_saved_mask = false;
    signal_set_blocked(t->saved_mask);
}

static bool is_restart(int64_t result)
{
    return result <= -ERESTARTSYS && result >= -ERESTART_RESTARTBLOCK;
}

/* Traced or echoed calls. */
static int64_t call_watched(struct task *t, struct regs *r, uint64_t nr,
                            syscall_fn fn)
{
    uint64_t args[6] = {r->rdi, r->rsi, r->rdx, r->r10, r->r8, r->r9};
    int64_t result;

    if (r->rip - t->echo_start < t->echo_len)
        return (int64_t)capstan_echo(nr, args[0], args[1], args[2], args[3],
                                     args[4], args[5]);
    if (!boot_params.strace)
        return fn(r->rdi, r->rsi, r->rdx, r->r10, r->r8, r->r9);
    strace_enter(nr, args);
    result = fn(r->rdi, r->rsi, r->rdx, r->r10, r->r8, r->r9);
    strace_call(r, nr, args, result);
    return result;
}

void syscall_dispatch(struct regs *r)
{
    struct task *t = current_task();
    uint64_t nr = r->error;
    syscall_fn fn = sys_absent;
    int64_t result;

    if (likely(nr < NR_SYSCALLS && handlers[nr] != NULL))
        fn = handlers[nr];
    t->orig_rax = nr;
#ifdef DEBUG
    atomic_add(&total, 1ul);
#endif
    if (unlikely(boot_params.strace | boot_params.echo))
        result = call_watched(t, r, nr, fn);
    else
        result = fn(r->rdi, r->rsi, r->rdx, r->r10, r->r8, r->r9);
    r->rax = (uint64_t)result;
    if (unlikely(t->restore_saved_mask))
        end_temporary_mask(t, result);
    /* Another thread may have taken the signal: restart all the same. */
    if (unlikely(is_restart(result)))
        atomic_or(&t->thread.work, WORK_SIGNAL);
}

int64_t sys_absent(uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e,
                   uint64_t f)
{
    uint64_t nr = current_task()->orig_rax;

    if (nr >= CAPSTAN_CALL_BASE && nr < CAPSTAN_CALL_END)
        return capstan_call(nr, (const uint64_t[]){a, b, c, d, e, f});
    if (nr < NR_SYSCALLS && atomic_load_relaxed(&absent_counts[nr]) < 0xffff)
        atomic_add(&absent_counts[nr], (uint16_t)1);
    else if (nr >= NR_SYSCALLS)
        syscall_count_missing("a number past the end of the table");
    return -ENOSYS;
}

int64_t sys_absent_quiet(uint64_t a, uint64_t b, uint64_t c, uint64_t d,
                         uint64_t e, uint64_t f)
{
    return -ENOSYS;
}

void syscall_count_missing(const char *what)
{
    const char *expected;

    for (int i = 0; i < MAX_MISSING; i++) {
        expected = NULL;
        if (atomic_cmpxchg(&missing[i].what, &expected, what) ||
            strcmp(expected, what) == 0) {
            atomic_add(&missing[i].count, 1u);
            return;
        }
    }
}

static void report(const char *name, unsigned count)
{
    control_send("message the program called %s (%u time%s), which the guest "
                 "lacks; run with --strace", name, count, count == 1 ? "" : "s");
}

void syscall_report_absent(void)
{
    char number[24];

    for (unsigned i = 0; i < NR_SYSCALLS; i++) {
        if (absent_counts[i] == 0)
            continue;
        snprintf(number, sizeof(number), "system call %u", i);
        report(syscall_table[i].name != NULL ? syscall_table[i].name : number,
               absent_counts[i]);
    }
    for (int i = 0; i < MAX_MISSING && missing[i].what != NULL; i++)
        report(missing[i].what, missing[i].count);
}
