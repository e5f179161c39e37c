/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Copies that may fault on one side: the instructions that touch program
 * memory are listed in .extable (fault address, where to go on); trap.c
 * resumes there when mm_fault could not help. Every function returns the
 * number of bytes NOT done. Registers: System V. Nothing else may be assumed.
 */
        .macro  EX at, fixup
        .pushsection .extable, "a"
        .quad   \at, \fixup
        .popsection
        .endm

        .text
/* size_t usercopy(void *dst, const void *src, size_t n, bool rep) */
        .globl  usercopy
        .type   usercopy, @function
usercopy:
        testb   %cl, %cl
        je      1f
        cmpq    $128, %rdx
        jae     4f
/* By words, then by bytes; rdx counts what is left. */
1:      cmpq    $8, %rdx
        jb      2f
11:     movq    (%rsi), %rax
12:     movq    %rax, (%rdi)
        addq    $8, %rsi
        addq    $8, %rdi
        subq    $8, %rdx
        jmp     1b
2:      testq   %rdx, %rdx
        je      3f
21:     movb    (%rsi), %al
22:     movb    %al, (%rdi)
        incq    %rsi
        incq    %rdi
        decq    %rdx
        jmp     2b
3:      movq    %rdx, %rax
        ret
4:      movq    %rdx, %rcx
41:     rep movsb
42:     movq    %rcx, %rax
        ret
/* A word faulted: its first bytes may still be good. */
        EX      11b, 2b
        EX      12b, 2b
        EX      21b, 3b
        EX      22b, 3b
        EX      41b, 42b
        .size   usercopy, . - usercopy

/* size_t userclear(void *dst, size_t n, bool rep) */
        .globl  userclear
        .type   userclear, @function
userclear:
        movq    %rsi, %rcx
        xorl    %eax, %eax
        testb   %dl, %dl
        je      1f
        cmpq    $128, %rcx
        jae     4f
1:      cmpq    $8, %rcx
        jb      2f
11:     movq    %rax, (%rdi)
        addq    $8, %rdi
        subq    $8, %rcx
        jmp     1b
2:      testq   %rcx, %rcx
        je      3f
21:     movb    %al, (%rdi)
        incq    %rdi
        decq    %rcx
        jmp     2b
3:      movq    %rcx, %rax
        ret
4:
41:     rep stosb
        jmp     3b
        EX      11b, 2b
        EX      21b, 3b
        EX      41b, 3b
        .size   userclear, . - userclear

        .section .note.GNU-stack, "", @progbits
