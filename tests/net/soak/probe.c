// SPDX-License-Identifier: BSD-2-Clause
/*
 * A library that is preloaded into an unmodified server of a soak test: one
 * more thread, which tells the host what the guest's /proc says.
 *
 * A connection to port SOAK_PORT (environment) sends one line:
 *   get PATH    the bytes of that file
 *   quit        the program gets SIGTERM
 * The soft limit of open files is raised to the hard one before main().
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

static void die(const char *what)
{
    fprintf(stderr, "probe: %s: %s\n", what, strerror(errno));
    _exit(1);
}

static void send_all(int fd, const char *data, size_t n)
{
    while (n) {
        ssize_t k = send(fd, data, n, MSG_NOSIGNAL);

        if (k <= 0)
            return;
        data += k;
        n -= (size_t)k;
    }
}

static void send_file(int fd, const char *path)
{
    static char data[65536];
    int in = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n;

    if (in < 0) {
        n = snprintf(data, sizeof(data), "probe: %s: %s\n", path,
                     strerror(errno));
        send_all(fd, data, (size_t)n);
        return;
    }
    while ((n = read(in, data, sizeof(data))) > 0)
        send_all(fd, data, (size_t)n);
    close(in);
}

static void serve(int fd)
{
    struct timeval patience = {.tv_sec = 5};
    char line[512];
    ssize_t n;

    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    n = recv(fd, line, sizeof(line) - 1, 0);
    line[n > 0 ? n : 0] = '\0';
    line[strcspn(line, "\r\n")] = '\0';
    if (strncmp(line, "get ", 4) == 0)
        send_file(fd, line + 4);
    else if (strcmp(line, "quit") == 0)
        kill(getpid(), SIGTERM);
    close(fd);
}

static void *listen_for_ever(void *arg)
{
    int fd = (int)(long)arg;

    for (;;) {
        int client = accept4(fd, NULL, NULL, SOCK_CLOEXEC);

        if (client >= 0)
            serve(client);
        else if (errno != EINTR && errno != ECONNABORTED)
            usleep(100000); /* no descriptors, no memory: later */
    }
    return NULL;
}

static void start_thread(int fd)
{
    sigset_t all, old;
    pthread_t t;

    sigfillset(&all); /* signals are the program's */
    pthread_sigmask(SIG_SETMASK, &all, &old);
    errno = pthread_create(&t, NULL, listen_for_ever, (void *)(long)fd);
    if (errno)
        die("pthread_create");
    pthread_sigmask(SIG_SETMASK, &old, NULL);
}

static __attribute__((constructor)) void start(void)
{
    const char *port = getenv("SOAK_PORT");
    struct sockaddr_in a = {.sin_family = AF_INET};
    struct rlimit files;
    int fd, on = 1;

    if (!port)
        return;
    if (getrlimit(RLIMIT_NOFILE, &files) != 0)
        die("getrlimit");
    files.rlim_cur = files.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &files) != 0)
        die("setrlimit");
    fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    a.sin_port = htons((uint16_t)atoi(port));
    if (fd < 0 ||
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) != 0 ||
        bind(fd, (struct sockaddr *)&a, sizeof(a)) != 0 || listen(fd, 16) != 0)
        die("the port");
    start_thread(fd);
}
