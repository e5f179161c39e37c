/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * procfs.c: the root of /proc.
 */
#include "fs/procfs.h"

#include "linux/task.h"

int proc_process(struct synth_inode *i, struct process **out)
{
    if (!init_process || i->pid != init_process->pid)
        return -ESRCH;
    process_get(init_process);
    *out = init_process;
    return 0;
}

int proc_task(struct synth_inode *i, struct task **out)
{
    struct process *p;
    int err = proc_process(i, &p);

    if (err)
        return err;
    struct task *t = task_find(i->tid ? i->tid : i->pid);
    if (!t && !i->tid) { /* the first thread is gone: any other */
        bool was_on = spin_lock_irqsave(&p->siglock);
        if (!list_empty(&p->threads)) {
            t = list_first(&p->threads, struct task, process_link);
            thread_get(&t->thread);
        }
        spin_unlock_irqrestore(&p->siglock, was_on);
    }
    process_put(p);
    *out = t;
    return t ? 0 : -ESRCH;
}

static int next_pid(struct synth_inode *i, int from)
{
    if (!init_process || from > init_process->pid)
        return -1;
    return init_process->pid;
}

static int self_readlink(struct synth_inode *i, char *buf, size_t size)
{
    struct process *p = fs_process();

    return p ? snprintf(buf, size, "%d", p->pid) : -ENOENT;
}

static int thread_self_readlink(struct synth_inode *i, char *buf, size_t size)
{
    struct process *p = fs_process();

    if (!p)
        return -ENOENT;
    return snprintf(buf, size, "%d/task/%d", p->pid, current_task()->tid);
}

static int mounts_readlink(struct synth_inode *i, char *buf, size_t size)
{
    return snprintf(buf, size, "self/mounts");
}

static int net_readlink(struct synth_inode *i, char *buf, size_t size)
{
    return snprintf(buf, size, "self/net");
}

static const char filesystems[] = "nodev\tsysfs\nnodev\ttmpfs\nnodev\tproc\n"
                                  "nodev\tdevtmpfs\nnodev\tsockfs\n"
                                  "nodev\tpipefs\n\tzfs\n";
static const char devices[] = "Character devices:\n  1 mem\n  5 /dev/tty\n"
                              "  5 /dev/console\n\nBlock devices:\n";

static const struct synth_node root_table[] = {
    {.name = "self", .mode = S_IFLNK | 0777, .readlink = self_readlink},
    {.name = "thread-self", .mode = S_IFLNK | 0777,
     .readlink = thread_self_readlink},
    {.name = "mounts", .mode = S_IFLNK | 0777, .readlink = mounts_readlink},
    {.name = "net", .mode = S_IFLNK | 0777, .readlink = net_readlink},
    PROC_FILE("cpuinfo", proc_show_cpuinfo),
    PROC_FILE("meminfo", proc_show_meminfo),
    PROC_FILE("stat", proc_show_stat_system),
    PROC_FILE("uptime", proc_show_uptime),
    PROC_FILE("loadavg", proc_show_loadavg),
    PROC_FILE("version", proc_show_version),
    PROC_FILE("cmdline", proc_show_cmdline_system),
    PROC_FILE("vmstat", proc_show_vmstat),
    PROC_FILE("slabinfo", proc_show_slabinfo),
    PROC_TEXT("filesystems", filesystems),
    PROC_TEXT("devices", devices),
    PROC_TEXT("swaps", "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n"),
    PROC_TEXT("partitions", "major minor  #blocks  name\n\n"),
    PROC_TEXT("modules", ""),
    PROC_TEXT("diskstats", ""),
    PROC_DIR("sys", proc_sys_table),
    PROC_END,
};

static const struct synth_node proc_root = {
    .name = "",
    .mode = S_IFDIR | 0555,
    .children = root_table,
    .next_number = next_pid,
    .number = &proc_pid_node,
    .key = offsetof(struct synth_inode, pid),
};

int procfs_mount(const char *where)
{
    return synth_mount(where, "proc", 0x9fa0, &proc_root);
}
