/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * prctl, arch_prctl, uname, sysinfo and small calls. What is not known is
 * refused as by a kernel built without it.
 */
#include "lib/errno.h"
#include "lib/string.h"
#include "linux/siginfo.h"
#include "linux/syscall_protos.h"
#include "linux/task.h"
#include "mm/heap.h"
#include "mm/page.h"
#include "param.h"

#define SIX uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e, \
            uint64_t f

int64_t sys_eperm(SIX)
{
    return -EPERM;
}

int64_t sys_seccomp(SIX)
{
    return -EINVAL;
}

/* --- uname --- */

#define UTS_LEN 65

static struct {
    struct spinlock lock;
    /* --- protected by lock --- */
    bool set;
    char hostname[UTS_LEN], domain[UTS_LEN];
} uts;

static void uts_defaults_locked(void)
{
    if (uts.set)
        return;
    uts.set = true;
    strlcpy(uts.hostname,
            boot_params.hostname != NULL ? boot_params.hostname : "capstan",
            UTS_LEN);
    strlcpy(uts.domain, "(none)", UTS_LEN);
}

void uts_hostname(char *buf, size_t size)
{
    spin_lock(&uts.lock);
    uts_defaults_locked();
    strlcpy(buf, uts.hostname, size);
    spin_unlock(&uts.lock);
}

int64_t sys_uname(uint64_t addr, uint64_t b, uint64_t c, uint64_t d,
                  uint64_t e, uint64_t f)
{
    char (*u)[UTS_LEN] = kzalloc(6 * UTS_LEN);
    int err;

    if (u == NULL)
        return -ENOMEM;
    strlcpy(u[0], "Linux", UTS_LEN);
    strlcpy(u[2], UTS_RELEASE, UTS_LEN);
    strlcpy(u[3], UTS_VERSION, UTS_LEN);
    strlcpy(u[4], "x86_64", UTS_LEN);
    spin_lock(&uts.lock);
    uts_defaults_locked();
    memcpy(u[1], uts.hostname, UTS_LEN);
    memcpy(u[5], uts.domain, UTS_LEN);
    spin_unlock(&uts.lock);
    err = copy_to_user((void *)addr, u, 6 * UTS_LEN);
    kfree(u);
    return err;
}

static int64_t set_uts(char *field, uint64_t name, uint64_t len)
{
    char buf[UTS_LEN] = "";

    if (current_process()->euid != 0)
        return -EPERM;
    if (len >= UTS_LEN)
        return -EINVAL;
    if (copy_from_user(buf, (void *)name, len) != 0)
        return -EFAULT;
    spin_lock(&uts.lock);
    uts_defaults_locked();
    memcpy(field, buf, UTS_LEN);
    spin_unlock(&uts.lock);
    return 0;
}

int64_t sys_sethostname(SIX)
{
    return set_uts(uts.hostname, a, b);
}

int64_t sys_setdomainname(SIX)
{
    return set_uts(uts.domain, a, b);
}

/* --- sysinfo --- */

struct sysinfo64 {
    int64_t uptime;
    uint64_t loads[3], totalram, freeram, sharedram, bufferram, totalswap,
        freeswap;
    uint16_t procs, pad;
    uint32_t pad2;
    uint64_t totalhigh, freehigh;
    uint32_t mem_unit, pad3;
};
_Static_assert(sizeof(struct sysinfo64) == 112, "struct sysinfo");

int64_t sys_sysinfo(uint64_t addr, uint64_t b, uint64_t c, uint64_t d,
                    uint64_t e, uint64_t f)
{
    struct memory_stats m;
    struct sysinfo64 s;

    memset(&s, 0, sizeof(s));
    memory_stats(&m);
    s.uptime = clock_monotonic() / NSEC_PER_SEC + 1;
    s.totalram = m.total_pages * PAGE_SIZE;
    s.freeram = m.free_pages * PAGE_SIZE;
    s.procs = (uint16_t)MIN(current_process()->nr_threads, 0xffffu);
    s.mem_unit = 1;
    return put_user((struct sysinfo64 *)addr, s);
}

/* --- personality --- */

#define ADDR_NO_RANDOMIZE 0x0040000u

int64_t sys_personality(uint64_t persona, uint64_t b, uint64_t c, uint64_t d,
                        uint64_t e, uint64_t f)
{
    struct process *p = current_process();
    uint32_t old = p->personality;

    if ((uint32_t)persona == 0xffffffffu)
        return old;
    if ((uint32_t)persona & ~ADDR_NO_RANDOMIZE)
        return -EINVAL;
    p->personality = (uint32_t)persona;
    return old;
}

/* --- arch_prctl --- */

#define ARCH_SET_GS 0x1001
#define ARCH_SET_FS 0x1002
#define ARCH_GET_FS 0x1003
#define ARCH_GET_GS 0x1004
#define ARCH_GET_XCOMP_SUPP 0x1021
#define ARCH_GET_XCOMP_PERM 0x1022
#define ARCH_REQ_XCOMP_PERM 0x1023

int64_t sys_arch_prctl(uint64_t op, uint64_t addr, uint64_t c, uint64_t d,
                       uint64_t e, uint64_t f)
{
    switch ((int)op) {
    case ARCH_SET_FS:
        if (addr >= USER_TOP)
            return -EPERM;
        fs_base_write(addr);
        return 0;
    case ARCH_GET_FS:
        return put_user((uint64_t *)addr, fs_base_read());
    case ARCH_GET_GS: /* what a program that never set it reads */
        return put_user((uint64_t *)addr, 0ul);
    case ARCH_GET_XCOMP_SUPP:
    case ARCH_GET_XCOMP_PERM:
        return put_user((uint64_t *)addr, fpu_user_mask());
    case ARCH_REQ_XCOMP_PERM:
        return addr < 64 && fpu_user_mask() >> addr & 1 ? 0 : -ENOTSUP;
    default: /* SET_GS, CET, ... */
        return -EINVAL;
    }
}

/* --- prctl --- */

enum {
    PR_SET_PDEATHSIG = 1, PR_GET_PDEATHSIG = 2, PR_GET_DUMPABLE = 3,
    PR_SET_DUMPABLE = 4, PR_GET_KEEPCAPS = 7, PR_SET_KEEPCAPS = 8,
    PR_GET_TIMING = 13, PR_SET_TIMING = 14, PR_SET_NAME = 15,
    PR_GET_NAME = 16, PR_GET_SECCOMP = 21, PR_CAPBSET_READ = 23,
    PR_CAPBSET_DROP = 24, PR_GET_TSC = 25, PR_GET_SECUREBITS = 27,
    PR_SET_TIMERSLACK = 29, PR_GET_TIMERSLACK = 30,
    PR_SET_CHILD_SUBREAPER = 36, PR_GET_CHILD_SUBREAPER = 37,
    PR_SET_NO_NEW_PRIVS = 38, PR_GET_NO_NEW_PRIVS = 39,
    PR_GET_TID_ADDRESS = 40, PR_SET_THP_DISABLE = 41, PR_GET_THP_DISABLE = 42,
    PR_CAP_AMBIENT = 47, PR_SET_PTRACER = 0x59616d61,
};
#define CAP_LAST 40
#define DEFAULT_SLACK 50000

static int64_t set_name(struct task *t, uint64_t addr)
{
    char name[16];
    ssize_t n = strncpy_from_user(name, (char *)addr, sizeof(name));

    if (n == -EFAULT)
        return n;
    if (n < 0) { /* longer: cut */
        if (copy_from_user(name, (void *)addr, 15) != 0)
            return -EFAULT;
        name[15] = '\0';
    }
    memcpy(t->thread.name, name, sizeof(name));
    t->thread.name[15] = '\0';
    return 0;
}

static int64_t get_name(struct task *t, uint64_t addr)
{
    char name[16] = "";

    strlcpy(name, t->thread.name, sizeof(name));
    return copy_to_user((void *)addr, name, sizeof(name));
}

static int64_t prctl_caps(uint64_t op, uint64_t a, uint64_t b)
{
    switch (op) {
    case PR_CAPBSET_READ:
        return a > CAP_LAST ? -EINVAL : 1;
    case PR_CAPBSET_DROP:
        return a > CAP_LAST ? -EINVAL : -EPERM;
    default: /* PR_CAP_AMBIENT: IS_SET, RAISE, LOWER, CLEAR_ALL */
        if (a == 4)
            return 0;
        if (b > CAP_LAST || a < 1 || a > 4)
            return -EINVAL;
        return a == 2 ? -EPERM : 0;
    }
}

int64_t sys_prctl(uint64_t op, uint64_t a, uint64_t b, uint64_t c, uint64_t d,
                  uint64_t f)
{
    struct task *t = current_task();
    struct process *p = t->process;

    switch ((int)op) {
    case PR_SET_NAME:
        return set_name(t, a);
    case PR_GET_NAME:
        return get_name(t, a);
    case PR_SET_PDEATHSIG: /* the parent lives as long as the machine */
        if (a > NSIG)
            return -EINVAL;
        t->pdeath_signal = (int)a;
        return 0;
    case PR_GET_PDEATHSIG:
        return put_user((int32_t *)a, (int32_t)t->pdeath_signal);
    case PR_GET_DUMPABLE:
        return p->dumpable;
    case PR_SET_DUMPABLE:
        if (a > 1)
            return -EINVAL;
        p->dumpable = (uint32_t)a;
        return 0;
    case PR_GET_KEEPCAPS:
        return p->keep_caps;
    case PR_SET_KEEPCAPS:
        if (a > 1)
            return -EINVAL;
        p->keep_caps = (uint32_t)a;
        return 0;
    case PR_GET_TIMING:
        return 0;
    case PR_SET_TIMING:
        return a == 0 ? 0 : -EINVAL;
    case PR_GET_SECCOMP:
        return 0;
    case PR_CAPBSET_READ:
    case PR_CAPBSET_DROP:
    case PR_CAP_AMBIENT:
        return prctl_caps(op, a, b);
    case PR_GET_TSC: /* PR_TSC_ENABLE */
        return put_user((int32_t *)a, 1);
    case PR_GET_SECUREBITS:
        return 0;
    case PR_SET_TIMERSLACK:
        t->timer_slack = a != 0 ? (nsec_t)a : DEFAULT_SLACK;
        return 0;
    case PR_GET_TIMERSLACK:
        return t->timer_slack;
    case PR_SET_CHILD_SUBREAPER:
        p->subreaper = a != 0;
        return 0;
    case PR_GET_CHILD_SUBREAPER:
        return put_user((int32_t *)a, (int32_t)p->subreaper);
    case PR_SET_NO_NEW_PRIVS:
        if (a != 1 || b != 0 || c != 0 || d != 0)
            return -EINVAL;
        t->no_new_privs = true;
        return 0;
    case PR_GET_NO_NEW_PRIVS:
        return a != 0 || b != 0 || c != 0 || d != 0 ? -EINVAL
                                                    : t->no_new_privs;
    case PR_GET_TID_ADDRESS:
        return put_user((uint64_t *)a, (uint64_t)t->clear_child_tid);
    case PR_SET_PTRACER: /* no Yama: everybody may */
        return -EINVAL;
    case PR_GET_THP_DISABLE:
        return 0;
    default: /* SET_VMA names, SECCOMP, MCE, ... */
        return -EINVAL;
    }
}
