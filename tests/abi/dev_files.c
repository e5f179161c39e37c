/* SPDX-License-Identifier: BSD-2-Clause */
/* The devices every program may expect. */
#include "abi.h"

#include <poll.h>
#include <sys/ioctl.h>
#include <sys/sysmacros.h>

static char buf[8192];

static void describe(const char *path)
{
    struct stat st;

    if (stat(path, &st) != 0)
        printf("%s: %s\n", path, errno_name(errno));
    else
        printf("%s: char %d, %d:%d, mode %o\n", path, S_ISCHR(st.st_mode) != 0,
               (int)major(st.st_rdev), (int)minor(st.st_rdev),
               st.st_mode & 0777);
}

static bool all_zero(const char *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (p[i] != 0)
            return false;
    return true;
}

static void ready(int fd)
{
    struct pollfd p = {fd, POLLIN | POLLOUT, 0};

    poll(&p, 1, 0);
    printf("  poll:%s%s\n", p.revents & POLLIN ? " IN" : "",
           p.revents & POLLOUT ? " OUT" : "");
}

int main(void)
{
    int fd, n;

    watchdog();
    describe("/dev/null");
    describe("/dev/zero");
    describe("/dev/full");
    describe("/dev/random");
    describe("/dev/urandom");
    describe("/dev/tty");

    SECTION("null");
    fd = (int)MUST(open("/dev/null", O_RDWR | O_CREAT | O_TRUNC, 0600));
    E(read(fd, buf, 100));
    E(write(fd, buf, 5000));
    E(write(fd, (void *)8, 100)); /* never looks */
    E(lseek(fd, 100, SEEK_SET));
    E(pread(fd, buf, 10, 50));
    E(ftruncate(fd, 10));
    E(isatty(fd));
    E(ioctl(fd, FIONREAD, &n));
    E((long)mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, fd, 0));
    ready(fd);
    close(fd);

    SECTION("zero");
    fd = (int)MUST(open("/dev/zero", O_RDWR));
    memset(buf, 1, sizeof(buf));
    E(read(fd, buf, 5000));
    E(all_zero(buf, 5000));
    E(buf[5000]);
    E(write(fd, buf, 5000));
    E(pread(fd, buf, 10, 1l << 40));
    E(read(fd, (void *)8, 100));
    E(lseek(fd, 0, SEEK_END));
    ready(fd);
    char *p = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    YES(p != MAP_FAILED);
    p[4096] = 1;
    E(p[0]);
    E(p[4096]);
    munmap(p, 8192);
    close(fd);

    SECTION("full");
    fd = (int)MUST(open("/dev/full", O_RDWR));
    memset(buf, 1, sizeof(buf));
    E(read(fd, buf, 100));
    E(all_zero(buf, 100));
    E(write(fd, buf, 1));
    close(fd);

    SECTION("random");
    for (int i = 0; i < 2; i++) {
        fd = (int)MUST(open(i ? "/dev/urandom" : "/dev/random", O_RDWR));
        memset(buf, 0, sizeof(buf));
        E(read(fd, buf, 4000));
        SAY("random", !all_zero(buf, 100) && !all_zero(buf + 3900, 100));
        SAY("ends there", all_zero(buf + 4000, 100));
        SAY("not repeated", memcmp(buf, buf + 2000, 100) != 0);
        E(read(fd, buf, 0));
        E(write(fd, buf, 10));
        close(fd);
    }

    SECTION("tty: there is none");
    E(setsid() > 0 || errno == EPERM);
    E(open("/dev/tty", O_RDWR));
    E(open("/dev/tty", O_RDONLY | O_NOCTTY));

    SECTION("links");
    E(access("/dev/fd/1", F_OK));
    E(access("/dev/stdin", F_OK));
    E(access("/dev/stdout", F_OK));
    E(access("/dev/stderr", F_OK));
    fd = (int)E(open("/dev/fd/99", O_RDONLY));
    E(access("/dev/shm", F_OK));
    fd = (int)OK(open("/dev/shm/abi-dev-files", O_RDWR | O_CREAT, 0600));
    E(write(fd, "shared", 6));
    E(unlink("/dev/shm/abi-dev-files"));
    close(fd);
    E(open("/dev/none", O_RDONLY));
    return 0;
}
