/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The parts of procfs: proc_pid.c, proc_fd.c, proc_maps.c, proc_sys.c,
 * proc_system.c, proc_cpuinfo.c give tables; procfs.c puts them together.
 * Formats: man 5 proc.
 */
#pragma once

#include "fs/synth.h"

struct process;
struct task;

#define PROC_FILE(n, show_fn) \
    {.name = n, .mode = S_IFREG | 0444, .show = show_fn}
#define PROC_TEXT(n, string) \
    {.name = n, .mode = S_IFREG | 0444, .text = string}
#define PROC_DIR(n, table) \
    {.name = n, .mode = S_IFDIR | 0555, .children = table}
#define PROC_END {.name = NULL}

/* The process of a node: Returns owned (process_put), or -ESRCH. */
int proc_process(struct synth_inode *i, struct process **out);
/* The thread of a node (its first one under /proc/PID): Returns owned
 * (thread_put). */
int proc_task(struct synth_inode *i, struct task **out);

extern const struct synth_node proc_pid_node, proc_fd_node, proc_fdinfo_node;
extern const struct synth_node proc_sys_table[], proc_net_table[];
/* proc_net_stat.c */
int proc_net_snmp(struct synth_inode *i, struct sbuf *s);
int proc_net_netstat(struct synth_inode *i, struct sbuf *s);
int proc_net_sockstat6(struct synth_inode *i, struct sbuf *s);
int proc_net_arp(struct synth_inode *i, struct sbuf *s);
int proc_net_ipv6_route(struct synth_inode *i, struct sbuf *s);
int proc_fd_next(struct synth_inode *i, int from);
int proc_show_maps(struct synth_inode *i, struct sbuf *s);
int proc_show_smaps(struct synth_inode *i, struct sbuf *s);
int proc_show_smaps_rollup(struct synth_inode *i, struct sbuf *s);
int proc_show_cpuinfo(struct synth_inode *i, struct sbuf *s);
int proc_show_mounts(struct synth_inode *i, struct sbuf *s);
int proc_show_mountinfo(struct synth_inode *i, struct sbuf *s);
int proc_show_meminfo(struct synth_inode *i, struct sbuf *s);
int proc_show_stat_system(struct synth_inode *i, struct sbuf *s);
int proc_show_uptime(struct synth_inode *i, struct sbuf *s);
int proc_show_loadavg(struct synth_inode *i, struct sbuf *s);
int proc_show_version(struct synth_inode *i, struct sbuf *s);
int proc_show_cmdline_system(struct synth_inode *i, struct sbuf *s);
int proc_show_sockstat(struct synth_inode *i, struct sbuf *s);
int proc_show_net_capstan(struct synth_inode *i, struct sbuf *s);
int proc_show_slabinfo(struct synth_inode *i, struct sbuf *s);
int proc_show_vmstat(struct synth_inode *i, struct sbuf *s);
