/* SPDX-License-Identifier: BSD-2-Clause */
/* User and group ids, sessions, capabilities; as root, then no longer. */
#include "abi.h"

#include <grp.h>
#include <linux/capability.h>
#include <sys/fsuid.h>

static void show(void)
{
    uid_t r, e, s;
    gid_t gr, ge, gs;

    getresuid(&r, &e, &s);
    getresgid(&gr, &ge, &gs);
    printf("  uid %d %d %d (%d %d), gid %d %d %d (%d %d)\n", r, e, s, getuid(),
           geteuid(), gr, ge, gs, getgid(), getegid());
}

static void *in_thread(void *arg)
{
    show();
    return NULL;
}

static void no_way_back(void)
{
    pthread_t t;

    SECTION("no way back");
    E(setresuid(1000, 1000, 1000));
    show();
    pthread_create(&t, NULL, in_thread, NULL);
    pthread_join(t, NULL);
    E(setuid(0));
    E(seteuid(0));
    E(setreuid(0, 0));
    E(setuid(1000));
    E(setgid(1));
    E(setgroups(0, NULL));
    E(access("/root", R_OK | W_OK | X_OK) == 0);
}

int main(void)
{
    gid_t groups[8] = {0};
    struct __user_cap_header_struct h = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct d[2];

    watchdog();
    SECTION("root");
    show();
    E(syscall(SYS_getresuid, (void *)8, (void *)8, (void *)8));
    E(setgroups(3, (gid_t[]){30, 10, 20}));
    E(getgroups(8, groups));
    printf("  %d %d %d\n", groups[0], groups[1], groups[2]);
    E(getgroups(0, NULL));
    E(getgroups(2, groups));
    E(getgroups(-1, groups));
    E(setgroups(70000, groups));
    E(setgroups(0, NULL));
    E(getgroups(8, groups));
    E(setgid(100));
    show();
    E(setegid(0));
    E(setregid(-1, 5));
    show();
    E(setresgid(0, 0, 0));
    E(setfsuid(-1));
    E(setfsgid(-1));
    E(syscall(SYS_capget, &h, d));
    YES(d[0].effective & 1u << CAP_CHOWN && d[0].permitted & 1u << CAP_KILL);
    h.version = 5;
    E(syscall(SYS_capget, &h, d));
    printf("  version %x\n", h.version);
    h.pid = 99999999;
    E(syscall(SYS_capget, &h, d));
    SECTION("groups of processes");
    YES(getpid() > 0 && getppid() >= 0);
    YES(getpid() == (pid_t)syscall(SYS_gettid));
    YES(getpgrp() == getpgid(0));
    E(getpgid(99999999));
    E(getsid(99999999));
    YES(getsid(0) == getsid(getpid()));
    E(setpgid(0, -1));
    E(setpgid(99999999, 0));
    SECTION("an effective user");
    E(seteuid(1000));
    show();
    E(seteuid(0));
    E(setresuid(-1, 1000, 7));
    show();
    E(setresuid(-1, 8, -1));
    E(setresuid(7, -1, -1));
    show();
    E(setresuid(-1, 0, -1));
    E(setresuid(-1, 7, -1));
    show();
    no_way_back();
    return 0;
}
