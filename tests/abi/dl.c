/* SPDX-License-Identifier: BSD-2-Clause */
/* dlopen, dlsym, dladdr, dl_iterate_phdr. */
#include "abi.h"

#include <dlfcn.h>
#include <link.h>
#include <math.h>

static int count_objects(struct dl_phdr_info *info, size_t size, void *data)
{
    int *n = data;
    bool has_code = false;

    for (int i = 0; i < info->dlpi_phnum; i++)
        has_code = has_code || (info->dlpi_phdr[i].p_type == PT_LOAD &&
                                info->dlpi_phdr[i].p_flags & PF_X);
    *n += has_code;
    return 0;
}

int main(void)
{
    double (*cosine)(double);
    int (*print)(const char *, ...);
    Dl_info info;
    int n = 0;
    void *m, *again, *self;
    volatile double angle = 1.0;

    watchdog();
    m = dlopen("libm.so.6", RTLD_NOW);
    YES(m != NULL);
    if (m == NULL) {
        printf("%s\n", dlerror());
        return 1;
    }
    cosine = (double (*)(double))dlsym(m, "cos");
    YES(cosine != NULL);
    /* Linked against it too: so that it is in the image. */
    printf("cos(1) %.10f %.10f\n", cosine(1.0), cos(angle));
    again = dlopen("libm.so.6", RTLD_LAZY | RTLD_NOLOAD);
    YES(again == m);
    YES(dlsym(m, "no_such_function") == NULL);
    YES(dlerror() != NULL);
    YES(dlerror() == NULL);
    YES(dlopen("libno-such-library.so", RTLD_NOW) == NULL);
    printf("%s\n", dlerror());
    E(dladdr((void *)cosine, &info) != 0);
    SAY("libm", strstr(info.dli_fname, "libm") != NULL);
    YES(memcmp(info.dli_fbase, "\177ELF", 4) == 0);
    YES((char *)info.dli_saddr <= (char *)cosine);
    E(dladdr((void *)main, &info) != 0);
    SAY("us", strstr(info.dli_fname, "dl") != NULL);
    self = dlopen(NULL, RTLD_NOW);
    YES(self != NULL);
    print = (int (*)(const char *, ...))dlsym(self, "printf");
    print("printed through dlsym\n");
    YES(dlsym(RTLD_DEFAULT, "malloc") != NULL);
    YES(dlvsym(self, "memcpy", "GLIBC_2.14") != NULL);
    dl_iterate_phdr(count_objects, &n);
    YES(n >= 4); /* us, libm, libc, the loader */
    E(dlclose(again));
    E(dlclose(m));
    E(dlclose(self));
    return 0;
}
