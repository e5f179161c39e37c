/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * One function per way a system call can look; test_link_golden.py says what must become of each. The
 * calls are in the section .case_sites, as distances from the beginning of .text, with their names in
 * .case_names: a symbol or a stored address would be something that may be jumped to. Never run.
 */
.macro FN name
        .fill   2 * 129, 1, 6   /* no instruction: nobody finds padding there */
        .balign 16, 6
        .globl \name
        .type \name, @function
\name:
        .cfi_startproc
.endm
.macro END name
        .cfi_endproc
        .size \name, . - \name
.endm
.macro SITE name
9:      syscall
        .pushsection .case_sites, "", @progbits
        .quad   9b - text_begin
        .popsection
        .pushsection .case_names, "", @progbits
        .asciz  "\name"
        .popsection
.endm

        .text
text_begin:

/* --- A: distance 1 to 7 --- */
FN a1
        mov     $1, %eax
SITE a1
        ret
END a1

FN a2
        mov     $2, %eax
        xor     %edi, %edi
SITE a2
        ret
END a2

FN a7
        mov     $7, %eax
        xor     %edi, %edi
        mov     %rdx, %rsi
        mov     %rcx, %rdx
        mov     %rcx, %r10
        push    %rbx
        mov     %r12, %rbx
SITE a7
        ret
END a7

FN a_nearest                    /* the nearer one; the number is known all the same */
        mov     $8, %eax
        mov     $9, %edi
SITE a_nearest
        ret
END a_nearest

FN a_rip                        /* the copy refers to the same variable */
        lea     variable(%rip), %rdi
        mov     variable(%rip), %eax
SITE a_rip
        ret
END a_rip

FN a_rip_immediate              /* a displacement that is not at the end of the instruction */
        movl    $77, variable(%rip)
SITE a_rip_immediate
        ret
END a_rip_immediate

FN a_long                       /* more than five bytes: filled up */
        movq    $600, 0x1234(%rsp,%rbx,8)
SITE a_long
        ret
END a_long

FN a_red_zone
        mov     $3, %eax
        lea     -24(%rsp), %rsi
SITE a_red_zone
        mov     -24(%rsp), %rax
        ret
END a_red_zone

FN a_entered                    /* a jump to the call itself: it traps, and A is still right */
        mov     $4, %eax
SITE a_entered
        cmp     $-4, %eax
        je      9b
        ret
END a_entered

FN a_vfork                      /* the return address is in a register, not on the stack */
        pop     %rdi
        mov     $58, %eax
SITE a_vfork
        push    %rdi
        ret
END a_vfork

FN a_after_call                 /* a return address may be replaced: it is a whole instruction */
        call    a1
        mov     $5, %eax
SITE a_after_call
        ret
END a_after_call

/* --- W --- */
FN w_plain
        test    %edi, %edi
        js      1f
        mov     %r12d, %eax
        mov     %rbx, %rdi
SITE w_plain
1:      ret
END w_plain

FN w_then_other                 /* what follows the window need not be repeatable */
        test    %edi, %edi
        js      1f
        mov     %ebx, %edx
        mov     %r13d, %eax
        xor     $0x80, %sil
SITE w_then_other
1:      ret
END w_then_other

/* --- refused: no window, no padding --- */
FN left_inner_target            /* a branch into the window */
        test    %edi, %edi
        js      1f
        mov     %r12d, %eax
1:      mov     %rbx, %rdi
SITE left_inner_target
        ret
END left_inner_target

FN left_not_idempotent          /* rdi is read and then written */
        test    %edi, %edi
        js      1f
        mov     %rdi, %rsi
        mov     %r12d, %edi
SITE left_not_idempotent
1:      ret
END left_not_idempotent

FN left_memory_write
        test    %edi, %edi
        js      1f
        mov     %eax, (%rsi)
        mov     %r12d, %eax
SITE left_memory_write
1:      ret
END left_memory_write

FN left_arithmetic
        test    %edi, %edi
        js      1f
        add     $4, %esi
        mov     %r12d, %eax
SITE left_arithmetic
1:      ret
END left_arithmetic

FN left_short
        test    %edi, %edi
        js      1f
        mov     %r12d, %eax
SITE left_short
1:      ret
END left_short

FN left_jump_table              /* a table of distances leads into the window */
        lea     table(%rip), %rdx
        movslq  (%rdx,%rdi,4), %rdi
        add     %rdx, %rdi
        jmp     *%rdi
1:      mov     %r12d, %eax
2:      mov     %rbx, %rdi
        .section .rodata
        .balign 4
table:  .long   2b - table
        .text
SITE left_jump_table
        ret
END left_jump_table

/* --- P --- */
FN p_before                     /* nops in front, behind a jump */
        jmp     1f
        .nops   5
2:
SITE p_before
        ret
1:      xor     %eax, %eax
        jmp     2b
END p_before

FN p_after                      /* int3 behind a ret */
        test    %edi, %edi
        js      1f
        xor     %eax, %eax
SITE p_after
        ret
        .fill   6, 1, 0xcc
1:      ret
END p_after

FN p_two_hops
        test    %edi, %edi
        js      1f
        xor     %eax, %eax
SITE p_two_hops
1:      ret
        int3                    /* room for a short jump only */
        int3
        .rept   42              /* 138 bytes from the function: from the int3 only */
        mov     %rbx, %rbp
        .endr
        ret
        .fill   5, 1, 0xcc
        ret
END p_two_hops

FN left_alive_padding           /* nops that are run through are not padding */
        test    %edi, %edi
        js      1f
        xor     %eax, %eax
SITE left_alive_padding
        .nops   8
1:      ret
END left_alive_padding

FN left_entered_padding         /* nops that something jumps to */
        test    %edi, %edi
        js      1f
        xor     %eax, %eax
SITE left_entered_padding
        ret
1:      .nops   8
        ret
END left_entered_padding

FN p_passed                     /* A would be passed by the loop: padding is better */
        mov     $202, %r8d
1:      mov     %r8d, %eax
SITE p_passed
        cmp     $-11, %eax
        je      1b
        ret
        .fill   5, 1, 0xcc
END p_passed

FN a_passed                     /* and without padding A is better than nothing */
        mov     $202, %r8d
1:      mov     %r8d, %eax
SITE a_passed
        cmp     $-11, %eax
        je      1b
        ret
END a_passed

/* --- never --- */
FN restorer_long
        mov     $15, %rax
SITE restorer_long
END restorer_long

FN restorer_short
        mov     $15, %eax
SITE restorer_short
END restorer_short

/* --- not system calls --- */
FN false_immediate
        mov     $0x050f, %eax
        movabs  $0x12050f34, %rdx
        ret
END false_immediate

        .type data_object, @object
data_object:
        .byte   0x0f, 0x05, 0x0f, 0x05
        .size data_object, . - data_object

/* --- privileged instructions --- */
FN halts
        mov     $60, %eax
SITE halts
1:      hlt
        jmp     1b
END halts

FN halt_byte                    /* f4 as part of an instruction */
        mov     $0xf4f4f4f4, %eax
        ret
END halt_byte

FN ports
        out     %al, %dx
        in      $0x71, %al
        ret
END ports

FN reported
        int     $0x80
        wrgsbase %rax
        sti
        ret
END reported

/* --- flow --- */
FN second_call                  /* the way back stops at the call before */
        mov     $1, %eax
SITE second_call
SITE left_second_call
        ret
END second_call

        .bss
        .globl variable
variable: .zero 8
        .section .note.GNU-stack, "", @progbits
