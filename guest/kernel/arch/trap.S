/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Events and system calls: entry to C and the way back.
 *
 * - Every gate has an IST stack, or the interrupted red zone would die: there
 *   is no ring change (hosts.md 3). The handler moves the frame to the thread's
 *   kernel stack (below rsp when it interrupted the kernel) before anything
 *   can nest.
 * - [entry_begin, entry_switched) and [exit_begin, exit_end) run on the program's
 *   stack pointer; an event there is treated as if it had hit the program.
 * - Return: registers, then the interrupt flag (%gs:0, plus an exit when the
 *   host has one pending), then iretq with the selectors that do not trap. An
 *   event in [return_begin, return_end) on its way to the program counts as one
 *   that hit the program, or the work it leaves (WORK_RESCHED) would wait for
 *   the event after.
 */
#define CPU_KSTACK %gs:8
#define REGS_SIZE 176
#define IST_MASK 2047

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
        movq    136(%rsp), %rax         /* rip */
        testq   %rax, %rax
        jns     1f                      /* low half: the program */
        cmpq    $return_begin, %rax
        jb      4f
        cmpq    $return_end, %rax
        jae     4f
        /* Interrupts were on already, the iretq to come: what is due must be
         * done before the program runs. As if it had hit the program. */
        movq    160(%rsp), %rdi         /* -> rip cs rflags rsp ss */
        movq    (%rdi), %rax
        testq   %rax, %rax
        js      2f                      /* back to the kernel */
        movq    %rax, 136(%rsp)
        movq    16(%rdi), %rax
        movq    %rax, 152(%rsp)
        movq    24(%rdi), %rax
        movq    %rax, 160(%rsp)
        jmp     1f
4:      cmpq    $entry_begin, %rax
        jb      2f
        cmpq    $windows_end, %rax
        jae     2f
        cmpq    $entry_switched, %rax
        jb      1f
        cmpq    $exit_begin, %rax
        jb      2f
1:      movq    CPU_KSTACK, %rdi
        jmp     3f
2:      movq    160(%rsp), %rdi         /* kernel: below its rsp */
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
4:      movq    $0x10, 8(%rsp)
        movq    $0x18, 32(%rsp)
        btl     $9, 16(%rsp)
        jnc     3b
        movb    $1, %gs:0
        iretq

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

/* LSTAR: rcx = return address, r11 = flags (not kept), interrupts off. */
        .globl lstar_entry, entry_begin, entry_switched
        .globl exit_begin, exit_end
        .balign 16
lstar_entry:
entry_begin:
        movq    %rsp, %r11
        movq    CPU_KSTACK, %rsp
entry_switched:
        pushq   $0x2b
        pushq   %r11
        pushq   $0x202
        pushq   $0x33
        pushq   %rcx
        pushq   %rax
        pushq   $0x100
        movl    $0x202, %r11d
        PUSH_REGS
        cld
        movq    %rsp, %rdi
        xorl    %ebp, %ebp
        call    syscall_enter           /* 0: quick way out */
        testl   %eax, %eax
        jnz     return_from_trap
        movq    136(%rsp), %rcx         /* rip */
        movq    160(%rsp), %r11         /* rsp */
        popq    %r15
        popq    %r14
        popq    %r13
        popq    %r12
        popq    %rbp
        popq    %rbx
        addq    $8, %rsp
        popq    %r10
        popq    %r9
        popq    %r8
        popq    %rax
        addq    $8, %rsp
        popq    %rdx
        popq    %rsi
        popq    %rdi
exit_begin:
        movq    %r11, %rsp
        movb    $1, %gs:0
        cmpl    $0, host_is_pvm
        je      2f
        cmpb    $0, %gs:1
        je      1f
        outb    %al, $0x80
1:      jmp     *%rcx
2:      sti
        jmp     *%rcx
exit_end:
windows_end:

        .globl return_to_program
return_to_program:                      /* (struct regs *) */
        movq    %rdi, %rsp
        call    exit_to_program         /* returns with interrupts off */
        jmp     return_from_trap

/* Race-free idle: trap.c moves a RIP inside to idle_end. */
        .globl arch_idle, idle_begin, idle_end
arch_idle:
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
