/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * execve: opens and checks the program, its "#!" interpreters and its dynamic
 * linker (exec_prepare), then replaces the address space (exec_commit).
 *
 * - Runs in a thread of the process. After the other threads are gone nothing
 *   else uses the address space, so it is cleared and filled, not exchanged.
 * - A failure after that point ends the process with SIGKILL, as on Linux.
 */
#include "exec/exec.h"
#include "drivers/drivers.h"
#include "lib/errno.h"
#include "lib/printk.h"
#include "lib/string.h"
#include "linux/clocks.h"
#include "linux/task.h"
#include "mm/heap.h"

#define PIE_BASE 0x555555554000ul /* two thirds of the low half, as Linux */
#define ADDR_NO_RANDOMIZE 0x0040000
#define STACK_MAX_NEED (2 * MIB)
#define SIGKILL 9

static void object_close(struct exec_object *o)
{
    if (o->file != NULL)
        file_put(o->file);
    o->file = NULL;
}

static void plan_free(struct exec_plan *plan)
{
    object_close(&plan->program);
    object_close(&plan->interp);
    for (size_t i = 0; plan->argv != NULL && i < plan->nr_args; i++)
        kfree(plan->argv[i]);
    kfree(plan->argv);
    kfree(plan->path);
    kfree(plan->execfn);
}

static int copy_argv(struct exec_plan *plan, char *const *argv)
{
    size_t n = 0;

    while (argv[n] != NULL)
        n++;
    /* Linux gives a program without arguments one empty string. */
    plan->argv = kzalloc((MAX(n, 1ul) + 1) * sizeof(char *));
    if (plan->argv == NULL)
        return -ENOMEM;
    plan->nr_args = MAX(n, 1ul);
    for (size_t i = 0; i < plan->nr_args; i++) {
        plan->argv[i] = kstrdup(i < n ? argv[i] : "");
        if (plan->argv[i] == NULL)
            return -ENOMEM;
    }
    return 0;
}

/* A regular file somebody may execute. */
static int open_executable(const char *path, struct file **out)
{
    struct file *f;
    int err = vfs_open(NULL, path, O_RDONLY | O_LARGEFILE, 0, &f);

    if (err != 0)
        return err;
    if (!S_ISREG(f->inode->mode) || (f->inode->mode & 0111) == 0) {
        file_put(f);
        return -EACCES;
    }
    *out = f;
    return 0;
}

/* argv becomes: interp [arg] path argv[1..]. Takes nothing. */
static int script_arguments(struct exec_plan *plan, const char *interp,
                            const char *arg)
{
    size_t extra = arg != NULL ? 2 : 1, n = plan->nr_args + extra;
    char **argv = kzalloc((n + 1) * sizeof(char *));

    if (argv == NULL)
        return -ENOMEM;
    argv[0] = kstrdup(interp);
    if (arg != NULL)
        argv[1] = kstrdup(arg);
    argv[extra] = kstrdup(plan->path);
    if (argv[0] == NULL || argv[extra - 1] == NULL || argv[extra] == NULL) {
        kfree(argv[0]);
        if (arg != NULL)
            kfree(argv[1]);
        kfree(argv[extra]);
        kfree(argv);
        return -ENOMEM;
    }
    kfree(plan->argv[0]);
    for (size_t i = 1; i < plan->nr_args; i++)
        argv[extra + i] = plan->argv[i];
    kfree(plan->argv);
    plan->argv = argv;
    plan->nr_args = n;
    kfree(plan->path);
    plan->path = kstrdup(interp);
    return plan->path != NULL ? 0 : -ENOMEM;
}

/* Opens plan->path, following "#!" lines. */
static int open_program(struct exec_plan *plan)
{
    char *interp, *arg, *head = kzalloc(EXEC_HEAD_SIZE + 1);
    int err = -ENOMEM;
    ssize_t n;

    if (head == NULL)
        return err;
    for (int depth = 0;; depth++) {
        err = open_executable(plan->path, &plan->program.file);
        if (err != 0)
            break;
        n = file_pread(plan->program.file, head, EXEC_HEAD_SIZE, 0);
        if (n < 0) {
            err = (int)n;
            break;
        }
        if (n < 2 || head[0] != '#' || head[1] != '!')
            break; /* ELF or nothing we know */
        if (depth == EXEC_MAX_SCRIPTS) {
            err = -ELOOP;
            break;
        }
        err = script_parse(head, (size_t)n, &interp, &arg);
        if (err != 0)
            break;
        object_close(&plan->program);
        err = script_arguments(plan, interp, arg);
        if (err != 0)
            break;
    }
    kfree(head);
    return err;
}

/* Reads and checks the headers of o->file. *interp: owned, NULL if none. */
static int read_elf(struct exec_object *o, char **interp)
{
    uint64_t size = atomic_load_relaxed(&o->file->inode->size);
    struct elf_image *elf = &o->elf;
    char *buf = kmalloc(PAGE_SIZE);
    size_t phdrs = 0;
    ssize_t n;
    int err;

    if (buf == NULL)
        return -ENOMEM;
    n = file_pread(o->file, buf, PAGE_SIZE, 0);
    err = n < 0 ? (int)n : elf_parse_header(buf, (size_t)n, size, elf, &phdrs);
    if (err != 0)
        goto out;
    if (elf->phoff + phdrs > (size_t)n) {
        n = file_pread(o->file, buf, phdrs, (off_t)elf->phoff);
        err = n < 0 ? (int)n : elf_parse_phdrs(buf, (size_t)n, size, elf);
    } else {
        err = elf_parse_phdrs(buf + elf->phoff, (size_t)n - elf->phoff, size,
                              elf);
    }
    if (err != 0 || interp == NULL || elf->interp_size == 0)
        goto out;
    n = file_pread(o->file, buf, elf->interp_size, (off_t)elf->interp_offset);
    err = n < 0 ? (int)n : elf_check_interp(buf, (size_t)n);
    if (err == 0) {
        *interp = kstrdup(buf);
        err = *interp != NULL ? 0 : -ENOMEM;
    }
out:
    kfree(buf);
    return err;
}

static int exec_prepare(struct exec_plan *plan, const char *path,
                        char *const *argv, char *const *envp)
{
    char *interp = NULL;
    int err = -ENOMEM;

    plan->envp = envp;
    while (envp[plan->nr_env] != NULL)
        plan->nr_env++;
    plan->path = kstrdup(path);
    plan->execfn = kstrdup(path);
    if (plan->path != NULL && plan->execfn != NULL)
        err = copy_argv(plan, argv);
    if (err == 0)
        err = open_program(plan);
    if (err == 0)
        err = read_elf(&plan->program, &interp);
    if (err == 0 && interp != NULL) {
        err = open_executable(interp, &plan->interp.file);
        if (err == 0)
            err = read_elf(&plan->interp, NULL);
        /* A dynamic linker may be placed anywhere. */
        if (err == -ENOEXEC || (err == 0 && !plan->interp.elf.is_dyn))
            err = -ELIBBAD;
    }
    kfree(interp);
    if (err == 0 && exec_stack_need(plan) > STACK_MAX_NEED)
        err = -E2BIG;
    return err;
}

static int segment_prot(const struct elf_segment *s)
{
    return (s->flags & PF_R ? PROT_READ : 0) |
           (s->flags & PF_W ? PROT_WRITE : 0) |
           (s->flags & PF_X ? PROT_EXEC : 0);
}

static int map_segment(struct mm *mm, const struct exec_object *o,
                       const struct elf_segment *s)
{
    vaddr_t start = s->vaddr + o->bias, map = ALIGN_DOWN(start, PAGE_SIZE);
    vaddr_t file_end = start + s->filesz;
    vaddr_t mem_end = ALIGN_UP(start + s->memsz, PAGE_SIZE), anon = map;
    int prot = segment_prot(s);
    int64_t r;

    if (s->filesz != 0) {
        anon = ALIGN_UP(file_end, PAGE_SIZE);
        r = mm_mmap(mm, map, anon - map, prot, MAP_PRIVATE | MAP_FIXED,
                    o->file, s->offset - (start - map));
        if (r < 0)
            return (int)r;
    }
    if (mem_end > anon) {
        r = mm_mmap(mm, anon, mem_end - anon, prot,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, NULL, 0);
        if (r < 0)
            return (int)r;
    }
    /* The rest of the last file page is zero in memory. */
    if (s->memsz > s->filesz && file_end < anon && (prot & PROT_WRITE))
        return clear_user((void *)file_end, anon - file_end);
    return 0;
}

/* Chooses o->bias (base: wish, 0 = the mmap area) and maps all segments. */
static int map_object(struct mm *mm, struct exec_object *o, vaddr_t base)
{
    const struct elf_image *elf = &o->elf;
    size_t len = elf->end - elf->start;
    uint64_t align = elf->max_align;
    int64_t r;
    int err;

    o->bias = 0;
    if (elf->is_dyn) {
        if (base == 0) {
            r = mm_mmap(mm, 0, len + align, 0, MAP_PRIVATE |
                        MAP_ANONYMOUS | MAP_NORESERVE, NULL, 0);
            if (r < 0)
                return (int)r;
            err = mm_munmap(mm, (vaddr_t)r, len + align);
            if (err != 0)
                return err;
            /* High end of the hole: next to what is above. */
            base = (vaddr_t)r + (align > PAGE_SIZE ? 0 : align);
        }
        o->bias = ALIGN_UP(base, align) - ALIGN_DOWN(elf->start, align);
    }
    for (unsigned i = 0; i < elf->nr_segments; i++) {
        err = map_segment(mm, o, &elf->segments[i]);
        if (err != 0)
            return err;
    }
    return 0;
}

static void setup_brk(struct mm *mm, const struct exec_object *o, bool random)
{
    vaddr_t end = o->elf.end + o->bias;

    if (random)
        end += (random_u64() & 0x1fff) << PAGE_SHIFT; /* 32 MiB, as Linux */
    mm->brk_start = mm->brk = end;
    for (unsigned i = 0; i < o->elf.nr_segments; i++) {
        const struct elf_segment *s = &o->elf.segments[i];

        if (!(s->flags & PF_X))
            continue;
        mm->code_start = s->vaddr + o->bias;
        mm->code_end = mm->code_start + s->filesz;
        break;
    }
}

/* Fills the empty address space. */
static int exec_map(struct mm *mm, struct exec_plan *plan, struct regs *regs)
{
    bool random = !(current_process()->personality & ADDR_NO_RANDOMIZE);
    vaddr_t base = PIE_BASE, sp;
    int err;

    if (random)
        base += (random_u64() & 0xfffffff) << PAGE_SHIFT; /* 28 bits */
    err = map_object(mm, &plan->program, base);
    if (err == 0 && plan->interp.file != NULL)
        err = map_object(mm, &plan->interp, 0);
    if (err == 0)
        err = vdso_map(mm);
    if (err == 0) {
        setup_brk(mm, &plan->program, random);
        err = exec_build_stack(mm, plan, &sp);
    }
    if (err == 0 && plan->program.elf.exec_stack)
        err = mm_mprotect(mm, ALIGN_DOWN(sp, PAGE_SIZE),
                          mm->stack_top - ALIGN_DOWN(sp, PAGE_SIZE),
                          PROT_READ | PROT_WRITE | PROT_EXEC);
    if (err != 0)
        return err;
    memset(regs, 0, sizeof(*regs));
    regs->rip = plan->interp.file != NULL
                    ? plan->interp.elf.entry + plan->interp.bias
                    : plan->program.elf.entry + plan->program.bias;
    regs->rsp = sp;
    regs->rflags = 0x202;
    return 0;
}

/* /proc/self/{exe,cmdline,comm}. */
static void set_identity(struct process *p, struct exec_plan *plan)
{
    struct task *t = current_task();
    const char *base = strrchr(plan->execfn, '/');
    size_t len = 0, pos = 0;
    char *cmdline;

    strlcpy(t->thread.name, base != NULL ? base + 1 : plan->execfn,
            sizeof(t->thread.name));
    if (dentry_path(plan->program.file->dentry, p->exe_path,
                    sizeof(p->exe_path)) < 0)
        strlcpy(p->exe_path, plan->path, sizeof(p->exe_path));
    for (size_t i = 0; i < plan->nr_args; i++)
        len += strlen(plan->argv[i]) + 1;
    cmdline = kmalloc(len);
    if (cmdline == NULL)
        return;
    for (size_t i = 0; i < plan->nr_args; i++)
        pos += strlcpy(cmdline + pos, plan->argv[i], len - pos) + 1;
    kfree(p->cmdline);
    p->cmdline = cmdline;
    p->cmdline_len = len;
}

static void exec_commit(struct exec_plan *plan, struct regs *regs)
{
    struct process *p = current_process();
    struct mm *mm = p->mm;
    struct regs fresh;
    int err;

    mm_clear(mm);
    if (mm->exe != NULL)
        file_put(mm->exe);
    file_get(plan->program.file);
    mm->exe = plan->program.file;
    if (p->personality & ADDR_NO_RANDOMIZE)
        mm_layout(mm, false);
    err = exec_map(mm, plan, &fresh);
    if (err != 0) {
        control_send("message %s: cannot be loaded (error %d)", plan->path,
                     -err);
        plan_free(plan);
        kfree(plan);
        process_exit(SIGKILL);
    }
    fdtable_close_on_exec(p->fds);
    signal_exec_reset();
    posix_timers_delete_all(p);
    set_identity(p, plan);
    fs_base_write(0);
    fpu_reset();
    /* Segments are entry.S's business: keep what it saved. */
    fresh.cs = regs->cs;
    fresh.ss = regs->ss;
    fresh.vec = VEC_SYSCALL;
    *regs = fresh;
}

int exec_load(const char *path, char *const *argv, char *const *envp,
              struct regs *regs)
{
    struct exec_plan *plan = kzalloc(sizeof(*plan));
    int err;

    if (plan == NULL)
        return -ENOMEM;
    err = exec_prepare(plan, path, argv, envp);
    if (err == 0)
        err = process_end_other_threads();
    if (err == 0)
        exec_commit(plan, regs);
    plan_free(plan);
    kfree(plan);
    return err;
}
