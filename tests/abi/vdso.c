/* SPDX-License-Identifier: BSD-2-Clause */
/* The vDSO: found by getauxval, an ELF image with the symbols programs look
 * up, which agree with the system calls. */
#include "abi.h"

#include <elf.h>
#include <link.h>
#include <sys/auxv.h>

static const char *base;
static Elf64_Sym *symbols;
static const char *strings;
static uint32_t nr_symbols;

static void *find(const char *name)
{
    for (uint32_t i = 0; i < nr_symbols; i++)
        if (strcmp(strings + symbols[i].st_name, name) == 0 &&
            symbols[i].st_shndx != SHN_UNDEF)
            return (void *)(base + symbols[i].st_value);
    return NULL;
}

/* Either hash table tells how many symbols there are. */
static void count_symbols(const uint32_t *hash, const uint32_t *gnu)
{
    if (hash != NULL) {
        nr_symbols = hash[1];
        return;
    }
    const uint32_t *buckets = gnu + 4 + gnu[2] * 2, *chain = buckets + gnu[0];
    for (uint32_t i = 0; i < gnu[0]; i++)
        if (buckets[i] >= gnu[1])
            for (uint32_t k = buckets[i];; k++) {
                if (k + 1 > nr_symbols)
                    nr_symbols = k + 1;
                if (chain[k - gnu[1]] & 1)
                    break;
            }
}

static int by_phdr(struct dl_phdr_info *info, size_t size, void *data)
{
    bool *found = data;

    if (info->dlpi_phnum > 0 && strstr(info->dlpi_name, "linux-vdso"))
        *found = true;
    return 0;
}

int main(void)
{
    const Elf64_Ehdr *e = (void *)getauxval(AT_SYSINFO_EHDR);
    const uint32_t *hash = NULL, *gnu = NULL;
    const char *soname = NULL;
    Elf64_Xword soname_at = 0;

    watchdog();
    base = (const char *)e;
    YES(e != NULL && memcmp(e->e_ident, ELFMAG, 4) == 0);
    if (e == NULL)
        return 1;
    printf("type %d machine %d\n", e->e_type, e->e_machine);
    const Elf64_Phdr *ph = (void *)(base + e->e_phoff);
    const Elf64_Dyn *dyn = NULL;
    for (int i = 0; i < e->e_phnum; i++)
        if (ph[i].p_type == PT_DYNAMIC)
            dyn = (void *)(base + ph[i].p_offset);
    YES(dyn != NULL);
    for (; dyn->d_tag != DT_NULL; dyn++)
        switch (dyn->d_tag) {
        case DT_STRTAB:
            strings = base + dyn->d_un.d_ptr;
            break;
        case DT_SYMTAB:
            symbols = (void *)(base + dyn->d_un.d_ptr);
            break;
        case DT_HASH:
            hash = (void *)(base + dyn->d_un.d_ptr);
            break;
        case DT_GNU_HASH:
            gnu = (void *)(base + dyn->d_un.d_ptr);
            break;
        case DT_SONAME:
            soname_at = dyn->d_un.d_val;
            break;
        }
    soname = strings + soname_at;
    printf("soname %s\n", soname);
    count_symbols(hash, gnu);

    int (*gettime)(clockid_t, struct timespec *) =
        find("__vdso_clock_gettime");
    int (*getres)(clockid_t, struct timespec *) = find("__vdso_clock_getres");
    int (*gtod)(struct timeval *, void *) = find("__vdso_gettimeofday");
    time_t (*get_time)(time_t *) = find("__vdso_time");
    int (*cpu)(unsigned *, unsigned *, void *) = find("__vdso_getcpu");
    printf("symbols %d %d %d %d %d\n", gettime != NULL, getres != NULL,
           gtod != NULL, get_time != NULL, cpu != NULL);
    SAY("under their other names", find("clock_gettime") && find("time") &&
                                       find("gettimeofday"));

    struct timespec a, b, c;
    struct timeval tv;
    time_t t = 0;
    unsigned n = 99999, node = 99999;
    syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &a);
    E(gettime(CLOCK_MONOTONIC, &b));
    syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &c);
    int64_t an = a.tv_sec * 1000000000ll + a.tv_nsec;
    int64_t bn = b.tv_sec * 1000000000ll + b.tv_nsec;
    int64_t cn = c.tv_sec * 1000000000ll + c.tv_nsec;
    SAY("between two calls", an <= bn && bn <= cn);
    E(gettime(CLOCK_REALTIME, &b));
    E(gettime(CLOCK_THREAD_CPUTIME_ID, &b)); /* by a call */
    R(gettime(99, &b));
    if (getres != NULL) {
        E(getres(CLOCK_MONOTONIC, &b));
        syscall(SYS_clock_getres, CLOCK_MONOTONIC, &c);
        YES(b.tv_nsec == c.tv_nsec && b.tv_sec == c.tv_sec);
    }
    E(gtod(&tv, NULL));
    YES(llabs(tv.tv_sec - time(NULL)) <= 1);
    YES(llabs(get_time(&t) - time(NULL)) <= 1 && t != 0);
    E(cpu(&n, &node, NULL));
    YES(n < 4096 && node < 1024);
    bool found = false;
    dl_iterate_phdr(by_phdr, &found);
    SAY("known to the dynamic loader", found);
    return 0;
}
