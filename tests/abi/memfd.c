/* SPDX-License-Identifier: BSD-2-Clause */
/* memfd_create and seals. */
#include "abi.h"

static char link_of[300];

static void seals(void)
{
    int fd = (int)MUST(memfd_create("s", MFD_ALLOW_SEALING));
    char *p, c;

    SECTION("seals");
    E(fcntl(fd, F_GET_SEALS));
    E(ftruncate(fd, 8192));
    E(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK));
    E(ftruncate(fd, 4096));
    E(ftruncate(fd, 12288));
    E(fcntl(fd, F_ADD_SEALS, F_SEAL_GROW));
    E(ftruncate(fd, 16384));
    E(pwrite(fd, "x", 1, 12288));
    E(pwrite(fd, "xy", 2, 12287)); /* what fits */
    E(fallocate(fd, 0, 0, 20000));
    E(fcntl(fd, F_GET_SEALS));
    E(pwrite(fd, "inside", 6, 0));
    p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    E(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE)); /* mapped for writing */
    E(munmap(p, 4096));
    E(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE));
    E(pwrite(fd, "x", 1, 0));
    E((long)mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
    p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
    YES(p != MAP_FAILED);
    p[0] = 'P';
    E(pread(fd, &c, 1, 0));
    printf("%c%c\n", p[0], c);
    munmap(p, 4096);
    E(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096));
    E(fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL));
    E(fcntl(fd, F_GET_SEALS));
    E(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE));
    close(fd);
}

int main(void)
{
    struct stat st;
    char path[40], name[260];
    int fd, other;

    watchdog();
    SECTION("create");
    fd = (int)E(memfd_create("hello", MFD_CLOEXEC));
    E(fcntl(fd, F_GETFD));
    printf("%x\n", fcntl(fd, F_GETFL) & ~0100000);
    E(fstat(fd, &st));
    printf("mode %o links %d size %d\n", st.st_mode, (int)st.st_nlink,
           (int)st.st_size);
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    ssize_t n = readlink(path, link_of, sizeof(link_of) - 1);
    printf("%.*s\n", (int)n, link_of);
    E(write(fd, "0123456789", 10));
    E(lseek(fd, 0, SEEK_END));
    E(pread(fd, name, 4, 3));
    printf("%.4s\n", name);
    other = (int)E(open(path, O_RDONLY));
    E(read(other, name, 100));
    E(write(other, "x", 1));
    close(other);
    E(fcntl(fd, F_GET_SEALS));
    E(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE));
    E(ftruncate(fd, 100000));
    E(pread(fd, name, 100, 50000));
    E(lseek(fd, 4096, SEEK_DATA));
    char *p = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    p[5000] = 'm';
    E(pread(fd, name, 1, 5000));
    printf("%c\n", name[0]);
    munmap(p, 8192);
    close(fd);
    E(memfd_create("x", 0x80000));
    E(memfd_create((char *)8, 0));
    memset(name, 'n', sizeof(name));
    name[249] = 0;
    OK(memfd_create(name, 0));
    name[249] = 'n';
    name[250] = 0;
    E(memfd_create(name, 0));
    E(fcntl(1, F_GET_SEALS));
    OK(memfd_create("", 0));
    seals();
    return 0;
}
