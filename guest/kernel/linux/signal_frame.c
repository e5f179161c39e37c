/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The x86-64 signal frame (Linux ABI: struct rt_sigframe, man 2 sigreturn) and
 * rt_sigreturn, which takes it apart again.
 *
 * - The extended state goes through a kernel buffer: program memory may
 *   fault and sleep, live registers must not change meanwhile.
 * - Program counters shown are original ones (rip_to_original); segments are
 *   shown as on Linux, and are not restored: there is one set.
 * - Everything read back is the program's: validated, or harmless.
 */
#include "exec/exec.h"
#include "lib/errno.h"
#include "lib/string.h"
#include "linux/siginfo.h"
#include "linux/syscall_protos.h"
#include "linux/task.h"
#include "mm/heap.h"

#define USER_CS 0x33
#define USER_SS 0x2b
/* AC OF DF SF ZF AF PF CF RF: what a program may set. Not TF: it would trap
 * in the kernel, which shares the flag here. */
#define FLAGS_SETTABLE 0x50cd5ul
#define FLAG_IF 0x200ul
#define FLAG_DF 0x400ul
#define FLAG_TF 0x100ul
#define FLAG_RF 0x10000ul

#define FPX_MAGIC1 0x46505853u
#define FPX_MAGIC2 0x46505845u
#define FPX_OFFSET 464 /* struct fpx_sw_bytes in the FXSAVE image */
#define XSTATE_HEADER 512
#define REDZONE 128

#define UC_FLAGS 7 /* FP_XSTATE, SIGCONTEXT_SS, STRICT_RESTORE_SS */

struct sigcontext {
    uint64_t r8, r9, r10, r11, r12, r13, r14, r15;
    uint64_t rdi, rsi, rbp, rbx, rdx, rax, rcx, rsp, rip, eflags;
    uint16_t cs, gs, fs, ss;
    uint64_t err, trapno, oldmask, cr2, fpstate, reserved[8];
};

struct stack64 {
    uint64_t sp;
    uint32_t flags, pad;
    uint64_t size;
};

struct ucontext {
    uint64_t flags, link;
    struct stack64 stack;
    struct sigcontext mcontext;
    sigset_t64 sigmask;
};

struct rt_sigframe {
    uint64_t restorer;
    struct ucontext uc;
    struct siginfo64 info;
};

struct fpx_sw_bytes {
    uint32_t magic1, extended_size;
    uint64_t xfeatures;
    uint32_t xstate_size, padding[7];
};

_Static_assert(sizeof(struct sigcontext) == 256, "struct sigcontext_64");
_Static_assert(sizeof(struct ucontext) == 304, "struct ucontext");
_Static_assert(sizeof(struct rt_sigframe) == 440, "struct rt_sigframe");

static bool on_altstack(const struct task *t, uint64_t sp)
{
    return !(t->sas_flags & SS_AUTODISARM) && sp > t->sas_sp &&
           sp - t->sas_sp <= t->sas_size;
}

/* Live registers to the program's stack at `to` (64-byte aligned). */
static int save_fpu(uint64_t to, size_t size)
{
    uint64_t mask = fpu_user_mask();
    struct fpx_sw_bytes sw = {0};
    char *buf = kzalloc(ALIGN_UP(size + 64, 64ul));
    int err;

    if (buf == NULL)
        return -EFAULT;
    fpu_save_user(buf);
    if (mask != 0) {
        sw.magic1 = FPX_MAGIC1;
        sw.extended_size = (uint32_t)size;
        sw.xfeatures = mask;
        sw.xstate_size = (uint32_t)fpu_user_size();
        memcpy(buf + fpu_user_size(), &(uint32_t){FPX_MAGIC2}, 4);
        *(uint64_t *)(buf + XSTATE_HEADER) |= 3; /* x87 and SSE are there */
    }
    memcpy(buf + FPX_OFFSET, &sw, sizeof(sw));
    err = copy_to_user((void *)to, buf, size);
    kfree(buf);
    return err;
}

static void fill_context(struct sigcontext *c, const struct regs *r,
                         const struct task *t, uint64_t mask, uint64_t fpstate)
{
    *c = (struct sigcontext){
        .r8 = r->r8, .r9 = r->r9, .r10 = r->r10, .r11 = r->r11,
        .r12 = r->r12, .r13 = r->r13, .r14 = r->r14, .r15 = r->r15,
        .rdi = r->rdi, .rsi = r->rsi, .rbp = r->rbp, .rbx = r->rbx,
        .rdx = r->rdx, .rax = r->rax, .rcx = r->rcx, .rsp = r->rsp,
        .rip = r->rip,
        .eflags = (r->rflags & 0x3fffff) | FLAG_IF,
        .cs = USER_CS, .ss = USER_SS,
        .err = t->fault_error, .trapno = t->fault_vec,
        .oldmask = mask, .cr2 = t->fault_addr, .fpstate = fpstate,
    };
}

int signal_frame_push(struct regs *r, const struct ksigaction *a,
                      const struct siginfo64 *info, unsigned long old_mask)
{
    struct task *t = current_task();
    size_t fpu_size = fpu_user_size() + (fpu_user_mask() != 0 ? 4 : 0);
    uint64_t sp = r->rsp - REDZONE, fpstate;
    struct rt_sigframe *f;
    bool alt = on_altstack(t, r->rsp), enter;
    int err;

    if (!(a->flags & SA_RESTORER))
        return -EFAULT;
    enter = (a->flags & SA_ONSTACK) && t->sas_size != 0 && !alt;
    if (enter)
        sp = t->sas_sp + t->sas_size;
    fpstate = ALIGN_DOWN(sp - fpu_size, 64ul);
    sp = ALIGN_DOWN(fpstate - sizeof(*f), 16ul) - 8;
    /* An overflow of the alternate stack must not write below it. */
    if ((enter || alt) && (sp < t->sas_sp || sp > t->sas_sp + t->sas_size))
        return -EFAULT;
    if (sp >= USER_TOP)
        return -EFAULT;

    f = kzalloc(sizeof(*f));
    if (f == NULL)
        return -EFAULT;
    f->restorer = a->restorer;
    f->uc.flags = fpu_user_mask() != 0 ? UC_FLAGS : UC_FLAGS & ~1;
    f->uc.stack.sp = t->sas_sp;
    f->uc.stack.size = t->sas_size;
    f->uc.stack.flags = t->sas_size == 0 ? SS_DISABLE : t->sas_flags;
    fill_context(&f->uc.mcontext, r, t, old_mask, fpstate);
    /* A breakpoint's address is that behind it, where it was not running. */
    if (info->signo != SIGTRAP || info->code != SI_KERNEL)
        f->uc.mcontext.rip = rip_to_original(r->rip);
    f->uc.sigmask = old_mask;
    f->info = *info;
    err = save_fpu(fpstate, fpu_size);
    if (err == 0)
        err = copy_to_user((void *)sp, f, sizeof(*f));
    kfree(f);
    if (err != 0)
        return err;

    if (t->sas_flags & SS_AUTODISARM) {
        t->sas_sp = t->sas_size = 0;
        t->sas_flags = 0;
    }
    r->rdi = (uint64_t)info->signo;
    r->rsi = sp + offsetof(struct rt_sigframe, info);
    r->rdx = sp + offsetof(struct rt_sigframe, uc);
    r->rax = 0;
    r->rip = a->handler;
    r->rsp = sp;
    r->rflags = (r->rflags & ~(FLAG_DF | FLAG_TF | FLAG_RF)) | FLAG_IF;
    fpu_reset();
    return 0;
}

/* The extended state of a frame. */
static int restore_fpu(uint64_t from)
{
    size_t size = fpu_user_size(), n = XSTATE_HEADER;
    uint64_t mask = fpu_user_mask();
    struct fpx_sw_bytes sw;
    uint32_t magic2;
    char *buf;
    int err;

    if (from == 0) {
        fpu_reset();
        return 0;
    }
    buf = kzalloc(ALIGN_UP(size + 64, 64ul));
    if (buf == NULL)
        return -EFAULT;
    err = copy_from_user(buf, (void *)from, XSTATE_HEADER);
    memcpy(&sw, buf + FPX_OFFSET, sizeof(sw));
    /* An image of another size (old code made it): its FXSAVE part counts. */
    if (err == 0 && mask != 0 && sw.magic1 == FPX_MAGIC1 &&
        sw.xstate_size == size && sw.extended_size >= size + 4 &&
        get_user(magic2, (uint32_t *)(from + size)) == 0 &&
        magic2 == FPX_MAGIC2)
        n = size;
    if (err == 0 && n > XSTATE_HEADER) {
        err = copy_from_user(buf + XSTATE_HEADER,
                             (void *)(from + XSTATE_HEADER),
                             n - XSTATE_HEADER);
        *(uint64_t *)(buf + XSTATE_HEADER) &= mask & sw.xfeatures;
    } else if (err == 0 && mask != 0) {
        *(uint64_t *)(buf + XSTATE_HEADER) = 3;
    }
    if (err == 0)
        err = fpu_restore_user(buf);
    kfree(buf);
    return err;
}

int64_t sys_rt_sigreturn(uint64_t a, uint64_t b, uint64_t c2, uint64_t d,
                         uint64_t e, uint64_t f)
{
    struct task *t = current_task();
    struct regs *r = thread_regs(&t->thread);
    struct ucontext *uc = kmalloc(sizeof(*uc));
    uint64_t frame = r->rsp - 8, result;
    struct sigcontext *c;
    struct stack64 stack;

    count_event(COUNT_SIGRETURNS);
    if (uc == NULL ||
        copy_from_user(uc,
                       (void *)(frame + offsetof(struct rt_sigframe, uc)),
                       sizeof(*uc)) != 0)
        goto bad;
    c = &uc->mcontext;
    if (c->rip >= USER_TOP || restore_fpu(c->fpstate) != 0)
        goto bad;
    signal_set_blocked(uc->sigmask);
    r->r8 = c->r8, r->r9 = c->r9, r->r10 = c->r10, r->r11 = c->r11;
    r->r12 = c->r12, r->r13 = c->r13, r->r14 = c->r14, r->r15 = c->r15;
    r->rdi = c->rdi, r->rsi = c->rsi, r->rbp = c->rbp, r->rbx = c->rbx;
    r->rdx = c->rdx, r->rcx = c->rcx, r->rsp = c->rsp, r->rip = c->rip;
    r->rflags = (r->rflags & ~FLAGS_SETTABLE) |
                (c->eflags & FLAGS_SETTABLE) | FLAG_IF;
    result = c->rax;
    stack = uc->stack;
    kfree(uc);
    (void)signal_altstack_set(t, stack.sp, stack.flags, stack.size, r->rsp);
    t->orig_rax = ~0ul; /* never restarted */
    atomic_or(&t->thread.work, WORK_FULL);
    return (int64_t)result;
bad:
    kfree(uc);
    signal_fault(SIGSEGV, SI_KERNEL, 0, r);
    t->orig_rax = ~0ul;
    return (int64_t)r->rax;
}

int signal_altstack_set(struct task *t, uint64_t sp, uint32_t flags,
                        uint64_t size, uint64_t current_sp)
{
    uint32_t mode = flags & ~SS_AUTODISARM;

    if (on_altstack(t, current_sp))
        return -EPERM;
    if (mode != 0 && mode != SS_DISABLE && mode != SS_ONSTACK)
        return -EINVAL;
    if (mode == SS_DISABLE) {
        sp = size = 0;
    } else if (size < MINSIGSTKSZ) {
        return -ENOMEM;
    }
    t->sas_sp = sp;
    t->sas_size = size;
    t->sas_flags = flags & ~SS_ONSTACK;
    return 0;
}

int64_t sys_sigaltstack(uint64_t new_stack, uint64_t old_stack, uint64_t c,
                        uint64_t d, uint64_t e, uint64_t f)
{
    struct task *t = current_task();
    uint64_t sp = thread_regs(&t->thread)->rsp;
    struct stack64 s, old = {.sp = t->sas_sp, .size = t->sas_size};
    int err = 0;

    old.flags = t->sas_size == 0      ? SS_DISABLE
                : on_altstack(t, sp)  ? SS_ONSTACK
                                      : 0;
    old.flags |= t->sas_flags & SS_AUTODISARM;
    if (new_stack != 0) {
        if (get_user(s, (struct stack64 *)new_stack) != 0)
            return -EFAULT;
        err = signal_altstack_set(t, s.sp, s.flags, s.size, sp);
    }
    if (err == 0 && old_stack != 0)
        err = put_user((struct stack64 *)old_stack, old);
    return err;
}
