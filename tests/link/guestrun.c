/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * In the guest: runs every linked system-call site of a file, as it was and as
 * linked, from the same random registers, flags, vector registers and memory, and
 * compares what is left. Calls are echoed, not made (`--kernel-word echo`).
 *
 * usage: guestrun ORIGINAL LINKED     the same file, not linked and linked
 *
 * Both are mapped at the same address, one after the other. A breakpoint stands
 * behind the site; its handler sees all registers. Different may only be rcx and
 * r11. A fault on the way (random pointers) must hit the same original address.
 * A timer interrupts all the time: its handler must never see an address
 * inside of a stub or of the kernel.
 *
 * Status 0: no difference; 1: some; 2: it could not run.
 */
#define _GNU_SOURCE
#include <elf.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <ucontext.h>
#include <unistd.h>

#include "capstan_calls.h"
#include "capstan_link.h"

#define BASE 0x100000000000ul
#define SPAN (1ul << 30)
#define SCRATCH 0x200000000000ul
#define SCRATCH_SIZE 0x4000ul
#define TRIALS 8
#define STATUS_FLAGS 0x8d5ul

struct result {
    int signo; /* SIGTRAP: it came out behind the site */
    gregset_t regs;
    uint8_t xmm[256];
    uint8_t memory[SCRATCH_SIZE];
};

static enum { IDLE, LAUNCH, RUN } phase;
static ucontext_t home;
static gregset_t start_regs;
static struct result now;
static uint8_t *scratch = (uint8_t *)SCRATCH;
static uint64_t stubs_low, stubs_high; /* of the mapped file, 0 when original */
static uint64_t bad_addresses, bad_address, interruptions;
static uint64_t rng;

static uint64_t next_random(void)
{
    rng ^= rng << 13;
    rng ^= rng >> 7;
    rng ^= rng << 17;
    return rng;
}

static long capstan(long nr, long a, long b)
{
    long r;

    __asm__ volatile("lea 1f(%%rip), %%rcx\n\tjmp *%c[cell]\n\tsyscall\n1:"
                     : "=a"(r)
                     : "0"(nr), "D"(a), "S"(b), [cell] "i"(CAPSTAN_CELLS)
                     : "rcx", "r11", "memory", "cc");
    return r;
}

static void on_fault(int sig, siginfo_t *info, void *context)
{
    ucontext_t *uc = context;

    (void)info;
    if (phase == LAUNCH) {
        home = *uc;
        memcpy(uc->uc_mcontext.gregs, start_regs, 17 * sizeof(greg_t));
        uint8_t *xmm = (uint8_t *)uc->uc_mcontext.fpregs->_xmm;
        for (int i = 0; i < 256; i++)
            xmm[i] = (uint8_t)next_random();
        phase = RUN;
        return;
    }
    if (phase != RUN) {
        printf("signal %d at %llx\n", sig, uc->uc_mcontext.gregs[REG_RIP]);
        _exit(2);
    }
    now.signo = sig;
    memcpy(now.regs, uc->uc_mcontext.gregs, sizeof(now.regs));
    memcpy(now.xmm, uc->uc_mcontext.fpregs->_xmm, sizeof(now.xmm));
    phase = IDLE;
    memcpy(uc->uc_mcontext.gregs, home.uc_mcontext.gregs, 17 * sizeof(greg_t));
}

static void on_timer(int sig, siginfo_t *info, void *context)
{
    uint64_t rip = (uint64_t)((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP];

    (void)sig;
    (void)info;
    if (phase == RUN)
        interruptions++;
    if (rip >> 47 || (rip >= stubs_low && rip < stubs_high)) {
        bad_addresses++;
        bad_address = rip;
    }
}

static void catch_signals(void)
{
    static uint8_t stack[1 << 17];
    stack_t ss = {.ss_sp = stack, .ss_size = sizeof(stack)};
    struct sigaction sa = {.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER};
    static const int faults[] = {SIGTRAP, SIGSEGV, SIGBUS, SIGILL, SIGFPE};

    sigaltstack(&ss, NULL);
    sa.sa_sigaction = on_fault;
    sigaddset(&sa.sa_mask, SIGALRM);
    for (int i = 0; i < 5; i++)
        sigaction(faults[i], &sa, NULL);
    sigemptyset(&sa.sa_mask);
    sa.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART;
    sa.sa_sigaction = on_timer;
    sigaction(SIGALRM, &sa, NULL);
}

static void timer(int microseconds)
{
    struct itimerval t = {{0, microseconds}, {0, microseconds}};

    setitimer(ITIMER_REAL, &t, NULL);
}

static void die(const char *what)
{
    perror(what);
    exit(2);
}

static uint64_t map_low; /* the file's first address; BASE + (vaddr - map_low) */

static uint8_t *at_vaddr(uint64_t vaddr)
{
    return (uint8_t *)(BASE + vaddr - map_low);
}

static int rights(const Elf64_Phdr *p)
{
    return (p->p_flags & PF_R ? PROT_READ : 0) | (p->p_flags & PF_W ? PROT_WRITE : 0) |
           (p->p_flags & PF_X ? PROT_EXEC : 0);
}

/* Maps a file's segments as a loader does. */
static void map_file(const char *path)
{
    int fd = open(path, O_RDONLY);
    Elf64_Ehdr e;
    Elf64_Phdr ph[32];
    bool is_first = true;

    if (fd < 0 || pread(fd, &e, sizeof(e), 0) != sizeof(e) || e.e_phnum > 32 ||
        pread(fd, ph, e.e_phnum * sizeof(*ph), (off_t)e.e_phoff) < 0)
        die(path);
    munmap((void *)BASE, SPAN);
    for (int i = 0; i < e.e_phnum; i++) {
        uint64_t low = ph[i].p_vaddr & ~4095ul;
        uint64_t end = (ph[i].p_vaddr + ph[i].p_filesz + 4095) & ~4095ul;
        uint64_t bss = (ph[i].p_vaddr + ph[i].p_memsz + 4095) & ~4095ul;
        if (ph[i].p_type != PT_LOAD)
            continue;
        if (is_first)
            map_low = low;
        is_first = false;
        if (mmap(at_vaddr(low), end - low, rights(&ph[i]), MAP_PRIVATE | MAP_FIXED, fd,
                 (off_t)(ph[i].p_offset & ~4095ul)) == MAP_FAILED)
            die("mmap");
        if (bss > end && mmap(at_vaddr(end), bss - end, PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_FIXED | MAP_ANONYMOUS, -1,
                              0) == MAP_FAILED)
            die("mmap");
    }
    close(fd);
}

/* The trailer in the mapped file. */
static struct capstan_link_trailer *find_trailer(const char *path)
{
    int fd = open(path, O_RDONLY);
    Elf64_Ehdr e;
    Elf64_Phdr ph[32];

    if (fd < 0 || pread(fd, &e, sizeof(e), 0) != sizeof(e) ||
        pread(fd, ph, e.e_phnum * sizeof(*ph), (off_t)e.e_phoff) < 0)
        die(path);
    close(fd);
    for (int i = 0; i < e.e_phnum; i++) {
        struct capstan_link_trailer *t =
            (void *)at_vaddr(ph[i].p_vaddr + ph[i].p_filesz - 64);
        if (ph[i].p_type == PT_LOAD && ph[i].p_flags & PF_X &&
            memcmp(t->magic, CAPSTAN_LINK_MAGIC, 8) == 0)
            return t;
    }
    return NULL;
}

/* The state before a run; the same for the same seed. */
static void prepare(uint64_t seed, uint64_t rip)
{
    rng = seed * 0x9e3779b97f4a7c15ul | 1;
    for (uint64_t i = 0; i < SCRATCH_SIZE; i += 8)
        *(uint64_t *)(scratch + i) =
            next_random() % 3 ? SCRATCH + 0x1000 + (next_random() & 0x1ff8)
                              : next_random();
    for (int i = 0; i < 16; i++)
        start_regs[i] = (greg_t)(SCRATCH + 0x1000 + (next_random() & 0x1ff8));
    start_regs[REG_RSP] = (greg_t)(SCRATCH + 0x2000 + (next_random() & 0x1f0));
    start_regs[REG_RIP] = (greg_t)rip;
}

/* One site from one state, to the breakpoint behind it. */
static void run_site(uint64_t start, uint64_t site, uint64_t seed, struct result *r)
{
    uint8_t *behind = (uint8_t *)(site + 2), old = *behind;

    /* That page alone becomes writable: the others keep their mapping, at whose
     * end the guest looks for the table. */
    mprotect((void *)((site + 2) & ~4095ul), 4096, PROT_READ | PROT_WRITE | PROT_EXEC);

    prepare(seed, start);
    *behind = 0xcc;
    phase = LAUNCH;
    start_regs[REG_EFL] = (greg_t)((next_random() & STATUS_FLAGS) | 0x202);
    __asm__ volatile("int3" ::: "memory");
    *behind = old;
    memcpy(now.memory, scratch, SCRATCH_SIZE);
    *r = now;
}

static int compare(const struct result *a, const struct result *b, uint64_t site)
{
    static const char *const names[] = {"r8",  "r9",  "r10", "r11", "r12", "r13",
                                        "r14", "r15", "rdi", "rsi", "rbp", "rbx",
                                        "rdx", "rax", "rcx", "rsp", "rip"};
    const char *what = NULL;

    if (a->signo != b->signo)
        what = "signal";
    for (int i = 0; i < 17 && !what; i++) {
        if (i != REG_RCX && i != REG_R11 && a->regs[i] != b->regs[i])
            what = names[i];
    }
    if (!what && (a->regs[REG_EFL] ^ b->regs[REG_EFL]) & STATUS_FLAGS)
        what = "flags";
    if (!what && memcmp(a->xmm, b->xmm, sizeof(a->xmm)))
        what = "vector registers";
    if (!what && memcmp(a->memory, b->memory, SCRATCH_SIZE))
        what = "memory (or the red zone)";
    if (what)
        printf("site %lx: %s differs (signals %d, %d; rip %llx, %llx)\n", site - BASE,
               what, a->signo, b->signo, a->regs[REG_RIP], b->regs[REG_RIP]);
    return what != NULL;
}

int main(int argc, char **argv)
{
    struct capstan_link_trailer *t;
    struct capstan_link_place *places;
    unsigned nr = 0, done = 0, faults = 0, differences = 0;

    if (argc != 3)
        return 2;
    if (mmap(scratch, SCRATCH_SIZE, PROT_READ | PROT_WRITE,
             MAP_PRIVATE | MAP_FIXED | MAP_ANONYMOUS, -1, 0) == MAP_FAILED)
        die("mmap");
    map_file(argv[2]);
    t = find_trailer(argv[2]);
    if (!t)
        return printf("%s is not linked\n", argv[2]), 2;
    nr = t->places;
    places = malloc(nr * sizeof(*places));
    memcpy(places, (uint8_t *)t - t->self + t->table, nr * sizeof(*places));
    uint64_t low = BASE + t->stubs, high = BASE + t->self;
    struct result *was = malloc(nr * TRIALS * sizeof(*was)), is;

    if (capstan(CAPSTAN_CALL_ECHO, (long)BASE, (long)SPAN))
        return puts("the guest does not echo: --kernel-word echo"), 2;
    catch_signals();
    for (int pass = 0; pass < 2; pass++) {
        map_file(argv[1 + pass]);
        stubs_low = pass ? low : 0;
        stubs_high = pass ? high : 0;
        timer(200);
        for (unsigned i = 0; i < nr * TRIALS; i++) {
            struct capstan_link_place *p = &places[i / TRIALS];
            uint64_t site = BASE + p->site;
            if (p->class > CAPSTAN_LINK_P)
                continue;
            run_site(site - p->copied, site, i + 1, pass ? &is : &was[i]);
            if (!pass)
                continue;
            differences += (unsigned)compare(&was[i], &is, site);
            faults += is.signo != SIGTRAP;
            done += i % TRIALS == 0;
        }
        timer(0);
    }
    printf("%s: %u sites, %u runs each, %u faults on the way, %u differences, "
           "%lu interruptions, %lu of them at an address not the program's\n",
           argv[2], done, TRIALS, faults, differences, interruptions, bad_addresses);
    if (bad_addresses)
        printf("%s: the last of these addresses: %lx (stubs %lx, base %lx)\n", argv[2],
               bad_address, low, BASE);
    return differences || bad_addresses || !done || faults > done * TRIALS / 2;
}
