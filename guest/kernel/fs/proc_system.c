/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * proc_system.c: files of /proc about the whole machine, and /proc/sys.
 * Values come from the kernel's state; a limit that exists nowhere else is
 * text here.
 */
#include "drivers/drivers.h"
#include "fs/procfs.h"
#include "linux/task.h"
#include "param.h"

#define TICK_NS 10000000l

static void mount_point(struct superblock *sb, char *buf)
{
    if (!sb->mounted_on || dentry_path(sb->mounted_on, buf, PATH_MAX))
        strlcpy(buf, "/", PATH_MAX);
}

int proc_show_mounts(struct synth_inode *i, struct sbuf *s)
{
    struct superblock *sb;
    char *path = kmalloc(PATH_MAX);

    if (!path)
        return -ENOMEM;
    list_for_each(sb, &superblocks, link) {
        mount_point(sb, path);
        sbuf_printf(s, "%s %s %s %s 0 0\n", sb->source, path, sb->type,
                    sb->options);
    }
    kfree(path);
    return 0;
}

int proc_show_mountinfo(struct synth_inode *i, struct sbuf *s)
{
    struct superblock *sb;
    char *path = kmalloc(PATH_MAX);

    if (!path)
        return -ENOMEM;
    list_for_each(sb, &superblocks, link) {
        uint64_t up = sb->mounted_on ? sb->mounted_on->inode->sb->dev : 1;
        mount_point(sb, path);
        sbuf_printf(s, "%lu %lu 0:%lu / %s %s - %s %s rw\n",
                    (unsigned long)sb->dev, (unsigned long)up,
                    (unsigned long)sb->dev, path, sb->options, sb->type,
                    sb->source);
    }
    kfree(path);
    return 0;
}

int proc_show_meminfo(struct synth_inode *i, struct sbuf *s)
{
    struct memory_stats m;
    struct process *p = init_process;

    memory_stats(&m);
    unsigned long total = m.total_pages * 4, free = m.free_pages * 4;
    unsigned long cached = m.cache_pages * 4;
    unsigned long clean = pagecache_clean_pages() * 4;
    unsigned long rss = p && p->mm ? p->mm->nr_pages * 4 : 0;
    unsigned long virt = p && p->mm ? p->mm->total_vm_pages * 4 : 0;
    const struct {
        const char *name;
        unsigned long kb;
    } rows[] = {
        {"MemTotal:", total}, {"MemFree:", free},
        {"MemAvailable:", free + clean}, {"Buffers:", 0},
        {"Cached:", MAX(cached, clean)}, {"SwapCached:", 0},
        {"Active:", rss}, {"Inactive:", clean}, {"Unevictable:", 0},
        {"Mlocked:", p && p->mm ? p->mm->locked_pages * 4 : 0},
        {"SwapTotal:", 0}, {"SwapFree:", 0}, {"Dirty:", 0}, {"Writeback:", 0},
        {"AnonPages:", rss}, {"Mapped:", 0}, {"Shmem:", 0}, {"Slab:", 0},
        {"PageTables:", 0}, {"CommitLimit:", total}, {"Committed_AS:", virt},
        {"VmallocTotal:", 34359738367ul}, {"VmallocUsed:", 0},
        {"VmallocChunk:", 0}, {"AnonHugePages:", 0}, {"HugePages_Total:", ~0ul},
        {"HugePages_Free:", ~0ul}, {"HugePages_Rsvd:", ~0ul},
        {"HugePages_Surp:", ~0ul}, {"Hugepagesize:", 2048}, {"Hugetlb:", 0},
    };

    for (size_t n = 0; n < ARRAY_SIZE(rows); n++) {
        if (rows[n].kb == ~0ul) /* a count, not an amount: none exist */
            sbuf_printf(s, "%-15s %8u\n", rows[n].name, 0);
        else
            sbuf_printf(s, "%-15s %8lu kB\n", rows[n].name, rows[n].kb);
    }
    return 0;
}

/* Ticks a CPU was busy and idle since boot. */
static void cpu_ticks(unsigned n, long *busy, long *idle)
{
    nsec_t up = clock_monotonic(), rest = 0;

    if (cpus[n]->idle_thread)
        rest = thread_cpu_time(cpus[n]->idle_thread);
    if (rest > up)
        rest = up;
    *busy = (up - rest) / TICK_NS;
    *idle = rest / TICK_NS;
}

static unsigned running_threads(void)
{
    unsigned nr = 0;
    struct process *p = init_process;
    struct task *t;

    if (!p)
        return 0;
    bool was_on = spin_lock_irqsave(&p->siglock);
    list_for_each(t, &p->threads, process_link)
        nr += t->thread.state == THREAD_RUNNING;
    spin_unlock_irqrestore(&p->siglock, was_on);
    return nr;
}

int proc_show_stat_system(struct synth_inode *i, struct sbuf *s)
{
    long busy, idle, all_busy = 0, all_idle = 0;

    for (unsigned n = 0; n < nr_cpus; n++) {
        cpu_ticks(n, &busy, &idle);
        all_busy += busy;
        all_idle += idle;
    }
    sbuf_printf(s, "cpu  %ld 0 0 %ld 0 0 0 0 0 0\n", all_busy, all_idle);
    for (unsigned n = 0; n < nr_cpus; n++) {
        cpu_ticks(n, &busy, &idle);
        sbuf_printf(s, "cpu%u %ld 0 0 %ld 0 0 0 0 0 0\n", n, busy, idle);
    }
    sbuf_printf(s, "intr 0\nctxt 0\nbtime %ld\nprocesses 1\n"
                "procs_running %u\nprocs_blocked 0\n",
                (long)((clock_realtime() - clock_monotonic()) / NSEC_PER_SEC),
                running_threads());
    return 0;
}

int proc_show_uptime(struct synth_inode *i, struct sbuf *s)
{
    long up = clock_monotonic() / TICK_NS, busy, idle, sum = 0;

    for (unsigned n = 0; n < nr_cpus; n++) {
        cpu_ticks(n, &busy, &idle);
        sum += idle;
    }
    sbuf_printf(s, "%ld.%02ld %ld.%02ld\n", up / 100, up % 100, sum / 100,
                sum % 100);
    return 0;
}

int proc_show_loadavg(struct synth_inode *i, struct sbuf *s)
{
    /* No load average is kept. */
    sbuf_printf(s, "0.00 0.00 0.00 %u/%u %d\n", running_threads(),
                init_process ? init_process->nr_threads : 0,
                init_process ? init_process->pid : 0);
    return 0;
}

int proc_show_version(struct synth_inode *i, struct sbuf *s)
{
    sbuf_printf(s, "Linux version " UTS_RELEASE " (capstan) " UTS_VERSION
                "\n");
    return 0;
}

int proc_show_cmdline_system(struct synth_inode *i, struct sbuf *s)
{
    sbuf_printf(s, "\n");
    return 0;
}

int proc_show_vmstat(struct synth_inode *i, struct sbuf *s)
{
    struct memory_stats m;

    memory_stats(&m);
    sbuf_printf(s, "nr_free_pages %lu\nnr_file_pages %lu\n",
                (unsigned long)m.free_pages, (unsigned long)m.cache_pages);
    return 0;
}

/* --- /proc/sys --- */
static int show_hostname(struct synth_inode *i, struct sbuf *s)
{
    char name[65];

    uts_hostname(name, sizeof(name));
    sbuf_printf(s, "%s\n", name);
    return 0;
}

static void show_uuid(const uint8_t u[16], struct sbuf *s)
{
    for (int n = 0; n < 16; n++)
        sbuf_printf(s, "%s%02x",
                    n == 4 || n == 6 || n == 8 || n == 10 ? "-" : "", u[n]);
    sbuf_printf(s, "\n");
}

static void make_uuid(uint8_t u[16])
{
    random_bytes(u, 16);
    u[6] = (u[6] & 0x0f) | 0x40; /* RFC 4122, version 4 */
    u[8] = (u[8] & 0x3f) | 0x80;
}

static int show_new_uuid(struct synth_inode *i, struct sbuf *s)
{
    uint8_t u[16];

    make_uuid(u);
    show_uuid(u, s);
    return 0;
}

static int show_boot_id(struct synth_inode *i, struct sbuf *s)
{
    static struct spinlock lock;
    static uint8_t id[16];
    static bool is_made;
    uint8_t fresh[16];

    make_uuid(fresh);
    spin_lock(&lock);
    if (!is_made)
        memcpy(id, fresh, sizeof(id));
    is_made = true;
    spin_unlock(&lock);
    show_uuid(id, s);
    return 0;
}

static int show_threads_max(struct synth_inode *i, struct sbuf *s)
{
    sbuf_printf(s, "%lu\n", init_process
                    ? (unsigned long)init_process->rlimits[6].max * 2 : 0ul);
    return 0;
}

static const struct synth_node random_table[] = {
    PROC_FILE("boot_id", show_boot_id),
    PROC_FILE("uuid", show_new_uuid),
    PROC_TEXT("entropy_avail", "256\n"),
    PROC_TEXT("poolsize", "256\n"),
    PROC_END,
};

static const struct synth_node kernel_table[] = {
    PROC_FILE("hostname", show_hostname),
    PROC_TEXT("domainname", "(none)\n"),
    PROC_TEXT("ostype", "Linux\n"),
    PROC_TEXT("osrelease", UTS_RELEASE "\n"),
    PROC_TEXT("version", UTS_VERSION "\n"),
    PROC_TEXT("pid_max", "4194304\n"),
    PROC_FILE("threads-max", show_threads_max),
    PROC_TEXT("randomize_va_space", "2\n"),
    PROC_TEXT("cap_last_cap", "40\n"),
    PROC_TEXT("ngroups_max", "64\n"),
    PROC_TEXT("core_pattern", "core\n"),
    PROC_TEXT("core_uses_pid", "0\n"),
    PROC_TEXT("overflowuid", "65534\n"),
    PROC_TEXT("overflowgid", "65534\n"),
    PROC_TEXT("perf_event_paranoid", "4\n"),
    PROC_TEXT("tainted", "0\n"),
    PROC_TEXT("panic", "0\n"),
    PROC_TEXT("printk", "4\t4\t1\t7\n"),
    PROC_TEXT("sched_child_runs_first", "0\n"),
    PROC_DIR("random", random_table),
    PROC_END,
};

static const struct synth_node vm_table[] = {
    PROC_TEXT("overcommit_memory", "1\n"), /* nothing is accounted */
    PROC_TEXT("overcommit_ratio", "50\n"),
    PROC_TEXT("max_map_count", "65530\n"),
    PROC_TEXT("mmap_min_addr", "4096\n"),
    PROC_TEXT("nr_hugepages", "0\n"),
    PROC_TEXT("swappiness", "60\n"),
    PROC_END,
};

static const struct synth_node sys_fs_table[] = {
    PROC_TEXT("file-max", "9223372036854775807\n"),
    PROC_TEXT("nr_open", "1048576\n"),
    PROC_TEXT("pipe-max-size", "1048576\n"),
    PROC_TEXT("pipe-user-pages-soft", "16384\n"),
    PROC_TEXT("pipe-user-pages-hard", "0\n"),
    PROC_TEXT("protected_hardlinks", "0\n"),
    PROC_TEXT("protected_symlinks", "0\n"),
    PROC_END,
};

static const struct synth_node net_core_table[] = {
    PROC_TEXT("somaxconn", "4096\n"),
    PROC_END,
};

static const struct synth_node net_table[] = {
    PROC_DIR("core", net_core_table),
    PROC_END,
};

const struct synth_node proc_sys_table[] = {
    PROC_DIR("kernel", kernel_table), PROC_DIR("vm", vm_table),
    PROC_DIR("fs", sys_fs_table),     PROC_DIR("net", net_table),
    PROC_END,
};
