/* SPDX-License-Identifier: BSD-2-Clause */
/* flock, POSIX record locks and OFD locks, within one process. */
#include "abi.h"

#include <sys/file.h>

static int a, b, ro;

static struct flock region(short type, off_t start, off_t len)
{
    return (struct flock){.l_type = type, .l_whence = SEEK_SET,
                          .l_start = start, .l_len = len};
}

static int set(int fd, int cmd, short type, off_t start, off_t len)
{
    struct flock l = region(type, start, len);

    return fcntl(fd, cmd, &l);
}

static void ask(int fd, int cmd, short type, off_t start, off_t len)
{
    struct flock l = region(type, start, len);
    int r = fcntl(fd, cmd, &l);

    if (r != 0)
        printf("  %s\n", errno_name(errno));
    else if (l.l_type == F_UNLCK)
        printf("  free\n");
    else
        printf("  %s %lld+%lld, by a process %d\n",
               l.l_type == F_WRLCK ? "write" : "read", (long long)l.l_start,
               (long long)l.l_len, l.l_pid > 0);
}

static void *unlock_later(void *arg)
{
    sleep_ms(50);
    printf("  unlocking\n");
    if ((long)arg == 0)
        flock(a, LOCK_UN);
    else
        set(a, F_OFD_SETLK, F_UNLCK, 0, 0);
    return NULL;
}

static void whole_files(void)
{
    pthread_t t;
    int c;

    SECTION("flock");
    E(flock(a, LOCK_SH));
    E(flock(b, LOCK_SH | LOCK_NB));
    E(flock(b, LOCK_EX | LOCK_NB));
    E(flock(a, LOCK_UN));
    E(flock(b, LOCK_EX | LOCK_NB));
    E(flock(a, LOCK_SH | LOCK_NB));
    c = (int)MUST(dup(b));
    E(flock(c, LOCK_EX | LOCK_NB)); /* the same open file */
    close(b);
    E(flock(a, LOCK_SH | LOCK_NB));
    close(c);
    E(flock(a, LOCK_EX | LOCK_NB));
    b = (int)MUST(open("f", O_RDWR));
    pthread_create(&t, NULL, unlock_later, (void *)0);
    E(flock(b, LOCK_EX));
    pthread_join(t, NULL);
    E(flock(b, LOCK_UN));
    E(flock(b, LOCK_UN));
    E(flock(b, 0));
    E(flock(b, LOCK_SH | LOCK_EX));
    E(flock(99, LOCK_SH));
    E(flock(ro, LOCK_EX | LOCK_NB)); /* no need to be open for writing */
    E(flock(ro, LOCK_UN));
}

static void records(void)
{
    int c;

    SECTION("POSIX locks: a process has one set");
    E(set(a, F_SETLK, F_WRLCK, 0, 100));
    E(set(b, F_SETLK, F_WRLCK, 50, 100)); /* its own */
    ask(b, F_GETLK, F_WRLCK, 0, 0);
    E(set(ro, F_SETLK, F_RDLCK, 0, 10));
    E(set(ro, F_SETLK, F_WRLCK, 0, 10));
    E(set(a, F_SETLK, F_WRLCK, -1, 10));
    E(set(a, F_SETLK, 77, 0, 10));
    E(set(a, F_SETLK, F_WRLCK, 10, -5));
    E(set(a, F_SETLK, F_WRLCK, 3, -5));
    E(set(99, F_SETLK, F_WRLCK, 0, 1));
    E(fcntl(a, F_SETLK, (void *)8));
    struct flock l = region(F_WRLCK, 0, 1);
    l.l_whence = 9;
    E(fcntl(a, F_SETLK, &l));
    SECTION("as OFD locks see them");
    ask(b, F_OFD_GETLK, F_WRLCK, 0, 10);
    ask(b, F_OFD_GETLK, F_RDLCK, 0, 10);
    ask(b, F_OFD_GETLK, F_WRLCK, 120, 10);
    ask(b, F_OFD_GETLK, F_WRLCK, 150, 0);
    E(set(a, F_SETLK, F_UNLCK, 20, 10)); /* splits */
    ask(b, F_OFD_GETLK, F_WRLCK, 20, 10);
    ask(b, F_OFD_GETLK, F_WRLCK, 20, 11);
    ask(b, F_OFD_GETLK, F_WRLCK, 12, 5);
    E(set(a, F_SETLK, F_RDLCK, 60, 10));
    ask(b, F_OFD_GETLK, F_RDLCK, 60, 10);
    ask(b, F_OFD_GETLK, F_WRLCK, 60, 10);
    E(set(b, F_OFD_SETLK, F_RDLCK, 60, 10));
    E(set(b, F_OFD_SETLK, F_WRLCK, 60, 10));
    ask(a, F_GETLK, F_WRLCK, 60, 10);
    E(set(b, F_OFD_SETLK, F_UNLCK, 60, 10));
    c = (int)MUST(open("f", O_RDONLY));
    close(c); /* any close drops all of the process' locks */
    ask(b, F_OFD_GETLK, F_WRLCK, 0, 0);
    E(lseek(a, 40, SEEK_SET));
    l = region(F_WRLCK, 0, 10);
    l.l_whence = SEEK_CUR;
    E(fcntl(a, F_SETLK, &l));
    ask(b, F_OFD_GETLK, F_RDLCK, 0, 0);
    l.l_whence = SEEK_END;
    l.l_start = -10;
    E(fcntl(a, F_SETLK, &l));
    ask(b, F_OFD_GETLK, F_RDLCK, 60, 0);
    E(set(a, F_SETLK, F_UNLCK, 0, 0));
}

static void open_files(void)
{
    struct flock l;
    pthread_t t;
    int c;

    SECTION("OFD locks: one set for each open file");
    E(set(a, F_OFD_SETLK, F_WRLCK, 0, 0));
    E(set(b, F_OFD_SETLK, F_WRLCK, 5, 1));
    E(set(b, F_OFD_SETLK, F_RDLCK, 5, 1));
    c = (int)MUST(dup(a));
    E(set(c, F_OFD_SETLK, F_RDLCK, 0, 10));
    E(set(b, F_OFD_SETLK, F_RDLCK, 5, 1));
    E(set(c, F_OFD_SETLK, F_WRLCK, 5, 1));
    close(c);
    ask(b, F_OFD_GETLK, F_WRLCK, 20, 1);
    E(set(b, F_OFD_SETLK, F_UNLCK, 0, 0));
    pthread_create(&t, NULL, unlock_later, (void *)1);
    E(set(b, F_OFD_SETLKW, F_WRLCK, 0, 0));
    pthread_join(t, NULL);
    l = region(F_WRLCK, 0, 1);
    l.l_pid = 5;
    E(fcntl(a, F_OFD_SETLK, &l));
    close(b);
    E(set(a, F_OFD_SETLK, F_WRLCK, 0, 0));
    b = (int)MUST(open("f", O_RDWR));
    E(flock(b, LOCK_EX | LOCK_NB)); /* flock is another world */
    E(set(b, F_OFD_SETLK, F_WRLCK, 0, 1));
    E(set(b, F_SETLK, F_WRLCK, 0, 1));
    ask(b, F_GETLK, F_WRLCK, 0, 1);
}

/* Without l_pid: it is -1 for OFD locks. */
static void owner(void)
{
    struct flock l = region(F_WRLCK, 0, 1);

    SECTION("owner");
    E(fcntl(b, F_GETLK, &l));
    E(l.l_pid);
    E(set(a, F_OFD_SETLK, F_UNLCK, 0, 0));
    E(set(a, F_SETLK, F_WRLCK, 0, 1));
    l = region(F_WRLCK, 0, 1);
    E(fcntl(b, F_OFD_GETLK, &l));
    YES(l.l_pid == getpid());
}

int main(void)
{
    char text[101];

    watchdog();
    scratch_begin();
    memset(text, 'x', 100);
    text[100] = 0;
    put_file("f", text);
    a = (int)MUST(open("f", O_RDWR));
    b = (int)MUST(open("f", O_RDWR));
    ro = (int)MUST(open("f", O_RDONLY));
    whole_files();
    records();
    open_files();
    owner();
    return 0;
}
