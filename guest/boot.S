/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * From the PVH entry (32-bit, paging off) or the AP trampoline to kmain in the
 * top 2 GiB.
 *
 * On kvm_pvm every instruction before the native switch is interpreted at
 * more than 1,000 cycles, so the page tables come ready-made from the
 * assembler, only the #GP gate exists before the probing rdmsr, and nothing
 * is printed. The native switch (hosts.md 0): wrmsr(0x4b564d10, address of the
 * per-CPU page), detected by rdmsr 0x4b564d11 = "PVM".
 *
 * PVH: "x86/HVM direct boot ABI" of the Xen documentation.
 */
#define KERNEL_VIRT 0xffffffff80000000
#define DIRECT_MAP 0xffff808000000000
#define PTE_NX 0x8000000000000000

        .section .note.pvh, "a", @note
        .balign 4
        .long   4, 8, 18                /* XEN_ELFNOTE_PHYS32_ENTRY */
        .asciz  "Xen"
        .quad   pvh_start

        .section .boot.text, "awx", @progbits
boot_base:
        .code32
        .globl pvh_start
pvh_start:
        cld
        movl    %ebx, boot_start_info_phys
        movl    $boot_pml4_phys, %edi
        movl    $(cpu0_area - KERNEL_VIRT), %esi
        movl    $(boot_stack_top - KERNEL_VIRT), %ebp
enter_long_mode:                        /* edi pml4, esi struct cpu, ebp stack */
        movl    $0x10620, %eax          /* PAE OSFXSR OSXMMEXCPT FSGSBASE */
        movl    %eax, %cr4
        movl    %edi, %cr3
        movl    $0xc0000080, %ecx
        xorl    %edx, %edx
        movl    $0x901, %eax            /* SCE LME NXE */
        wrmsr
        movl    $0x80010033, %eax       /* PG WP NE ET MP PE */
        movl    %eax, %cr0
        lgdt    gdt_desc
        ljmp    $0x10, $start64
        .code64
start64:
        movl    $0x18, %eax
        movl    %eax, %ss
        movl    %eax, %ds
        movl    %eax, %es
        lidt    early_idt_desc
        movabsq $DIRECT_MAP, %rax
        leaq    (%rbp,%rax), %rsp
        leaq    (%rsi,%rax), %rdi       /* struct cpu, virtual */
        movl    $1, %eax
        cpuid                           /* later it shows the host's view */
        movl    %ecx, %r8d
        xorl    %eax, %eax
        movl    $0x4b564d11, %ecx
        rdmsr                           /* #GP or 0 elsewhere */
early_resume:
        movl    %eax, %r9d
        cmpl    $0x4d5650, %eax
        jne     1f
        movl    $0x4b564d10, %ecx
        movl    %esi, %eax
        xorl    %edx, %edx
        wrmsr                           /* native from here on */
1:      wrgsbase %rdi
        movq    %rdi, 24(%rdi)          /* cpu->self */
        movl    %r9d, %esi
        movl    %r8d, %edx
        xorl    %ebp, %ebp
        movabsq $arch_entry, %rax
        call    *%rax                   /* (cpu, signature, cpuid1_ecx) */
2:      hlt
        jmp     2b

/* #GP before the real IDT exists: only the rdmsr above can raise it. */
early_gp:
        xorl    %eax, %eax
        addq    $8, %rsp                /* error code */
        movq    $early_resume, (%rsp)
        iretq

/* 16-bit start of an AP, copied to 0x8000: reaches 32-bit mode and jumps to
 * the code above. ap_params: pml4, struct cpu, stack (physical). */
        .code16
        .globl ap_trampoline_phys, ap_trampoline_end_phys
ap_trampoline_phys:
ap_trampoline:
        cli
        xorw    %ax, %ax
        movw    %ax, %ds
        lgdtl   (0x8000 + ap_gdt_desc - ap_trampoline)
        movl    %cr0, %eax
        orb     $1, %al
        movl    %eax, %cr0
        ljmpl   $0x08, $ap_start32
        .balign 4
ap_gdt_desc:
        .word   gdt_desc - gdt - 1
        .long   gdt
ap_trampoline_end_phys:
        .code32
ap_start32:
        movw    $0x18, %ax
        movw    %ax, %ds
        movw    %ax, %ss
        movl    ap_params, %edi
        movl    ap_params + 4, %esi
        movl    ap_params + 8, %ebp
        jmp     enter_long_mode

        .code64
        .section .boot.data, "aw", @progbits
        .balign 16
gdt:    .quad   0
        .quad   0x00cf9b000000ffff      /* 08 32-bit code */
        .quad   0x00af9b000000ffff      /* 10 64-bit code */
        .quad   0x00cf93000000ffff      /* 18 data */
        .quad   0x00cffb000000ffff      /* 20 user 32-bit code */
        .quad   0x00cff3000000ffff      /* 28 user data */
        .quad   0x00affb000000ffff      /* 30 user 64-bit code */
        .quad   0
        .fill   16, 8, 0                /* 40 + 16 * cpu: TSS */
gdt_desc: .word gdt_desc - gdt - 1
        .quad   gdt
        .balign 8
early_idt: .fill 26, 8, 0              /* gates 0-12 */
        .word   early_gp - boot_base + 0x2000 /* boot_base is 0x102000 */
        .word   0x10, 0x8e00, 0x10
        .quad   0
early_idt_desc: .word early_idt_desc - early_idt - 1
        .quad   early_idt
        .globl boot_start_info_phys, ap_params_phys, gdt_phys
boot_start_info_phys: .long 0, 0
ap_params_phys:
ap_params: .long 0, 0, 0
        .set    gdt_phys, gdt

/* U=1 everywhere: native code runs at hardware CPL 3 on kvm_pvm. A=1 and D=1
 * everywhere: see protect_kernel. The first GiB is mapped by 2 MiB pages
 * except the first (the kernel, 4 KiB pages, and the second when the kernel
 * reaches into it); PML4 slot 0 is identity for start-up, 257 the direct map
 * (NX from the PDPT), 511 the kernel. */
        .section .boot.tables, "aw", @progbits
        .balign 4096
        .globl boot_pml4_phys, ap_pml4_phys, boot_pdpt_direct_phys
        .globl boot_pt_kernel_phys, boot_pd_first_phys
boot_pml4_phys:
        .quad   pdpt_identity + 0x67
        .fill   256, 8, 0
        .quad   boot_pdpt_direct_phys + 0x67
        .fill   253, 8, 0
        .quad   pdpt_kernel + 0x67
ap_pml4_phys:
        .quad   pdpt_identity + 0x67
        .fill   256, 8, 0
        .quad   boot_pdpt_direct_phys + 0x67
        .fill   253, 8, 0
        .quad   pdpt_kernel + 0x67
pdpt_identity:
        .quad   boot_pd_first_phys + 0x67
        .fill   511, 8, 0
boot_pdpt_direct_phys:
        .quad   boot_pd_first_phys + 0x67 + PTE_NX
        .quad   0, 0
        .quad   pd_mmio + 0x67 + PTE_NX
        .fill   508, 8, 0
pdpt_kernel:
        .fill   510, 8, 0
        .quad   pd_kernel + 0x67
        .quad   0
boot_pd_first_phys:
        .quad   boot_pt_kernel_phys + 0x67
        .set    n, 1
        .rept   511
        .quad   n * 0x200000 + 0xe7
        .set    n, n + 1
        .endr
pd_mmio:                                /* 0xfea00000 .. 0xff000000, uncached */
        .fill   0x1f5, 8, 0
        .quad   0xfea00000 + 0xff
        .quad   0xfec00000 + 0xff
        .quad   0xfee00000 + 0xff
        .fill   512 - 0x1f8, 8, 0
pd_kernel:
        .quad   boot_pt_kernel_phys + 0x67
        .quad   boot_pt_kernel_phys + 0x1067
        .fill   510, 8, 0
boot_pt_kernel_phys:
        .set    n, 0
        .rept   1024
        .quad   n * 0x1000 + 0x67
        .set    n, n + 1
        .endr

        .bss
        .balign 16
        .globl boot_stack
boot_stack:
        .fill   16384                   /* KERNEL_STACK_SIZE */
boot_stack_top:
        .section .note.GNU-stack, "", @progbits
