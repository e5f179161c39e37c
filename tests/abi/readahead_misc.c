/* SPDX-License-Identifier: BSD-2-Clause */
/* Hints and helpers: posix_fadvise, readahead, fallocate, sync_file_range,
 * copy_file_range, sync. */
#include "abi.h"

static char buf[20000];

static void hints(int fd, int pipe_end)
{
    SECTION("posix_fadvise and readahead");
    P(posix_fadvise(fd, 0, 0, POSIX_FADV_NORMAL));
    P(posix_fadvise(fd, 0, 4096, POSIX_FADV_SEQUENTIAL));
    P(posix_fadvise(fd, 0, 4096, POSIX_FADV_RANDOM));
    P(posix_fadvise(fd, 0, 1 << 20, POSIX_FADV_WILLNEED));
    P(posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED));
    P(posix_fadvise(fd, 0, 0, POSIX_FADV_NOREUSE));
    P(posix_fadvise(fd, 0, 0, 99));
    P(posix_fadvise(fd, 0, -1, POSIX_FADV_NORMAL));
    P(posix_fadvise(99, 0, 0, POSIX_FADV_NORMAL));
    P(posix_fadvise(pipe_end, 0, 0, POSIX_FADV_NORMAL));
    E(readahead(fd, 0, 4096));
    E(readahead(99, 0, 4096));
    E(readahead(pipe_end, 0, 4096));
    E(pread(fd, buf, 4, 0));
    printf("  %.4s\n", buf);
}

static long size_of(int fd)
{
    struct stat st;

    return fstat(fd, &st) == 0 ? (long)st.st_size : -1;
}

static void allocation(int pipe_end)
{
    int fd = (int)MUST(open("alloc", O_RDWR | O_CREAT, 0600));
    int ro = (int)MUST(open("alloc", O_RDONLY));

    SECTION("fallocate");
    E(fallocate(fd, 0, 0, 10000));
    E(size_of(fd));
    E(fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, 50000));
    E(size_of(fd));
    E(fallocate(fd, 0, 5000, 100));
    E(size_of(fd));
    memset(buf, 'x', sizeof(buf));
    E(pwrite(fd, buf, 20000, 0));
    E(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 4000, 9000));
    E(size_of(fd));
    E(pread(fd, buf, 20000, 0));
    printf("  %d %d %d %d\n", buf[3999], buf[4000], buf[12999], buf[13000]);
    E(lseek(fd, 0, SEEK_HOLE));
    E(lseek(fd, 8192, SEEK_DATA));
    E(fallocate(fd, FALLOC_FL_PUNCH_HOLE, 0, 100));
    E(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 19000,
                100000));
    E(size_of(fd));
    E(pread(fd, buf, 1, 19999));
    printf("  %d\n", buf[0]);
    E(fallocate(fd, 0, 0, 0));
    E(fallocate(fd, 0, -1, 10));
    E(fallocate(fd, 0, 0, -1));
    E(fallocate(fd, 0x8000, 0, 10));
    E(fallocate(ro, 0, 0, 10));
    E(fallocate(99, 0, 0, 10));
    E(fallocate(pipe_end, 0, 0, 10));
    E(fallocate(fd, 0, LLONG_MAX - 5, 10));
    P(posix_fallocate(fd, 0, 30000));
    E(size_of(fd));
    close(fd);
    close(ro);
}

static void copying(int pipe_end)
{
    int in = (int)MUST(open("in", O_RDWR | O_CREAT, 0600));
    int out = (int)MUST(open("out", O_RDWR | O_CREAT, 0600));
    loff_t from = 3, to = 10;

    SECTION("copy_file_range");
    MUST(write(in, "0123456789abcdef", 16));
    MUST(lseek(in, 0, SEEK_SET));
    E(copy_file_range(in, NULL, out, NULL, 5, 0));
    E(lseek(in, 0, SEEK_CUR));
    E(lseek(out, 0, SEEK_CUR));
    E(copy_file_range(in, &from, out, &to, 4, 0));
    printf("  %d %d\n", (int)from, (int)to);
    E(lseek(in, 0, SEEK_CUR));
    E(pread(out, buf, 100, 0));
    YES(memcmp(buf, "01234\0\0\0\0\0" "3456", 14) == 0);
    from = 12;
    to = 0;
    E(copy_file_range(in, &from, out, &to, 1000, 0)); /* what there is */
    from = 100;
    E(copy_file_range(in, &from, out, &to, 10, 0));
    from = 0;
    to = 8;
    E(copy_file_range(in, &from, in, &to, 8, 0));
    E(pread(in, buf, 100, 0));
    printf("  %.16s\n", buf);
    to = 4;
    E(copy_file_range(in, &from, out, &to, 10, 1));
    from = 0;
    E(copy_file_range(in, &from, in, &to, 8, 0)); /* overlaps */
    E(copy_file_range(in, NULL, pipe_end, NULL, 1, 0));
    E(copy_file_range(99, NULL, out, NULL, 1, 0));
    int ro = (int)MUST(open("out", O_RDONLY));
    E(copy_file_range(in, NULL, ro, NULL, 1, 0));
    int app = (int)MUST(open("out", O_WRONLY | O_APPEND));
    E(copy_file_range(in, NULL, app, NULL, 1, 0));
    int dir = (int)MUST(open(".", O_RDONLY));
    E(copy_file_range(dir, NULL, out, NULL, 1, 0));
    close(dir);
    close(app);
    close(ro);
    close(in);
    close(out);
}

int main(void)
{
    int fd, p[2];

    watchdog();
    scratch_begin();
    MUST(pipe(p));
    put_file("f", "text of the file");
    fd = (int)MUST(open("f", O_RDWR));
    hints(fd, p[0]);
    allocation(p[1]);
    copying(p[1]);
    SECTION("syncing");
    E(sync_file_range(fd, 0, 0, SYNC_FILE_RANGE_WRITE));
    E(sync_file_range(fd, 0, 0, 0x80));
    E(sync_file_range(fd, -1, 0, 0));
    E(sync_file_range(99, 0, 0, 0));
    E(sync_file_range(p[0], 0, 0, 0));
    E(fsync(fd));
    E(fdatasync(fd));
    E(fsync(p[0]));
    E(fdatasync(99));
    E(syncfs(99));
    return 0;
}
