/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The smallest guest the launcher can be tested with: PVH entry, long mode, one loop timed in
 * ring 0, one line on the serial port, the end through the debug-exit device.
 *
 *   capstan-selftest: ok cycles=N native=0|1 host=pvm|kvm|tcg
 *
 * The first word of the command line decides what comes after it:
 *   `hang...`   loops for ever,  `crash...` triple-faults,  `bad...` runs an instruction that
 *   kvm_pvm's interpreter does not know,  anything else ends with status 0.
 * The facts about the private MSRs are in the project's notes on hosts: an IDT with a #GP gate
 * first, then `rdmsr`, then the page is registered and ring 0 runs on the processor.
 */
        .set    COM1, 0x3f8
        .set    EXIT_PORT, 0x501
        .set    LOOPS, 2000
        .set    MSR_PV_PAGE, 0x4b564d10
        .set    MSR_PV_SIG, 0x4b564d11
        .set    PV_SIG, 0x4d5650

        .section .note.pvh, "a", @note
        .balign 4
        .long   4, 8, 18                /* XEN_ELFNOTE_PHYS32_ENTRY */
        .asciz  "Xen"
        .quad   start32

        .section .text
        .code32
        .globl start32
start32:
        cld
        movl    %ebx, %ebp              /* the PVH start info */
        movl    $stack_top, %esp
        movl    %cr4, %eax
        orl     $0x620, %eax            /* PAE OSFXSR OSXMMEXCPT */
        movl    %eax, %cr4
        movl    $pml4, %eax
        movl    %eax, %cr3
        movl    $0xc0000080, %ecx       /* EFER: LME NXE */
        rdmsr
        orl     $0x900, %eax
        wrmsr
        movl    %cr0, %eax
        andl    $~0x4, %eax
        orl     $0x80010023, %eax       /* PG WP NE MP PE */
        movl    %eax, %cr0
        lgdt    gdt_desc
        ljmp    $0x10, $start64
        .code64
start64:
        movl    $0x18, %eax
        movl    %eax, %ds
        movl    %eax, %es
        movl    %eax, %ss
        movl    24(%rbp), %ebx          /* command line */
        testl   %ebx, %ebx
        jnz     1f
        movl    $empty, %ebx
1:      movl    $on_gp, %eax            /* the one gate: #GP (13) */
        movw    %ax, idt + 13 * 16
        shrl    $16, %eax
        movw    %ax, idt + 13 * 16 + 6
        lidt    idt_desc

        /* Which host? CPUID must be read before the switch to native mode. */
        movl    $name_tcg, %r12d
        movl    $0x40000000, %eax
        pushq   %rbx
        cpuid
        cmpl    $0x4b4d564b, %ebx       /* "KVMK" */
        popq    %rbx
        jne     2f
        movl    $name_kvm, %r12d
2:      xorl    %eax, %eax
        movl    $MSR_PV_SIG, %ecx
        rdmsr
after_probe:
        cmpl    $PV_SIG, %eax
        jne     3f
        movl    $name_pvm, %r12d
        movl    $MSR_PV_PAGE, %ecx
        movl    $pv_page, %eax
        xorl    %edx, %edx
        wrmsr
3:      call    time_loop               /* r13 = cycles */

        movl    $text_ok, %esi
        call    print
        movq    %r13, %rax
        call    print_number
        movl    $text_native, %esi
        call    print
        xorl    %eax, %eax
        cmpq    $LOOPS * 200, %r13      /* an interpreter needs > 1000 cycles a step */
        setb    %al
        call    print_number
        movl    $text_host, %esi
        call    print
        movl    %r12d, %esi
        call    print
        movl    $text_end, %esi
        call    print

        movl    (%rbx), %eax
        cmpl    $0x676e6168, %eax       /* "hang" */
        je      hang
        cmpl    $0x73617263, %eax       /* "cras" */
        je      crash
        cmpw    $0x6162, %ax            /* "ba" */
        je      bad
        xorl    %eax, %eax
        movw    $EXIT_PORT, %dx
        outw    %ax, %dx
hang:   pause
        jmp     hang
crash:  lidt    no_idt
        ud2
bad:    int     $0x81                   /* kvm_pvm: "emulation failure" */
        jmp     hang

on_gp:  addq    $8, %rsp                /* the error code */
        movq    $after_probe, (%rsp)
        xorl    %eax, %eax
        iretq

time_loop:
        movl    $4, %r8d                /* the best of four */
        movq    $-1, %r13
1:      lfence
        rdtsc
        lfence
        shlq    $32, %rdx
        orq     %rax, %rdx
        movq    %rdx, %r9
        movl    $LOOPS, %ecx
2:      decl    %ecx
        jnz     2b
        lfence
        rdtsc
        shlq    $32, %rdx
        orq     %rax, %rdx
        subq    %r9, %rdx
        cmpq    %r13, %rdx
        jae     3f
        movq    %rdx, %r13
3:      decl    %r8d
        jnz     1b
        ret

print:  movw    $COM1, %dx              /* rsi: text */
1:      lodsb
        testb   %al, %al
        jz      2f
        outb    %al, %dx
        jmp     1b
2:      ret

print_number:                           /* rax */
        movl    $digits_end, %esi
        movl    $10, %ecx
1:      xorl    %edx, %edx
        divq    %rcx
        addb    $'0', %dl
        decq    %rsi
        movb    %dl, (%rsi)
        testq   %rax, %rax
        jnz     1b
        jmp     print

        .section .data
text_ok:        .asciz "capstan-selftest: ok cycles="
text_native:    .asciz " native="
text_host:      .asciz " host="
text_end:       .asciz "\n"
name_pvm:       .asciz "pvm"
name_kvm:       .asciz "kvm"
name_tcg:       .asciz "tcg"
                .skip 24
digits_end:
empty:          .long 0
        .balign 16
gdt:    .quad   0, 0x00cf9b000000ffff, 0x00af9b000000ffff, 0x00cf93000000ffff
        .quad   0x00cffb000000ffff, 0x00cff3000000ffff, 0x00affb000000ffff
gdt_desc: .word gdt_desc - gdt - 1
        .quad   gdt
idt:    .skip   13 * 16
        .word   0, 0x10, 0x8e00, 0
        .quad   0
idt_desc: .word idt_desc - idt - 1
        .quad   idt
no_idt: .word   0
        .quad   0

        .balign 4096                    /* U=1 on every level: see the notes on hosts */
pml4:   .quad   pdpt + 7
        .skip   4088
pdpt:   .quad   pd + 7
        .skip   4088
pd:     .set    n, 0
        .rept   512
        .quad   n * 0x200000 + 0x87
        .set    n, n + 1
        .endr

        .section .bss
        .balign 4096
pv_page: .skip  4096
        .skip   4096
stack_top:
        .section .note.GNU-stack, "", @progbits
