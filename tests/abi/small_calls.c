/* SPDX-License-Identifier: BSD-2-Clause */
/* Calls that are too small for a file of their own. */
#include "abi.h"

#include <linux/openat2.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <utime.h>

static void waiting(void)
{
    siginfo_t info;
    int status;

    SECTION("children: none");
    E(wait4(-1, &status, 0, NULL));
    E(wait4(-1, &status, WNOHANG, NULL));
    E(wait4(99999999, &status, 0, NULL));
    E(wait4(-1, &status, 0x100, NULL));
    E(waitid(P_ALL, 0, &info, WEXITED));
    E(waitid(P_ALL, 0, &info, WEXITED | WNOHANG));
    E(waitid(P_ALL, 0, &info, 0));
    E(waitid((idtype_t)77, 0, &info, WEXITED));
}

static void barriers(void)
{
    SECTION("membarrier");
    long all = syscall(SYS_membarrier, 0, 0, 0);
    SAY("query", all > 0 && all & 1);
    E(syscall(SYS_membarrier, 1, 0, 0)); /* GLOBAL */
    E(syscall(SYS_membarrier, 8, 0, 0)); /* PRIVATE_EXPEDITED, unregistered */
    E(syscall(SYS_membarrier, 16, 0, 0));
    E(syscall(SYS_membarrier, 8, 0, 0));
    E(syscall(SYS_membarrier, 1 << 20, 0, 0));
    E(syscall(SYS_membarrier, 1, 5, 0));
}

static void threads(void)
{
    void *head = NULL;
    size_t len = 0;

    SECTION("what the library uses");
    E(syscall(SYS_set_tid_address, NULL) == syscall(SYS_gettid));
    E(syscall(SYS_get_robust_list, 0, &head, &len));
    YES(head != NULL);
    E(len);
    E(syscall(SYS_set_robust_list, head, 24));
    E(syscall(SYS_set_robust_list, head, 16));
    E(syscall(SYS_get_robust_list, 99999999, &head, &len));
    E(syscall(SYS_ioprio_get, 1, 0) >= 0);
    E(syscall(SYS_ioprio_set, 1, 0, 2 << 13 | 4));
    E(syscall(SYS_ioprio_get, 1, 0));
    E(syscall(SYS_ioprio_get, 9, 0));
}

static void locking(void)
{
    char *p = mmap(NULL, 8192, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    SECTION("locked memory");
    E(mlock2(p, 8192, MLOCK_ONFAULT));
    E(mlock2(p, 8192, 0x80));
    E(munlock(p, 8192));
    E(mlockall(MCL_CURRENT | MCL_FUTURE));
    E(munlockall());
    E(mlockall(0));
    E(mlockall(0x80));
    munmap(p, 8192);
}

static int how2(int dir, const char *path, uint64_t flags, uint64_t resolve)
{
    struct open_how h = {.flags = flags, .resolve = resolve};

    if (flags & O_CREAT)
        h.mode = 0600;
    return (int)syscall(SYS_openat2, dir, path, &h, sizeof(h));
}

static void opening(void)
{
    struct open_how h = {.flags = O_RDONLY, .mode = 0600};
    int dir;

    SECTION("openat2");
    MUST(mkdir("d", 0755));
    put_file("d/f", "in");
    put_file("out", "out");
    MUST(symlink("f", "d/link"));
    MUST(symlink("../out", "d/escapes"));
    MUST(symlink("/out", "d/absolute"));
    dir = (int)MUST(open("d", O_RDONLY | O_DIRECTORY));
    close((int)E(how2(dir, "f", O_RDONLY, 0)));
    close((int)E(how2(dir, "new", O_CREAT | O_RDWR, 0)));
    E(how2(dir, "../out", O_RDONLY, RESOLVE_BENEATH));
    E(how2(dir, "escapes", O_RDONLY, RESOLVE_BENEATH));
    E(how2(dir, "absolute", O_RDONLY, RESOLVE_BENEATH));
    E(how2(dir, "absolute", O_RDONLY, RESOLVE_IN_ROOT));
    close((int)E(how2(dir, "link", O_RDONLY, RESOLVE_BENEATH)));
    close((int)E(how2(dir, "/f", O_RDONLY, RESOLVE_IN_ROOT)));
    close((int)E(how2(dir, "../../f", O_RDONLY, RESOLVE_IN_ROOT)));
    E(how2(dir, "link", O_RDONLY, RESOLVE_NO_SYMLINKS));
    E(how2(dir, "f", O_RDONLY, 0x800));
    E(how2(dir, "f", O_RDONLY | 1ull << 40, 0));
    E(syscall(SYS_openat2, dir, "f", &h, sizeof(h))); /* mode without CREAT */
    h.mode = 0;
    E(syscall(SYS_openat2, dir, "f", &h, 8));
    E(syscall(SYS_openat2, dir, "f", (void *)8, sizeof(h)));
    close(dir);
}

static void old_times(void)
{
    struct utimbuf t = {1000, 2000};
    struct timeval tv[2] = {{3000, 0}, {4000, 999999}};
    struct stat st;

    SECTION("old ways to set times");
    E(utime("out", &t));
    stat("out", &st);
    printf("  %ld %ld\n", (long)st.st_atime, (long)st.st_mtime);
    E(syscall(SYS_futimesat, AT_FDCWD, "out", tv));
    stat("out", &st);
    printf("  %ld %ld\n", (long)st.st_atime, (long)st.st_mtime);
    tv[0].tv_usec = 1000000;
    E(utimes("out", tv));
    E(utime("none", NULL));
}

static void old_getdents(void)
{
    struct old {
        unsigned long ino, off;
        unsigned short len;
        char name[];
    } *d;
    char buf[4096];
    int fd = (int)MUST(open("d", O_RDONLY | O_DIRECTORY)), seen = 0;
    long n = syscall(SYS_getdents, fd, buf, sizeof(buf));

    bool is_link = false, is_file = false;

    SECTION("getdents");
    for (long at = 0; at < n; at += d->len) {
        d = (void *)(buf + at);
        seen++;
        if (strcmp(d->name, "link") == 0)
            is_link = buf[at + d->len - 1] == DT_LNK;
        if (strcmp(d->name, "f") == 0)
            is_file = buf[at + d->len - 1] == DT_REG;
    }
    E(seen);
    SAY("types are right", is_link && is_file);
    E(syscall(SYS_getdents, fd, buf, sizeof(buf)));
    close(fd);
}

static void another_root(void)
{
    int old = (int)MUST(open("/", O_RDONLY | O_DIRECTORY));
    char text[PATH_MAX];

    SECTION("chroot");
    E(chroot("none"));
    E(chroot("out"));
    E(chroot("d"));
    E(access("/f", F_OK)); /* the current directory did not move */
    E(access("out", F_OK));
    E(chdir("/"));
    E(access("/../../f", F_OK));
    E(access("/tmp", F_OK));
    E(access("absolute", F_OK));
    SAY("cwd is /", getcwd(text, sizeof(text)) && strcmp(text, "/") == 0);
    E(fchdir(old));
    E(chroot("."));
    SAY("back", access("/proc/self/fd", F_OK) == 0);
    MUST(chdir(abi_scratch));
    close(old);
}

int main(void)
{
    watchdog();
    scratch_begin();
    waiting();
    barriers();
    threads();
    locking();
    opening();
    old_times();
    old_getdents();
    another_root();
    return 0;
}
