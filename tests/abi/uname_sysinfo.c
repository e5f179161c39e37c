/* SPDX-License-Identifier: BSD-2-Clause */
/* uname, sysinfo, sysconf, auxiliary values: what is alike everywhere. */
#include "abi.h"

#include <sys/auxv.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>

int main(void)
{
    struct utsname u;
    struct sysinfo s;
    char host[65];
    int major = 0, minor = -1;

    watchdog();
    SECTION("uname");
    E(uname(&u));
    printf("%s %s\n", u.sysname, u.machine);
    E(sscanf(u.release, "%d.%d", &major, &minor));
    SAY("at least 4.0", major >= 4);
    SAY("a version", strlen(u.version) > 3);
    E(gethostname(host, sizeof(host)));
    YES(strcmp(host, u.nodename) == 0);
    E(syscall(SYS_uname, (void *)8));
    E(sethostname("x", 65));
    E(syscall(SYS_sethostname, "x", -1));
    SECTION("sysinfo");
    E(sysinfo(&s));
    YES(s.mem_unit >= 1);
    YES(s.totalram > s.freeram && s.freeram > 0);
    YES(s.procs >= 1 && s.uptime >= 0);
    YES(s.totalswap >= s.freeswap);
    E(sysinfo((void *)8));
    SECTION("sysconf");
    E(sysconf(_SC_PAGESIZE));
    YES(sysconf(_SC_NGROUPS_MAX) >= 32);
    E(sysconf(_SC_IOV_MAX));
    E(sysconf(_SC_THREADS));
    E(sysconf(_SC_LOGIN_NAME_MAX));
    YES(sysconf(_SC_NPROCESSORS_ONLN) >= 1);
    YES(sysconf(_SC_NPROCESSORS_CONF) >= sysconf(_SC_NPROCESSORS_ONLN));
    YES(sysconf(_SC_PHYS_PAGES) > sysconf(_SC_AVPHYS_PAGES));
    YES(sysconf(_SC_OPEN_MAX) >= 256);
    YES(sysconf(_SC_ARG_MAX) >= 131072);
    E(pathconf("/tmp", _PC_NAME_MAX));
    E(pathconf("/tmp", _PC_PATH_MAX));
    E(pathconf("/tmp", _PC_PIPE_BUF));
    SECTION("auxiliary values");
    E(getauxval(AT_PAGESZ));
    E(getauxval(AT_CLKTCK));
    E(getauxval(AT_SECURE));
    E(getauxval(AT_UID) == getuid() && getauxval(AT_EUID) == geteuid());
    E(getauxval(AT_GID) == getgid() && getauxval(AT_EGID) == getegid());
    E(getauxval(AT_PHENT));
    YES(getauxval(AT_PHNUM) > 2);
    YES(getauxval(AT_ENTRY) != 0 && getauxval(AT_PHDR) != 0);
    YES(strcmp((char *)getauxval(AT_PLATFORM), "x86_64") == 0);
    YES(strstr((char *)getauxval(AT_EXECFN), "uname_sysinfo") != NULL);
    YES(getauxval(AT_MINSIGSTKSZ) >= 1024);
    YES(getauxval(AT_SYSINFO_EHDR) != 0);
    YES(getauxval(AT_HWCAP) != 0);
    E(getauxval(77777));
    return 0;
}
