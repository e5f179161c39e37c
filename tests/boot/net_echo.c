/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Echoes what connections to TCP port 7 and datagrams to UDP port 7 bring,
 * says "listening" first, and prints "bye" and ends at the line "QUIT".
 */
#include <arpa/inet.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define MAX_FDS 16

static char buf[65536];

/* 1: told to stop, 0: go on, -1: the connection is at its end. */
static int serve(int fd)
{
    ssize_t n = read(fd, buf, sizeof(buf)), at = 0, k;

    if (n <= 0)
        return -1;
    if (n >= 5 && memcmp(buf, "QUIT\n", 5) == 0)
        return 1;
    for (; at < n; at += k) {
        k = write(fd, buf + at, (size_t)(n - at));
        if (k <= 0)
            return -1;
    }
    return 0;
}

static void serve_datagram(int fd)
{
    struct sockaddr_in from;
    socklen_t len = sizeof(from);
    ssize_t n = recvfrom(fd, buf, sizeof(buf), 0, (void *)&from, &len);

    if (n >= 0)
        sendto(fd, buf, (size_t)n, 0, (void *)&from, len);
}

int main(void)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(7)};
    struct pollfd fds[MAX_FDS] = {{.fd = socket(AF_INET, SOCK_STREAM, 0)},
                                  {.fd = socket(AF_INET, SOCK_DGRAM, 0)}};
    nfds_t nr = 2;

    if (bind(fds[0].fd, (void *)&at, sizeof(at)) || listen(fds[0].fd, 8) ||
        bind(fds[1].fd, (void *)&at, sizeof(at))) {
        perror("port 7");
        return 1;
    }
    fds[0].events = fds[1].events = POLLIN;
    puts("listening");
    fflush(stdout);
    while (poll(fds, nr, -1) > 0) {
        for (nfds_t i = 2; i < nr; i++) {
            int end = fds[i].revents ? serve(fds[i].fd) : 0;

            if (end > 0) {
                puts("bye");
                return 0;
            }
            if (end < 0) {
                close(fds[i].fd);
                fds[i--] = fds[--nr];
            }
        }
        if (fds[1].revents)
            serve_datagram(fds[1].fd);
        if (fds[0].revents && nr < MAX_FDS)
            fds[nr++] = (struct pollfd){.fd = accept(fds[0].fd, NULL, NULL),
                                        .events = POLLIN};
    }
    perror("poll");
    return 1;
}
