/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the tests of instances run:
 *   serve NAME PORT      answers each connection with NAME
 *   count N STATUS [US]  writes lines 1..N (every third on stderr), sleeping US
 *                        microseconds after each hundred, and exits with STATUS
 *   deaf                 ignores SIGTERM
 *   copy                 copies stdin to stdout, says "end" at its end
 */
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static int serve(const char *name, int port)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(port)};
    int s = socket(AF_INET, SOCK_STREAM, 0), one = 1;

    setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (bind(s, (void *)&at, sizeof(at)) || listen(s, 16))
        return 1;
    printf("%s listens\n", name);
    fflush(stdout);
    for (;;) {
        int c = accept(s, NULL, NULL);

        if (write(c, name, strlen(name)) < 0)
            return 2;
        close(c);
    }
}

static int count(long n, int status, unsigned pause_us)
{
    static char out[1 << 16], err[1 << 12];

    setvbuf(stdout, out, _IOFBF, sizeof(out));
    setvbuf(stderr, err, _IOLBF, sizeof(err));
    for (long i = 1; i <= n; i++) {
        fprintf(i % 3 ? stdout : stderr, "line %ld\n", i);
        if (i % 100 == 0 && pause_us) {
            fflush(stdout);
            usleep(pause_us);
        }
    }
    return status;
}

static int copy(void)
{
    char buf[4096];
    ssize_t n;

    while ((n = read(0, buf, sizeof(buf))) > 0)
        if (write(1, buf, (size_t)n) != n)
            return 1;
    puts("end");
    return 0;
}

int main(int argc, char **argv)
{
    const char *mode = argc > 1 ? argv[1] : "";

    if (!strcmp(mode, "serve") && argc > 3)
        return serve(argv[2], atoi(argv[3]));
    if (!strcmp(mode, "count") && argc > 3)
        return count(atol(argv[2]), atoi(argv[3]),
                     argc > 4 ? (unsigned)atoi(argv[4]) : 0);
    if (!strcmp(mode, "copy"))
        return copy();
    if (!strcmp(mode, "deaf")) {
        signal(SIGTERM, SIG_IGN);
        puts("deaf");
        fflush(stdout);
        for (;;)
            pause();
    }
    return 64;
}
