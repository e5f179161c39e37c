/* SPDX-License-Identifier: BSD-2-Clause */
/* Control messages: passing descriptors and credentials. */
#include "abi.h"

#include <sys/socket.h>
#include <sys/un.h>

union control {
    struct cmsghdr align;
    char room[2000];
};

static int send_fds(int s, const char *text, size_t len, const int *fds, int n)
{
    union control c = {0};
    struct iovec iov = {(char *)text, len};
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &c,
                       .msg_controllen = CMSG_SPACE(sizeof(int) * (size_t)n)};
    struct cmsghdr *h = CMSG_FIRSTHDR(&m);

    h->cmsg_level = SOL_SOCKET;
    h->cmsg_type = SCM_RIGHTS;
    h->cmsg_len = CMSG_LEN(sizeof(int) * (size_t)n);
    memcpy(CMSG_DATA(h), fds, sizeof(int) * (size_t)n);
    return (int)sendmsg(s, &m, MSG_NOSIGNAL);
}

/* Receives into room for `max` descriptors; prints what came. */
static int receive(int s, int max, int flags, int *fds)
{
    union control c = {0};
    char text[64];
    struct iovec iov = {text, sizeof(text)};
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &c,
                       .msg_controllen = max < 0 ? 0
                                         : CMSG_SPACE(sizeof(int) *
                                                      (size_t)max)};
    int r = (int)recvmsg(s, &m, flags), n = 0;

    if (r < 0) {
        printf("  %s\n", errno_name(errno));
        return 0;
    }
    printf("  %d bytes [%.*s]%s\n", r, r, text,
           m.msg_flags & MSG_CTRUNC ? " (control truncated)" : "");
    for (struct cmsghdr *h = CMSG_FIRSTHDR(&m); h; h = CMSG_NXTHDR(&m, h)) {
        if (h->cmsg_level == SOL_SOCKET && h->cmsg_type == SCM_RIGHTS) {
            n = (int)((h->cmsg_len - CMSG_LEN(0)) / sizeof(int));
            memcpy(fds, CMSG_DATA(h), sizeof(int) * (size_t)n);
            printf("  %d descriptors, length %d\n", n, (int)h->cmsg_len);
        } else if (h->cmsg_type == SCM_CREDENTIALS) {
            struct ucred u;
            memcpy(&u, CMSG_DATA(h), sizeof(u));
            printf("  credentials: me %d, %d:%d\n", u.pid == getpid(), u.uid,
                   u.gid);
        }
    }
    return n;
}

static void descriptors(void)
{
    int s[2], p[2], fds[300];
    char c[16];
    struct stat a, b;

    SECTION("descriptors");
    MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, s));
    MUST(pipe(p));
    E(send_fds(s[0], "two", 3, p, 2));
    close(p[0]);
    close(p[1]);
    E(receive(s[1], 2, MSG_CMSG_CLOEXEC, fds));
    printf("  %d %d\n", fds[0], fds[1]);
    E(fcntl(fds[0], F_GETFD));
    E(write(fds[1], "through", 7));
    E(read(fds[0], c, 16));
    E(send_fds(s[0], "again", 5, fds, 2));
    E(receive(s[1], 1, 0, fds + 2)); /* room for both, it rounds up */
    close(fds[2]);
    close(fds[3]);
    E(send_fds(s[0], "three", 5, (int[]){0, 1, 2}, 3));
    E(receive(s[1], 1, 0, fds + 2));
    fstat(1, &a);
    fstat(fds[3], &b);
    SAY("the same file", a.st_ino == b.st_ino && a.st_dev == b.st_dev);
    close(fds[2]);
    close(fds[3]);
    E(send_fds(s[0], "none", 4, fds, 2));
    E(receive(s[1], -1, 0, fds + 2)); /* no room at all */
    E(send_fds(s[0], "bad", 3, (int[]){99}, 1));
    E(send_fds(s[0], "bad", 3, (int[]){-1}, 1));
    E(recv(s[1], c, 1, MSG_DONTWAIT));
    for (int i = 0; i < 254; i++)
        fds[10 + i] = fds[0];
    E(send_fds(s[0], "many", 4, fds + 10, 253));
    E(receive(s[1], 253, 0, fds + 10));
    printf("  %d to %d\n", fds[10], fds[10 + 252]);
    for (int i = 0; i < 253; i++)
        close(fds[10 + i]);
    for (int i = 0; i < 254; i++)
        fds[10 + i] = fds[0];
    E(send_fds(s[0], "more", 4, fds + 10, 254));
    SECTION("in a stream");
    E(write(s[0], "plain", 5));
    E(send_fds(s[0], "carrier", 7, fds, 1));
    E(write(s[0], "after", 5));
    /* A read stops at a message with descriptors of its own. */
    E(receive(s[1], 4, 0, fds + 2));
    E(receive(s[1], 4, 0, fds + 2));
    E(recv(s[1], c, 16, MSG_DONTWAIT));
    E(send_fds(s[0], "dropped", 7, fds, 1));
    E(read(s[1], c, 16)); /* plain read: the descriptor goes away */
    E(send_fds(s[0], "peeked", 6, fds, 1));
    int n = receive(s[1], 4, MSG_PEEK, fds + 2);
    if (n == 1)
        close(fds[2]);
    E(receive(s[1], 4, 0, fds + 2));
    E(close(fds[2]));
    SECTION("a socket through itself");
    E(send_fds(s[0], "loop", 4, s, 2));
    close(s[1]);
    close(s[0]);
    close(fds[0]);
    close(fds[1]);
    E(dup(1));
}

static void in_datagrams(void)
{
    int s[2], fds[4];

    SECTION("in datagrams");
    MUST(socketpair(AF_UNIX, SOCK_DGRAM, 0, s));
    E(send_fds(s[0], "a", 1, s, 1));
    E(send_fds(s[0], "", 0, s, 1));
    E(receive(s[1], 4, 0, fds));
    close(fds[0]);
    E(receive(s[1], 4, 0, fds));
    close(fds[0]);
    /* What is never received is closed with the socket. */
    int p[2];
    char c;
    MUST(pipe(p));
    E(send_fds(s[0], "b", 1, p + 1, 1));
    close(p[1]);
    close(s[0]);
    close(s[1]);
    E(read(p[0], &c, 1));
    close(p[0]);
}

static void credentials(void)
{
    union control c = {0};
    struct iovec iov = {"x", 1};
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &c,
                       .msg_controllen = CMSG_SPACE(sizeof(struct ucred))};
    struct cmsghdr *h = CMSG_FIRSTHDR(&m);
    struct ucred u;
    socklen_t len = sizeof(u);
    int s[2], on = 1, fds[4];

    SECTION("credentials");
    MUST(socketpair(AF_UNIX, SOCK_DGRAM, 0, s));
    E(getsockopt(s[0], SOL_SOCKET, SO_PEERCRED, &u, &len));
    printf("  me %d, %d:%d\n", u.pid == getpid(), u.uid, u.gid);
    E(setsockopt(s[1], SOL_SOCKET, SO_PASSCRED, &on, sizeof(on)));
    E(send(s[0], "automatic", 9, 0));
    E(receive(s[1], 30, 0, fds));
    h->cmsg_level = SOL_SOCKET;
    h->cmsg_type = SCM_CREDENTIALS;
    h->cmsg_len = CMSG_LEN(sizeof(u));
    u = (struct ucred){getpid(), 5, 6};
    memcpy(CMSG_DATA(h), &u, sizeof(u));
    E(sendmsg(s[0], &m, 0)); /* root may pretend */
    E(receive(s[1], 30, 0, fds));
    h->cmsg_len = CMSG_LEN(4);
    E(sendmsg(s[0], &m, 0));
    h->cmsg_type = 99;
    h->cmsg_len = CMSG_LEN(sizeof(u));
    E(sendmsg(s[0], &m, 0));
    h->cmsg_len = 5;
    E(sendmsg(s[0], &m, 0));
    m.msg_control = (void *)8;
    E(sendmsg(s[0], &m, 0));
    close(s[0]);
    close(s[1]);
}

int main(void)
{
    watchdog();
    syscall(436, 3, ~0u, 0);
    descriptors();
    in_datagrams();
    credentials();
    return 0;
}
