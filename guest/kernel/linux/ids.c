/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Who the program is: process, group, session; users, groups, capabilities.
 * Credentials are single words; changes are rare and made by one thread.
 *
 * The program is root unless it gives that up; permissions are not checked by
 * the file system beyond what vfs says.
 */
#include "lib/errno.h"
#include "lib/string.h"
#include "linux/syscall_protos.h"
#include "linux/task.h"

#define SIX uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e, \
            uint64_t f
#define KEEP 0xffffffffu
#define MAX_GROUPS 65536

int64_t sys_getpid(SIX)
{
    return current_process()->pid;
}

int64_t sys_gettid(SIX)
{
    return current_task()->tid;
}

int64_t sys_getppid(SIX)
{
    return current_process()->ppid;
}

int64_t sys_getpgrp(SIX)
{
    return current_process()->pgid;
}

/* 0 for the program (or 0 = itself), -errno. Process 1 is its parent. */
static int check_pid(int pid)
{
    if (pid == 0 || pid == current_process()->pid)
        return 0;
    return pid == SESSION_PID ? 1 : -ESRCH;
}

int64_t sys_getpgid(uint64_t pid, uint64_t b, uint64_t c, uint64_t d,
                    uint64_t e, uint64_t f)
{
    int r = check_pid((int)pid);

    return r < 0 ? r : r == 1 ? SESSION_PID : current_process()->pgid;
}

int64_t sys_getsid(uint64_t pid, uint64_t b, uint64_t c, uint64_t d,
                   uint64_t e, uint64_t f)
{
    int r = check_pid((int)pid);

    return r < 0 ? r : r == 1 ? SESSION_PID : current_process()->sid;
}

int64_t sys_setpgid(uint64_t pid, uint64_t pgid, uint64_t c, uint64_t d,
                    uint64_t e, uint64_t f)
{
    struct process *p = current_process();

    if ((int)pgid < 0)
        return -EINVAL;
    if (check_pid((int)pid) != 0)
        return -ESRCH;
    if (p->sid == p->pid) /* a session leader stays */
        return -EPERM;
    if (pgid == 0 || (int)pgid == p->pid) {
        p->pgid = p->pid;
        return 0;
    }
    if ((int)pgid != SESSION_PID)
        return -EPERM;
    p->pgid = SESSION_PID;
    return 0;
}

int64_t sys_setsid(SIX)
{
    struct process *p = current_process();

    if (p->pgid == p->pid) /* a group's leader stays in its session */
        return -EPERM;
    p->pgid = p->sid = p->pid;
    return p->pid;
}

/* --- users and groups --- */

int64_t sys_getuid(SIX)
{
    return current_process()->uid;
}

int64_t sys_geteuid(SIX)
{
    return current_process()->euid;
}

int64_t sys_getgid(SIX)
{
    return current_process()->gid;
}

int64_t sys_getegid(SIX)
{
    return current_process()->egid;
}

struct ids {
    uint32_t real, effective, saved;
};

static struct ids uids(const struct process *p)
{
    return (struct ids){p->uid, p->euid, p->suid};
}

static struct ids gids(const struct process *p)
{
    return (struct ids){p->gid, p->egid, p->sgid};
}

static void set_ids(struct process *p, bool is_uid, struct ids v)
{
    if (is_uid) {
        p->uid = v.real;
        p->euid = v.effective;
        p->suid = v.saved;
    } else {
        p->gid = v.real;
        p->egid = v.effective;
        p->sgid = v.saved;
    }
}

static bool is_one_of(uint32_t id, struct ids v)
{
    return id == KEEP || id == v.real || id == v.effective || id == v.saved;
}

static int set_res(bool is_uid, uint32_t r, uint32_t e, uint32_t s)
{
    struct process *p = current_process();
    struct ids v = is_uid ? uids(p) : gids(p), old = v;

    if (p->euid != 0 &&
        (!is_one_of(r, old) || !is_one_of(e, old) || !is_one_of(s, old)))
        return -EPERM;
    v.real = r != KEEP ? r : v.real;
    v.effective = e != KEEP ? e : v.effective;
    v.saved = s != KEEP ? s : v.saved;
    set_ids(p, is_uid, v);
    return 0;
}

/* setuid, setgid */
static int set_one(bool is_uid, uint32_t id)
{
    struct process *p = current_process();
    struct ids v = is_uid ? uids(p) : gids(p);

    if (id == KEEP)
        return -EINVAL;
    if (p->euid == 0)
        return set_res(is_uid, id, id, id);
    if (id != v.real && id != v.saved)
        return -EPERM;
    return set_res(is_uid, KEEP, id, KEEP);
}

/* setreuid, setregid */
static int set_re(bool is_uid, uint32_t r, uint32_t e)
{
    struct process *p = current_process();
    struct ids v = is_uid ? uids(p) : gids(p);
    bool saves = r != KEEP || (e != KEEP && e != v.real);

    if (p->euid != 0 && ((r != KEEP && r != v.real && r != v.effective) ||
                         !is_one_of(e, v)))
        return -EPERM;
    return set_res(is_uid, r, e,
                   saves ? (e != KEEP ? e : v.effective) : KEEP);
}

int64_t sys_setuid(SIX)
{
    return set_one(true, (uint32_t)a);
}

int64_t sys_setgid(SIX)
{
    return set_one(false, (uint32_t)a);
}

int64_t sys_setreuid(SIX)
{
    return set_re(true, (uint32_t)a, (uint32_t)b);
}

int64_t sys_setregid(SIX)
{
    return set_re(false, (uint32_t)a, (uint32_t)b);
}

int64_t sys_setresuid(SIX)
{
    return set_res(true, (uint32_t)a, (uint32_t)b, (uint32_t)c);
}

int64_t sys_setresgid(SIX)
{
    return set_res(false, (uint32_t)a, (uint32_t)b, (uint32_t)c);
}

static int64_t get_res(struct ids v, uint64_t r, uint64_t e, uint64_t s)
{
    if (put_user((uint32_t *)r, v.real) != 0 ||
        put_user((uint32_t *)e, v.effective) != 0 ||
        put_user((uint32_t *)s, v.saved) != 0)
        return -EFAULT;
    return 0;
}

int64_t sys_getresuid(SIX)
{
    return get_res(uids(current_process()), a, b, c);
}

int64_t sys_getresgid(SIX)
{
    return get_res(gids(current_process()), a, b, c);
}

int64_t sys_setfsuid(SIX)
{
    return current_process()->euid;
}

int64_t sys_setfsgid(SIX)
{
    return current_process()->egid;
}

int64_t sys_getgroups(uint64_t size, uint64_t list, uint64_t c, uint64_t d,
                      uint64_t e, uint64_t f)
{
    struct process *p = current_process();

    if ((int)size < 0)
        return -EINVAL;
    if (size == 0)
        return (int64_t)p->nr_groups;
    if (size < p->nr_groups)
        return -EINVAL;
    if (copy_to_user((void *)list, p->groups, p->nr_groups * 4) != 0)
        return -EFAULT;
    return (int64_t)p->nr_groups;
}

int64_t sys_setgroups(uint64_t size, uint64_t list, uint64_t c, uint64_t d,
                      uint64_t e, uint64_t f)
{
    struct process *p = current_process();
    uint32_t groups[ARRAY_SIZE(p->groups)];

    if (p->euid != 0)
        return -EPERM;
    if (size > MAX_GROUPS)
        return -EINVAL;
    if (size > ARRAY_SIZE(groups))
        return -ENOMEM; /* more than fit here */
    if (copy_from_user(groups, (void *)list, size * 4) != 0)
        return -EFAULT;
    /* Kept in order, as Linux does: getgroups shows it. */
    for (size_t i = 1; i < size; i++) {
        uint32_t gid = groups[i];
        size_t k = i;

        for (; k > 0 && groups[k - 1] > gid; k--)
            groups[k] = groups[k - 1];
        groups[k] = gid;
    }
    memcpy(p->groups, groups, size * 4);
    p->nr_groups = size;
    return 0;
}

/* --- capabilities: root has all of them --- */

#define CAP_V1 0x19980330u
#define CAP_V2 0x20071026u
#define CAP_V3 0x20080522u
#define CAP_ALL 0x1fffffffffful /* 0 .. CAP_CHECKPOINT_RESTORE */

struct cap_data {
    uint32_t effective, permitted, inheritable;
};

/* Reads the header; *words: 32-bit words per set. */
static int cap_header(uint64_t addr, unsigned *words, int *pid)
{
    struct {
        uint32_t version;
        int32_t pid;
    } h;

    if (get_user(h, (__typeof__(h) *)addr) != 0)
        return -EFAULT;
    *pid = h.pid;
    if (h.version == CAP_V1) {
        *words = 1;
    } else if (h.version == CAP_V2 || h.version == CAP_V3) {
        *words = 2;
    } else {
        if (put_user((uint32_t *)addr, CAP_V3) != 0)
            return -EFAULT;
        return -EINVAL;
    }
    return h.pid < 0 ? -EINVAL : 0;
}

int64_t sys_capget(uint64_t header, uint64_t data, uint64_t c, uint64_t d,
                   uint64_t e, uint64_t f)
{
    uint64_t all = current_process()->euid == 0 ? CAP_ALL : 0;
    struct cap_data v[2] = {{(uint32_t)all, (uint32_t)all, 0},
                            {(uint32_t)(all >> 32), (uint32_t)(all >> 32), 0}};
    unsigned words;
    int pid, err = cap_header(header, &words, &pid);

    if (err != 0)
        return data == 0 && err == -EINVAL ? 0 : err;
    if (pid != 0 && check_pid(pid) != 0 && pid != current_task()->tid)
        return -ESRCH;
    if (data == 0)
        return 0;
    return copy_to_user((void *)data, v, words * sizeof(v[0]));
}

/* Setting what one has anyway succeeds; anything else is refused. */
int64_t sys_capset(uint64_t header, uint64_t data, uint64_t c, uint64_t d,
                   uint64_t e, uint64_t f)
{
    uint64_t all = current_process()->euid == 0 ? CAP_ALL : 0, eff, perm;
    struct cap_data v[2] = {{0}};
    unsigned words;
    int pid, err = cap_header(header, &words, &pid);

    if (err != 0)
        return err;
    if (pid != 0 && pid != current_task()->tid)
        return -EPERM;
    if (copy_from_user(v, (void *)data, words * sizeof(v[0])) != 0)
        return -EFAULT;
    eff = v[0].effective | (uint64_t)v[1].effective << 32;
    perm = v[0].permitted | (uint64_t)v[1].permitted << 32;
    if (words == 1)
        all &= 0xffffffff;
    return (eff & CAP_ALL) == all && (perm & CAP_ALL) == all ? 0 : -EPERM;
}
