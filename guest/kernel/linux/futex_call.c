/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * futex(2): arguments, time-outs and restarts; the work is in sched/futex.c.
 */
#include "lib/errno.h"
#include "linux/clocks.h"
#include "linux/syscall_protos.h"
#include "sched/futex.h"

enum {
    FUTEX_WAIT, FUTEX_WAKE, FUTEX_FD, FUTEX_REQUEUE, FUTEX_CMP_REQUEUE,
    FUTEX_WAKE_OP, FUTEX_LOCK_PI, FUTEX_UNLOCK_PI, FUTEX_TRYLOCK_PI,
    FUTEX_WAIT_BITSET, FUTEX_WAKE_BITSET, FUTEX_WAIT_REQUEUE_PI,
    FUTEX_CMP_REQUEUE_PI, FUTEX_LOCK_PI2,
};
#define FUTEX_PRIVATE_FLAG 128u
#define FUTEX_CLOCK_REALTIME 256u

static int64_t wait_again(struct task *t)
{
    uint64_t *a = t->restart_args;
    int64_t r = futex_wait((uint32_t *)a[0], a[1], (uint32_t)a[2],
                           (nsec_t)a[3], (uint32_t)a[4]);

    if (r != -EINTR)
        return r;
    if (a[3] == 0)
        return -ERESTARTSYS;
    t->restart_fn = wait_again;
    return -ERESTART_RESTARTBLOCK;
}

static int64_t wait(uint64_t word, bool is_private, uint32_t value,
                    nsec_t deadline, uint32_t bitset)
{
    struct task *t = current_task();

    t->restart_args[0] = word;
    t->restart_args[1] = is_private;
    t->restart_args[2] = value;
    t->restart_args[3] = (uint64_t)deadline;
    t->restart_args[4] = bitset;
    return wait_again(t);
}

/* The time-out of the waiting operations as a deadline. */
static int get_deadline(uint32_t cmd, uint32_t op, uint64_t timeout,
                        nsec_t *out)
{
    bool realtime = op & FUTEX_CLOCK_REALTIME || cmd == FUTEX_LOCK_PI;
    nsec_t t;
    int err;

    *out = NO_DEADLINE;
    if (timeout == 0)
        return 0;
    err = timespec_from_user(timeout, &t);
    if (err != 0)
        return err;
    if (cmd == FUTEX_WAIT) /* relative, whatever the clock */
        *out = deadline_after(t);
    else
        *out = deadline_on_clock(realtime ? CLOCK_REALTIME : CLOCK_MONOTONIC,
                                 t);
    return 0;
}

int64_t sys_futex(uint64_t word, uint64_t op, uint64_t value, uint64_t timeout,
                  uint64_t word2, uint64_t value3)
{
    uint32_t cmd = (uint32_t)op & ~(FUTEX_PRIVATE_FLAG | FUTEX_CLOCK_REALTIME);
    bool is_private = op & FUTEX_PRIVATE_FLAG;
    uint32_t __user *w = (uint32_t *)word, *w2 = (uint32_t *)word2;
    uint32_t v3 = (uint32_t)value3;
    int n = (int)value, n2 = (int)timeout;
    nsec_t deadline = NO_DEADLINE;
    int err;

    if ((op & FUTEX_CLOCK_REALTIME) && cmd != FUTEX_WAIT_BITSET &&
        cmd != FUTEX_LOCK_PI2)
        return -ENOSYS;
    if (cmd == FUTEX_WAIT || cmd == FUTEX_WAIT_BITSET ||
        cmd == FUTEX_LOCK_PI || cmd == FUTEX_LOCK_PI2) {
        err = get_deadline(cmd, (uint32_t)op, timeout, &deadline);
        if (err != 0)
            return err;
    }
    switch (cmd) {
    case FUTEX_WAIT:
        v3 = FUTEX_ANY_BIT;
        /* fallthrough */
    case FUTEX_WAIT_BITSET:
        return wait(word, is_private, (uint32_t)value, deadline, v3);
    case FUTEX_WAKE:
        v3 = FUTEX_ANY_BIT;
        /* fallthrough */
    case FUTEX_WAKE_BITSET:
        return futex_wake(w, is_private, n, v3);
    case FUTEX_REQUEUE:
        return futex_requeue(w, w2, is_private, n, n2, false, 0);
    case FUTEX_CMP_REQUEUE:
        return futex_requeue(w, w2, is_private, n, n2, true, v3);
    case FUTEX_WAKE_OP:
        return futex_wake_op(w, w2, is_private, n, n2, v3);
    case FUTEX_LOCK_PI:
    case FUTEX_LOCK_PI2:
        return futex_lock_pi(w, is_private, deadline, false);
    case FUTEX_TRYLOCK_PI:
        return futex_lock_pi(w, is_private, NO_DEADLINE, true);
    case FUTEX_UNLOCK_PI:
        return futex_unlock_pi(w, is_private);
    default:
        return -ENOSYS;
    }
}
