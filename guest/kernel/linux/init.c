/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The first process: from boot parameters to a running program, and from its
 * end to the end of the machine.
 *
 * - The program's first thread begins as a kernel thread with an address space
 *   (init_task): name lookup, exec and user copies work as in a system call.
 * - The boot thread waits beside it. It says `ready` and listens to the host
 *   a little later: both cost exits the first output should not wait for.
 */
#include "drivers/drivers.h"
#include "lib/errno.h"
#include "lib/printk.h"
#include "lib/string.h"
#include "linux/siginfo.h"
#include "linux/syscall.h"
#include "linux/task.h"
#include "mm/heap.h"
#include "net/socket.h"
#include "param.h"
#include "sched/futex.h"

#define LISTEN_AFTER 5000000 /* ns */
/* How long the end waits for peers that take what was sent to them: without
 * progress, and in all. */
#define DRAIN_PATIENCE (500 * 1000000l)
#define DRAIN_LIMIT (5 * NSEC_PER_SEC)
#define DEFAULT_PATH \
    "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

static uint32_t said_ready, said_end; /* atomic */

static void say_ready(void)
{
    if (atomic_xchg(&said_ready, 1u) == 0)
        control_send("ready");
}

void init_process_end(int wait_status)
{
    int signo = wait_status & 0x7f;

    /* Two threads may get here: the first one is right. */
    if (atomic_xchg(&said_end, 1u) != 0) {
        for (;;)
            sleep_until(clock_monotonic() + 3600 * NSEC_PER_SEC, false);
    }
    console_drain();
    if (socket_any_inet()) {
        fdtable_close_all(current_fds());
        socket_drain(DRAIN_PATIENCE, DRAIN_LIMIT);
    }
    syscall_report_absent();
    if (boot_params.stats)
        stats_report();
    say_ready();
    if (signo != 0)
        control_send("killed %d", signo);
    else
        control_send("exit %d", wait_status >> 8 & 0xff);
    console_drain();
    machine_exit(0);
}

static __noreturn void fail(int status, const char *name, const char *why)
{
    control_send("failed %d %s: %s", status, name, why);
    console_drain();
    machine_exit(0);
}

/* What a shell says and exits with. */
static __noreturn void fail_exec(const char *name, int err)
{
    switch (err) {
    case -ENOENT:
        fail(127, name, "not found (or its interpreter is not)");
    case -ENOTDIR:
        fail(127, name, "not found (a part of the path is not a directory)");
    case -EACCES:
        fail(126, name, "not an executable file");
    case -ENOEXEC:
        fail(126, name, "not an x86-64 ELF executable or script");
    case -ELIBBAD:
        fail(126, name, "its dynamic linker is not usable");
    case -ELOOP:
        fail(126, name, "too many levels of links or scripts");
    case -E2BIG:
        fail(126, name, "arguments and environment are too long");
    case -ENOMEM:
        fail(126, name, "not enough memory; start with more (-m)");
    default:
        fail(126, name, "cannot be loaded");
    }
}

static const char *get_env(const char *name)
{
    size_t n = strlen(name);

    for (size_t i = 0; i < boot_params.nr_env; i++) {
        if (strncmp(boot_params.env[i], name, n) == 0 &&
            boot_params.env[i][n] == '=')
            return boot_params.env[i] + n + 1;
    }
    return NULL;
}

/* Tries name in every directory of PATH (execvp(3)). */
static int exec_search(const char *name, struct regs *regs)
{
    const char *p = get_env("PATH"), *end;
    char *path = kmalloc(PAGE_SIZE);
    int err = -ENOENT, e;

    if (path == NULL)
        return -ENOMEM;
    if (p == NULL)
        p = DEFAULT_PATH;
    for (;; p = end + 1) {
        end = strchr(p, ':');
        if (end == NULL)
            end = p + strlen(p);
        snprintf(path, PAGE_SIZE, "%.*s%s%s", (int)(end - p), p,
                 end > p ? "/" : "", name);
        e = exec_load(path, boot_params.args, boot_params.env, regs);
        if (e == 0 || (e != -ENOENT && e != -ENOTDIR && e != -EACCES)) {
            err = e;
            break;
        }
        if (e == -EACCES)
            err = e;
        if (*end == '\0')
            break;
    }
    kfree(path);
    return err;
}

static void open_std(struct process *p)
{
    for (int fd = 0; fd < 3; fd++) {
        struct file *f;
        int err = console_open_std(fd, &f);

        if (err == 0)
            err = fd_install(f, fd, false) == fd ? 0 : -EIO;
        if (err != 0)
            panic("descriptor %d: error %d", fd, -err);
    }
}

static void set_cwd(struct process *p)
{
    const char *cwd = boot_params.cwd != NULL ? boot_params.cwd : "/";
    struct dentry *d;
    int err;

    if (strcmp(cwd, "/") == 0)
        return;
    err = path_lookup(NULL, cwd, LOOKUP_FOLLOW | LOOKUP_DIRECTORY, &d);
    if (err != 0)
        fail(126, cwd, "the working directory does not exist");
    mutex_lock(&p->fs_lock);
    dentry_put(p->cwd);
    p->cwd = d;
    mutex_unlock(&p->fs_lock);
}

/* Who the program runs as; it may have become less than root. */
static void set_user(struct process *p)
{
    p->uid = p->euid = p->suid = boot_params.uid;
    p->gid = p->egid = p->sgid = boot_params.gid;
    _Static_assert(sizeof(boot_params.groups) <= sizeof(p->groups),
                   "a process has room for all groups");
    memcpy(p->groups, boot_params.groups, sizeof(boot_params.groups));
    p->nr_groups = boot_params.nr_groups;
}

/* The first thread, still in the kernel. */
static void init_task(void *arg)
{
    struct task *t = arg;
    struct regs *regs = thread_regs(&t->thread);
    const char *name = boot_params.exe;
    int err;

    open_std(t->process);
    set_cwd(t->process);
    set_user(t->process);
    if (name == NULL)
        name = boot_params.nr_args > 0 ? boot_params.args[0] : "";
    if (boot_params.exe != NULL || strchr(name, '/') != NULL)
        err = exec_load(name, boot_params.args, boot_params.env, regs);
    else
        err = exec_search(name, regs);
    if (err != 0)
        fail_exec(name, err);
    boot_mark("program loaded");
    t->thread.entry = NULL; /* from here on a task like others */
    irq_off();
    return_to_program(regs);
}

void init_process_run(void)
{
    struct process *p;
    struct task *t;
    int err;

    futex_init();
    signal_init();
    err = process_create_init(&p);
    if (err == 0)
        err = task_create(p, "init", &t);
    if (err != 0)
        panic("no memory for the first process");
    init_process = p;
    err = task_publish(t, INIT_PID);
    assert(err == 0);
    t->thread.entry = init_task;
    t->thread.arg = t;
    thread_start(&t->thread);

    sleep_until(clock_monotonic() + LISTEN_AFTER, false);
    say_ready();
    control_start();
    /* init_process_end() stops the machine from the program's thread. */
    for (;;)
        sleep_until(clock_monotonic() + 3600 * NSEC_PER_SEC, false);
}
