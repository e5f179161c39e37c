/* SPDX-License-Identifier: BSD-2-Clause */
/* Mapped files: shared and private, past the end, growing and shrinking. */
#include "abi.h"

#define PAGE 4096ul

static sigjmp_buf back;
static volatile char *base;
static volatile char sink;
static char buf[5 * 4096];

static void on_fault(int sig, siginfo_t *info, void *context)
{
    printf("  %s code %d at +%lx\n", sig == SIGSEGV ? "SIGSEGV" : "SIGBUS",
           info->si_code, (long)info->si_addr - (long)base);
    siglongjmp(back, 1);
}

#define TRY(code)                        \
    do {                                 \
        if (sigsetjmp(back, 1) == 0) {   \
            code;                        \
            printf("%s: fine\n", #code); \
        } else {                         \
            printf("%s: fault\n", #code); \
        }                                \
    } while (0)

static int fresh(const char *name, int pages, size_t more)
{
    int fd = (int)MUST(open(name, O_RDWR | O_CREAT | O_TRUNC, 0600));

    for (int i = 0; i < pages; i++) {
        memset(buf, 'A' + i, PAGE);
        MUST(write(fd, buf, PAGE));
    }
    memset(buf, 'z', more);
    MUST(write(fd, buf, more));
    return fd;
}

static char *map(int fd, int pages, int prot, int flags, off_t off)
{
    char *p = mmap(NULL, (size_t)pages * PAGE, prot, flags, fd, off);

    if (p == MAP_FAILED) {
        printf("mmap: %s\n", errno_name(errno));
        exit(98);
    }
    base = p;
    return p;
}

static char byte(int fd, off_t at)
{
    char c = '?';

    if (pread(fd, &c, 1, at) != 1)
        c = '-';
    return c;
}

static void shared(void)
{
    int fd = fresh("shared", 3, 100);
    char *p = map(fd, 6, PROT_READ | PROT_WRITE, MAP_SHARED, 0), *q;

    SECTION("shared");
    printf("%c%c%c%c %d\n", p[0], p[PAGE], p[3 * PAGE - 1], p[3 * PAGE],
           p[3 * PAGE + 100]);
    p[PAGE + 5] = '1';
    printf("read sees it: %c\n", byte(fd, PAGE + 5));
    MUST(pwrite(fd, "2", 1, PAGE + 6));
    printf("the mapping sees a write: %c\n", p[PAGE + 6]);
    q = map(fd, 2, PROT_READ, MAP_SHARED, PAGE);
    printf("another mapping: %c%c\n", q[5], q[6]);
    p[PAGE + 7] = '3';
    printf("and again: %c\n", q[7]);
    base = q;
    TRY(*(volatile char *)q = 1);
    E(mprotect(q, PAGE, PROT_READ | PROT_WRITE));
    TRY(*(volatile char *)q = 'Q');
    printf("%c\n", byte(fd, PAGE));
    base = p;
    p[3 * PAGE + 200] = 'x'; /* beyond the end, in the last page */
    TRY(sink = p[4 * PAGE - 1]);
    TRY(sink = p[4 * PAGE]);
    TRY(*(volatile char *)(p + 5 * PAGE + 9) = 1);
    E(lseek(fd, 0, SEEK_END));
    SECTION("grown and shrunk");
    E(ftruncate(fd, 5 * PAGE));
    TRY(sink = p[4 * PAGE]);
    TRY(sink = p[5 * PAGE]);
    p[4 * PAGE + 1] = 'g';
    printf("%c\n", byte(fd, 4 * PAGE + 1));
    E(ftruncate(fd, PAGE + 10));
    TRY(sink = p[PAGE + 9]);
    printf("%c %d\n", p[PAGE + 9], p[PAGE + 10]);
    TRY(sink = p[2 * PAGE]);
    E(ftruncate(fd, 3 * PAGE));
    printf("zeroes now: %d %d\n", p[2 * PAGE], p[PAGE + 11]);
    E(msync(p, 6 * PAGE, MS_SYNC));
    E(msync(p, 6 * PAGE, MS_ASYNC));
    E(msync(p, 6 * PAGE, MS_SYNC | MS_ASYNC));
    E(msync(p + 1, PAGE, MS_SYNC));
    close(fd);
    p[0] = 'c'; /* the mapping keeps the file */
    E(munmap(p, 6 * PAGE));
    fd = (int)MUST(open("shared", O_RDONLY));
    printf("%c\n", byte(fd, 0));
    E(munmap(q, 2 * PAGE));
    close(fd);
}

static void private(void)
{
    int fd = fresh("private", 3, 0);
    char *p = map(fd, 4, PROT_READ | PROT_WRITE, MAP_PRIVATE, 0);

    SECTION("private");
    p[0] = 'p';
    printf("the file keeps %c\n", byte(fd, 0));
    MUST(pwrite(fd, "N", 1, PAGE));
    printf("a page not yet copied follows: %c\n", p[PAGE]);
    MUST(pwrite(fd, "N", 1, 1));
    printf("one copied does not: %c\n", p[1]);
    E(madvise(p, PAGE, MADV_DONTNEED));
    printf("copy dropped: %c%c\n", p[0], p[1]);
    TRY(sink = p[3 * PAGE]);
    E(ftruncate(fd, PAGE));
    TRY(sink = p[PAGE]);
    E(mprotect(p, PAGE, PROT_READ | PROT_EXEC));
    TRY(*(volatile char *)p = 1);
    E(munmap(p, 4 * PAGE));
    close(fd);
}

static void modes(void)
{
    int ro = (int)MUST(open("shared", O_RDONLY));
    int wo = (int)MUST(open("shared", O_WRONLY));
    int fds[2];
    char *p;

    SECTION("modes of opening");
    E((long)mmap(NULL, PAGE, PROT_WRITE, MAP_SHARED, ro, 0));
    E((long)mmap(NULL, PAGE, PROT_READ, MAP_SHARED, wo, 0));
    E((long)mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, wo, 0));
    p = map(ro, 1, PROT_READ | PROT_WRITE, MAP_PRIVATE, 0);
    p[0] = 'w';
    munmap(p, PAGE);
    p = map(ro, 1, PROT_READ, MAP_SHARED, 0);
    E(mprotect(p, PAGE, PROT_READ | PROT_WRITE));
    munmap(p, PAGE);
    E((long)mmap(NULL, PAGE, PROT_READ, MAP_SHARED, ro, 100));
    E((long)mmap(NULL, PAGE, PROT_READ, 0, ro, 0));
    E((long)mmap(NULL, 0, PROT_READ, MAP_SHARED, ro, 0));
    p = map(ro, 1, PROT_READ, MAP_SHARED, 100 * PAGE); /* wholly outside */
    TRY(sink = p[0]);
    munmap(p, PAGE);
    MUST(pipe(fds));
    E((long)mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fds[0], 0));
    close(fds[0]);
    close(fds[1]);
    int dir = (int)MUST(open(".", O_RDONLY));
    E((long)mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, dir, 0));
    close(dir);
    int zero = (int)MUST(open("/dev/zero", O_RDWR));
    p = map(zero, 1, PROT_READ | PROT_WRITE, MAP_PRIVATE, 0);
    printf("zero: %d\n", p[100]);
    p[100] = 1;
    munmap(p, PAGE);
    close(zero);
    close(ro);
    close(wo);
}

/* System calls on mappings: EFAULT past the end, copies within one file. */
static void calls(void)
{
    int fd = fresh("calls", 2, 0), out[2];
    char *p = map(fd, 4, PROT_READ | PROT_WRITE, MAP_SHARED, 0);

    SECTION("system calls");
    MUST(pipe2(out, O_NONBLOCK));
    E(write(out[1], p + PAGE, PAGE));
    E(write(out[1], p + 2 * PAGE, 1));
    E(read(out[0], p, 10));
    printf("%c\n", byte(fd, 0));
    E(write(out[1], "1234567890", 10));
    E(read(out[0], p + 2 * PAGE, 10));
    E(pwrite(fd, p, PAGE, PAGE)); /* from the same file */
    printf("%c\n", p[PAGE]);
    E(pread(fd, p + 100, 50, PAGE));
    E(mprotect(p, PAGE, PROT_READ));
    E(pread(fd, p, 10, 0));
    E(unlink("calls"));
    printf("unlinked, still %c\n", p[PAGE + 200]);
    munmap(p, 4 * PAGE);
    close(fd);
    close(out[0]);
    close(out[1]);
}

static void moving(void)
{
    int fd = fresh("moving", 3, 0);
    char *p = map(fd, 1, PROT_READ | PROT_WRITE, MAP_SHARED, PAGE), *q;

    SECTION("mremap");
    q = mremap(p, PAGE, 2 * PAGE, MREMAP_MAYMOVE);
    printf("%c%c\n", q[0], q[PAGE]);
    q[PAGE] = 'm';
    printf("%c\n", byte(fd, 2 * PAGE));
    E(munmap(q, PAGE));
    printf("%c\n", q[PAGE]);
    E(munmap(q + PAGE, PAGE));
    /* Pages out of order with MAP_FIXED. */
    p = map(fd, 3, PROT_READ, MAP_SHARED, 0);
    for (int i = 0; i < 3; i++)
        mmap(p + (size_t)i * PAGE, PAGE, PROT_READ, MAP_SHARED | MAP_FIXED,
             fd, (off_t)(2 - i) * (off_t)PAGE);
    printf("%c%c%c\n", p[0], p[PAGE], p[2 * PAGE]);
    E(munmap(p, 3 * PAGE));
    close(fd);
}

int main(void)
{
    watchdog();
    scratch_begin();
    on_signal(SIGSEGV, on_fault, 0);
    on_signal(SIGBUS, on_fault, 0);
    shared();
    private();
    modes();
    calls();
    moving();
    return 0;
}
