// SPDX-License-Identifier: BSD-2-Clause
/*
 * Runs the code around each system call of a file twice, natively: as it was and as linked, from the
 * same registers, flags, memory and vector registers. Compares what the kernel would have been asked
 * and what the program is left with.
 *
 * usage: siterun FLAVOUR ORIGINAL LINKED < SITES     FLAVOUR: native-pc or native-abi
 *
 * A line of SITES: kind start site at copied window, numbers in hexadecimal, addresses of the file; kind
 * is A, W or P. Both files are mapped, not loaded: the same base, no relocation, in one child each,
 * which PTRACE_SYSEMU keeps from ever making a call. Each site is run
 *
 *   - from `start` to behind the call, from several random states;
 *   - from the call itself, as a branch to it would;
 *   - interrupted before each instruction of the way in, going on at the translated address, as after
 *     a signal handler.
 *
 * A fault counts as a result: it must hit the same original instruction with the same registers (in a
 * window of class W: the same window). Every site must complete without a fault at least once. Exit status 0: no difference; 1: some; 2: it could
 * not run. A child that does not stop within 10 seconds is an error (the alarm ends both).
 */
#define _GNU_SOURCE
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#define BASE 0x100000000000UL /* of a position-independent file */
#define SCRATCH 0x200000000000UL
#define SCRATCH_SIZE 0x8000UL
#define TRIALS 24
#define MAX_WAY 64 /* instructions from start to the call, hops included */
#define MAX_WRITABLE 8
#define STATUS_FLAGS 0x8d5UL
#define SYSCALL_STOP (SIGTRAP | 0x80)

struct site {
    char kind;
    uint64_t start, site, at, copied, window;
};

struct state {
    struct user_regs_struct regs; /* at the end */
    struct user_fpregs_struct fp;
    uint64_t asked[7]; /* number and arguments of the call */
    int fault;         /* 0, or the signal that ended it */
    unsigned char memory[SCRATCH_SIZE];
    unsigned char *variables; /* the file's writable segments, one after the other */
};

static uint64_t bias; /* what is added to addresses of the file */
static struct iovec writable[MAX_WRITABLE];
static int nr_writable;
static size_t writable_size;
static bool is_abi;
static int bad_sites;
static unsigned long runs, faults, resumed;
static pid_t children[2];

static void die(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fprintf(stderr, "siterun: ");
    vfprintf(stderr, format, args);
    fprintf(stderr, "\n");
    va_end(args);
    for (int i = 0; i < 2; i++)
        if (children[i] > 0)
            kill(children[i], SIGKILL);
    exit(2);
}

static void on_alarm(int signal)
{
    (void)signal;
    static const char text[] = "siterun: a child did not stop for 10 seconds\n";
    if (write(2, text, sizeof(text) - 1) < 0)
        _exit(2);
    for (int i = 0; i < 2; i++)
        if (children[i] > 0)
            kill(children[i], SIGKILL);
    _exit(2);
}

static uint64_t rnd(void)
{
    static uint64_t x = 0x9e3779b97f4a7c15;
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    return x;
}

/* Remember the writable segments of a file. */
static void find_writable(const char *path)
{
    int fd = open(path, O_RDONLY);
    Elf64_Ehdr head;
    if (fd < 0 || pread(fd, &head, sizeof(head), 0) != sizeof(head))
        die("%s: %s", path, strerror(errno));
    bias = head.e_type == ET_EXEC ? 0 : BASE;
    for (int i = 0; i < head.e_phnum; i++) {
        Elf64_Phdr seg;
        off_t where = (off_t)(head.e_phoff + i * sizeof(seg));
        if (pread(fd, &seg, sizeof(seg), where) != sizeof(seg))
            die("%s: truncated", path);
        if (seg.p_type != PT_LOAD || !(seg.p_flags & PF_W) || nr_writable == MAX_WRITABLE)
            continue;
        writable[nr_writable++] = (struct iovec){(void *)(seg.p_vaddr + bias), seg.p_memsz};
        writable_size += seg.p_memsz;
    }
    close(fd);
}

static void map_file(const char *path)
{
    int fd = open(path, O_RDONLY);
    Elf64_Ehdr head;
    if (fd < 0 || pread(fd, &head, sizeof(head), 0) != sizeof(head))
        die("%s: %s", path, strerror(errno));
    bias = head.e_type == ET_EXEC ? 0 : BASE;
    for (int i = 0; i < head.e_phnum; i++) {
        Elf64_Phdr seg;
        off_t where = (off_t)(head.e_phoff + i * sizeof(seg));
        if (pread(fd, &seg, sizeof(seg), where) != sizeof(seg))
            die("%s: truncated", path);
        if (seg.p_type != PT_LOAD)
            continue;
        uint64_t low = (seg.p_vaddr + bias) & ~4095UL;
        uint64_t high = (seg.p_vaddr + bias + seg.p_memsz + 4095) & ~4095UL;
        void *at = mmap((void *)low, high - low, PROT_READ | PROT_WRITE | PROT_EXEC,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
        if (at != (void *)low)
            die("%s: cannot map %#lx: %s", path, low, strerror(errno));
        if (pread(fd, (void *)(seg.p_vaddr + bias), seg.p_filesz, (off_t)seg.p_offset) !=
            (ssize_t)seg.p_filesz)
            die("%s: truncated", path);
        /* Variables without initial value: pointers to scratch memory. */
        if (seg.p_flags & PF_W)
            for (uint64_t v = (seg.p_vaddr + bias + seg.p_filesz + 7) & ~7UL; v + 8 <= high; v += 8)
                *(uint64_t *)v = SCRATCH + SCRATCH_SIZE / 2;
    }
    close(fd);
}

static pid_t start_child(const char *path)
{
    pid_t pid = fork();
    if (pid < 0)
        die("fork: %s", strerror(errno));
    if (pid == 0) {
        children[0] = children[1] = 0;
        map_file(path);
        if (mmap((void *)SCRATCH, SCRATCH_SIZE, PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) != (void *)SCRATCH)
            die("cannot map scratch memory");
        if (ptrace(PTRACE_TRACEME, 0, 0, 0))
            die("ptrace: %s", strerror(errno));
        raise(SIGSTOP);
        _exit(3);
    }
    int status;
    if (waitpid(pid, &status, 0) != pid || !WIFSTOPPED(status))
        die("the child for %s ended", path);
    if (ptrace(PTRACE_SETOPTIONS, pid, 0, PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL))
        die("ptrace: %s", strerror(errno));
    return pid;
}

/* Let a child go on in a way; the signal it stops with. */
static int go(pid_t pid, int how)
{
    int status;
    alarm(10);
    if (ptrace(how, pid, 0, 0))
        die("ptrace(%d): %s", how, strerror(errno));
    if (waitpid(pid, &status, 0) != pid || !WIFSTOPPED(status))
        die("a child ended (status %#x)", status);
    alarm(0);
    return WSTOPSIG(status);
}

static void get_regs(pid_t pid, struct user_regs_struct *regs)
{
    if (ptrace(PTRACE_GETREGS, pid, 0, regs))
        die("PTRACE_GETREGS: %s", strerror(errno));
}

static void set_regs(pid_t pid, const struct user_regs_struct *regs)
{
    if (ptrace(PTRACE_SETREGS, pid, 0, regs))
        die("PTRACE_SETREGS: %s", strerror(errno));
}

static void new_variables(struct state *s)
{
    if (!s->variables)
        s->variables = malloc(writable_size + 1); /* kept until the end */
    if (!s->variables)
        die("out of memory");
}

/* Read or write all memory a piece of code may change. */
static void transfer(pid_t pid, const struct state *s, bool is_write)
{
    struct iovec local[2] = {{(void *)s->memory, SCRATCH_SIZE}, {s->variables, writable_size}};
    struct iovec remote[1 + MAX_WRITABLE] = {{(void *)SCRATCH, SCRATCH_SIZE}};
    memcpy(remote + 1, writable, sizeof(writable));
    unsigned long nr = 1 + (unsigned long)nr_writable;
    ssize_t done = is_write ? process_vm_writev(pid, local, 2, remote, nr, 0)
                            : process_vm_readv(pid, local, 2, remote, nr, 0);
    if (done != (ssize_t)(SCRATCH_SIZE + writable_size))
        die("memory of a child: %s", strerror(errno));
}

/* What capstan_link.h tells the guest to do with a program counter. */
static uint64_t translate(const struct site *s, uint64_t pc)
{
    uint64_t at = pc - bias, distance = at - s->at;
    if (at < s->at || distance > s->copied + 32)
        return s->kind == 'P' ? s->site + bias : pc; /* a hop, or original text */
    if (distance < s->window)
        return s->start + bias;
    if (distance < s->copied)
        return s->start + distance + bias;
    return s->site + bias;
}

static void begin(pid_t pid, const struct state *from, uint64_t pc)
{
    struct user_regs_struct regs = from->regs;
    regs.rip = pc;
    regs.orig_rax = -1UL;
    set_regs(pid, &regs);
    struct user_fpregs_struct fp = from->fp;
    if (ptrace(PTRACE_SETFPREGS, pid, 0, &fp))
        die("PTRACE_SETFPREGS: %s", strerror(errno));
    transfer(pid, from, true);
}

static void poke_byte(pid_t pid, uint64_t at, int value, int *old)
{
    errno = 0;
    long word = ptrace(PTRACE_PEEKTEXT, pid, at, 0);
    if (errno)
        die("PTRACE_PEEKTEXT %#lx: %s", at, strerror(errno));
    if (old)
        *old = word & 255;
    if (ptrace(PTRACE_POKETEXT, pid, at, (word & ~255L) | value))
        die("PTRACE_POKETEXT: %s", strerror(errno));
}

/* From wherever the child is to behind the call; `result` is what the call returns. */
static void finish(pid_t pid, const struct site *s, uint64_t result, struct state *end)
{
    uint64_t stop = s->site + 2 + bias;
    int old;
    poke_byte(pid, stop, 0xcc, &old);
    memset(end->asked, 0xee, sizeof(end->asked));
    end->fault = 0;
    for (int steps = 0; steps < 3; steps++) {
        int signal = go(pid, PTRACE_SYSEMU);
        get_regs(pid, &end->regs);
        struct user_regs_struct *r = &end->regs;
        if (signal == SYSCALL_STOP) {
            uint64_t asked[7] = {r->orig_rax, r->rdi, r->rsi, r->rdx, r->r10, r->r8, r->r9};
            memcpy(end->asked, asked, sizeof(asked));
            r->rax = result;
            r->orig_rax = -1UL;
            set_regs(pid, r);
            if (r->rip == stop)
                break;
        } else if (signal == SIGTRAP && r->rip == stop + 1) {
            r->rip = stop;
            break;
        } else {
            end->fault = signal;
            r->rip = translate(s, r->rip);
            /* Inside of a window all addresses stand for its beginning. */
            if (r->rip - bias - s->start < s->window)
                r->rip = s->start + bias;
            break;
        }
    }
    poke_byte(pid, stop, old, NULL);
    end->regs.orig_rax = -1UL;
    if (ptrace(PTRACE_GETFPREGS, pid, 0, &end->fp))
        die("PTRACE_GETFPREGS: %s", strerror(errno));
    transfer(pid, end, false);
    runs++;
}

static void random_state(struct state *s, const struct state *base, int trial)
{
    for (size_t i = 0; i < SCRATCH_SIZE; i += 8) {
        uint64_t word = rnd();
        memcpy(s->memory + i, &word, 8);
    }
    s->regs = base->regs;
    s->fp = base->fp;
    s->variables = base->variables;
    unsigned long long *regs[] = {&s->regs.rax, &s->regs.rbx, &s->regs.rcx, &s->regs.rdx, &s->regs.rsi,
                        &s->regs.rdi, &s->regs.rbp, &s->regs.r8,  &s->regs.r9,  &s->regs.r10,
                        &s->regs.r11, &s->regs.r12, &s->regs.r13, &s->regs.r14, &s->regs.r15};
    for (size_t i = 0; i < sizeof(regs) / sizeof(regs[0]); i++) {
        uint64_t pointer = SCRATCH + SCRATCH_SIZE / 2 + (rnd() & 0x7f8);
        uint64_t kinds[3] = {pointer, rnd() & 63, rnd()};
        /* First pointers, then pointers and small numbers, then anything at all. */
        *regs[i] = kinds[trial == 0 ? 0 : trial % 4 == 3 ? rnd() % 3 : rnd() % 2];
    }
    s->regs.rsp = SCRATCH + SCRATCH_SIZE / 2 + (rnd() & 0x7f8);
    s->regs.fs_base = SCRATCH + SCRATCH_SIZE / 2 + (rnd() & 0x7f8);
    s->regs.eflags = 0x202 | (rnd() & (STATUS_FLAGS | 0x400));
    for (size_t i = 0; i < sizeof(s->fp.xmm_space) / 4; i++)
        s->fp.xmm_space[i] = (unsigned)rnd();
}

/* What differs, or NULL. rcx and r11 belong to the instruction `syscall`. */
static const char *difference(const struct state *a, const struct state *b)
{
    struct user_regs_struct x = a->regs, y = b->regs;
    if (a->fault != b->fault)
        return "signal";
    if (x.rip != y.rip)
        return "rip";
    if (memcmp(a->asked, b->asked, sizeof(a->asked)))
        return "the call's number or arguments";
    if (!a->fault) {
        x.rcx = y.rcx = x.r11 = y.r11 = 0;
        if (is_abi)
            y.eflags = (y.eflags & ~STATUS_FLAGS) | (x.eflags & STATUS_FLAGS);
    }
    if (memcmp(&x, &y, sizeof(x)))
        return "registers or flags";
    if (memcmp(&a->fp, &b->fp, sizeof(a->fp)))
        return "vector registers";
    if (memcmp(a->memory, b->memory, SCRATCH_SIZE))
        return "memory (or the red zone)";
    return memcmp(a->variables, b->variables, writable_size) ? "variables" : NULL;
}

static bool complain(const struct site *s, const char *how, const struct state *a,
                     const struct state *b)
{
    const char *what = difference(a, b);
    if (!what)
        return false;
    printf("%c site %#lx %s: %s differ (rip %#lx and %#lx, signal %d and %d)\n", s->kind, s->site,
           how, what, (long)a->regs.rip - bias, (long)b->regs.rip - bias, a->fault, b->fault);
    return true;
}

/* Interrupt the way in before each instruction and go on at the translated address. */
static bool resume_everywhere(const struct site *s, const struct state *from, uint64_t result,
                              const struct state *expected)
{
    static struct state end;
    new_variables(&end);
    for (int steps = 1; steps < MAX_WAY; steps++) {
        struct user_regs_struct regs;
        begin(children[1], from, s->start + bias);
        for (int i = 0; i < steps; i++) {
            /* SYSEMU: nothing is executed even if this runs into the call. */
            if (go(children[1], PTRACE_SYSEMU_SINGLESTEP) != SIGTRAP)
                return false; /* the call (or a fault, which the other runs compare) */
        }
        get_regs(children[1], &regs);
        if (regs.rip == s->site + 2 + bias)
            return false;
        regs.rip = translate(s, regs.rip);
        set_regs(children[1], &regs);
        finish(children[1], s, result, &end);
        resumed++;
        if (complain(s, "interrupted", expected, &end))
            return true;
        if (translate(s, regs.rip) == s->site + bias && s->kind != 'P' &&
            regs.rip == s->site + bias)
            return false; /* from here on it is the original text */
    }
    printf("site %#lx: no end of the way in\n", s->site);
    return true;
}

static bool run_site(const struct site *s, const struct state *base)
{
    static struct state from, ends[2];
    new_variables(&ends[0]);
    new_variables(&ends[1]);
    bool is_complete = false;
    for (int trial = 0; trial < TRIALS; trial++) {
        uint64_t result = rnd();
        random_state(&from, base, trial);
        for (int i = 0; i < 2; i++) {
            begin(children[i], &from, s->start + bias);
            finish(children[i], s, result, &ends[i]);
        }
        faults += ends[0].fault != 0;
        if (complain(s, "from the start", &ends[0], &ends[1]))
            return false;
        if (!ends[0].fault && !is_complete) {
            is_complete = true;
            if (resume_everywhere(s, &from, result, &ends[0]))
                return false;
        }
        if (trial < 4) {
            for (int i = 0; i < 2; i++) {
                begin(children[i], &from, s->site + bias);
                finish(children[i], s, result, &ends[i]);
            }
            if (complain(s, "from the call", &ends[0], &ends[1]))
                return false;
        } else if (is_complete) {
            break;
        }
    }
    if (!is_complete)
        printf("%c site %#lx: every run faulted\n", s->kind, s->site);
    return is_complete;
}

int main(int argc, char **argv)
{
    if (argc != 4 || (strcmp(argv[1], "native-pc") && strcmp(argv[1], "native-abi")))
        die("usage: siterun native-pc|native-abi ORIGINAL LINKED < SITES");
    is_abi = strcmp(argv[1], "native-abi") == 0;
    signal(SIGALRM, on_alarm);
    setvbuf(stdout, NULL, _IOLBF, 0);
    find_writable(argv[2]);
    for (int i = 0; i < 2; i++)
        children[i] = start_child(argv[2 + i]);
    static struct state base;
    get_regs(children[0], &base.regs);
    if (ptrace(PTRACE_GETFPREGS, children[0], 0, &base.fp))
        die("PTRACE_GETFPREGS: %s", strerror(errno));
    new_variables(&base);
    transfer(children[0], &base, false);
    struct site s;
    int sites = 0;
    while (scanf(" %c %lx %lx %lx %lx %lx", &s.kind, &s.start, &s.site, &s.at, &s.copied,
                 &s.window) == 6) {
        sites++;
        bad_sites += !run_site(&s, &base);
    }
    for (int i = 0; i < 2; i++)
        kill(children[i], SIGKILL);
    printf("%d sites, %lu runs, %lu of them ended in a fault, %lu interrupted and resumed, "
           "%d bad\n",
           sites, runs, faults, resumed, bad_sites);
    return sites == 0 ? 2 : bad_sites != 0;
}
