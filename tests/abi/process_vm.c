/* SPDX-License-Identifier: BSD-2-Clause */
/* process_vm_readv and process_vm_writev, on the caller itself. */
#include "abi.h"

static char from[3 * 4096], to[3 * 4096];

static long call(bool write, pid_t pid, struct iovec *l, size_t nl,
                 struct iovec *r, size_t nr, unsigned long flags)
{
    return write ? process_vm_writev(pid, l, nl, r, nr, flags)
                 : process_vm_readv(pid, l, nl, r, nr, flags);
}

int main(void)
{
    struct iovec l[3] = {{to, 5}, {to + 100, 4000}, {to + 5000, 200}};
    struct iovec r[2] = {{from + 7, 4100}, {from + 4096, 50}};
    char *hole = mmap(NULL, 8192, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    watchdog();
    for (size_t i = 0; i < sizeof(from); i++)
        from[i] = (char)(i * 7 + i / 256);
    munmap(hole + 4096, 4096);
    for (int w = 0; w < 2; w++) {
        SECTION(w ? "write" : "read");
        memset(to, 0, sizeof(to));
        E(call(w, getpid(), w ? r : l, w ? 2 : 3, w ? l : r, w ? 3 : 2, 0));
        YES(memcmp(to, from + 7, 5) == 0);
        YES(memcmp(to + 100, from + 12, 4000) == 0);
        YES(memcmp(to + 5000, from + 4012, 95) == 0);
        E(call(w, getpid(), l, 0, r, 1, 0));
        E(call(w, getpid(), l, 1, r, 0, 0));
        E(call(w, getpid(), l, 1, r, 1, 1));
        E(call(w, 1 << 22, l, 1, r, 1, 0));
        E(call(w, getpid(), l, 2000, r, 1, 0));
        struct iovec bad = {hole + 4000, 200}, none = {(void *)8, 10};
        struct iovec good = {to, 200};
        E(call(w, getpid(), &good, 1, &bad, 1, 0));
        E(call(w, getpid(), &good, 1, &none, 1, 0));
        E(call(w, getpid(), &none, 1, &good, 1, 0));
    }
    return 0;
}
