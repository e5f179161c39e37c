/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The first stack of a program, as the x86-64 psABI (3.4.1) and Linux lay it
 * out: from the top down eight zero bytes, the file's name, the strings of
 * envp and argv, the platform's name, 16 random bytes, then - 16-byte aligned
 * at the bottom - argc, argv, NULL, envp, NULL, the auxiliary vector.
 *
 * Everything is put together in one kernel buffer and copied once. Owner: the
 * thread that executes; the stack's pages are already its alone.
 */
#include "drivers/drivers.h"
#include "capstan/capstan.h"
#include "capstan_calls.h"
#include "exec/auxv.h"
#include "exec/exec.h"
#include "lib/errno.h"
#include "lib/string.h"
#include "linux/task.h"
#include "mm/heap.h"

#define PLATFORM "x86_64"
#define SIGNAL_FRAME_SIZE 448 /* frame and the return address' slot */

struct builder {
    char *buf;    /* stands for [top - size, top) */
    size_t size;
    vaddr_t top;
    size_t pos;   /* where the next word goes */
    vaddr_t str;  /* strings grow down to here */
};

size_t exec_stack_need(const struct exec_plan *plan)
{
    size_t n = 8 + strlen(plan->execfn) + 1 + sizeof(PLATFORM) + 16;

    for (size_t i = 0; i < plan->nr_args; i++)
        n += strlen(plan->argv[i]) + 1;
    for (size_t i = 0; i < plan->nr_env; i++)
        n += strlen(plan->envp[i]) + 1;
    n += (3 + plan->nr_args + plan->nr_env) * 8;
    n += sizeof(((struct mm *)0)->auxv) + 64;
    return ALIGN_UP(n, 16ul);
}

static vaddr_t push_bytes(struct builder *b, const void *p, size_t n)
{
    b->str -= n;
    memcpy(b->buf + (b->size - (b->top - b->str)), p, n);
    return b->str;
}

static vaddr_t push_string(struct builder *b, const char *s)
{
    return push_bytes(b, s, strlen(s) + 1);
}

static void put_word(struct builder *b, uint64_t v)
{
    memcpy(b->buf + b->pos, &v, 8);
    b->pos += 8;
}

static void aux(struct mm *mm, uint64_t type, uint64_t value)
{
    mm->auxv[mm->auxv_words++] = type;
    mm->auxv[mm->auxv_words++] = value;
}

static void fill_auxv(struct mm *mm, const struct exec_plan *plan,
                      vaddr_t execfn, vaddr_t platform, vaddr_t random)
{
    const struct process *p = current_process();
    const struct exec_object *prog = &plan->program;
    uint32_t cpuid[4];

    cpu_features(1, 0, cpuid);
    mm->auxv_words = 0;
    if (mm->vdso != 0)
        aux(mm, AT_SYSINFO_EHDR, mm->vdso);
    aux(mm, AT_MINSIGSTKSZ,
        ALIGN_UP(SIGNAL_FRAME_SIZE + 64 + 16 + fpu_user_size() + 4, 16ul));
    aux(mm, AT_HWCAP, cpuid[3]);
    aux(mm, AT_PAGESZ, PAGE_SIZE);
    aux(mm, AT_CLKTCK, 100);
    aux(mm, AT_PHDR,
        prog->elf.phdr_vaddr ? prog->elf.phdr_vaddr + prog->bias : 0);
    aux(mm, AT_PHENT, sizeof(struct elf_phdr_disk));
    aux(mm, AT_PHNUM, prog->elf.phnum);
    aux(mm, AT_BASE,
        plan->interp.file ? plan->interp.elf.start + plan->interp.bias : 0);
    aux(mm, AT_FLAGS, 0);
    aux(mm, AT_ENTRY, prog->elf.entry + prog->bias);
    aux(mm, AT_UID, p->uid);
    aux(mm, AT_EUID, p->euid);
    aux(mm, AT_GID, p->gid);
    aux(mm, AT_EGID, p->egid);
    aux(mm, AT_SECURE, 0);
    aux(mm, AT_RANDOM, random);
    aux(mm, AT_HWCAP2, HWCAP2_FSGSBASE);
    aux(mm, AT_EXECFN, execfn);
    aux(mm, AT_PLATFORM, platform);
    aux(mm, AT_CAPSTAN, CAPSTAN_VERSION);
    aux(mm, AT_NULL, 0);
}

static void build(struct builder *b, struct mm *mm,
                  const struct exec_plan *plan)
{
    uint64_t zero = 0, rnd[2];
    vaddr_t execfn, platform, random, p;
    size_t i;

    random_bytes(rnd, sizeof(rnd));
    push_bytes(b, &zero, 8);
    execfn = push_string(b, plan->execfn);
    mm->env_end = b->str;
    for (i = plan->nr_env; i-- > 0;)
        push_string(b, plan->envp[i]);
    mm->env_start = mm->arg_end = b->str;
    for (i = plan->nr_args; i-- > 0;)
        push_string(b, plan->argv[i]);
    mm->arg_start = b->str;
    platform = push_string(b, PLATFORM);
    random = push_bytes(b, rnd, sizeof(rnd));
    fill_auxv(mm, plan, execfn, platform, random);

    i = 8 * (3 + plan->nr_args + plan->nr_env + mm->auxv_words);
    b->str = ALIGN_DOWN(b->str - i, 16ul);
    b->pos = b->size - (b->top - b->str);
    put_word(b, plan->nr_args);
    for (p = mm->arg_start, i = 0; i < plan->nr_args; i++) {
        put_word(b, p);
        p += strlen(plan->argv[i]) + 1;
    }
    put_word(b, 0);
    for (p = mm->env_start, i = 0; i < plan->nr_env; i++) {
        put_word(b, p);
        p += strlen(plan->envp[i]) + 1;
    }
    put_word(b, 0);
    for (i = 0; i < mm->auxv_words; i++)
        put_word(b, mm->auxv[i]);
}

int exec_build_stack(struct mm *mm, const struct exec_plan *plan, vaddr_t *sp)
{
    struct builder b = {.size = exec_stack_need(plan)};
    vaddr_t top = USER_TOP;
    int err;

    /* 22 random bits of pages, as Linux; the first word is 16-aligned. */
    if (!(current_process()->personality & 0x0040000))
        top -= (random_u64() & 0x3fffff) << PAGE_SHIFT;
    err = mm_setup_stack(mm, top, MIN(mm->limit_stack, 1 * GIB));
    if (err != 0)
        return err;
    b.top = b.str = top;
    b.buf = kzalloc(b.size);
    if (b.buf == NULL)
        return -ENOMEM;
    build(&b, mm, plan);
    /* The dynamic linker needs a few pages more at once. */
    err = mm_populate(mm, ALIGN_DOWN(b.str, PAGE_SIZE) - 2 * PAGE_SIZE,
                      top - (ALIGN_DOWN(b.str, PAGE_SIZE) - 2 * PAGE_SIZE),
                      true);
    (void)err; /* the copy faults pages in, or fails */
    err = copy_to_user((void *)b.str, b.buf + (b.size - (top - b.str)),
                       top - b.str);
    kfree(b.buf);
    *sp = b.str;
    return err;
}
