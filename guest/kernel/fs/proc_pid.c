/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * proc_pid.c: /proc/PID and /proc/PID/task/TID.
 */
#include "fs/procfs.h"

#include "fs/fdtable.h"
#include "linux/task.h"

#define TICK_NS 10000000l /* 100 Hz */
#define CAP_ALL 0x1fffffffffful
#define COPY_CHUNK 1024u

static const char *state_name(char letter)
{
    return letter == 'R' ? "R (running)"
           : letter == 'S' ? "S (sleeping)" : "X (dead)";
}

struct sigsets {
    uint64_t pending, shared, blocked, ignored, caught;
    unsigned nr_threads;
};

static void sigsets_get(struct task *t, struct sigsets *s)
{
    struct process *p = t->process;
    bool was_on = spin_lock_irqsave(&p->siglock);

    s->pending = t->pending.set;
    s->shared = p->shared_pending.set;
    s->blocked = t->blocked;
    s->ignored = s->caught = 0;
    for (int n = 1; n <= NSIG; n++) {
        if (p->actions[n - 1].handler == 1)
            s->ignored |= SIGMASK(n);
        else if (p->actions[n - 1].handler)
            s->caught |= SIGMASK(n);
    }
    s->nr_threads = p->nr_threads;
    spin_unlock_irqrestore(&p->siglock, was_on);
}

static int show_stat(struct synth_inode *i, struct sbuf *s)
{
    struct task *t;
    struct sigsets sig;
    int err = proc_task(i, &t);

    if (err)
        return err;
    struct process *p = t->process;
    struct mm *mm = p->mm;
    sigsets_get(t, &sig);
    nsec_t cpu = i->tid ? thread_cpu_time(&t->thread) : process_cpu_time(p);
    sbuf_printf(s, "%d (%s) %c %d %d %d 0 -1 4194304 0 0 0 0 ",
                i->tid ? i->tid : p->pid, t->thread.name, task_state_letter(t),
                p->ppid, p->pgid, p->sid);
    sbuf_printf(s, "%ld 0 0 0 %d %d %u 0 %ld %lu %lu %lu ",
                (long)(cpu / TICK_NS), 20 + t->nice, t->nice, sig.nr_threads,
                (long)(p->start_time / TICK_NS),
                (unsigned long)(mm->total_vm_pages * PAGE_SIZE),
                (unsigned long)mm->nr_pages,
                (unsigned long)p->rlimits[5].cur);
    sbuf_printf(s, "%lu %lu %lu 0 0 %lu %lu %lu %lu 0 0 0 17 %u 0 0 0 0 0 ",
                (unsigned long)mm->code_start, (unsigned long)mm->code_end,
                (unsigned long)mm->stack_top, (unsigned long)sig.pending,
                (unsigned long)sig.blocked, (unsigned long)sig.ignored,
                (unsigned long)sig.caught, t->thread.cpu);
    sbuf_printf(s, "0 0 %lu %lu %lu %lu %lu 0\n",
                (unsigned long)mm->brk_start, (unsigned long)mm->arg_start,
                (unsigned long)mm->arg_end, (unsigned long)mm->env_start,
                (unsigned long)mm->env_end);
    thread_put(&t->thread);
    return 0;
}

static unsigned long stack_kb(struct mm *mm)
{
    struct vma_info v;

    if (!mm->stack_top || !mm_vma_at(mm, mm->stack_top - 1, &v))
        return 0;
    return (v.end - v.start) / 1024;
}

static void status_memory(struct mm *mm, struct sbuf *s)
{
    unsigned long size = mm->total_vm_pages * 4, rss = mm->nr_pages * 4;

    sbuf_printf(s, "VmPeak:\t%8lu kB\nVmSize:\t%8lu kB\n", size, size);
    sbuf_printf(s, "VmLck:\t%8lu kB\nVmPin:\t%8u kB\n",
                (unsigned long)mm->locked_pages * 4, 0);
    sbuf_printf(s, "VmHWM:\t%8lu kB\nVmRSS:\t%8lu kB\n", rss, rss);
    sbuf_printf(s, "VmData:\t%8lu kB\nVmStk:\t%8lu kB\n",
                (unsigned long)mm->data_vm_pages * 4, stack_kb(mm));
    sbuf_printf(s, "VmExe:\t%8lu kB\nVmSwap:\t%8u kB\n",
                (unsigned long)(mm->code_end - mm->code_start) / 1024, 0);
}

static void status_ids(struct process *p, struct sbuf *s)
{
    sbuf_printf(s, "Uid:\t%u\t%u\t%u\t%u\n", p->uid, p->euid, p->suid,
                p->euid);
    sbuf_printf(s, "Gid:\t%u\t%u\t%u\t%u\n", p->gid, p->egid, p->sgid,
                p->egid);
    sbuf_printf(s, "FDSize:\t%u\nGroups:\t", fdtable_capacity(p->fds));
    for (size_t n = 0; n < p->nr_groups; n++)
        sbuf_printf(s, "%u ", p->groups[n]);
    sbuf_printf(s, "%s\n", p->nr_groups ? "" : " ");
}

static int show_status(struct synth_inode *i, struct sbuf *s)
{
    struct task *t;
    struct sigsets sig;
    int err = proc_task(i, &t);

    if (err)
        return err;
    struct process *p = t->process;
    uint64_t mask = (1ul << nr_cpus) - 1, caps = p->euid == 0 ? CAP_ALL : 0;
    sigsets_get(t, &sig);
    sbuf_printf(s, "Name:\t%s\nUmask:\t%04o\nState:\t%s\n", t->thread.name,
                p->umask, state_name(task_state_letter(t)));
    sbuf_printf(s, "Tgid:\t%d\nNgid:\t0\nPid:\t%d\nPPid:\t%d\n"
                "TracerPid:\t0\n", p->pid, t->tid, p->ppid);
    status_ids(p, s);
    status_memory(p->mm, s);
    sbuf_printf(s, "CoreDumping:\t0\nTHP_enabled:\t1\nThreads:\t%u\n",
                sig.nr_threads);
    sbuf_printf(s, "SigQ:\t0/%lu\n", (unsigned long)p->rlimits[11].cur);
    sbuf_printf(s, "SigPnd:\t%016lx\nShdPnd:\t%016lx\nSigBlk:\t%016lx\n",
                (unsigned long)sig.pending, (unsigned long)sig.shared,
                (unsigned long)sig.blocked);
    sbuf_printf(s, "SigIgn:\t%016lx\nSigCgt:\t%016lx\nCapInh:\t%016x\n",
                (unsigned long)sig.ignored, (unsigned long)sig.caught, 0);
    sbuf_printf(s, "CapPrm:\t%016lx\nCapEff:\t%016lx\nCapBnd:\t%016lx\n"
                "CapAmb:\t%016x\n", (unsigned long)caps, (unsigned long)caps,
                CAP_ALL, 0);
    mask &= t->thread.affinity ? t->thread.affinity : ~0ul;
    sbuf_printf(s, "NoNewPrivs:\t0\nSeccomp:\t0\nSeccomp_filters:\t0\n"
                "Cpus_allowed:\t%lx\nCpus_allowed_list:\t",
                (unsigned long)mask);
    bool is_first = true;
    for (unsigned a = 0; a < MAX_CPUS; a++) {
        unsigned b = a;
        if (!(mask & (1ul << a)))
            continue;
        while (b + 1 < MAX_CPUS && (mask & (1ul << (b + 1))))
            b++;
        sbuf_printf(s, "%s%u", is_first ? "" : ",", a);
        if (b > a)
            sbuf_printf(s, "-%u", b);
        is_first = false;
        a = b;
    }
    sbuf_printf(s, "\nMems_allowed:\t1\nMems_allowed_list:\t0\n"
                "voluntary_ctxt_switches:\t%lu\n"
                "nonvoluntary_ctxt_switches:\t0\n",
                (unsigned long)t->thread.nr_switches);
    thread_put(&t->thread);
    return 0;
}

static int show_comm(struct synth_inode *i, struct sbuf *s)
{
    struct task *t;
    int err = proc_task(i, &t);

    if (err)
        return err;
    sbuf_printf(s, "%s\n", t->thread.name);
    thread_put(&t->thread);
    return 0;
}

static int store_comm(struct synth_inode *i, char *buf, size_t len)
{
    struct task *t;
    int err = proc_task(i, &t);

    if (err)
        return err;
    if (len && buf[len - 1] == '\n')
        buf[len - 1] = 0;
    strlcpy(t->thread.name, buf, sizeof(t->thread.name));
    thread_put(&t->thread);
    return 0;
}

/* The bytes [from, to) of the program's memory. */
static int show_range(struct mm *mm, vaddr_t from, vaddr_t to, struct sbuf *s)
{
    char *buf = kmalloc(COPY_CHUNK);

    if (!buf)
        return -ENOMEM;
    while (from < to) {
        ssize_t n = mm_access(mm, from, buf, MIN(to - from, COPY_CHUNK),
                              false);
        if (n <= 0)
            break;
        sbuf_write(s, buf, n);
        from += n;
    }
    kfree(buf);
    return 0;
}

static int show_cmdline(struct synth_inode *i, struct sbuf *s)
{
    struct process *p;
    int err = proc_process(i, &p);

    if (err)
        return err;
    if (p->mm->arg_start)
        err = show_range(p->mm, p->mm->arg_start, p->mm->arg_end, s);
    else if (p->cmdline)
        sbuf_write(s, p->cmdline, p->cmdline_len);
    process_put(p);
    return err;
}

static int show_environ(struct synth_inode *i, struct sbuf *s)
{
    struct process *p;
    int err = proc_process(i, &p);

    if (err)
        return err;
    err = show_range(p->mm, p->mm->env_start, p->mm->env_end, s);
    process_put(p);
    return err;
}

static int show_auxv(struct synth_inode *i, struct sbuf *s)
{
    struct process *p;
    int err = proc_process(i, &p);

    if (err)
        return err;
    sbuf_write(s, p->mm->auxv, p->mm->auxv_words * 8);
    process_put(p);
    return 0;
}

static int show_statm(struct synth_inode *i, struct sbuf *s)
{
    struct process *p;
    int err = proc_process(i, &p);

    if (err)
        return err;
    struct mm *mm = p->mm;
    sbuf_printf(s, "%lu %lu 0 %lu 0 %lu 0\n",
                (unsigned long)mm->total_vm_pages, (unsigned long)mm->nr_pages,
                (unsigned long)(mm->code_end - mm->code_start + PAGE_SIZE - 1)
                    / PAGE_SIZE,
                (unsigned long)mm->data_vm_pages);
    process_put(p);
    return 0;
}

static int show_limits(struct synth_inode *i, struct sbuf *s)
{
    static const char *const rows[NR_RLIMITS][2] = {
        {"Max cpu time", "seconds"},      {"Max file size", "bytes"},
        {"Max data size", "bytes"},       {"Max stack size", "bytes"},
        {"Max core file size", "bytes"},  {"Max resident set", "bytes"},
        {"Max processes", "processes"},   {"Max open files", "files"},
        {"Max locked memory", "bytes"},   {"Max address space", "bytes"},
        {"Max file locks", "locks"},      {"Max pending signals", "signals"},
        {"Max msgqueue size", "bytes"},   {"Max nice priority", ""},
        {"Max realtime priority", ""},    {"Max realtime timeout", "us"},
    };
    struct process *p;
    char text[2][24];
    int err = proc_process(i, &p);

    if (err)
        return err;
    sbuf_printf(s, "%-25s %-20s %-20s %-10s\n", "Limit", "Soft Limit",
                "Hard Limit", "Units");
    for (int n = 0; n < NR_RLIMITS; n++) {
        uint64_t v[2] = {p->rlimits[n].cur, p->rlimits[n].max};
        for (int k = 0; k < 2; k++) {
            if (v[k] == ~0ul)
                strlcpy(text[k], "unlimited", sizeof(text[k]));
            else
                snprintf(text[k], sizeof(text[k]), "%lu",
                         (unsigned long)v[k]);
        }
        sbuf_printf(s, "%-25s %-20s %-20s ", rows[n][0], text[0], text[1]);
        sbuf_printf(s, *rows[n][1] ? "%-10s\n" : "%s\n", rows[n][1]);
    }
    process_put(p);
    return 0;
}

static int show_personality(struct synth_inode *i, struct sbuf *s)
{
    struct process *p;
    int err = proc_process(i, &p);

    if (err)
        return err;
    sbuf_printf(s, "%08x\n", p->personality);
    process_put(p);
    return 0;
}

/* --- links --- */
static int path_link(struct dentry *d, char *buf, size_t size)
{
    int err = dentry_path(d, buf, size);

    return err ? err : (int)strlen(buf);
}

static int exe_readlink(struct synth_inode *i, char *buf, size_t size)
{
    struct process *p;
    int err = proc_process(i, &p);

    if (err)
        return err;
    err = strlcpy(buf, p->exe_path, size);
    process_put(p);
    return err;
}

static int exe_follow(struct synth_inode *i, struct dentry **out)
{
    struct process *p;
    int err = proc_process(i, &p);

    if (err)
        return err;
    err = -EOPNOTSUPP; /* by name */
    if (p->mm->exe && p->mm->exe->dentry) {
        *out = p->mm->exe->dentry;
        dentry_get(*out);
        err = 0;
    }
    process_put(p);
    return err;
}

static int dir_follow(struct synth_inode *i, bool is_root, struct dentry **out)
{
    struct process *p;
    int err = proc_process(i, &p);

    if (err)
        return err;
    mutex_lock(&p->fs_lock);
    *out = is_root ? p->root : p->cwd;
    dentry_get(*out);
    mutex_unlock(&p->fs_lock);
    process_put(p);
    return 0;
}

static int cwd_follow(struct synth_inode *i, struct dentry **out)
{
    return dir_follow(i, false, out);
}

static int root_follow(struct synth_inode *i, struct dentry **out)
{
    return dir_follow(i, true, out);
}

static int dir_readlink(struct synth_inode *i, char *buf, size_t size)
{
    struct dentry *d;
    int err = i->node->follow(i, &d);

    if (err)
        return err;
    err = path_link(d, buf, size);
    dentry_put(d);
    return err;
}

/* --- /proc/PID/mem --- */
static ssize_t mem_move(struct file *f, struct iov_iter *it, off_t *pos,
                        bool write)
{
    struct process *p;
    char *buf = kmalloc(COPY_CHUNK);
    ssize_t n = buf ? proc_process(to_synth(f->inode), &p) : -ENOMEM;
    ssize_t done = 0;

    if (n)
        goto out;
    while (it->count) {
        size_t len = MIN(it->count, COPY_CHUNK);
        if (write) {
            n = iter_copy_from(it, buf, len);
            if (n > 0)
                n = mm_access(p->mm, *pos, buf, n, true);
        } else {
            n = mm_access(p->mm, *pos, buf, len, false);
            if (n > 0)
                n = iter_copy_to(it, buf, n);
        }
        if (n <= 0)
            break;
        done += n;
        *pos += n;
        if ((size_t)n < len)
            break;
    }
    process_put(p);
    if (n == 0 || n == -EFAULT)
        n = -EIO;
out:
    kfree(buf);
    return done ? done : it->count ? n : 0;
}

static ssize_t mem_read(struct file *f, struct iov_iter *to, off_t *pos)
{
    return mem_move(f, to, pos, false);
}

static ssize_t mem_write(struct file *f, struct iov_iter *from, off_t *pos)
{
    return mem_move(f, from, pos, true);
}

static off_t mem_seek(struct file *f, off_t offset, int whence)
{
    if (whence == SEEK_END)
        return -EINVAL;
    return generic_seek(f, offset, whence, 0);
}

static const struct file_ops mem_ops = {
    .read = mem_read, .write = mem_write, .seek = mem_seek,
};

/* --- tables --- */
static int next_tid(struct synth_inode *i, int from)
{
    struct process *p;
    struct task *t;
    int best = -1;

    if (proc_process(i, &p))
        return -1;
    bool was_on = spin_lock_irqsave(&p->siglock);
    list_for_each(t, &p->threads, process_link)
        if (t->tid >= from && (best < 0 || t->tid < best))
            best = t->tid;
    spin_unlock_irqrestore(&p->siglock, was_on);
    process_put(p);
    return best;
}

#define FD_DIR(n, number_node)                                          \
    {.name = n, .mode = S_IFDIR | 0500, .next_number = proc_fd_next,    \
     .number = &number_node, .key = offsetof(struct synth_inode, fd)}
#define LINK(n, read_fn, follow_fn)                                     \
    {.name = n, .mode = S_IFLNK | 0777, .readlink = read_fn,            \
     .follow = follow_fn}
#define COMMON_FILES                                                    \
    PROC_FILE("stat", show_stat), PROC_FILE("status", show_status),     \
    PROC_FILE("statm", show_statm), PROC_FILE("maps", proc_show_maps),  \
    PROC_FILE("smaps", proc_show_smaps),                                \
    PROC_FILE("smaps_rollup", proc_show_smaps_rollup),                  \
    {.name = "comm", .mode = S_IFREG | 0644, .show = show_comm,         \
     .store = store_comm},                                              \
    PROC_FILE("cmdline", show_cmdline),                                 \
    {.name = "environ", .mode = S_IFREG | 0400, .show = show_environ},  \
    {.name = "auxv", .mode = S_IFREG | 0400, .show = show_auxv},        \
    PROC_FILE("limits", show_limits),                                   \
    PROC_FILE("mounts", proc_show_mounts),                              \
    PROC_FILE("mountinfo", proc_show_mountinfo),                        \
    PROC_DIR("net", proc_net_table),                                    \
    PROC_TEXT("cgroup", "0::/\n"),                                    \
    {.name = "personality", .mode = S_IFREG | 0400,                     \
     .show = show_personality},                                         \
    PROC_TEXT("oom_score", "0\n"), PROC_TEXT("oom_adj", "0\n"),         \
    PROC_TEXT("oom_score_adj", "0\n"),                                  \
    PROC_TEXT("loginuid", "4294967295"), PROC_TEXT("sessionid",         \
                                                   "4294967295"),       \
    PROC_TEXT("uid_map", "         0          0 4294967295\n"),         \
    PROC_TEXT("gid_map", "         0          0 4294967295\n"),         \
    PROC_TEXT("setgroups", "allow\n"), PROC_TEXT("wchan", "0"),         \
    {.name = "mem", .mode = S_IFREG | 0600, .ops = &mem_ops},           \
    LINK("exe", exe_readlink, exe_follow),                              \
    LINK("cwd", dir_readlink, cwd_follow),                              \
    LINK("root", dir_readlink, root_follow),                            \
    FD_DIR("fd", proc_fd_node), FD_DIR("fdinfo", proc_fdinfo_node)

static const struct synth_node task_table[] = {COMMON_FILES, PROC_END};
static const struct synth_node task_node = PROC_DIR("", task_table);

static const struct synth_node pid_table[] = {
    COMMON_FILES,
    {.name = "task", .mode = S_IFDIR | 0555, .next_number = next_tid,
     .number = &task_node, .key = offsetof(struct synth_inode, tid)},
    PROC_END,
};

const struct synth_node proc_pid_node = PROC_DIR("", pid_table);
