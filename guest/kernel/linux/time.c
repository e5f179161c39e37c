/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Clocks and sleeping. Times are nanoseconds (linux/timespec.h); all clocks but
 * the CPU clocks derive from clock_monotonic(). CPU time is not divided:
 * everything counts as user time. No locks of its own.
 */
#include "exec/exec.h"
#include "lib/errno.h"
#include "lib/string.h"
#include "linux/clocks.h"
#include "linux/syscall_protos.h"
#include "mm/heap.h"
#include "sched/wait.h"

#define USER_HZ 100
#define TAI_OFFSET 0 /* as long as nobody sets it */
#define COARSE_RES 4000000 /* what programs know from Linux at HZ=250 */

int timespec_from_user(uint64_t addr, nsec_t *out)
{
    struct timespec64 ts;

    if (get_user(ts, (struct timespec64 *)addr) != 0)
        return -EFAULT;
    if (ts.sec < 0 || (uint64_t)ts.nsec >= NSEC_PER_SEC)
        return -EINVAL;
    *out = ts.sec > NSEC_MAX / NSEC_PER_SEC - 1
               ? NSEC_MAX
               : ts.sec * NSEC_PER_SEC + ts.nsec;
    return 0;
}

int timespec_to_user(uint64_t addr, nsec_t t)
{
    struct timespec64 ts = {t / NSEC_PER_SEC, t % NSEC_PER_SEC};

    return put_user((struct timespec64 *)addr, ts);
}

int timeval_from_user(uint64_t addr, nsec_t *out)
{
    struct timespec64 tv;

    if (get_user(tv, (struct timespec64 *)addr) != 0)
        return -EFAULT;
    if (tv.sec < 0 || (uint64_t)tv.nsec >= 1000000)
        return -EINVAL;
    *out = tv.sec > NSEC_MAX / NSEC_PER_SEC - 1
               ? NSEC_MAX
               : tv.sec * NSEC_PER_SEC + tv.nsec * 1000;
    return 0;
}

nsec_t deadline_after(nsec_t rel)
{
    nsec_t now = clock_monotonic();

    return rel >= NSEC_MAX - now ? NSEC_MAX : MAX(now + rel, 1);
}

nsec_t deadline_on_clock(int clock, nsec_t at)
{
    nsec_t offset = 0, t;

    if (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_ALARM ||
        clock == CLOCK_TAI)
        offset = clock_realtime() - clock_monotonic();
    if (at == NSEC_MAX)
        return NSEC_MAX;
    t = at - offset;
    return MAX(t, 1); /* long ago: at once */
}

bool clock_is_timeline(int clock)
{
    switch (clock) {
    case CLOCK_REALTIME:
    case CLOCK_MONOTONIC:
    case CLOCK_BOOTTIME:
    case CLOCK_REALTIME_ALARM:
    case CLOCK_BOOTTIME_ALARM:
    case CLOCK_TAI:
        return true;
    default:
        return false;
    }
}

/* Ids of CPU clocks: pthread_getcpuclockid(3); ~id << 3 | per-thread 4 |
 * kind (2 = scheduler's, the only one libraries make). */
int clock_cpu_target(int clock, struct task **task)
{
    struct task *self = current_task();
    int id;

    *task = NULL;
    if (clock == CLOCK_PROCESS_CPUTIME_ID)
        return 0;
    if (clock == CLOCK_THREAD_CPUTIME_ID) {
        thread_get(&self->thread);
        *task = self;
        return 0;
    }
    if (clock >= 0 || (clock & 3) == 3)
        return -EINVAL;
    id = ~(clock >> 3);
    if (!(clock & 4))
        return id == 0 || id == self->process->pid ? 0 : -EINVAL;
    if (id == 0)
        id = self->tid;
    *task = task_find(id);
    return *task != NULL ? 0 : -EINVAL;
}

int clock_read(int clock, nsec_t *out)
{
    struct task *t;
    int err;

    switch (clock) {
    case CLOCK_REALTIME:
    case CLOCK_REALTIME_COARSE:
    case CLOCK_REALTIME_ALARM:
    case CLOCK_TAI:
        *out = clock_realtime() + (clock == CLOCK_TAI ? TAI_OFFSET : 0);
        return 0;
    case CLOCK_MONOTONIC:
    case CLOCK_MONOTONIC_RAW:
    case CLOCK_MONOTONIC_COARSE:
    case CLOCK_BOOTTIME:
    case CLOCK_BOOTTIME_ALARM:
        *out = clock_monotonic();
        return 0;
    }
    err = clock_cpu_target(clock, &t);
    if (err != 0)
        return err;
    *out = t != NULL ? thread_cpu_time(&t->thread)
                     : process_cpu_time(current_process());
    if (t != NULL)
        thread_put(&t->thread);
    return 0;
}

int64_t sys_clock_gettime(uint64_t clock, uint64_t ts, uint64_t c, uint64_t d,
                          uint64_t e, uint64_t f)
{
    nsec_t now;
    int err = clock_read((int)clock, &now);

    return err != 0 ? err : timespec_to_user(ts, now);
}

int64_t sys_clock_getres(uint64_t clock, uint64_t ts, uint64_t c, uint64_t d,
                         uint64_t e, uint64_t f)
{
    bool coarse = clock == CLOCK_REALTIME_COARSE ||
                  clock == CLOCK_MONOTONIC_COARSE;
    nsec_t now;
    int err = clock_read((int)clock, &now);

    if (err != 0 || ts == 0)
        return err;
    return timespec_to_user(ts, coarse ? COARSE_RES : 1);
}

static int64_t set_realtime(nsec_t t)
{
    clock_set_realtime(t);
    vdso_update();
    return 0;
}

int64_t sys_clock_settime(uint64_t clock, uint64_t ts, uint64_t c, uint64_t d,
                          uint64_t e, uint64_t f)
{
    nsec_t t;
    int err;

    if (clock != CLOCK_REALTIME)
        return -EINVAL;
    err = timespec_from_user(ts, &t);
    return err != 0 ? err : set_realtime(t);
}

int64_t sys_gettimeofday(uint64_t tv, uint64_t tz, uint64_t c, uint64_t d,
                         uint64_t e, uint64_t f)
{
    nsec_t now = clock_realtime();
    struct timespec64 v = {now / NSEC_PER_SEC, now % NSEC_PER_SEC / 1000};
    uint64_t zero = 0;

    if (tv != 0 && put_user((struct timespec64 *)tv, v) != 0)
        return -EFAULT;
    return tz != 0 ? put_user((uint64_t *)tz, zero) : 0;
}

int64_t sys_settimeofday(uint64_t tv, uint64_t tz, uint64_t c, uint64_t d,
                         uint64_t e, uint64_t f)
{
    nsec_t t;
    int err;

    if (tz != 0)
        return -EINVAL; /* time zones are the library's business */
    if (tv == 0)
        return 0;
    err = timeval_from_user(tv, &t);
    return err != 0 ? err : set_realtime(t);
}

int64_t sys_time(uint64_t out, uint64_t b, uint64_t c, uint64_t d, uint64_t e,
                 uint64_t f)
{
    int64_t now = clock_realtime() / NSEC_PER_SEC;

    if (out != 0 && put_user((int64_t *)out, now) != 0)
        return -EFAULT;
    return now;
}

int64_t sys_times(uint64_t out, uint64_t b, uint64_t c, uint64_t d, uint64_t e,
                  uint64_t f)
{
    const nsec_t tick = NSEC_PER_SEC / USER_HZ;
    int64_t v[4] = {process_cpu_time(current_process()) / tick, 0, 0, 0};

    if (out != 0 && copy_to_user((void *)out, v, sizeof(v)) != 0)
        return -EFAULT;
    return clock_monotonic() / tick + 0x10000;
}

/* --- sleeping --- */

static int64_t sleep_rest(struct task *t)
{
    nsec_t deadline = (nsec_t)t->restart_args[0], left;
    int err = sleep_until(deadline, true);

    if (err != -EINTR)
        return err;
    left = deadline - clock_monotonic();
    if (left <= 0)
        return 0;
    if (t->restart_args[1] != 0 &&
        timespec_to_user(t->restart_args[1], left) != 0)
        return -EFAULT;
    t->restart_fn = sleep_rest;
    return -ERESTART_RESTARTBLOCK;
}

static int64_t sleep_relative(nsec_t rel, uint64_t rem)
{
    struct task *t = current_task();

    t->restart_args[0] = (uint64_t)deadline_after(rel);
    t->restart_args[1] = rem;
    return sleep_rest(t);
}

int64_t sys_nanosleep(uint64_t req, uint64_t rem, uint64_t c, uint64_t d,
                      uint64_t e, uint64_t f)
{
    nsec_t rel;
    int err = timespec_from_user(req, &rel);

    return err != 0 ? err : sleep_relative(rel, rem);
}

int64_t sys_clock_nanosleep(uint64_t clock, uint64_t flags, uint64_t req,
                            uint64_t rem, uint64_t e, uint64_t f)
{
    nsec_t t;
    int err;

    if (!clock_is_timeline((int)clock)) {
        /* As Linux: not on a thread's clock; on the process', we cannot. */
        err = clock_read((int)clock, &t);
        return err != 0 || clock == CLOCK_THREAD_CPUTIME_ID ? -EINVAL
                                                            : -ENOTSUP;
    }
    err = timespec_from_user(req, &t);
    if (err != 0)
        return err;
    if (!(flags & TIMER_ABSTIME))
        return sleep_relative(t, rem);
    err = sleep_until(deadline_on_clock((int)clock, t), true);
    return err == -EINTR ? -ERESTARTNOHAND : err;
}

int64_t sys_restart_syscall(uint64_t a, uint64_t b, uint64_t c, uint64_t d,
                            uint64_t e, uint64_t f)
{
    struct task *t = current_task();
    int64_t (*fn)(struct task *) = t->restart_fn;

    t->restart_fn = NULL;
    return fn != NULL ? fn(t) : -EINTR;
}

/* --- adjtimex: the clock is the host's; it can be read --- */

struct timex { /* the ABI's struct timex */
    uint32_t modes, pad0;
    int64_t offset, freq, maxerror, esterror;
    int32_t status, pad1;
    int64_t constant, precision, tolerance, sec, usec, tick, ppsfreq, jitter;
    int32_t shift, pad2;
    int64_t stabil, jitcnt, calcnt, errcnt, stbcnt;
    int32_t tai, reserved[11];
};
_Static_assert(sizeof(struct timex) == 208, "struct timex");

#define STA_UNSYNC 0x40
#define TIME_ERROR 5

int64_t sys_adjtimex(uint64_t addr, uint64_t b, uint64_t c, uint64_t d,
                     uint64_t e, uint64_t f)
{
    nsec_t now = clock_realtime();
    struct timex *t = kmalloc(sizeof(*t));
    int64_t r = TIME_ERROR;

    if (t == NULL)
        return -ENOMEM;
    if (copy_from_user(t, (void *)addr, sizeof(*t)) != 0) {
        r = -EFAULT;
    } else if (t->modes != 0 && t->modes != 0xa001) {
        r = -EPERM;
    } else {
        *t = (struct timex){.modes = t->modes,
                            .maxerror = 16000000,
                            .esterror = 16000000,
                            .status = STA_UNSYNC,
                            .constant = 2,
                            .precision = 1,
                            .tolerance = 32768000,
                            .tick = 10000,
                            .sec = now / NSEC_PER_SEC,
                            .usec = now % NSEC_PER_SEC / 1000};
        if (copy_to_user((void *)addr, t, sizeof(*t)) != 0)
            r = -EFAULT;
    }
    kfree(t);
    return r;
}

int64_t sys_clock_adjtime(uint64_t clock, uint64_t addr, uint64_t c,
                          uint64_t d, uint64_t e, uint64_t f)
{
    nsec_t now;

    if (clock_read((int)clock, &now) != 0)
        return -EINVAL;
    return clock == CLOCK_REALTIME ? sys_adjtimex(addr, 0, 0, 0, 0, 0)
                                   : -ENOTSUP;
}
