/* SPDX-License-Identifier: BSD-2-Clause */
/* Calls that do not exist, and calls Linux has only as names: ENOSYS. The
 * registers that a call must leave alone are left alone. */
#include "abi.h"

int main(void)
{
    static const int gone[] = {134, 156, 174, 177, 178, 180, 181, 182, 183,
                               184, 185, 214, 215, 236};
    long rbx = 1, rdi = 2, rsi = 3, rdx = 4, r8 = 5, r9 = 6, r10 = 7, ret;

    watchdog();
    E(syscall(400));
    E(syscall(1000));
    E(syscall(99999, 1, 2, 3, 4, 5, 6));
    E(syscall(-1));
    E(syscall(-2));
    E(syscall(INT_MIN));
    E(syscall(INT_MAX));
    for (int i = 0; i < COUNT(gone); i++)
        printf("%d: %s\n", gone[i],
               syscall(gone[i], 0, 0, 0, 0, 0) == -1 ? errno_name(errno)
                                                     : "works");
    register long in10 __asm__("r10") = r10;
    register long in8 __asm__("r8") = r8;
    register long in9 __asm__("r9") = r9;
    __asm__ volatile("syscall"
                     : "=a"(ret), "+b"(rbx), "+D"(rdi), "+S"(rsi), "+d"(rdx),
                       "+r"(in10), "+r"(in8), "+r"(in9)
                     : "0"(39l)
                     : "rcx", "r11", "memory");
    r8 = in8;
    r9 = in9;
    r10 = in10;
    YES(ret == getpid());
    printf("%ld %ld %ld %ld %ld %ld %ld\n", rbx, rdi, rsi, rdx, r8, r9, r10);
    return 0;
}
