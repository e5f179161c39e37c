/* SPDX-License-Identifier: BSD-2-Clause */
/* Resource limits: reading, setting, what some of them do. */
#include "abi.h"

#include <sys/resource.h>

static void set_and_get(int which, const char *name, rlim_t value)
{
    struct rlimit l, old;

    if (getrlimit(which, &old) != 0) {
        printf("%s: %s\n", name, errno_name(errno));
        return;
    }
    l = old;
    if (l.rlim_max != RLIM_INFINITY && value > l.rlim_max)
        value = l.rlim_max;
    l.rlim_cur = value;
    printf("%s: %d", name, setrlimit(which, &l));
    getrlimit(which, &l);
    printf(" kept %d", l.rlim_cur == value && l.rlim_max == old.rlim_max);
    printf(" back %d\n", setrlimit(which, &old));
}

int main(void)
{
    static const struct {
        int which;
        const char *name;
    } all[] = {
        {RLIMIT_AS, "as"},           {RLIMIT_CORE, "core"},
        {RLIMIT_CPU, "cpu"},         {RLIMIT_DATA, "data"},
        {RLIMIT_FSIZE, "fsize"},     {RLIMIT_LOCKS, "locks"},
        {RLIMIT_MEMLOCK, "memlock"}, {RLIMIT_MSGQUEUE, "msgqueue"},
        {RLIMIT_NICE, "nice"},       {RLIMIT_NOFILE, "nofile"},
        {RLIMIT_NPROC, "nproc"},     {RLIMIT_RSS, "rss"},
        {RLIMIT_RTPRIO, "rtprio"},   {RLIMIT_RTTIME, "rttime"},
        {RLIMIT_SIGPENDING, "sigpending"}, {RLIMIT_STACK, "stack"},
    };
    struct rlimit l, low = {10, 20}, bad = {30, 20};

    watchdog();
    for (int i = 0; i < COUNT(all); i++)
        set_and_get(all[i].which, all[i].name, 1ul << 33);
    SECTION("errors");
    E(getrlimit(77, &l));
    E(getrlimit(-1, &l));
    E(getrlimit(RLIMIT_CORE, (void *)8));
    E(setrlimit(77, &low));
    E(setrlimit(RLIMIT_CORE, &bad));
    E(setrlimit(RLIMIT_CORE, (void *)8));
    E(prlimit(0, RLIMIT_CORE, NULL, NULL));
    E(prlimit(99999999, RLIMIT_CORE, NULL, &l));
    E(prlimit(getpid(), RLIMIT_CORE, &low, NULL));
    E(prlimit(getpid(), RLIMIT_CORE, NULL, &l));
    printf("%d %d\n", (int)l.rlim_cur, (int)l.rlim_max);
    E(prlimit(0, RLIMIT_CORE, &low, &l));
    printf("old %d %d\n", (int)l.rlim_cur, (int)l.rlim_max);
    SECTION("address space");
    getrlimit(RLIMIT_AS, &l);
    struct rlimit old = l;
    l.rlim_cur = 1ul << 30;
    E(setrlimit(RLIMIT_AS, &l));
    E((long)mmap(NULL, 2ul << 30, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1,
                 0));
    YES(malloc(2ul << 30) == NULL);
    E(setrlimit(RLIMIT_AS, &old));
    SECTION("signals in the queue");
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGRTMIN);
    sigprocmask(SIG_BLOCK, &set, NULL);
    for (int i = 0; i < 100; i++)
        if (sigqueue(getpid(), SIGRTMIN, (union sigval){i}) != 0)
            printf("%d: %s\n", i, errno_name(errno));
    siginfo_t info;
    struct timespec now = {0, 0};
    int n = 0;
    while (sigtimedwait(&set, &info, &now) > 0)
        n += info.si_value.sival_int == n;
    E(n);
    return 0;
}
