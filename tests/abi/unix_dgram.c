/* SPDX-License-Identifier: BSD-2-Clause */
/* AF_UNIX datagrams and seqpackets: borders, names, many at once. */
#include "abi.h"

#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>

static char buf[1000];

static socklen_t name(struct sockaddr_un *a, const char *text)
{
    memset(a, 0, sizeof(*a));
    a->sun_family = AF_UNIX;
    strcpy(a->sun_path, text);
    return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(text) +
                       1);
}

static void borders(int type)
{
    struct iovec iov = {buf, 3};
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};
    int s[2], n = -1;

    SECTION(type == SOCK_DGRAM ? "datagrams" : "seqpackets");
    E(socketpair(AF_UNIX, type | SOCK_NONBLOCK, 0, s));
    E(send(s[0], "first", 5, 0));
    E(send(s[0], "second", 6, 0));
    E(send(s[0], "", 0, 0));
    E(send(s[0], "last", 4, 0));
    E(ioctl(s[1], FIONREAD, &n));
    E(n);
    E(recv(s[1], buf, 100, MSG_PEEK));
    E(recv(s[1], buf, 100, 0));
    printf("  %.5s\n", buf);
    E(recvmsg(s[1], &m, MSG_PEEK | MSG_TRUNC));
    printf("  truncated %d\n", (m.msg_flags & MSG_TRUNC) != 0);
    E(recvmsg(s[1], &m, 0));
    printf("  %.3s, truncated %d\n", buf, (m.msg_flags & MSG_TRUNC) != 0);
    E(recv(s[1], buf, 100, 0));
    E(recv(s[1], buf, 2, MSG_TRUNC));
    E(recv(s[1], buf, 100, 0));
    E(recvmsg(s[1], (void *)8, 0));
    E(sendmsg(s[0], (void *)8, 0));
    m.msg_iovlen = 5000;
    E(sendmsg(s[0], &m, 0));
    E(recvmsg(s[1], &m, 0));
    struct iovec parts[3] = {{"a", 1}, {"bc", 2}, {"def", 3}};
    m = (struct msghdr){.msg_iov = parts, .msg_iovlen = 3};
    E(sendmsg(s[0], &m, 0));
    E(read(s[1], buf, 100));
    printf("  %.6s\n", buf);
    E(writev(s[0], parts, 2));
    E(read(s[1], buf, 100));
    E(send(s[0], (void *)8, 4, 0));
    n = 0;
    while (send(s[0], buf, 100, 0) == 100)
        n++;
    printf("  full: %s, some %d\n", errno_name(errno), n >= 5);
    while (recv(s[1], buf, 100, 0) == 100)
        n--;
    printf("  left %d: %s\n", n, errno_name(errno));
    E(shutdown(s[0], SHUT_WR));
    E(send(s[0], "x", 1, MSG_NOSIGNAL));
    E(recv(s[1], buf, 1, 0));
    close(s[1]);
    E(send(s[0], "x", 1, MSG_NOSIGNAL));
    E(recv(s[0], buf, 1, 0));
    close(s[0]);
    E(socketpair(AF_UNIX, type, 0, s));
    close(s[1]);
    E(send(s[0], "x", 1, MSG_NOSIGNAL));
    close(s[0]);
}

static void named(void)
{
    struct sockaddr_un a, b, got;
    socklen_t a_len = name(&a, "a"), b_len = name(&b, "b"), len;
    int sa = (int)MUST(socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0));
    int sb = (int)MUST(socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0));
    int sc = (int)MUST(socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0));

    SECTION("named");
    E(bind(sa, (void *)&a, a_len));
    E(bind(sb, (void *)&b, b_len));
    E(sendto(sa, "to b", 4, 0, (void *)&b, b_len));
    len = sizeof(got);
    E(recvfrom(sb, buf, 100, 0, (void *)&got, &len));
    printf("  from %s, length %d\n", got.sun_path, (int)len);
    E(sendto(sc, "nameless", 8, 0, (void *)&b, b_len));
    len = sizeof(got);
    E(recvfrom(sb, buf, 100, 0, (void *)&got, &len));
    printf("  length of the name %d\n", (int)len);
    E(send(sa, "x", 1, 0));
    E(sendto(sa, "x", 1, 0, (void *)&b, 1));
    E(connect(sa, (void *)&b, b_len));
    E(send(sa, "connected", 9, 0));
    E(recv(sb, buf, 100, 0));
    len = sizeof(got);
    E(getpeername(sa, (void *)&got, &len));
    printf("  %s\n", got.sun_path);
    E(connect(sb, (void *)&a, a_len));
    E(sendto(sc, "stranger", 8, 0, (void *)&b, b_len));
    E(sendto(sa, "other", 5, 0, (void *)&a, a_len));
    E(send(sb, "back", 4, 0));
    E(recv(sa, buf, 100, 0));
    got.sun_family = AF_UNSPEC;
    E(connect(sb, (void *)&got, sizeof(sa_family_t)));
    E(sendto(sc, "stranger", 8, 0, (void *)&b, b_len));
    E(recv(sb, buf, 100, 0));
    E(listen(sa, 1));
    E(accept(sa, NULL, NULL));
    close(sb);
    E(send(sa, "x", 1, 0));
    E(sendto(sc, "x", 1, 0, (void *)&b, b_len));
    E(unlink("b"));
    E(sendto(sc, "x", 1, 0, (void *)&b, b_len));
    close(sa);
    /* bind with the family alone: the kernel takes a name */
    E(bind(sc, (void *)&a, sizeof(sa_family_t)));
    len = sizeof(got);
    E(getsockname(sc, (void *)&got, &len));
    printf("  abstract %d, length %d\n", got.sun_path[0] == 0, (int)len);
    close(sc);
}

static void at_once(void)
{
    struct mmsghdr out[4], in[6];
    struct iovec ov[4], iv[6];
    static char text[4][8] = {"zero", "one", "two", "three"}, room[6][8];
    struct timespec t = {0, 30 * MS};
    int s[2];

    SECTION("sendmmsg and recvmmsg");
    MUST(socketpair(AF_UNIX, SOCK_DGRAM, 0, s));
    memset(out, 0, sizeof(out));
    memset(in, 0, sizeof(in));
    for (int i = 0; i < 4; i++) {
        ov[i] = (struct iovec){text[i], strlen(text[i])};
        out[i].msg_hdr.msg_iov = &ov[i];
        out[i].msg_hdr.msg_iovlen = 1;
    }
    for (int i = 0; i < 6; i++) {
        iv[i] = (struct iovec){room[i], 4};
        in[i].msg_hdr.msg_iov = &iv[i];
        in[i].msg_hdr.msg_iovlen = 1;
    }
    E(sendmmsg(s[0], out, 4, 0));
    for (int i = 0; i < 4; i++)
        printf("  %u", out[i].msg_len);
    printf("\n");
    E(recvmmsg(s[1], in, 2, 0, NULL));
    E(recvmmsg(s[1], in + 2, 4, MSG_WAITFORONE, NULL));
    for (int i = 0; i < 4; i++)
        printf("  %u %.4s%s", in[i].msg_len, room[i],
               in[i].msg_hdr.msg_flags & MSG_TRUNC ? "..." : "");
    printf("\n");
    E(recvmmsg(s[1], in, 4, MSG_DONTWAIT, NULL));
    E(sendmmsg(s[0], out, 2, 0));
    E(recvmmsg(s[1], in, 4, MSG_DONTWAIT, &t));
    E(sendmmsg(s[0], out, 0, 0));
    ov[1] = (struct iovec){(void *)8, 4};
    E(sendmmsg(s[0], out, 4, 0));
    E(recvmmsg(s[1], in, 4, MSG_DONTWAIT, NULL));
    E(sendmmsg(s[0], out + 1, 3, 0));
    E(sendmmsg(99, out, 1, 0));
    E(sendmmsg(1, out, 1, 0));
    close(s[0]);
    close(s[1]);
}

int main(void)
{
    watchdog();
    scratch_begin();
    borders(SOCK_DGRAM);
    borders(SOCK_SEQPACKET);
    named();
    at_once();
    return 0;
}
