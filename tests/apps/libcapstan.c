/* SPDX-License-Identifier: BSD-2-Clause */
/* Every function of libcapstan: prints the same lines in any capstan guest, and
 * others on Linux. */
#include <capstan/capstan.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static int variable;

static void query(const char *what, const void *address)
{
    struct capstan_page p;
    int err;

    memset(&p, 0xff, sizeof(p));
    err = capstan_page_query(address, &p);
    if (err)
        printf("%s: %s\n", what, strerror(-err));
    else
        printf("%s: size %u flags %#x offset %d\n", what, p.size, p.flags,
               p.size ? (p.physical & 0xfff) == ((uintptr_t)address & 0xfff)
                      : p.physical == 0);
}

static void pages(void)
{
    char *heap = malloc(4 << 20);

    heap[5] = variable = 1;
    query("variable", &variable);
    query("heap", heap + 5);
    query("untouched heap", heap + (3 << 20));
    query("code", (const void *)query);
    query("null", NULL);
    query("kernel", (const void *)-4096l);
    printf("bad out: %d\n", capstan_page_query(heap, (void *)8) == -EFAULT);
    free(heap);
}

static void count(void)
{
    struct capstan_counters a, b;
    uint64_t large[16];

    capstan_counters(&a, sizeof(a));
    for (int i = 0; i < 100; i++)
        (void)getppid();
    capstan_counters(&b, sizeof(b));
    printf("calls: %d\n", b.calls - a.calls >= 101 && b.calls - a.calls < 110);
    memset(large, 0xff, sizeof(large));
    printf("larger: %d", capstan_counters((void *)large, sizeof(large)));
    printf(" %d\n", large[15] == 0 && large[1] != 0);
    printf("smaller: %d\n", capstan_counters(&a, 8));
    printf("bad out: %d\n", capstan_counters((void *)8, 8) == -EFAULT);
}

int main(void)
{
    struct timespec now;
    uint64_t ns = capstan_clock_ns();

    clock_gettime(CLOCK_MONOTONIC, &now);
    printf("version: %d\n", capstan_version());
    printf("clock: %d\n",
           (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec - ns <
               1000000000u);
    if (capstan_version() == 0) {
        printf("no guest: %d\n", capstan_counters(NULL, 0) == -ENOSYS);
        return 0;
    }
    pages();
    count();
    return 0;
}
