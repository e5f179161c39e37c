/* SPDX-License-Identifier: BSD-2-Clause */
/* open, read, write, lseek, truncate and relatives: results and errors. */
#include "abi.h"

#ifndef SEEK_DATA
#define SEEK_DATA 3
#define SEEK_HOLE 4
#endif

static char buf[256];

static void show_buf(ssize_t n)
{
    printf("  [%.*s]\n", (int)(n > 0 ? n : 0), buf);
}

static void open_flags(void)
{
    int fd, d;

    SECTION("open");
    fd = (int)E(open("a", O_RDWR | O_CREAT | O_EXCL, 0640));
    E(open("a", O_RDWR | O_CREAT | O_EXCL, 0640));
    E(write(fd, "hello world", 11));
    printf("flags %x\n", fcntl(fd, F_GETFL) & ~0100000 /* O_LARGEFILE */);
    close(fd);
    fd = (int)E(open("a", O_WRONLY | O_APPEND));
    E(read(fd, buf, 1));
    E(lseek(fd, 0, SEEK_CUR));
    E(write(fd, "!", 1));
    E(lseek(fd, 0, SEEK_CUR));
    E(lseek(fd, 2, SEEK_SET));
    E(write(fd, "?", 1));
    E(lseek(fd, 0, SEEK_CUR));
    E(pwrite(fd, "+", 1, 0)); /* appends, on Linux */
    close(fd);
    fd = (int)E(open("a", O_RDONLY));
    E(write(fd, "x", 1));
    show_buf(E(read(fd, buf, sizeof(buf))));
    E(read(fd, buf, sizeof(buf)));
    E(ftruncate(fd, 0));
    close(fd);
    fd = (int)E(open("a", O_RDONLY | O_CLOEXEC));
    E(fcntl(fd, F_GETFD));
    close(fd);
    fd = (int)E(open("a", O_RDWR | O_TRUNC));
    E(lseek(fd, 0, SEEK_END));
    close(fd);
    E(creat("b", 0600));
    close(3);
    E(mkdir("d", 0755));
    E(open("d", O_RDWR));
    E(open("d", O_CREAT | O_RDONLY, 0600));
    E(open("a", O_DIRECTORY));
    E(open("none", O_RDONLY));
    E(open("none/x", O_RDONLY | O_CREAT, 0600));
    E(open("a/x", O_RDONLY));
    E(open("", O_RDONLY));
    E(open("a/", O_RDONLY));
    E(open("none/", O_RDONLY | O_CREAT, 0600));
    E(symlink("self", "self"));
    E(open("self", O_RDONLY));
    E(symlink("a", "to-a"));
    E(open("to-a", O_RDONLY | O_NOFOLLOW));
    E(open("to-a", O_RDONLY | O_CREAT | O_EXCL, 0600));
    E(symlink("later", "dangling"));
    E(open("dangling", O_RDONLY));
    fd = (int)E(open("dangling", O_WRONLY | O_CREAT, 0600));
    close(fd);
    E(access("later", F_OK));
    E(open((char *)8, O_RDONLY));
    d = (int)E(open("d", O_RDONLY | O_DIRECTORY));
    E(openat(d, "in", O_CREAT | O_RDWR, 0600));
    close(4);
    E(access("d/in", F_OK));
    E(openat(99, "in", O_RDONLY));
    fd = (int)E(open("a", O_RDONLY));
    E(openat(fd, "in", O_RDONLY));
    close(fd);
    E(read(d, buf, 1));
    close(d);
    fd = (int)E(open("a", O_PATH));
    E(read(fd, buf, 1));
    E(fchmod(fd, 0600));
    E(lseek(fd, 0, SEEK_SET));
    close(fd);
    memset(buf, 'n', sizeof(buf));
    buf[255] = 0;
    OK(open(buf, O_CREAT | O_RDWR, 0600)); /* 255: just right */
    close(3);
    char longer[300], path[PATH_MAX + 8];
    memset(longer, 'n', sizeof(longer));
    longer[256] = 0;
    E(open(longer, O_CREAT | O_RDWR, 0600));
    memset(path, '/', sizeof(path));
    path[PATH_MAX] = 0;
    E(open(path, O_RDONLY));
    path[PATH_MAX - 1] = 0;
    OK(open(path, O_RDONLY));
    close(3);
}

static void seeking(void)
{
    int fd = (int)MUST(open("s", O_RDWR | O_CREAT, 0600));

    SECTION("lseek");
    MUST(write(fd, "0123456789", 10));
    E(lseek(fd, -3, SEEK_END));
    show_buf(E(read(fd, buf, 10)));
    E(lseek(fd, -11, SEEK_END));
    E(lseek(fd, -1, SEEK_SET));
    E(lseek(fd, 0, 77));
    E(lseek(fd, 100, SEEK_SET));
    E(read(fd, buf, 10));
    E(write(fd, "x", 1));
    E(lseek(fd, 0, SEEK_END));
    E(pread(fd, buf, 12, 90));
    YES(memcmp(buf, "\0\0\0\0\0\0\0\0\0\0x", 11) == 0);
    E(lseek(99, 0, SEEK_SET));
    E(ftruncate(fd, 0));
    E(ftruncate(fd, 1 << 20));
    E(pwrite(fd, "data", 4, 65536));
    E(lseek(fd, 0, SEEK_DATA));
    E(lseek(fd, 65536, SEEK_DATA));
    E(lseek(fd, 65537, SEEK_DATA));
    E(lseek(fd, 0, SEEK_HOLE));
    E(lseek(fd, 65536, SEEK_HOLE));
    E(lseek(fd, 131072, SEEK_DATA));
    E(lseek(fd, 1 << 20, SEEK_HOLE));
    E(lseek(fd, (1 << 20) + 1, SEEK_DATA));
    E(lseek(fd, (1 << 20) - 1, SEEK_HOLE));
    close(fd);
}

static void vectors(void)
{
    int fd = (int)MUST(open("v", O_RDWR | O_CREAT, 0600));
    struct iovec iov[4] = {{"abc", 3}, {"", 0}, {"defg", 4}, {"h", 1}};
    char x[3], y[5];
    struct iovec in[2] = {{x, 3}, {y, 5}};

    SECTION("vectors");
    E(writev(fd, iov, 4));
    E(writev(fd, iov, 0));
    E(writev(fd, iov, -1));
    E(writev(fd, iov, 1025));
    E(lseek(fd, 1, SEEK_SET));
    E(readv(fd, in, 2));
    printf("  %.3s %.4s\n", x, y);
    E(preadv(fd, in, 2, 4));
    E(pwritev(fd, iov, 2, 6));
    E(pread(fd, buf, 20, 0));
    show_buf(9);
    E(lseek(fd, 0, SEEK_CUR));
    E(pread(fd, buf, 1, -1));
    E(preadv2(fd, in, 2, 0, 0));
    E(preadv2(fd, in, 2, -1, 0));
    E(preadv2(fd, in, 1, 0, 0x4000));
    in[1].iov_len = (size_t)-1;
    E(readv(fd, in, 2));
    in[1].iov_base = (void *)8;
    in[1].iov_len = 5;
    E(lseek(fd, 0, SEEK_SET));
    E(readv(fd, in, 2)); /* the first part arrives */
    E(readv(fd, (void *)8, 2));
    E(read(fd, (void *)8, 1));
    E(write(fd, (void *)8, 1));
    E(read(fd, (void *)8, 0));
    E(read(99, buf, 1));
    E(write(-1, buf, 1));
    E(pread(99, buf, 1, 0));
    close(fd);
}

static void truncating(void)
{
    int fd = (int)MUST(open("t", O_RDWR | O_CREAT, 0600));
    struct stat st;

    SECTION("truncate");
    MUST(write(fd, "0123456789", 10));
    E(ftruncate(fd, 4));
    E(ftruncate(fd, 8));
    E(pread(fd, buf, 20, 0));
    YES(memcmp(buf, "0123\0\0\0\0", 8) == 0);
    E(lseek(fd, 0, SEEK_CUR));
    E(truncate("t", 5000));
    fstat(fd, &st);
    printf("size %lld\n", (long long)st.st_size);
    E(truncate("t", -1));
    E(truncate("none", 1));
    E(truncate("d", 1));
    E(ftruncate(99, 1));
    E(fsync(fd));
    E(fdatasync(fd));
    E(fsync(99));
    E(unlink("t"));
    E(write(fd, "still here", 10));
    fstat(fd, &st);
    printf("links %d\n", (int)st.st_nlink);
    close(fd);
    E(close(fd));
}

/* Every byte of a file that is written in odd pieces. */
static void pieces(void)
{
    static unsigned char big[300000], back[300000];
    int fd = (int)MUST(open("p", O_RDWR | O_CREAT, 0600));
    size_t at = 0, step = 1;

    SECTION("pieces");
    for (size_t i = 0; i < sizeof(big); i++)
        big[i] = (unsigned char)(i * 7 + i / 251);
    while (at < sizeof(big)) {
        size_t n = sizeof(big) - at < step ? sizeof(big) - at : step;
        if (write(fd, big + at, n) != (ssize_t)n)
            printf("short write\n");
        at += n;
        step = step * 3 % 9973 + 1;
    }
    E(pread(fd, back, sizeof(back), 0));
    SAY("same", memcmp(big, back, sizeof(big)) == 0);
    E(pread(fd, back, 5000, 298000));
    SAY("same", memcmp(big + 298000, back, 2000) == 0);
    close(fd);
}

int main(void)
{
    watchdog();
    scratch_begin();
    open_flags();
    seeking();
    vectors();
    truncating();
    pieces();
    return 0;
}
