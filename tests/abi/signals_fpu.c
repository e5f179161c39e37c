/* SPDX-License-Identifier: BSD-2-Clause */
/* What a handler finds and leaves: vector and x87 registers, mxcsr, general
 * registers in the frame, changed RIP and RSP; codes of CPU faults. */
#include "abi.h"

#include <cpuid.h>
#include <immintrin.h>
#include <ucontext.h>

static volatile int zero;
static sigjmp_buf back;
static unsigned char frame_xmm[16 * 16];
static uint32_t handler_mxcsr, frame_mxcsr;
static uint16_t handler_cw, frame_cw;
static bool change;

static void spoil(int sig, siginfo_t *info, void *context)
{
    ucontext_t *uc = context;
    uint32_t csr = 0x1f80 | 0x6000;
    uint16_t cw = 0x27f;

    handler_mxcsr = _mm_getcsr();
    __asm__ volatile("fnstcw %0" : "=m"(handler_cw));
    frame_mxcsr = uc->uc_mcontext.fpregs->mxcsr;
    frame_cw = uc->uc_mcontext.fpregs->cwd;
    memcpy(frame_xmm, uc->uc_mcontext.fpregs->_xmm, sizeof(frame_xmm));
    if (change)
        memset(&uc->uc_mcontext.fpregs->_xmm[5], 0x77, 16);
    __asm__ volatile("fninit; fldpi; fldpi; fldl2e; fldcw %1; ldmxcsr %0;"
                     "pcmpeqd %%xmm0, %%xmm0; movdqa %%xmm0, %%xmm1;"
                     "movdqa %%xmm0, %%xmm5; movdqa %%xmm0, %%xmm9;"
                     "movdqa %%xmm0, %%xmm15; pxor %%xmm7, %%xmm7"
                     :
                     : "m"(csr), "m"(cw)
                     : "xmm0", "xmm1", "xmm5", "xmm7", "xmm9", "xmm15");
}

/* Fills all xmm registers, raises a signal with a bare system call, stores
 * them. No library code runs in between. */
static void around_signal(const unsigned char *in, unsigned char *out,
                          uint32_t *csr, uint16_t *cw, double *x87)
{
    uint32_t set_csr = 0x1f80 | 0x2000 | 0x8000; /* round down, flush */
    uint16_t set_cw = 0xb7f;                     /* round up */
    long pid = getpid(), tid = syscall(SYS_gettid);

    __asm__ volatile(
        "ldmxcsr %[sc]; fninit; fldcw %[sw]; fld1; fldpi;"
        "movdqu 0(%[in]), %%xmm0; movdqu 16(%[in]), %%xmm1;"
        "movdqu 32(%[in]), %%xmm2; movdqu 48(%[in]), %%xmm3;"
        "movdqu 64(%[in]), %%xmm4; movdqu 80(%[in]), %%xmm5;"
        "movdqu 96(%[in]), %%xmm6; movdqu 112(%[in]), %%xmm7;"
        "movdqu 128(%[in]), %%xmm8; movdqu 144(%[in]), %%xmm9;"
        "movdqu 160(%[in]), %%xmm10; movdqu 176(%[in]), %%xmm11;"
        "movdqu 192(%[in]), %%xmm12; movdqu 208(%[in]), %%xmm13;"
        "movdqu 224(%[in]), %%xmm14; movdqu 240(%[in]), %%xmm15;"
        "mov $234, %%eax; syscall;"
        "movdqu %%xmm0, 0(%[out]); movdqu %%xmm1, 16(%[out]);"
        "movdqu %%xmm2, 32(%[out]); movdqu %%xmm3, 48(%[out]);"
        "movdqu %%xmm4, 64(%[out]); movdqu %%xmm5, 80(%[out]);"
        "movdqu %%xmm6, 96(%[out]); movdqu %%xmm7, 112(%[out]);"
        "movdqu %%xmm8, 128(%[out]); movdqu %%xmm9, 144(%[out]);"
        "movdqu %%xmm10, 160(%[out]); movdqu %%xmm11, 176(%[out]);"
        "movdqu %%xmm12, 192(%[out]); movdqu %%xmm13, 208(%[out]);"
        "movdqu %%xmm14, 224(%[out]); movdqu %%xmm15, 240(%[out]);"
        "stmxcsr %[csr]; fnstcw %[cw]; fstpl %[pi]; fstpl %[one]; fninit"
        : [csr] "=m"(*csr), [cw] "=m"(*cw), [pi] "=m"(x87[0]),
          [one] "=m"(x87[1])
        : [in] "r"(in), [out] "r"(out), [sc] "m"(set_csr), [sw] "m"(set_cw),
          "D"(pid), "S"(tid), "d"((long)SIGUSR1)
        : "rax", "rcx", "r11", "memory", "xmm0", "xmm1", "xmm2", "xmm3",
          "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11",
          "xmm12", "xmm13", "xmm14", "xmm15");
    _mm_setcsr(0x1f80);
}

static void preserved(void)
{
    unsigned char in[256], out[256];
    double x87[2];
    uint32_t csr;
    uint16_t cw;

    SECTION("around a handler");
    for (int i = 0; i < 256; i++)
        in[i] = (unsigned char)(i * 3 + 1);
    on_signal(SIGUSR1, spoil, 0);
    around_signal(in, out, &csr, &cw, x87);
    SAY("xmm preserved", memcmp(in, out, 256) == 0);
    SAY("xmm in the frame", memcmp(in, frame_xmm, 256) == 0);
    printf("mxcsr %x, in the frame %x, in the handler %x\n", csr, frame_mxcsr,
           handler_mxcsr);
    printf("control word %x, in the frame %x, in the handler %x\n", cw,
           frame_cw, handler_cw);
    printf("x87 %.6f %.6f\n", x87[0], x87[1]);
    change = true;
    around_signal(in, out, &csr, &cw, x87);
    change = false;
    SAY("a change in the frame arrives",
        out[80] == 0x77 && out[95] == 0x77 && memcmp(in, out, 80) == 0 &&
            memcmp(in + 96, out + 96, 160) == 0);
}

__attribute__((target("avx"))) static bool wide(void)
{
    float in[8] = {1, 2, 3, 4, 5, 6, 7, 8}, out[8];
    long pid = getpid(), tid = syscall(SYS_gettid);

    __asm__ volatile("vmovups %1, %%ymm5; vmovups %1, %%ymm12;"
                     "mov $234, %%eax; syscall;"
                     "vaddps %%ymm12, %%ymm5, %%ymm5; vmovups %%ymm5, %0;"
                     "vzeroupper"
                     : "=m"(out)
                     : "m"(in), "D"(pid), "S"(tid), "d"((long)SIGUSR1)
                     : "rax", "rcx", "r11", "memory", "xmm5", "xmm12");
    for (int i = 0; i < 8; i++)
        if (out[i] != 2 * in[i])
            return false;
    return true;
}

/* --- the frame of a fault --- */

static long want_rip, new_rip, rsp_change;
static bool is_telling = true;
static int last_code, last_trap;

static void on_fault(int sig, siginfo_t *info, void *context)
{
    ucontext_t *uc = context;
    greg_t *r = uc->uc_mcontext.gregs;

    last_code = info->si_code;
    last_trap = (int)r[REG_TRAPNO];
    if (is_telling)
        printf("  %s code %d trap %lld address %s\n", sigabbrev_np(sig),
               info->si_code, r[REG_TRAPNO],
               info->si_addr == NULL                 ? "0"
               : info->si_addr == (void *)r[REG_RIP] ? "rip"
               : info->si_addr == (void *)0x1234     ? "0x1234"
                                                     : "other");
    if (want_rip != 0) {
        printf("  rip right %d, registers %llx %llx %llx\n",
               r[REG_RIP] == want_rip, r[REG_RAX], r[REG_R12], r[REG_R15]);
        r[REG_RIP] = new_rip;
        r[REG_R12] = 0x99;
        r[REG_RAX] += 1;
        r[REG_RSP] += rsp_change;
        return;
    }
    siglongjmp(back, 1);
}

#define FAULT(name, code)             \
    do {                              \
        printf("%s\n", name);         \
        if (sigsetjmp(back, 1) == 0) { \
            code;                     \
            printf("no fault\n");     \
        }                             \
    } while (0)

/* QEMU's own CPU does not raise vector floating point exceptions. */
static bool is_qemu_tcg(void)
{
    unsigned a, name[3];

    __cpuid(0x40000000, a, name[0], name[1], name[2]);
    return memcmp(name, "TCGTCGTCGTCG", 12) == 0;
}

static void codes(void)
{
    volatile int sink = 0;
    volatile int *odd = (int *)0x1234;
    volatile int *wild = (int *)0x8000000000001234ul;

    SECTION("codes");
    on_signal(SIGSEGV, on_fault, 0);
    on_signal(SIGBUS, on_fault, 0);
    on_signal(SIGFPE, on_fault, 0);
    on_signal(SIGILL, on_fault, 0);
    on_signal(SIGTRAP, on_fault, 0);
    FAULT("division by zero", sink = 5 / zero);
    FAULT("division overflow", sink = INT_MIN / (zero - 1));
    FAULT("ud2", __asm__ volatile("ud2"));
    FAULT("int3", __asm__ volatile("int3"));
    FAULT("NULL", sink = *(volatile int *)(long)zero);
    FAULT("0x1234", sink = *odd);
    FAULT("write to 0x1234", *odd = 1);
    FAULT("not canonical", sink = *wild);
    FAULT("call of NULL", ((void (*)(void))(long)zero)());
    FAULT("call of 0x1234", ((void (*)(void))(long)(zero + 0x1234))());
    _mm_setcsr(0x1f80 & ~0x200u); /* division by zero unmasked */
    is_telling = false;
    if (sigsetjmp(back, 1) == 0) {
        volatile double d = zero;
        d = 1.0 / d;
    }
    is_telling = true;
    _mm_setcsr(0x1f80);
    SAY("sse division: code 3, trap 19",
        is_qemu_tcg() || (last_code == 3 && last_trap == 19));
    uint16_t cw = 0x37f & ~4;
    FAULT("x87 division", __asm__ volatile("fninit; fldcw %0; fld1; fldz;"
                                           "fdivrp; fwait" ::"m"(cw)));
    __asm__ volatile("fninit");
    (void)sink;
}

/* The handler moves RIP over the fault, changes registers and RSP. */
static void redirect(void)
{
    long rax = 0x41, r12 = 0x12, moved = 0, r15 = 0x15;

    SECTION("a handler that changes the registers");
    rsp_change = -256;
    __asm__ volatile("lea 1f(%%rip), %%rcx; mov %%rcx, %[want];"
                     "lea 2f(%%rip), %%rcx; mov %%rcx, %[new];"
                     "mov %[r12], %%r12; mov %[r15], %%r15;"
                     "mov %%rsp, %%rbx; sub $512, %%rsp; mov %%rsp, %%rdx;"
                     "1: mov 0x1234, %%ecx; ud2;"
                     "2: sub %%rsp, %%rdx; mov %%rbx, %%rsp;"
                     "mov %%rdx, %[moved]; mov %%r12, %[r12]"
                     : "+a"(rax), [r12] "+m"(r12), [moved] "=m"(moved),
                       [want] "=m"(want_rip), [new] "=m"(new_rip)
                     : [r15] "m"(r15)
                     : "rbx", "rcx", "rdx", "r12", "r15", "memory");
    want_rip = 0;
    printf("rax %lx r12 %lx rsp moved %ld\n", rax, r12, moved);
}

/* Flags: those of the faulting code come back; DF is clear inside. System
 * calls are another matter: those that became jumps do not keep flags. */
static long flags_inside, flags_frame;

static void on_flags(int sig, siginfo_t *info, void *context)
{
    greg_t *r = ((ucontext_t *)context)->uc_mcontext.gregs;

    __asm__ volatile("pushfq; pop %0" : "=r"(flags_inside));
    __asm__ volatile("xor %%eax, %%eax; cmp $0, %%eax" ::: "eax", "cc");
    flags_frame = r[REG_EFL];
    r[REG_RIP] += 2; /* over the ud2 */
}

static void eflags(void)
{
    long after;

    SECTION("flags");
    on_signal(SIGILL, on_flags, 0);
    __asm__ volatile("std; xor %%eax, %%eax; stc; ud2; pushfq; pop %0; cld"
                     : "=r"(after)
                     :
                     : "rax", "memory", "cc");
    printf("inside: direction %ld; after: %lx; in the frame: %lx\n",
           flags_inside >> 10 & 1, after & 0xcd5, flags_frame & 0xcd5);
}

int main(void)
{
    watchdog();
    preserved();
    SAY("ymm preserved", !__builtin_cpu_supports("avx") || wide());
    codes();
    redirect();
    eflags();
    return 0;
}
