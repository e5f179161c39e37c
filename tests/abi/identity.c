/* SPDX-License-Identifier: BSD-2-Clause */
/* Ids, limits, names, prctl, scheduling parameters. */
#define _GNU_SOURCE
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

static void show(const char *what, long r)
{
    printf("%s: %ld %s\n", what, r, r < 0 ? strerror(errno) : "");
}

static void limits(void)
{
    struct rlimit l, bad = {5, 4};

    getrlimit(RLIMIT_STACK, &l);
    printf("stack %ld\n", (long)l.rlim_cur);
    l.rlim_cur = 100;
    getrlimit(RLIMIT_NOFILE, &l);
    l.rlim_cur = 100;
    show("setrlimit", setrlimit(RLIMIT_NOFILE, &l));
    getrlimit(RLIMIT_NOFILE, &l);
    printf("files %ld\n", (long)l.rlim_cur);
    show("dup2 past it", dup2(1, 100));
    show("cur > max", setrlimit(RLIMIT_CORE, &bad));
    show("limit 77", getrlimit(77, &l));
}

static void scheduling(void)
{
    struct sched_param p = {0};
    cpu_set_t set;

    show("scheduler", sched_getscheduler(0));
    show("max fifo", sched_get_priority_max(SCHED_FIFO));
    show("min other", sched_get_priority_min(SCHED_OTHER));
    show("max 77", sched_get_priority_max(77));
    show("batch", sched_setscheduler(0, SCHED_BATCH, &p));
    show("scheduler", sched_getscheduler(0));
    p.sched_priority = 5;
    show("batch 5", sched_setscheduler(0, SCHED_BATCH, &p));
    p.sched_priority = 500;
    show("fifo 500", sched_setscheduler(0, SCHED_FIFO, &p));
    show("getaffinity", sched_getaffinity(0, sizeof(set), &set));
    printf("some cpu %d\n", CPU_COUNT(&set) > 0);
    CPU_ZERO(&set);
    show("no cpu", sched_setaffinity(0, sizeof(set), &set));
    show("nobody", sched_getscheduler(99999999));
    errno = 0;
    show("priority", getpriority(PRIO_PROCESS, 0));
    show("nice 5", setpriority(PRIO_PROCESS, 0, 5));
    show("priority", getpriority(PRIO_PROCESS, 0));
    show("which 9", setpriority(9, 0, 5));
    printf("cpu %d\n", sched_getcpu() >= 0);
}

static void prctls(void)
{
    int v = -1;

    show("dumpable", prctl(PR_GET_DUMPABLE));
    show("set dumpable", prctl(PR_SET_DUMPABLE, 0));
    show("dumpable", prctl(PR_GET_DUMPABLE));
    show("pdeathsig", prctl(PR_SET_PDEATHSIG, SIGTERM));
    show("get", prctl(PR_GET_PDEATHSIG, &v));
    printf("is %d\n", v);
    show("no_new_privs", prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0));
    show("set", prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
    show("no_new_privs", prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0));
    show("slack", prctl(PR_SET_TIMERSLACK, 1));
    show("slack is", prctl(PR_GET_TIMERSLACK));
    show("unknown", prctl(12345));
    show("arch_prctl GET_FS", syscall(SYS_arch_prctl, 0x1003, 8));
    show("arch_prctl 9", syscall(SYS_arch_prctl, 9, 0));
}

int main(void)
{
    struct utsname u;
    struct sysinfo si;
    int status;

    printf("pid %d ppid %d\n", getpid() > 1, getppid() > 0);
    printf("uid %d %d gid %d %d\n", getuid(), geteuid(), getgid(), getegid());
    show("tid is pid", syscall(SYS_gettid) == getpid());
    show("pgid nobody", getpgid(99999999));
    show("setpgid nobody", setpgid(99999999, 0));
    show("uname", uname(&u));
    printf("%s %s\n", u.sysname, u.machine);
    show("sysinfo", sysinfo(&si));
    printf("memory %d unit %u\n", si.totalram > 0 && si.freeram > 0,
           si.mem_unit);
    limits();
    scheduling();
    prctls();
    show("personality", personality(0xffffffff) & ~ADDR_NO_RANDOMIZE);
    show("wait", wait(&status));
    show("waitpid WNOHANG", waitpid(-1, &status, WNOHANG));
    show("waitid", waitid(P_ALL, 0, NULL, WEXITED));
    show("waitid nothing", waitid(P_ALL, 0, NULL, 0));
    show("setuid", setuid(1000));
    printf("uid %d %d\n", getuid(), geteuid());
    show("setuid back", setuid(0));
    show("seteuid same", seteuid(1000));
    show("setgroups", syscall(SYS_setgroups, 0, NULL));
    show("sethostname", sethostname("x", 1));
    return 0;
}
