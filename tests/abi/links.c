/* SPDX-License-Identifier: BSD-2-Clause */
/* Symbolic links: chains, loops, readlink, links within paths. */
#include "abi.h"

static char buf[8192];

static void show_link(const char *path)
{
    ssize_t n = readlink(path, buf, sizeof(buf));

    if (n < 0)
        printf("  %s: %s\n", path, errno_name(errno));
    else
        printf("  %s -> %.*s (%zd)\n", path, (int)n, buf, n);
}

static void reading(void)
{
    struct stat st;

    SECTION("readlink");
    E(symlink("target", "a"));
    E(symlink("x", "a"));
    E(symlink("", "empty"));
    E(symlink("x", ""));
    E(symlink("x", "none/a"));
    E(symlink("x", "b/"));
    show_link("a");
    E(readlink("a", buf, 3));
    printf("  %.3s\n", buf);
    E(readlink("a", buf, 0));
    E(readlink("a", buf, -1));
    E(readlink("a", (void *)8, 10));
    E(readlink("none", buf, 10));
    E(readlink(".", buf, 10));
    E(readlink("", buf, 10));
    E(readlinkat(AT_FDCWD, "a", buf, 100));
    int fd = (int)MUST(open("a", O_PATH | O_NOFOLLOW));
    E(readlinkat(fd, "", buf, 100));
    E(fstat(fd, &st));
    printf("  mode %o size %d\n", st.st_mode, (int)st.st_size);
    E(read(fd, buf, 1));
    close(fd);
    E(readlinkat(99, "a", buf, 100));
}

static void lengths(void)
{
    struct stat st;

    SECTION("lengths");
    for (int len = 10; len <= 4095; len = len * 3 > 4095 && len < 4095
                                                ? 4095
                                                : len * 3) {
        memset(buf, 'k', len);
        buf[len] = 0;
        MUST(symlink(buf, "long"));
        memset(buf, 0, sizeof(buf));
        ssize_t n = readlink("long", buf, sizeof(buf));
        lstat("long", &st);
        printf("  %d: %zd, size %d, same %d\n", len, n, (int)st.st_size,
               (int)strspn(buf, "k") == len);
        MUST(unlink("long"));
    }
    memset(buf, 'k', 4096);
    buf[4096] = 0;
    E(symlink(buf, "long"));
    buf[300] = 0;
    E(symlink(buf, "long")); /* a component too long: only when followed */
    E(open("long", O_RDONLY));
}

static void chains(void)
{
    char name[16], to[16];

    SECTION("chains");
    put_file("c0", "end of the chain");
    for (int i = 1; i <= 41; i++) {
        snprintf(name, sizeof(name), "c%d", i);
        snprintf(to, sizeof(to), "c%d", i - 1);
        MUST(symlink(to, name));
    }
    E(access("c39", F_OK));
    E(access("c40", F_OK));
    E(access("c41", F_OK));
    E(symlink("loop2", "loop1"));
    E(symlink("loop1", "loop2"));
    E(access("loop1", F_OK));
    E(open("loop1", O_CREAT | O_RDWR, 0600));
    E(access("loop1/x", F_OK));
    E(mkdir("loop1/x", 0700));
    E(unlink("loop1"));
    E(access("loop2", F_OK));
    int fd = (int)E(open("c30", O_RDONLY));
    E(read(fd, buf, 100));
    close(fd);
    E(open("c1", O_RDONLY | O_NOFOLLOW));
}

static void paths(void)
{
    struct stat a, b;

    SECTION("within paths");
    E(mkdir("d", 0755));
    E(mkdir("d/e", 0755));
    put_file("d/e/f", "f");
    E(symlink("d/e", "short"));
    E(access("short/f", F_OK));
    E(access("short/../e/f", F_OK)); /* .. of where the link leads */
    E(symlink("../..", "d/e/up"));
    E(access("d/e/up/short/up/d", F_OK));
    E(symlink("e/", "d/slash"));
    E(access("d/slash/f", F_OK));
    E(lstat("short/", &a));
    printf("  directory %d\n", S_ISDIR(a.st_mode) != 0);
    E(lstat("short", &a));
    printf("  link %d\n", S_ISLNK(a.st_mode) != 0);
    E(symlink("d/e/f/", "file-slash"));
    E(access("file-slash", F_OK));
    E(symlink("/", "root"));
    stat("/", &a);
    stat("root", &b);
    SAY("root", a.st_ino == b.st_ino);
    stat("root/../..", &b);
    SAY("no way above it", a.st_ino == b.st_ino);
    E(access("root/dev/null", F_OK));
    E(access("./d/.//e/./f", F_OK));
    E(access("d/e/f/.", F_OK));
    E(access("d/e/f/..", F_OK));
    E(access("none/..", F_OK));
    E(rename("short", "renamed"));
    show_link("renamed");
    E(unlink("renamed"));
    E(access("d/e/f", F_OK));
}

static void proc_links(void)
{
    char path[64];
    struct stat a, b;
    int fd = (int)MUST(open("d/e/f", O_RDONLY));

    SECTION("/proc/self/fd");
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    ssize_t n = readlink(path, buf, sizeof(buf) - 1);
    buf[n > 0 ? n : 0] = 0;
    SAY("path ends", n > 6 && strcmp(buf + n - 6, "/d/e/f") == 0);
    stat(path, &a);
    fstat(fd, &b);
    SAY("same file", a.st_ino == b.st_ino);
    E(unlink("d/e/f"));
    n = readlink(path, buf, sizeof(buf) - 1);
    buf[n > 0 ? n : 0] = 0;
    SAY("deleted", strstr(buf, "/d/e/f (deleted)") != NULL);
    E(open(path, O_RDONLY)); /* a magic link still opens it */
    int fds[2];
    MUST(pipe(fds));
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fds[0]);
    n = readlink(path, buf, sizeof(buf) - 1);
    printf("  %.6s...\n", buf);
    E(access("/proc/self/fd/99", F_OK));
}

int main(void)
{
    watchdog();
    scratch_begin();
    reading();
    lengths();
    chains();
    paths();
    proc_links();
    return 0;
}
