/* SPDX-License-Identifier: BSD-2-Clause */
/* prctl, arch_prctl, personality and their traces in /proc. */
#include "abi.h"

#include <asm/prctl.h>
#include <sys/personality.h>
#include <sys/prctl.h>

static void show_file(const char *path)
{
    char text[64];
    int fd = open(path, O_RDONLY);
    ssize_t n = fd >= 0 ? read(fd, text, sizeof(text) - 1) : -1;

    if (n < 0)
        printf("  %s: %s\n", path, errno_name(errno));
    else
        printf("  %s: %.*s", path, (int)n, text);
    close(fd);
}

static void *named(void *arg)
{
    char name[16];

    E(prctl(PR_GET_NAME, name));
    printf("  inherited %s\n", name);
    E(prctl(PR_SET_NAME, "other"));
    show_file("/proc/self/comm");
    show_file("/proc/thread-self/comm");
    return NULL;
}

static void names(void)
{
    char name[16];
    pthread_t t;

    SECTION("names");
    E(prctl(PR_GET_NAME, name));
    printf("  %s\n", name);
    E(prctl(PR_SET_NAME, "a-new-name"));
    show_file("/proc/self/comm");
    E(prctl(PR_SET_NAME, "longer-than-fifteen-letters"));
    E(prctl(PR_GET_NAME, name));
    printf("  %s\n", name);
    show_file("/proc/self/comm");
    E(prctl(PR_SET_NAME, (void *)8));
    pthread_create(&t, NULL, named, NULL);
    pthread_join(t, NULL);
    show_file("/proc/self/comm");
    int fd = (int)MUST(open("/proc/self/comm", O_WRONLY));
    E(write(fd, "written", 7));
    close(fd);
    show_file("/proc/self/comm");
    E(prctl(PR_GET_NAME, name));
    printf("  %s\n", name);
}

static void flags(void)
{
    int v = -1;

    SECTION("prctl");
    E(prctl(PR_GET_DUMPABLE));
    E(prctl(PR_SET_DUMPABLE, 0));
    E(prctl(PR_GET_DUMPABLE));
    E(prctl(PR_SET_DUMPABLE, 2));
    E(prctl(PR_SET_DUMPABLE, 1));
    E(prctl(PR_SET_NO_NEW_PRIVS, 0, 0, 0, 0));
    E(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 5));
    E(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
    E(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0));
    E(prctl(PR_SET_PDEATHSIG, SIGTERM));
    E(prctl(PR_GET_PDEATHSIG, &v));
    E(v);
    E(prctl(PR_SET_PDEATHSIG, 0));
    E(prctl(PR_SET_PDEATHSIG, 99));
    E(prctl(PR_GET_KEEPCAPS));
    E(prctl(PR_SET_KEEPCAPS, 1));
    E(prctl(PR_GET_KEEPCAPS));
    E(prctl(PR_SET_KEEPCAPS, 2));
    E(prctl(PR_SET_KEEPCAPS, 0));
    E(prctl(PR_CAPBSET_READ, 0));
    E(prctl(PR_CAPBSET_READ, 999));
    E(prctl(PR_GET_TIMERSLACK));
    E(prctl(PR_SET_TIMERSLACK, 12345));
    E(prctl(PR_GET_TIMERSLACK));
    E(prctl(PR_SET_TIMERSLACK, 0));
    E(prctl(PR_GET_TIMERSLACK));
    E(prctl(PR_GET_CHILD_SUBREAPER, &v));
    E(v);
    E(prctl(PR_GET_TSC, &v));
    E(v == PR_TSC_ENABLE);
    E(prctl(PR_GET_TIMING));
    E(prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0));
    E(prctl(77777));
}

static void arch(void)
{
    unsigned long fs = 0;

    SECTION("arch_prctl");
    E(syscall(SYS_arch_prctl, ARCH_GET_FS, &fs));
    YES(fs == (unsigned long)pthread_self());
    E(syscall(SYS_arch_prctl, ARCH_SET_FS, fs));
    E(syscall(SYS_arch_prctl, ARCH_SET_FS, 1ul << 63));
    E(syscall(SYS_arch_prctl, ARCH_GET_FS, (void *)8));
    E(syscall(SYS_arch_prctl, 0x7777, 0));
    unsigned long self;
    __asm__("mov %%fs:16, %0" : "=r"(self));
    YES(self == (unsigned long)pthread_self());
    SECTION("personality");
    E(personality(0xffffffff));
    E(personality(ADDR_NO_RANDOMIZE));
    E(personality(0xffffffff));
    E(personality(0));
    E(personality(0xffffffff));
}

int main(void)
{
    watchdog();
    names();
    flags();
    arch();
    return 0;
}
