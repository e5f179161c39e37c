/* SPDX-License-Identifier: BSD-2-Clause */
/* Anonymous memory: mmap, munmap, mprotect, mremap, madvise, mincore, brk,
 * and what the handler of a fault is told. */
#include "abi.h"

#include <ucontext.h>

#define PAGE 4096ul

static sigjmp_buf back;
static volatile char *base; /* addresses are told relative to this */
static volatile char sink;

static void on_fault(int sig, siginfo_t *info, void *context)
{
    ucontext_t *uc = context;
    long at = (long)info->si_addr - (long)base;

    printf("  %s code %d at +%lx, error code %llx, cr2 agrees %d\n",
           sig == SIGSEGV ? "SIGSEGV" : "SIGBUS", info->si_code, at,
           uc->uc_mcontext.gregs[REG_ERR],
           uc->uc_mcontext.gregs[REG_CR2] == (long long)info->si_addr);
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

/* A protected region of n pages with nothing mapped around it. */
static char *region(int n, int prot)
{
    char *p = mmap(NULL, (size_t)(n + 2) * PAGE, PROT_NONE,
                   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (p == MAP_FAILED)
        exit(98);
    munmap(p, PAGE);
    munmap(p + (size_t)(n + 1) * PAGE, PAGE);
    mprotect(p + PAGE, (size_t)n * PAGE, prot);
    base = p + PAGE;
    return p + PAGE;
}

static int all(const char *p, char c, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (p[i] != c)
            return 0;
    return 1;
}

static void protection(void)
{
    char *p = region(4, PROT_READ | PROT_WRITE);

    SECTION("protection");
    TRY(p[0] = 1);
    TRY(sink = p[4 * PAGE - 1]);
    TRY(sink = p[4 * PAGE]);
    TRY(sink = p[-1]);
    TRY(p[4 * PAGE + 5] = 1);
    E(mprotect(p + PAGE, PAGE, PROT_READ));
    TRY(sink = p[PAGE]);
    TRY(p[PAGE + 17] = 1);
    TRY(p[2 * PAGE] = 1);
    p[2 * PAGE] = 7;
    E(mprotect(p + 2 * PAGE, PAGE, PROT_NONE));
    TRY(sink = p[2 * PAGE]);
    TRY(p[2 * PAGE] = 1);
    E(mprotect(p + 2 * PAGE, PAGE, PROT_READ | PROT_WRITE));
    printf("kept %d\n", p[2 * PAGE]);
    E(mprotect(p + 1, PAGE, PROT_READ));
    E(mprotect(p, 6 * PAGE, PROT_READ));
    TRY(p[0] = 1); /* applied up to the hole */
    E(mprotect(p, PAGE, 0x100));
    E(mprotect(p, 0, PROT_NONE));
    E(munmap(p + PAGE, PAGE));
    TRY(sink = p[PAGE]);
    TRY(sink = p[2 * PAGE]);
    E(munmap(p + 1, PAGE));
    E(munmap(p, 0));
    E(munmap(p, (size_t)1 << 60));
    E(munmap(p, 4 * PAGE)); /* the hole does not matter */
    TRY(sink = p[0]);
}

static void executing(void)
{
    static const unsigned char code[] = {0xb8, 42, 0, 0, 0, 0xc3};
    char *p = region(1, PROT_READ | PROT_WRITE);

    SECTION("executing");
    memcpy(p, code, sizeof(code));
    TRY(((int (*)(void))p)());
    E(mprotect(p, PAGE, PROT_READ | PROT_EXEC));
    E(((int (*)(void))p)());
    TRY(p[0] = 0);
    E(mprotect(p, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC));
    p[1] = 43;
    E(((int (*)(void))p)());
    munmap(p, PAGE);
}

static void mapping(void)
{
    char *p = region(8, PROT_READ | PROT_WRITE), *q;

    SECTION("fixed");
    memset(p, 'a', 8 * PAGE);
    q = mmap(p + 2 * PAGE, PAGE, PROT_READ | PROT_WRITE,
             MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    E(q - p);
    E(all(p + PAGE, 'a', PAGE) && all(p + 3 * PAGE, 'a', PAGE));
    E(all(q, 0, PAGE));
    E((long)mmap(p + PAGE, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS |
                 MAP_FIXED_NOREPLACE, -1, 0));
    E(munmap(p + PAGE, PAGE));
    q = mmap(p + PAGE, PAGE, PROT_READ,
             MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    E(q - p);
    E((long)mmap(p + 1, PAGE, PROT_READ,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0));
    E((long)mmap(NULL, 0, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    E((long)mmap(NULL, PAGE, PROT_READ, MAP_ANONYMOUS, -1, 0));
    E((long)mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, 99, 0));
    E((long)mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 5));
    E((long)mmap(NULL, (size_t)1 << 62, PROT_READ,
                 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    q = mmap(p + 1, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    YES(q != p && (long)q % PAGE == 0); /* a hint that cannot be had */
    munmap(q, PAGE);
    munmap(p, 8 * PAGE);
    q = mmap(p, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    YES(q == p); /* a hint that can */
    munmap(q, PAGE);
    q = mmap(NULL, 64ul << 20, PROT_READ | PROT_WRITE,
             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    q[0] = q[32 << 20] = q[(64 << 20) - 1] = 'x';
    E(all(q + 1, 0, 1 << 20));
    munmap(q, 64ul << 20);
    q = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE,
             MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    unsigned char vec[4];
    E(mincore(q, 4 * PAGE, vec));
    printf("resident %d%d%d%d\n", vec[0] & 1, vec[1] & 1, vec[2] & 1,
           vec[3] & 1);
    E(mincore(q + 1, PAGE, vec));
    E(mincore(q, PAGE, (void *)8));
    munmap(q + 2 * PAGE, PAGE);
    E(mincore(q, 4 * PAGE, vec));
    munmap(q, 4 * PAGE);
}

static void moving(void)
{
    char *p = region(4, PROT_READ | PROT_WRITE), *q, *r;

    SECTION("mremap");
    memset(p, 'b', 4 * PAGE);
    q = mremap(p, 4 * PAGE, 2 * PAGE, 0);
    YES(q == p);
    TRY(sink = p[2 * PAGE]);
    q = mremap(p, 2 * PAGE, 4 * PAGE, 0); /* there is room again */
    YES(q == p);
    E(all(p, 'b', 2 * PAGE) && all(p + 2 * PAGE, 0, 2 * PAGE));
    r = mmap(p + 4 * PAGE, PAGE, PROT_NONE,
             MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    YES(r == p + 4 * PAGE);
    E((long)mremap(p, 4 * PAGE, 8 * PAGE, 0));
    q = mremap(p, 4 * PAGE, 300 * PAGE, MREMAP_MAYMOVE);
    YES(q != MAP_FAILED && q != p);
    E(all(q, 'b', 2 * PAGE) && all(q + 2 * PAGE, 0, 298 * PAGE));
    TRY(sink = p[0]);
    munmap(r, PAGE);
    p = region(8, PROT_READ | PROT_WRITE);
    memset(p, 'c', 8 * PAGE);
    r = mremap(q, 2 * PAGE, 2 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED,
               p + 3 * PAGE);
    YES(r == p + 3 * PAGE);
    E(all(p, 'c', 3 * PAGE) && all(p + 3 * PAGE, 'b', 2 * PAGE));
    E((long)mremap(p, PAGE, PAGE, MREMAP_FIXED, p + PAGE));
    E((long)mremap(p, 2 * PAGE, 2 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED,
                   p + PAGE));
    E((long)mremap(p + 1, PAGE, PAGE, 0));
    E((long)mremap(p, PAGE, 0, 0));
    E((long)mremap(p, PAGE, PAGE, 0x80));
    munmap(q, 300 * PAGE);
    munmap(p, 8 * PAGE);
    E((long)mremap(p, PAGE, 2 * PAGE, MREMAP_MAYMOVE));
}

static void advising(void)
{
    char *p = region(4, PROT_READ | PROT_WRITE);

    SECTION("madvise");
    memset(p, 'd', 4 * PAGE);
    E(madvise(p + PAGE, PAGE, MADV_DONTNEED));
    E(all(p, 'd', PAGE) && all(p + PAGE, 0, PAGE) &&
      all(p + 2 * PAGE, 'd', 2 * PAGE));
    E(madvise(p, 4 * PAGE, MADV_WILLNEED));
    E(madvise(p, 4 * PAGE, MADV_NORMAL));
    E(madvise(p, 4 * PAGE, MADV_RANDOM));
    E(madvise(p, 4 * PAGE, MADV_SEQUENTIAL));
    E(madvise(p, 4 * PAGE, MADV_DONTFORK));
    E(madvise(p, 4 * PAGE, MADV_DONTDUMP));
    E(madvise(p, 4 * PAGE, MADV_FREE));
    p[0] = 'e';
    E(p[0]);
    E(madvise(p + 1, PAGE, MADV_DONTNEED));
    E(madvise(p, 0, MADV_DONTNEED));
    E(madvise(p, PAGE, 9999));
    munmap(p + PAGE, PAGE);
    E(madvise(p, 4 * PAGE, MADV_DONTNEED)); /* a hole: the rest is done */
    E(all(p, 0, PAGE) && all(p + 2 * PAGE, 0, 2 * PAGE));
    E(mlock(p, PAGE));
    E(munlock(p, PAGE));
    E(mlock(p, 2 * PAGE));
    E(msync(p, PAGE, MS_SYNC));
    E(msync(p, 2 * PAGE, MS_SYNC));
    munmap(p, 4 * PAGE);
}

static void heap_end(void)
{
    long start = syscall(SYS_brk, 0), end;
    char *p = (char *)start;

    SECTION("brk");
    end = syscall(SYS_brk, start + 100000);
    E(end - start);
    E(all(p, 0, 100000));
    memset(p, 'f', 100000);
    E(syscall(SYS_brk, start + 10) - start);
    E(syscall(SYS_brk, start + 100000) - start);
    E(all(p, 'f', 10));
    /* The page of the end stays; those behind it came back as zeroes. */
    long from = (start + 10 + 4095) / 4096 * 4096;
    E(all((char *)from, 0, (size_t)(start + 100000 - from)));
    E(syscall(SYS_brk, 1) - start);
    E(syscall(SYS_brk, start) - start);
}

int main(void)
{
    watchdog();
    setvbuf(stdout, malloc(BUFSIZ), _IOLBF, BUFSIZ);
    on_signal(SIGSEGV, on_fault, 0);
    on_signal(SIGBUS, on_fault, 0);
    protection();
    executing();
    mapping();
    moving();
    advising();
    heap_end();
    return 0;
}
