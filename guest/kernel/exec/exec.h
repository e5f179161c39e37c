/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Loading a program: the parts exec_load() (linux/task.h) is made of.
 *
 * - exec.c opens and checks everything first (struct exec_plan); only then is
 *   the old address space dropped. After that point a failure kills.
 * - All of it runs in a thread of the process that gets the program.
 * - Kernel strings in, nothing kept: argv and envp are copied to the stack.
 */
#pragma once

#include "exec/elf.h"
#include "exec/script.h"
#include "fs/vfs.h"
#include "lib/types.h"
#include "mm/mm.h"

#define EXEC_MAX_SCRIPTS 5
#define EXEC_MAX_STRING (32 * PAGE_SIZE) /* one argument, as on Linux */
#define EXEC_STACK_SIZE (8 * MIB)

struct exec_object {
    struct file *file; /* owned */
    struct elf_image elf;
    vaddr_t bias;      /* where it was mapped: address = vaddr + bias */
};

struct exec_plan {
    char *path;           /* owned: the file in the end executed */
    char *execfn;         /* owned: the name execve was given (AT_EXECFN) */
    char **argv;          /* owned, with its strings */
    size_t nr_args;
    char *const *envp;    /* borrowed */
    size_t nr_env;
    struct exec_object program;
    struct exec_object interp; /* file NULL: none */
};

/* stack.c: builds argc, argv, envp, auxv below `top`; *sp is the program's
 * first stack pointer. -E2BIG, -ENOMEM, -EFAULT. */
int exec_build_stack(struct mm *mm, const struct exec_plan *plan,
                     vaddr_t *sp);
/* Bytes the strings and pointers will take; checked against the limit. */
size_t exec_stack_need(const struct exec_plan *plan);

/* vdso.c */
/* Maps the data page and the vDSO; sets mm->vdso. */
int vdso_map(struct mm *mm);
/* Copies clock_params to the page programs read. Call after changing them. */
void vdso_update(void);

/* link.c: program counters that the linker (capstan_link.h) has touched. */
/* The program's own address for one inside a stub; others come back as they
 * are. May sleep. */
vaddr_t rip_to_original(vaddr_t rip);
/* Is the breakpoint at this address a privileged instruction of the program? */
bool link_is_trap(vaddr_t at);
