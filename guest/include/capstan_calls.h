/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Between libcapstan and the guest: calls with numbers of our own, through
 * cell 0 (capstan_link.h), and what tells that there is a guest.
 *
 * The auxiliary vector's AT_CAPSTAN is the version of the interface. A call
 * a guest does not have returns -ENOSYS.
 */
#pragma once

#define AT_CAPSTAN 0x43415053 /* unknown to Linux: getauxval gives 0 */

#define CAPSTAN_CALL_BASE 0x43000000
#define CAPSTAN_CALL_PAGE_QUERY (CAPSTAN_CALL_BASE + 0) /* address, out */
#define CAPSTAN_CALL_COUNTERS (CAPSTAN_CALL_BASE + 1)   /* out, size */
/* start, length: from now on this thread's calls from that range are not made but
 * answered with capstan_echo. For tests of the way in and out; needs the word
 * `echo` on the kernel's command line, else -ENOSYS. */
#define CAPSTAN_CALL_ECHO (CAPSTAN_CALL_BASE + 2)
#define CAPSTAN_CALL_END (CAPSTAN_CALL_BASE + 3)

/* A number from 0 to 2^31 that tells whether number and arguments arrived. */
#define capstan_echo(nr, a, b, c, d, e, f)                                     \
    (((nr) + 3 * (a) + 5 * (b) + 7 * (c) + 11 * (d) + 13 * (e) + 17 * (f)) &   \
     0x7fffffff)
