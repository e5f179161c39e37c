/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * sysfs.c: the little of /sys that programs read: CPUs, one NUMA node, huge
 * pages. What is refused on purpose is listed in refused.c.
 */
#include "fs/procfs.h"

static int show_cpu_list(struct synth_inode *i, struct sbuf *s)
{
    if (nr_cpus > 1)
        sbuf_printf(s, "0-%u\n", nr_cpus - 1);
    else
        sbuf_printf(s, "0\n");
    return 0;
}

static int show_cpu_mask(struct synth_inode *i, struct sbuf *s)
{
    sbuf_printf(s, "%x\n", (1u << nr_cpus) - 1);
    return 0;
}

static int show_cpu_number(struct synth_inode *i, struct sbuf *s)
{
    sbuf_printf(s, "%d\n", i->cpu);
    return 0;
}

static int show_own_mask(struct synth_inode *i, struct sbuf *s)
{
    sbuf_printf(s, "%x\n", 1u << i->cpu);
    return 0;
}

static int next_cpu(struct synth_inode *i, int from)
{
    return from < (int)nr_cpus ? from : -1;
}

static int next_node(struct synth_inode *i, int from)
{
    return from == 0 ? 0 : -1;
}

static int show_node_meminfo(struct synth_inode *i, struct sbuf *s)
{
    struct memory_stats m;

    memory_stats(&m);
    sbuf_printf(s, "Node 0 MemTotal:       %8lu kB\n"
                "Node 0 MemFree:        %8lu kB\n",
                (unsigned long)m.total_pages * 4,
                (unsigned long)m.free_pages * 4);
    return 0;
}

/* One core per CPU, one package, as the launcher builds it. */
static const struct synth_node topology_table[] = {
    PROC_FILE("core_id", show_cpu_number),
    PROC_TEXT("physical_package_id", "0\n"),
    PROC_TEXT("die_id", "0\n"),
    PROC_FILE("core_cpus", show_own_mask),
    PROC_FILE("core_cpus_list", show_cpu_number),
    PROC_FILE("thread_siblings", show_own_mask),
    PROC_FILE("thread_siblings_list", show_cpu_number),
    PROC_FILE("core_siblings", show_cpu_mask),
    PROC_FILE("core_siblings_list", show_cpu_list),
    PROC_FILE("package_cpus", show_cpu_mask),
    PROC_FILE("package_cpus_list", show_cpu_list),
    PROC_END,
};

static const struct synth_node cpu_number_table[] = {
    PROC_TEXT("online", "1\n"),
    PROC_DIR("topology", topology_table),
    PROC_END,
};
static const struct synth_node cpu_number_node =
    PROC_DIR("", cpu_number_table);

static const struct synth_node cpu_table[] = {
    PROC_FILE("online", show_cpu_list),
    PROC_FILE("possible", show_cpu_list),
    PROC_FILE("present", show_cpu_list),
    PROC_TEXT("offline", "\n"),
    PROC_TEXT("isolated", "\n"),
    PROC_TEXT("kernel_max", "7\n"), /* MAX_CPUS - 1 */
    PROC_END,
};

static const struct synth_node node_number_table[] = {
    PROC_FILE("cpulist", show_cpu_list),
    PROC_FILE("cpumap", show_cpu_mask),
    PROC_FILE("meminfo", show_node_meminfo),
    PROC_TEXT("distance", "10\n"),
    PROC_END,
};
static const struct synth_node node_number_node =
    PROC_DIR("", node_number_table);

static const struct synth_node node_table[] = {
    PROC_TEXT("online", "0\n"),
    PROC_TEXT("possible", "0\n"),
    PROC_TEXT("has_cpu", "0\n"),
    PROC_TEXT("has_memory", "0\n"),
    PROC_TEXT("has_normal_memory", "0\n"),
    PROC_END,
};

static const struct synth_node system_table[] = {
    {.name = "cpu", .mode = S_IFDIR | 0555, .children = cpu_table,
     .next_number = next_cpu, .prefix = "cpu", .number = &cpu_number_node,
     .key = offsetof(struct synth_inode, cpu)},
    {.name = "node", .mode = S_IFDIR | 0555, .children = node_table,
     .next_number = next_node, .prefix = "node", .number = &node_number_node,
     .key = offsetof(struct synth_inode, fd)},
    PROC_END,
};

static const struct synth_node devices_table[] = {
    PROC_DIR("system", system_table),
    PROC_END,
};

static const struct synth_node thp_table[] = {
    PROC_TEXT("enabled", "always [madvise] never\n"),
    PROC_TEXT("defrag", "always defer defer+madvise [madvise] never\n"),
    PROC_TEXT("hpage_pmd_size", "2097152\n"),
    PROC_TEXT("shmem_enabled",
              "always within_size advise [never] deny force\n"),
    PROC_END,
};

static const struct synth_node mm_table[] = {
    PROC_DIR("transparent_hugepage", thp_table),
    PROC_END,
};

static const struct synth_node kernel_table[] = {
    PROC_DIR("mm", mm_table),
    PROC_END,
};

static const struct synth_node none_table[] = {PROC_END};
static const struct synth_node fs_table[] = {
    PROC_DIR("cgroup", none_table),
    PROC_END,
};
static const struct synth_node class_table[] = {
    PROC_DIR("net", none_table),
    PROC_END,
};

static const struct synth_node root_table[] = {
    PROC_DIR("devices", devices_table), PROC_DIR("kernel", kernel_table),
    PROC_DIR("fs", fs_table),           PROC_DIR("class", class_table),
    PROC_DIR("block", none_table),      PROC_END,
};
static const struct synth_node sys_root = PROC_DIR("", root_table);

int sysfs_mount(const char *where)
{
    return synth_mount(where, "sysfs", 0x62656572, &sys_root);
}
