/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The calls of libcapstan (include/capstan/capstan.h) and the line of `--stats`:
 * what the guest knows about itself.
 */
#include "capstan_calls.h"

#include "arch/arch.h"
#include "capstan/capstan.h"
#include "drivers/drivers.h"
#include "lib/errno.h"
#include "lib/string.h"
#include "linux/syscall.h"
#include "linux/task.h"
#include "mm/mm.h"
#include "param.h"

_Static_assert(sizeof(struct capstan_counters) == NR_COUNTS * sizeof(uint64_t),
               "counters are counted in the order of the header");

static int64_t page_query(uint64_t address, uint64_t out)
{
    struct capstan_page answer = {0};
    struct mm_page facts;
    int err = mm_query_page(current_thread()->mm, address, &facts);

    if (err)
        return err;
    answer.physical = facts.physical;
    answer.size = facts.size;
    answer.flags = (facts.size ? CAPSTAN_PAGE_PRESENT : 0) |
                   (facts.is_writable ? CAPSTAN_PAGE_WRITABLE : 0) |
                   (facts.is_executable ? CAPSTAN_PAGE_EXECUTABLE : 0) |
                   (facts.is_file ? CAPSTAN_PAGE_FILE : 0) |
                   (facts.is_shared ? CAPSTAN_PAGE_SHARED : 0);
    return copy_to_user((void *)out, &answer, sizeof(answer));
}

static int64_t counters(uint64_t out, uint64_t size)
{
    uint64_t counts[NR_COUNTS];
    size_t known = MIN(size, sizeof(counts));
    int err;

    count_totals(counts);
    err = copy_to_user((void *)out, counts, known);
    return err ? err : clear_user((void *)(out + known), size - known);
}

static int64_t echo(uint64_t start, uint64_t len)
{
    if (!boot_params.echo)
        return -ENOSYS;
    current_task()->echo_start = start;
    current_task()->echo_len = len;
    return 0;
}

int64_t capstan_call(uint64_t nr, const uint64_t args[6])
{
    switch (nr) {
    case CAPSTAN_CALL_PAGE_QUERY:
        return page_query(args[0], args[1]);
    case CAPSTAN_CALL_COUNTERS:
        return counters(args[0], args[1]);
    case CAPSTAN_CALL_ECHO:
        return echo(args[0], args[1]);
    default:
        return capstan_channel_call(nr, args);
    }
}

void stats_report(void)
{
    uint64_t n[NR_COUNTS];

    count_totals(n);
    control_send("stats calls %lu, trapped %lu, page faults %lu, interrupts "
                 "%lu, device accesses %lu, timers %lu, IPIs %lu, halts %lu, "
                 "TLB flushes %lu, switches %lu, signal returns %lu, "
                 "notifications %lu, notify cycles %lu, network cycles %lu",
                 n[COUNT_CALLS], n[COUNT_TRAPPED], n[COUNT_FAULTS],
                 n[COUNT_INTERRUPTS], n[COUNT_DEVICE], n[COUNT_TIMERS],
                 n[COUNT_IPIS], n[COUNT_HALTS], n[COUNT_TLB_FLUSHES],
                 n[COUNT_SWITCHES], n[COUNT_SIGRETURNS], n[COUNT_NOTIFIES],
                 n[COUNT_NOTIFY_CYCLES], n[COUNT_NET_CYCLES]);
}
