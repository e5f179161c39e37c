/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The linked vDSO as bytes, in whole pages (guest/vdso.mk makes vdso.so).
 */
        .section .rodata.vdso, "a", @progbits
        .globl vdso_start, vdso_end
        .balign 4096
vdso_start:
        .incbin "vdso.so"
        .balign 4096
vdso_end:
        .section .note.GNU-stack, "", @progbits
