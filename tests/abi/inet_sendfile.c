/* SPDX-License-Identifier: BSD-2-Clause */
/* Files into TCP sockets: sendfile, splice, and vectors both ways. */
#include "inet.h"

#include <sys/sendfile.h>

#define SIZE (300 * 1024)

static char data[SIZE], back[SIZE + 10];

struct job {
    int fd;
    size_t want, got;
};

static void *collect(void *arg)
{
    struct job *j = arg;
    ssize_t n;

    while (j->got < j->want &&
           (n = read(j->fd, back + j->got, j->want - j->got)) > 0)
        j->got += (size_t)n;
    return NULL;
}

static void whole(int family)
{
    struct job j = {.want = SIZE};
    pthread_t t;
    off_t at = 0;
    long sum = 0, n;
    int s[2], f;

    SECTION(family == AF_INET ? "sendfile v4" : "sendfile v6");
    for (size_t i = 0; i < SIZE; i++)
        data[i] = (char)(i ^ i >> 8);
    f = (int)MUST(open("file", O_CREAT | O_TRUNC | O_RDWR, 0600));
    MUST(write(f, data, SIZE));
    tcp_pair(family, s);
    j.fd = s[1];
    pthread_create(&t, NULL, collect, &j);
    while (sum < SIZE && (n = sendfile(s[0], f, &at, SIZE - sum)) > 0)
        sum += n;
    pthread_join(t, NULL);
    SAY("all sent", sum == SIZE && at == SIZE);
    SAY("all came", j.got == SIZE && memcmp(data, back, SIZE) == 0);
    E(sendfile(s[0], f, &at, 10)); /* at the end */
    at = 100;
    E(sendfile(s[0], f, &at, 10));
    E(at);
    E(recv(s[1], back, 10, MSG_WAITALL));
    YES(memcmp(back, data + 100, 10) == 0);
    E(sendfile(s[0], s[1], NULL, 10)); /* from a socket */
    E(lseek(f, -4, SEEK_END));
    E(sendfile(s[0], f, NULL, 10));
    E(recv(s[1], back, 4, MSG_WAITALL));
    close(s[1]);
    close(s[0]);
    close(f);
}

static void vectors(void)
{
    struct iovec out[3] = {{"ab", 2}, {"", 0}, {"cdef", 4}};
    char a[3] = "", b[8] = "";
    struct iovec in[3] = {{a, 2}, {NULL, 0}, {b, 4}};
    int s[2];

    SECTION("vectors");
    tcp_pair(AF_INET, s);
    E(writev(s[0], out, 3));
    struct pollfd p = {s[1], POLLIN, 0};
    poll(&p, 1, 2000);
    E(readv(s[1], in, 3));
    printf("  %s %s\n", a, b);
    E(writev(s[0], out, -1));
    E(writev(s[0], out, 0));
    E(writev(s[0], (void *)8, 1));
    struct iovec bad[2] = {{"ok", 2}, {(void *)8, 4}};
    long n = writev(s[0], bad, 2);
    SAY("EFAULT or what could be read", n == 2 || (n == -1 && errno == EFAULT));
    if (n == 2)
        recv(s[1], a, 2, MSG_WAITALL);
    close(s[0]);
    close(s[1]);
}

static void pipes(void)
{
    int s[2], p[2];

    SECTION("splice");
    tcp_pair(AF_INET, s);
    MUST(pipe(p));
    MUST(write(p[1], "through", 7));
    E(splice(p[0], NULL, s[0], NULL, 7, 0));
    E(recv(s[1], back, 7, MSG_WAITALL));
    printf("  %.7s\n", back);
    MUST(write(s[0], "back", 4));
    E(splice(s[1], NULL, p[1], NULL, 4, 0));
    E(read(p[0], back, 10));
    printf("  %.4s\n", back);
    close(s[0]);
    close(s[1]);
}

int main(void)
{
    watchdog();
    scratch_begin();
    signal(SIGPIPE, SIG_IGN);
    whole(AF_INET);
    whole(AF_INET6);
    vectors();
    pipes();
    return 0;
}
