/* SPDX-License-Identifier: BSD-2-Clause */
/* /proc and /sys: what is there, whether it can be parsed, what is equal
 * everywhere. */
#include "abi.h"

#include <elf.h>
#include <sys/auxv.h>
#include <sys/sysinfo.h>

static char text[1 << 20];

static bool slurp(const char *path)
{
    int fd = open(path, O_RDONLY);
    ssize_t n;
    size_t at = 0;

    text[0] = 0;
    if (fd < 0) {
        printf("  %s: %s\n", path, errno_name(errno));
        return false;
    }
    while (at < sizeof(text) - 1 &&
           (n = read(fd, text + at, sizeof(text) - 1 - at)) > 0)
        at += (size_t)n;
    text[at] = 0;
    close(fd);
    return true;
}

static bool has(const char *what)
{
    return strstr(text, what) != NULL;
}

/* The number after a name, as in "MemTotal:   123 kB"; -1 without. */
static long number(const char *name)
{
    const char *p = strstr(text, name);
    long v = -1;

    if (p != NULL)
        sscanf(p + strlen(name), "%ld", &v);
    return v;
}

static void maps(void)
{
    unsigned long from, to, last = 0;
    char *save, *line, perms[8], name[300];
    bool parsed = true, in_order = true, code = false, local = false;
    int variable;

    SECTION("maps");
    slurp("/proc/self/maps");
    SAY("[stack]", has("[stack]"));
    SAY("[heap]", (free(malloc(10)), slurp("/proc/self/maps")) &&
                      has("[heap]"));
    SAY("[vdso]", has("[vdso]"));
    SAY("libc", has("libc.so.6") || has("libc-"));
    SAY("ends with a newline", text[strlen(text) - 1] == '\n');
    for (line = strtok_r(text, "\n", &save); line != NULL;
         line = strtok_r(NULL, "\n", &save)) {
        name[0] = 0;
        if (strstr(line, "[vsyscall]"))
            continue;
        parsed = parsed && sscanf(line, "%lx-%lx %7s %*x %*x:%*x %*u %299s",
                                  &from, &to, perms, name) >= 3;
        parsed = parsed && strlen(perms) == 4 && from < to;
        in_order = in_order && from >= last;
        last = to;
        if (from <= (unsigned long)maps && (unsigned long)maps < to)
            code = strcmp(perms, "r-xp") == 0 && strstr(name, "proc_files");
        if (from <= (unsigned long)&variable &&
            (unsigned long)&variable < to)
            local = strcmp(perms, "rw-p") == 0 && !strcmp(name, "[stack]");
    }
    SAY("parsed", parsed);
    SAY("in order", in_order);
    SAY("this function in an r-xp line with our name", code);
    SAY("a local variable in [stack]", local);
    char *p = mmap(NULL, 3 * 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1,
                   0);
    mprotect(p + 4096, 4096, PROT_NONE);
    snprintf(name, sizeof(name), "%lx-%lx ---p", (long)p + 4096,
             (long)p + 8192);
    slurp("/proc/self/maps");
    SAY("a page without access has a line of its own", has(name));
}

static void about_us(void)
{
    char path[64], link_of[300];
    long pid, ppid, threads;
    char state;
    ssize_t n;

    SECTION("stat");
    slurp("/proc/self/stat");
    E(sscanf(text, "%ld (proc_files) %c %ld", &pid, &state, &ppid));
    printf("state %c\n", state);
    YES(pid == getpid() && ppid == getppid());
    int fields = 0;
    for (char *p = strrchr(text, ')'); p != NULL; p = strchr(p + 1, ' '))
        fields++;
    YES(fields >= 51);
    threads = -1;
    sscanf(strrchr(text, ')') + 2,
           "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d "
           "%*d %ld", &threads);
    E(threads);
    SECTION("status");
    slurp("/proc/self/status");
    SAY("name", has("Name:\tproc_files\n"));
    SAY("state", has("State:\tR (running)\n"));
    YES(number("\nPid:") == getpid());
    YES(number("\nPPid:") == getppid());
    E(number("\nThreads:"));
    E(number("\nUid:"));
    YES(number("VmSize:") > 100 && number("VmRSS:") > 50);
    YES(number("VmSize:") >= number("VmRSS:"));
    SAY("SigBlk", has("\nSigBlk:\t0000000000000000\n"));
    SAY("Cpus_allowed_list", has("\nCpus_allowed_list:\t0"));
    SECTION("statm");
    long size, rss;
    slurp("/proc/self/statm");
    E(sscanf(text, "%ld %ld", &size, &rss));
    YES(size >= rss && rss > 10);
    SECTION("cmdline, comm, exe, environ");
    slurp("/proc/self/cmdline");
    SAY("cmdline", strstr(text, "proc_files") && strlen(text) < 200);
    slurp("/proc/self/comm");
    printf("%s", text);
    n = readlink("/proc/self/exe", link_of, sizeof(link_of) - 1);
    link_of[n > 0 ? n : 0] = 0;
    SAY("exe", n > 11 && strcmp(link_of + n - 11, "/proc_files") == 0);
    SAY("exe is an ELF", slurp("/proc/self/exe") &&
                             memcmp(text, "\177ELF", 4) == 0);
    SAY("environ", slurp("/proc/self/environ") &&
                       memmem(text, 65536, "PATH=", 5) != NULL);
    SECTION("auxv");
    Elf64_auxv_t av[64];
    int fd = (int)MUST(open("/proc/self/auxv", O_RDONLY));
    n = read(fd, av, sizeof(av));
    close(fd);
    bool page = false, entry = false, end = false;
    for (int i = 0; i < n / (int)sizeof(av[0]); i++) {
        page = page || (av[i].a_type == AT_PAGESZ && av[i].a_un.a_val == 4096);
        entry = entry || (av[i].a_type == AT_ENTRY &&
                          av[i].a_un.a_val == getauxval(AT_ENTRY));
        end = end || av[i].a_type == AT_NULL;
    }
    printf("page %d entry %d end %d\n", page, entry, end);
    SECTION("fd, task, cwd, root");
    fd = (int)MUST(open("/dev/null", O_RDONLY));
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    n = readlink(path, link_of, sizeof(link_of));
    printf("%.*s\n", (int)n, link_of);
    snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
    SAY("fdinfo", slurp(path) && has("pos:\t0\n") && has("flags:\t0"));
    close(fd);
    snprintf(path, sizeof(path), "/proc/%d/task/%d/stat", getpid(), getpid());
    E(access(path, R_OK));
    snprintf(path, sizeof(path), "/proc/%d", getpid());
    n = readlink("/proc/self", link_of, sizeof(link_of) - 1);
    link_of[n > 0 ? n : 0] = 0;
    YES(strcmp(link_of, path + 6) == 0);
    n = readlink("/proc/self/cwd", link_of, sizeof(link_of));
    printf("%.*s\n", (int)n, link_of);
    n = readlink("/proc/self/root", link_of, sizeof(link_of));
    printf("%.*s\n", (int)n, link_of);
    E(access("/proc/99999999", F_OK));
    E(access("/proc/self/none", F_OK));
    SAY("nothing can be made there",
        open("/proc/self/none", O_CREAT | O_RDWR, 0600) < 0 &&
            mkdir("/proc/x", 0700) < 0);
    SECTION("limits, mounts, mountinfo");
    SAY("limits", slurp("/proc/self/limits") && has("Max open files") &&
                      has("Max stack size"));
    SAY("mounts", slurp("/proc/self/mounts") && has(" / ") &&
                      has(" /proc proc "));
    SAY("/proc/mounts", slurp("/proc/mounts") && has(" /proc proc "));
    SAY("mountinfo", slurp("/proc/self/mountinfo") && has(" - proc "));
    SAY("smaps", access("/proc/self/smaps", R_OK) == 0);
    SAY("cgroup", access("/proc/self/cgroup", R_OK) == 0);
}

static void machine(void)
{
    double a, b;
    int cpus = 0, first = -1;

    SECTION("the machine");
    slurp("/proc/cpuinfo");
    for (char *p = text; (p = strstr(p, "processor\t:")) != NULL; p++)
        cpus++;
    YES(cpus == get_nprocs());
    SAY("flags", has("\nflags\t\t: ") && has(" sse2 "));
    SAY("model name", has("model name\t: "));
    slurp("/proc/meminfo");
    YES(number("MemTotal:") > 4000);
    YES(number("MemFree:") > 0 && number("MemFree:") < number("MemTotal:"));
    YES(number("MemAvailable:") >= 0);
    SAY("SwapTotal", number("SwapTotal:") >= 0);
    slurp("/proc/uptime");
    E(sscanf(text, "%lf %lf", &a, &b));
    struct timespec t;
    clock_gettime(CLOCK_BOOTTIME, &t);
    SAY("uptime is the clock's",
        a > 0 && a <= t.tv_sec + 1 && a + 5 > t.tv_sec);
    slurp("/proc/loadavg");
    int running, all;
    E(sscanf(text, "%lf %lf %*f %d/%d", &a, &b, &running, &all));
    slurp("/proc/version");
    SAY("version", strncmp(text, "Linux version ", 14) == 0);
    slurp("/proc/stat");
    SAY("stat", strncmp(text, "cpu  ", 5) == 0 && has("\ncpu0 ") &&
                    has("\nbtime ") && has("\nctxt "));
    slurp("/proc/filesystems");
    SAY("filesystems", has("proc") && has("tmpfs"));
    slurp("/sys/devices/system/cpu/online");
    E(sscanf(text, "%d", &first));
    E(first);
    SAY("possible", slurp("/sys/devices/system/cpu/possible"));
    static const char *const numbers[] = {
        "/proc/sys/kernel/pid_max",        "/proc/sys/vm/overcommit_memory",
        "/proc/sys/kernel/threads-max",    "/proc/sys/fs/file-max",
        "/proc/sys/vm/max_map_count",      "/proc/sys/kernel/cap_last_cap",
        "/proc/sys/kernel/randomize_va_space",
    };
    for (int i = 0; i < COUNT(numbers); i++) {
        long v = -1;
        SAY(numbers[i], slurp(numbers[i]) && sscanf(text, "%ld", &v) == 1 &&
                            v >= 0);
    }
    SAY("ostype", slurp("/proc/sys/kernel/ostype") && !strcmp(text, "Linux\n"));
    SAY("osrelease", slurp("/proc/sys/kernel/osrelease") && strlen(text) > 3);
    SAY("hostname", slurp("/proc/sys/kernel/hostname") && strlen(text) > 1);
    SAY("boot_id", slurp("/proc/sys/kernel/random/boot_id") &&
                       strlen(text) == 37);
    SAY("thp", slurp("/sys/kernel/mm/transparent_hugepage/enabled") &&
                   has("[") && has("madvise"));
}

int main(void)
{
    watchdog();
    maps();
    about_us();
    machine();
    return 0;
}
