/* SPDX-License-Identifier: BSD-2-Clause */
/* stat and statx, chmod, chown, utimensat, access: the comparable fields. */
#include "abi.h"

#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>

static void show(const char *path)
{
    struct stat st;

    if (lstat(path, &st) != 0) {
        printf("  %s: %s\n", path, errno_name(errno));
        return;
    }
    printf("  %s: mode %o", path, st.st_mode);
    if (!S_ISDIR(st.st_mode))
        printf(" links %d size %lld", (int)st.st_nlink,
               (long long)st.st_size);
    printf(" owner %d:%d\n", (int)st.st_uid, (int)st.st_gid);
}

static void show_times(const char *path)
{
    struct stat st;

    lstat(path, &st);
    printf("  %s: atime %lld.%09ld mtime %lld.%09ld\n", path,
           (long long)st.st_atim.tv_sec, st.st_atim.tv_nsec,
           (long long)st.st_mtim.tv_sec, st.st_mtim.tv_nsec);
}

static void basics(void)
{
    struct stat a, b;
    int fd;

    SECTION("stat");
    put_file("f", "12345");
    E(mkdir("d", 0751));
    E(symlink("f", "l"));
    E(mkfifo("p", 0600));
    show("f");
    show("d");
    show("l");
    show("p");
    E(stat("none", &a));
    E(stat("f/x", &a));
    E(stat("", &a));
    E(stat("f", (void *)8));
    E(stat((void *)8, &a));
    E(fstat(99, &a));
    stat("f", &a);
    stat("l", &b);
    SAY("stat follows", a.st_ino == b.st_ino && a.st_dev == b.st_dev);
    lstat("l", &b);
    SAY("lstat does not", a.st_ino != b.st_ino);
    fd = (int)MUST(open("f", O_RDONLY));
    E(fstat(fd, &b));
    SAY("the same file", a.st_ino == b.st_ino && a.st_dev == b.st_dev);
    E(fstatat(fd, "", &b, AT_EMPTY_PATH));
    SAY("the same file", a.st_ino == b.st_ino);
    E(fstatat(fd, "", &b, 0));
    E(fstatat(fd, "x", &b, 0));
    E(fstatat(AT_FDCWD, "l", &b, AT_SYMLINK_NOFOLLOW));
    E(S_ISLNK(b.st_mode));
    E(fstatat(AT_FDCWD, "l", &b, 0x8));
    close(fd);
    SAY("512-byte blocks, some", a.st_blocks > 0 && a.st_blksize >= 512);
    stat("/dev/null", &a);
    printf("null: char %d, %d:%d, mode %o\n", S_ISCHR(a.st_mode) != 0,
           (int)major(a.st_rdev), (int)minor(a.st_rdev), a.st_mode & 0777);
    int fds[2];
    MUST(pipe(fds));
    fstat(fds[0], &a);
    fstat(fds[1], &b);
    printf("pipe: mode %o links %d size %d; one inode %d\n", a.st_mode,
           (int)a.st_nlink, (int)a.st_size, a.st_ino == b.st_ino);
    close(fds[0]);
    close(fds[1]);
}

static void modes(void)
{
    int fd;

    SECTION("chmod");
    E(chmod("f", 0));
    show("f");
    E(chmod("f", 06755));
    show("f");
    E(chmod("f", 0177777));
    show("f");
    E(chmod("l", 0640));
    show("f");
    show("l");
    E(chmod("none", 0));
    fd = (int)MUST(open("f", O_RDONLY));
    E(fchmod(fd, 0604));
    show("f");
    close(fd);
    E(fchmod(99, 0));
    E(fchmodat(AT_FDCWD, "f", 0644, 0));
    E(chmod("d", 01777));
    show("d");
    SECTION("umask");
    E(umask(027));
    close((int)MUST(open("masked", O_CREAT | O_WRONLY, 0777)));
    show("masked");
    E(mkdir("masked-dir", 0777));
    show("masked-dir");
    E(umask(022));
}

static void owners(void)
{
    SECTION("chown");
    E(chown("f", 1, 2));
    show("f");
    E(chown("f", -1, 7));
    show("f");
    E(chown("f", 8, -1));
    show("f");
    E(chmod("f", 06755));
    E(chown("f", 0, 0)); /* takes the set-id bits away */
    show("f");
    E(chmod("f", 02644)); /* no group x: mandatory locking, stays */
    E(chown("f", 0, 0));
    show("f");
    E(lchown("l", 5, 6));
    show("l");
    show("f");
    E(chown("none", 0, 0));
    E(fchown(99, 0, 0));
    E(fchownat(AT_FDCWD, "l", 9, 9, AT_SYMLINK_NOFOLLOW));
    show("l");
    E(chown("d", 3, 4));
    E(chmod("d", 02755));
    put_file("d/in", "x");
    show("d/in"); /* the group of a set-gid directory */
    E(mkdir("d/sub", 0755));
    show("d/sub");
}

static void times(void)
{
    struct timespec t[2] = {{1000, 1}, {2000, 999999999}};
    struct timeval tv[2] = {{3000, 5}, {4000, 6}};
    struct stat st;
    int64_t before = now_ns(CLOCK_REALTIME) - 100 * MS;
    int fd;

    SECTION("times");
    stat("f", &st);
    SAY("fresh", st.st_ctim.tv_sec * 1000000000ll + st.st_ctim.tv_nsec >
                     before - 5000 * MS);
    E(utimensat(AT_FDCWD, "f", t, 0));
    show_times("f");
    t[0].tv_nsec = UTIME_OMIT;
    t[1] = (struct timespec){-5, 7};
    E(utimensat(AT_FDCWD, "f", t, 0));
    show_times("f");
    E(utimes("f", tv));
    show_times("f");
    t[1].tv_nsec = 1000000000;
    E(utimensat(AT_FDCWD, "f", t, 0));
    t[0].tv_nsec = t[1].tv_nsec = UTIME_OMIT;
    E(utimensat(AT_FDCWD, "none", t, 0));
    t[0] = t[1] = (struct timespec){5, 5};
    E(utimensat(AT_FDCWD, "none", t, 0));
    E(utimensat(AT_FDCWD, "l", t, AT_SYMLINK_NOFOLLOW));
    show_times("l");
    show_times("f");
    fd = (int)MUST(open("f", O_RDWR));
    E(futimens(fd, t));
    show_times("f");
    MUST(write(fd, "y", 1));
    fstat(fd, &st);
    SAY("a write moves mtime", st.st_mtim.tv_sec > 1000000000);
    SAY("and ctime", st.st_ctim.tv_sec > 1000000000);
    SAY("not atime", st.st_atim.tv_sec == 5);
    t[0].tv_nsec = UTIME_NOW;
    t[1].tv_nsec = UTIME_OMIT;
    E(futimens(fd, t));
    fstat(fd, &st);
    SAY("now", st.st_atim.tv_sec > 1000000000);
    E(futimens(fd, NULL));
    E(futimens(99, NULL));
    close(fd);
    t[0] = t[1] = (struct timespec){5, 5};
    E(utimensat(AT_FDCWD, "d", t, 0));
    put_file("d/another", "");
    stat("d", &st);
    SAY("a new entry moves the directory's mtime", st.st_mtim.tv_sec > 5);
}

static void accesses(void)
{
    SECTION("access, as root");
    E(chmod("f", 0));
    E(access("f", F_OK));
    E(access("f", R_OK | W_OK));
    E(access("f", X_OK));
    E(chmod("f", 0001));
    E(access("f", X_OK));
    E(chmod("d", 0));
    E(access("d", R_OK | W_OK | X_OK));
    E(access("none", F_OK));
    E(access("f", 8));
    E(access("f/x", F_OK));
    E(faccessat(AT_FDCWD, "f", R_OK, AT_EACCESS));
    E(syscall(439, AT_FDCWD, "l", F_OK, AT_SYMLINK_NOFOLLOW));
    E(syscall(439, AT_FDCWD, "f", F_OK, 0x1));
}

static void extended(void)
{
    struct statx x;
    struct stat st;

    SECTION("statx");
    E(statx(AT_FDCWD, "f", 0, STATX_BASIC_STATS, &x));
    stat("f", &st);
    YES((x.stx_mask & STATX_BASIC_STATS) == STATX_BASIC_STATS);
    printf("mode %o links %u size %llu owner %u:%u\n", x.stx_mode,
           x.stx_nlink, (unsigned long long)x.stx_size, x.stx_uid, x.stx_gid);
    YES(x.stx_ino == st.st_ino);
    YES(x.stx_mtime.tv_sec == st.st_mtim.tv_sec);
    YES(makedev(x.stx_dev_major, x.stx_dev_minor) == st.st_dev);
    E(statx(AT_FDCWD, "l", AT_SYMLINK_NOFOLLOW, STATX_TYPE, &x));
    YES(S_ISLNK(x.stx_mode));
    E(statx(AT_FDCWD, "none", 0, STATX_TYPE, &x));
    E(statx(AT_FDCWD, "f", 0, 0x80000000u, &x));
    E(statx(AT_FDCWD, "f", AT_STATX_FORCE_SYNC | AT_STATX_DONT_SYNC, 0, &x));
    E(statx(99, "f", 0, 0, &x));
    E(statx(AT_FDCWD, "f", 0, 0, (void *)8));
    SECTION("statfs");
    struct statfs s;
    struct statvfs v;
    E(statfs(".", &s));
    YES(s.f_bsize >= 512 && s.f_blocks >= s.f_bfree && s.f_namelen == 255);
    E(statvfs(".", &v));
    YES(v.f_namemax == 255);
    E(statfs("none", &s));
    E(fstatfs(99, &s));
    E(statfs("/proc", &s));
    printf("type of /proc %lx\n", (long)s.f_type);
}

int main(void)
{
    watchdog();
    scratch_begin();
    basics();
    modes();
    owners();
    times();
    accesses();
    extended();
    return 0;
}
