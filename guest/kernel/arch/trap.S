/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Events and system calls: entry to C and the way back.
 *
 * - Every gate has an IST stack, or the interrupted red zone would die: there
 *   is no ring change (hosts.md 3). The handler moves the frame to the thread's
 *   kernel stack (below rsp when it interrupted the kernel) before anything
 *   can nest.
 * - A system call comes by a jump from a stub (capstan_link.h) with interrupts
 *   on, or by the `syscall` instruction with interrupts off; rcx is its return
 *   address either way.
 * - [entry_begin, entry_switched) and [exit_begin, exit_end) are on the way between
 *   program and kernel; an event there counts as one that hit the program: before
 *   the switch to the kernel stack at the `syscall` (rcx - 2), which then is made
 *   again; on the way out at the return address.
 * - Return: registers, then the interrupt flag (%gs:0, plus an exit when the
 *   host has one pending), then iretq with the selectors that do not trap. An
 *   event in [return_begin, return_end) on its way to the program counts as one
 *   that hit the program, or the work it leaves (WORK_RESCHED) would wait for
 *   the event after.
 */
#include "capstan_link.h"

/* struct cpu (arch.h) */
#define CPU_KSTACK %gs:8
#define CPU_SCRATCH %gs:32
#define CPU_NR_TRAPPED %gs:48
#define CPU_NR_CALLS %gs:56
#define CPU_NR_HALTS %gs:104
/* struct regs (regs.h) */
#define REGS_SIZE 176
#define REG_RBP 32
#define REG_R10 56
#define REG_R9 64
#define REG_R8 72
#define REG_RAX 80
#define REG_RCX 88
#define REG_RDX 96
#define REG_RSI 104
#define REG_RDI 112
#define REG_RIP 136
#define REG_RFLAGS 152
#define REG_RSP 160
#define IST_MASK 2047
/* Flags that the quick way out does not restore: AC NT DF TF. */
#define RARE_FLAGS 0x44500

        .section .text.entry, "ax"
        .globl isr_stubs
        .balign 16
isr_stubs:
        .set    v, 0
        .rept   128
        .balign 16
        .if (v == 8) || ((v >= 10) && (v <= 14)) || (v == 17) || (v == 21)
        .else
        pushq   $0
        .endif
        pushq   $v
        .if (v == 2) || (v == 8) || (v == 18)
        jmp     isr_paranoid
        .else
        jmp     isr_common
        .endif
        .set    v, v + 1
        .endr

.macro PUSH_REGS
        pushq   %rdi
        pushq   %rsi
        pushq   %rdx
        pushq   %rcx
        pushq   %rax
        pushq   %r8
        pushq   %r9
        pushq   %r10
        pushq   %r11
        pushq   %rbx
        pushq   %rbp
        pushq   %r12
        pushq   %r13
        pushq   %r14
        pushq   %r15
.endm
.macro POP_REGS
        popq    %r15
        popq    %r14
        popq    %r13
        popq    %r12
        popq    %rbp
        popq    %rbx
        popq    %r11
        popq    %r10
        popq    %r9
        popq    %r8
        popq    %rax
        popq    %rcx
        popq    %rdx
        popq    %rsi
        popq    %rdi
.endm
/* The top 16 bytes of each IST stack hold the struct cpu pointer. */
.macro LOAD_GS
        movq    %rsp, %rbx
        orq     $IST_MASK, %rbx
        movq    -15(%rbx), %rbx
        wrgsbase %rbx
.endm

isr_common:
        PUSH_REGS
        cld
        LOAD_GS
        movb    $0, %gs:0
        movq    REG_RIP(%rsp), %rax
        testq   %rax, %rax
        jns     1f                      /* low half: the program */
        cmpq    $windows_begin, %rax
        jb      2f                      /* the kernel */
        cmpq    $windows_end, %rax
        jae     2f
        cmpq    $entry_switched, %rax
        jb      5f
        cmpq    $exit_begin, %rax
        jb      2f
        cmpq    $exit_jump, %rax
        je      6f
        cmpq    $exit_plain_jump, %rax
        je      6f
        movq    REG_RSP(%rsp), %rdi     /* of the kernel */
        cmpq    $exit_end, %rax
        jae     7f
        movq    REG_RIP(%rdi), %rax     /* on the way out: rdi -> struct regs */
        movq    %rax, REG_RIP(%rsp)
        movq    REG_RSP(%rdi), %rax
        movq    %rax, REG_RSP(%rsp)
        jmp     1f
5:      movq    REG_RCX(%rsp), %rax     /* before the switch of stacks */
        subq    $2, %rax
        movq    %rax, REG_RIP(%rsp)
        jmp     1f
6:      movq    REG_RCX(%rsp), %rax     /* after it, at jmp *%rcx */
        movq    %rax, REG_RIP(%rsp)
        jmp     1f
        /* Interrupts were on already, the iretq to come: what is due must be
         * done before the program runs. rdi -> rip cs rflags rsp ss. */
7:      cmpq    $return_begin, %rax
        jb      2f
        movq    (%rdi), %rax
        testq   %rax, %rax
        js      2f                      /* back to the kernel */
        movq    %rax, REG_RIP(%rsp)
        movq    16(%rdi), %rax
        movq    %rax, REG_RFLAGS(%rsp)
        movq    24(%rdi), %rax
        movq    %rax, REG_RSP(%rsp)
1:      movq    CPU_KSTACK, %rdi
        jmp     3f
2:      movq    REG_RSP(%rsp), %rdi     /* kernel: below its rsp */
        andq    $-16, %rdi
3:      subq    $REGS_SIZE, %rdi
        movq    %rsp, %rsi
        movq    %rdi, %rax
        movl    $REGS_SIZE / 8, %ecx
        rep movsq
        movq    %rax, %rsp
        movq    %rax, %rdi
        xorl    %ebp, %ebp
        call    trap_dispatch
        jmp     return_from_trap

/* NMI, #DF, #MC: stay on their own stack, no scheduling. */
isr_paranoid:
        PUSH_REGS
        cld
        LOAD_GS
        movq    %rsp, %rdi
        call    trap_paranoid
        POP_REGS
        addq    $16, %rsp
        cmpl    $0, host_is_pvm
        je      1f
        movq    $0x33, 8(%rsp)
        movq    $0x2b, 32(%rsp)
1:      iretq

/* From here to windows_end isr_common tells the windows apart by their order. */
        .globl lstar_entry
        .balign 64
windows_begin:
entry_begin:
jump_entry:                             /* through a cell, interrupts on */
        movq    %rsp, %r11
        movq    CPU_KSTACK, %rsp
entry_switched:
        pushq   $0x2b
        pushq   %r11
        pushfq
enter_call:
        pushq   $0x33
        pushq   %rcx
        pushq   %rax
        pushq   $0x100
        movl    $0x202, %r11d
        PUSH_REGS
        cld
        incq    CPU_NR_CALLS
        movq    %rsp, %rdi
        xorl    %ebp, %ebp
        call    syscall_enter           /* 0: quick way out */
        movl    REG_RFLAGS(%rsp), %ecx
        testl   %eax, %eax
        jnz     return_from_trap
        testl   $RARE_FLAGS, %ecx
        jnz     return_from_trap
        movq    REG_RBP(%rsp), %rbp     /* the rest C has kept */
        movq    REG_R10(%rsp), %r10
        movq    REG_R9(%rsp), %r9
        movq    REG_R8(%rsp), %r8
        movq    REG_RDX(%rsp), %rdx
        movq    REG_RSI(%rsp), %rsi
        movq    REG_RDI(%rsp), %rdi
        movl    %ecx, %eax
        shrl    $11, %eax
        cmpl    $0, host_is_pvm
        je      exit_plain
        andl    $1, %eax                /* OF by an addition, the others by */
        addb    $0x7f, %al              /* sahf, which leaves OF: quicker */
        movb    %cl, %ah                /* than popfq */
        sahf
        movq    REG_RAX(%rsp), %rax
exit_begin:                             /* nothing below changes the flags */
        movb    $1, %gs:0
        movzbl  %gs:1, %ecx
        jrcxz   1f
        outb    %al, $0x80
1:      movq    REG_RIP(%rsp), %rcx
        movq    REG_RSP(%rsp), %rsp
exit_jump:
        jmp     *%rcx
exit_plain:                             /* interrupts are off up to sti */
        andl    $1, %eax
        addb    $0x7f, %al
        movb    %cl, %ah
        sahf
        movq    REG_RAX(%rsp), %rax
        movb    $1, %gs:0
        sti
        movq    REG_RIP(%rsp), %rcx
        movq    REG_RSP(%rsp), %rsp
exit_plain_jump:
        jmp     *%rcx
exit_end:

        .globl  return_from_trap
return_from_trap:                       /* rsp -> struct regs, interrupts off */
        POP_REGS
        addq    $16, %rsp
        cmpl    $0, host_is_pvm
        je      4f
        movq    $0x33, 8(%rsp)
        movq    $0x2b, 32(%rsp)
        btl     $9, 16(%rsp)
        jnc     3f
        movb    $1, %gs:0
return_begin:
        cmpb    $0, %gs:1
        je      3f
        outb    %al, $0x80
3:      iretq
return_end:
windows_end:
4:      movq    $0x10, 8(%rsp)
        movq    $0x18, 32(%rsp)
        btl     $9, 16(%rsp)
        jnc     3b
        movb    $1, %gs:0
        iretq

/* The `syscall` instruction: r11 = flags; interrupts are off, so the scratch
 * word is this call's own. */
lstar_entry:
        movq    %rsp, CPU_SCRATCH
        movq    CPU_KSTACK, %rsp
        incq    CPU_NR_TRAPPED
        pushq   $0x2b
        pushq   CPU_SCRATCH
        pushq   %r11
        jmp     enter_call

/* What linked programs jump through. */
        .section .cells, "a", @progbits
        .balign 4096
        .rept   CAPSTAN_CELL_NUMBERS + 1
        .quad   jump_entry
        .endr
        .balign 4096

        .section .text.entry, "ax"
        .globl return_to_program
return_to_program:                      /* (struct regs *) */
        movq    %rdi, %rsp
        call    exit_to_program         /* returns with interrupts off */
        jmp     return_from_trap

/* Race-free idle: trap.c moves a RIP inside to idle_end. */
        .globl arch_idle, idle_begin, idle_end
arch_idle:
        incq    CPU_NR_HALTS
idle_begin:
        cmpl    $0, host_is_pvm
        je      1f
        movb    $1, %gs:0
        cmpb    $0, %gs:1
        jne     2f
        hlt
        jmp     idle_end
2:      outb    %al, $0x80
        jmp     idle_end
1:      movb    $1, %gs:0
        sti
        hlt
idle_end:
        ret

/* context_switch(uint64_t *save_rsp, uint64_t new_rsp) */
        .globl context_switch, thread_trampoline
context_switch:
        pushq   %rbx
        pushq   %rbp
        pushq   %r12
        pushq   %r13
        pushq   %r14
        pushq   %r15
        movq    %rsp, (%rdi)
        movq    %rsi, %rsp
        popq    %r15
        popq    %r14
        popq    %r13
        popq    %r12
        popq    %rbp
        popq    %rbx
        ret
/* First instruction of a new thread; its stack is 16-byte aligned here. */
thread_trampoline:
        xorl    %ebp, %ebp
        call    thread_first_run
        ud2
        .section .note.GNU-stack, "", @progbits
