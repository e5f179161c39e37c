/* SPDX-License-Identifier: BSD-2-Clause */
/* connect with AF_UNSPEC, binding without a port, a low water mark larger
 * than the buffer. */
#include "inet.h"

static const struct sockaddr unspec = {.sa_family = AF_UNSPEC};

static void from_connected(int family)
{
    struct sockaddr_storage a;
    socklen_t len;
    int s[2], l, peer;
    char c;

    SECTION("a connection is given up");
    tcp_pair(family, s);
    MUST(send(s[1], "unread", 6, 0));
    E(connect(s[0], &unspec, sizeof(unspec)));
    names(s[0]);
    state_after(s[1], POLLERR);
    E(recv(s[1], &c, 1, MSG_DONTWAIT));
    E(recv(s[0], &c, 1, MSG_DONTWAIT));
    E(recv(s[0], &c, 1, MSG_DONTWAIT));
    E(send(s[0], &c, 1, MSG_NOSIGNAL));
    so_error(s[0]);
    SECTION("and the socket used again");
    l = listener(family, SOCK_STREAM, &a, &len);
    E(connect(s[0], (void *)&a, len));
    peer = (int)MUST(accept(l, NULL, NULL));
    MUST(write(peer, "x", 1));
    E(recv(s[0], &c, 1, 0));
    names(s[0]);
    close(peer);
    SECTION("an error that nobody took is forgotten");
    E(connect(s[0], &unspec, sizeof(unspec)));
    E(connect(s[0], (void *)&a, len));
    peer = (int)MUST(accept(l, NULL, NULL));
    so_error(s[0]);
    MUST(write(peer, "y", 1));
    E(recv(s[0], &c, 1, 0));
    E(connect(s[0], &unspec, sizeof(unspec)));
    E(connect(s[0], &unspec, sizeof(unspec)));
    E(listen(s[0], 3));
    close(s[0]);
    close(s[1]);
    close(peer);
    close(l);
}

static void from_listening(void)
{
    struct sockaddr_storage a;
    socklen_t len;
    int l, c;

    SECTION("a listener is given up");
    l = listener(AF_INET, SOCK_STREAM, &a, &len);
    c = (int)MUST(socket(AF_INET, SOCK_STREAM, 0));
    MUST(connect(c, (void *)&a, len));
    E(connect(l, &unspec, sizeof(unspec)));
    E(accept(l, NULL, NULL));
    state_after(c, POLLIN);
    close(c);
    c = (int)MUST(socket(AF_INET, SOCK_STREAM, 0));
    E(connect(c, (void *)&a, len));
    close(c);
    E(listen(l, 3));
    close(l);
    SECTION("nothing to give up");
    c = (int)MUST(socket(AF_INET, SOCK_STREAM, 0));
    E(connect(c, &unspec, sizeof(unspec)));
    E(connect(c, &unspec, 1));
    state(c);
    close(c);
}

static void late_port(uint32_t own)
{
    struct sockaddr_in me = {.sin_family = AF_INET};
    struct sockaddr_storage a;
    socklen_t len;
    int on = 1, l = listener(AF_INET, SOCK_STREAM, &a, &len), s, peer;

    SECTION("an address without a port");
    me.sin_addr.s_addr = htonl(own);
    s = (int)MUST(socket(AF_INET, SOCK_STREAM, 0));
    E(setsockopt(s, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof(on)));
    E(bind(s, (void *)&me, sizeof(me)));
    names(s);
    E(bind(s, (void *)&me, sizeof(me)));
    E(connect(s, (void *)&a, len));
    names(s);
    E(bind(s, (void *)&me, sizeof(me)));
    peer = (int)MUST(accept(l, NULL, NULL));
    names(peer);
    close(peer);
    close(s);
    s = (int)MUST(socket(AF_INET, SOCK_STREAM, 0));
    MUST(setsockopt(s, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on,
                    sizeof(on)));
    E(bind(s, (void *)&me, sizeof(me)));
    E(listen(s, 3));
    names(s);
    close(s);
    close(l);
}

static void low_water(void)
{
    static char buf[300000];
    int low = sizeof(buf), s[2];
    size_t done = 0;
    ssize_t n;

    SECTION("SO_RCVLOWAT beyond the buffer");
    tcp_pair(AF_INET, s);
    E(setsockopt(s[0], SOL_SOCKET, SO_RCVLOWAT, &low, sizeof(low)));
    MUST(fcntl(s[1], F_SETFL, O_NONBLOCK));
    for (int i = 0; i < 400 && done < sizeof(buf) - 1; i++) {
        n = send(s[1], buf, sizeof(buf) - 1 - done, 0);
        if (n > 0)
            done += (size_t)n;
        else
            sleep_ms(5);
    }
    SAY("all but a byte", done == sizeof(buf) - 1);
    sleep_ms(100);
    state(s[0]);
    MUST(send(s[1], buf, 1, 0));
    state_after(s[0], POLLIN);
    E(recv(s[0], buf, sizeof(buf), 0));
    close(s[0]);
    close(s[1]);
}

int main(void)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    alarm(40);
    from_connected(AF_INET);
    from_connected(AF_INET6);
    from_listening();
    late_port(0x7f000002);
    late_port(INADDR_ANY);
    low_water();
    return 0;
}
