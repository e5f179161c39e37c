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
#define CAPSTAN_CALL_END (CAPSTAN_CALL_BASE + 2)
