/* SPDX-License-Identifier: BSD-2-Clause */
/* execve of ourselves through /proc/self/exe, four times over: arguments,
 * variables, descriptors, masks, ignored signals, ids, threads, memory. */
#include "abi.h"

#include <sys/prctl.h>
#include <sys/resource.h>

extern char **environ;

static void show(int argc, char **argv)
{
    printf("argc %d:", argc);
    for (int i = 1; i < argc; i++)
        printf(" [%.20s]", argv[i]);
    printf("\nvariables:");
    for (char **e = environ; *e != NULL; e++)
        if (strncmp(*e, "PID=", 4) != 0)
            printf(" %.30s", *e);
    printf("\n");
}

static void go(char *const argv[], const char *more)
{
    char pid[32];
    char *env[4] = {pid, "STAGE=set", (char *)more, NULL};

    snprintf(pid, sizeof(pid), "PID=%d", (int)getpid());
    fflush(stdout);
    execve("/proc/self/exe", argv, env);
    printf("execve: %s\n", errno_name(errno));
    exit(97);
}

static void *from_thread(void *arg)
{
    go(arg, "FROM=thread");
    return NULL;
}

static void *sleeps(void *arg)
{
    for (;;)
        pause();
    return arg;
}

static void errors(void)
{
    char *const args[] = {"x", NULL}, *const env[] = {NULL};
    char *huge = malloc(200000);
    char *const too_long[] = {"x", huge, NULL};

    SECTION("errors");
    memset(huge, 'h', 199999);
    huge[199999] = 0;
    E(execve("/none", args, env));
    E(execve("/tmp", args, env));
    E(execve("/dev/null", args, env));
    E(execve("", args, env));
    E(execve("/proc/self/exe/x", args, env));
    E(execve((char *)8, args, env));
    E(execve("/proc/self/exe", (void *)8, env));
    E(execve("/proc/self/exe", too_long, env)); /* one string over 128 KiB */
    free(huge);
}

static void first(void)
{
    char *args[] = {"exec_self", "second", "with space", "", "end", NULL};
    sigset_t set;
    struct rlimit l = {123, 456};

    errors();
    SECTION("to the second stage");
    on_signal(SIGUSR1, (void (*)(int, siginfo_t *, void *))go, 0);
    signal(SIGUSR2, SIG_IGN);
    sigemptyset(&set);
    sigaddset(&set, SIGHUP);
    sigprocmask(SIG_SETMASK, &set, NULL);
    raise(SIGHUP); /* stays pending */
    dup2(1, 40);
    dup2(1, 41);
    fcntl(41, F_SETFD, FD_CLOEXEC);
    prctl(PR_SET_NAME, "renamed");
    MUST(chdir("/"));
    umask(017);
    setrlimit(RLIMIT_CORE, &l);
    alarm(500);
    go(args, "OTHER=one");
}

static void second(void)
{
    static char many[3000][12];
    static char *args[3003] = {"exec_self", "third"};
    struct sigaction sa;
    struct rlimit l;
    sigset_t set;
    char name[64];

    YES(getpid() == atoi(getenv("PID")));
    sigaction(SIGUSR1, NULL, &sa);
    SAY("a handler becomes the default", sa.sa_handler == SIG_DFL);
    sigaction(SIGUSR2, NULL, &sa);
    SAY("ignored stays ignored", sa.sa_handler == SIG_IGN);
    sigprocmask(SIG_SETMASK, NULL, &set);
    SAY("the mask stays", sigismember(&set, SIGHUP) == 1);
    sigpending(&set);
    SAY("so does what pends", sigismember(&set, SIGHUP) == 1);
    E(fcntl(40, F_GETFD));
    E(fcntl(41, F_GETFD));
    prctl(PR_GET_NAME, name);
    printf("name %s\n", name); /* of the file: exe */
    printf("cwd %s\n", getcwd(name, sizeof(name)));
    E(umask(0));
    getrlimit(RLIMIT_CORE, &l);
    E(l.rlim_cur);
    SAY("alarm stays", alarm(20) > 400);
    for (int i = 0; i < 3000; i++) {
        snprintf(many[i], sizeof(many[i]), "arg-%d", i);
        args[i + 2] = many[i];
    }
    struct timespec now = {0, 0};
    sigemptyset(&set);
    sigaddset(&set, SIGHUP);
    sigtimedwait(&set, NULL, &now);
    SECTION("to the third: 3000 arguments");
    go(args, NULL);
}

static void third(int argc, char **argv)
{
    char *args[] = {"exec_self", "fourth", NULL};
    pthread_t t;

    E(argc);
    YES(strcmp(argv[3001], "arg-2999") == 0 && argv[3002] == NULL);
    SECTION("to the fourth: from a thread, with others");
    for (int i = 0; i < 3; i++)
        pthread_create(&t, NULL, sleeps, NULL);
    pthread_create(&t, NULL, from_thread, args);
    for (;;)
        pause();
}

static void fourth(void)
{
    char line[64];
    FILE *f = fopen("/proc/self/status", "r");

    YES(getpid() == atoi(getenv("PID")));
    YES(getpid() == (pid_t)syscall(SYS_gettid));
    while (f != NULL && fgets(line, sizeof(line), f))
        if (strncmp(line, "Threads:", 8) == 0)
            printf("%s", line);
    if (f != NULL)
        fclose(f);
}

int main(int argc, char **argv)
{
    if (argc == 1 || strcmp(argv[1], "second") != 0)
        watchdog();
    if (argc == 1) {
        first();
        return 96;
    }
    if (strcmp(argv[1], "third") != 0)
        show(argc, argv);
    if (strcmp(argv[1], "second") == 0)
        second();
    if (strcmp(argv[1], "third") == 0)
        third(argc, argv);
    fourth();
    return 55;
}
