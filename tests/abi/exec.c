/* SPDX-License-Identifier: BSD-2-Clause */
/* execve: errors, scripts, arguments, what survives. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/stat.h>
#include <unistd.h>

static char *const no_env[] = {NULL};

static void try(const char *what, const char *path)
{
    char *const args[] = {"x", NULL};

    execve(path, args, no_env);
    printf("%s: %s\n", what, strerror(errno));
}

static void put(const char *path, const char *text, mode_t mode)
{
    int fd = open(path, O_CREAT | O_TRUNC | O_WRONLY, 0600);

    if (write(fd, text, strlen(text)) < 0)
        perror(path);
    fchmod(fd, mode);
    close(fd);
}

static void *spin(void *arg)
{
    for (;;)
        pause();
    return arg;
}

static void second(int argc, char **argv)
{
    extern char **environ;
    struct sigaction sa;
    int n = 0;

    printf("second: argc %d", argc);
    for (int i = 1; i < argc; i++)
        printf(" [%s]", argv[i]);
    while (environ[n] != NULL)
        n++;
    printf(", %d variables, A=%s\n", n, getenv("A"));
    sigaction(SIGUSR1, NULL, &sa);
    printf("caught is default %d\n", sa.sa_handler == SIG_DFL);
    sigaction(SIGUSR2, NULL, &sa);
    printf("ignored stays %d\n", sa.sa_handler == SIG_IGN);
    printf("cloexec closed %d, other open %d\n", fcntl(50, F_GETFD) < 0,
           fcntl(51, F_GETFD) >= 0);
    printf("same pid %d\n", getpid() == atoi(getenv("PID")));
    printf("auxv: page %lu, hz %lu, random %d, execfn %d, vdso %d, secure %lu\n",
           getauxval(AT_PAGESZ), getauxval(AT_CLKTCK),
           getauxval(AT_RANDOM) != 0,
           strcmp((char *)getauxval(AT_EXECFN), "/tmp/abi-exec-script") == 0 ||
               getauxval(AT_EXECFN) != 0,
           getauxval(AT_SYSINFO_EHDR) != 0, getauxval(AT_SECURE));
    exit(7);
}

int main(int argc, char **argv)
{
    char self[512], script[700], pid[32];
    char *const args[] = {"zero", "one", "", "three", NULL};
    char *const env[] = {"A=b", pid, NULL};
    char *big = malloc(200000);
    pthread_t t;
    ssize_t n;

    setvbuf(stdout, NULL, _IOLBF, 0);
    if (getenv("A") != NULL)
        second(argc, argv);
    try("missing", "/tmp/abi-no-such-file");
    try("directory", "/tmp");
    try("not a directory", "/etc/passwd/x");
    put("/tmp/abi-exec-text", "no program\n", 0755);
    try("text", "/tmp/abi-exec-text");
    put("/tmp/abi-exec-mode", "#!/bin/sh\n", 0644);
    try("mode", "/tmp/abi-exec-mode");
    put("/tmp/abi-exec-elf", "\177ELF\2\1\1", 0755);
    try("truncated ELF", "/tmp/abi-exec-elf");
    put("/tmp/abi-exec-script", "#!/tmp/abi-no-such-file\n", 0755);
    try("no interpreter", "/tmp/abi-exec-script");
    put("/tmp/abi-exec-loop", "#!/tmp/abi-exec-loop\n", 0755);
    try("a loop of scripts", "/tmp/abi-exec-loop");
    memset(big, 'a', 199999);
    big[199999] = '\0';
    char *const long_args[] = {"x", big, NULL};
    execve("/proc/self/exe", long_args, no_env);
    printf("argument too long: %s\n", strerror(errno));
    execve("/proc/self/exe", (char **)8, no_env);
    printf("bad argv: %s\n", strerror(errno));

    n = readlink("/proc/self/exe", self, sizeof(self) - 1);
    self[n > 0 ? n : 0] = '\0';
    snprintf(script, sizeof(script), "#! %s  an argument \n", self);
    put("/tmp/abi-exec-script", script, 0755);
    snprintf(pid, sizeof(pid), "PID=%d", getpid());
    signal(SIGUSR1, exit);
    signal(SIGUSR2, SIG_IGN);
    dup3(1, 50, O_CLOEXEC);
    dup2(1, 51);
    for (int i = 0; i < 3; i++)
        pthread_create(&t, NULL, spin, NULL);
    execve("/tmp/abi-exec-script", args, env);
    printf("execve: %s\n", strerror(errno));
    return 1;
}
