// SPDX-License-Identifier: BSD-2-Clause
/*
 * What runs behind the stack under test: an echo service (TCP and UDP port 7)
 * and a puppet. The puppet's sockets do nothing by themselves; each datagram
 * to UDP port 9 is one command line, the answer is one line:
 *
 *   accept                   ok SLOT | none     of TCP port 1000, never read
 *   connect ADDR PORT [FROM] ok SLOT            begins; FROM: our own port
 *   error SLOT               ok ERRNO           SO_ERROR
 *   send SLOT N              ok BYTES           bytes 0, 1, ... 250, 0, ...
 *   read SLOT MAX            ok BYTES HEX       -1 ERRNO when none
 *   set SLOT LEVEL OPT VALUE ok
 *   info SLOT                ok STATE MSS       of TCP_INFO
 *   shut SLOT HOW | close SLOT | abort SLOT
 *   sendto ADDR PORT N       ok BYTES           from UDP port 7
 *   join ADDR | leave ADDR   ok                 a group, on UDP port 7
 *   memory                   ok KIB             MemAvailable
 *   udp N                    ok COUNT           datagrams to port 7 from us
 *   quit
 * What fails answers "err ERRNO".
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define MAX_ECHOES 200
#define SLOTS 256
#define BUF (256 << 10)
#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

struct echo {
    int fd;
    char *buf;
    size_t at, len;
};

static struct echo echoes[MAX_ECHOES];
static nfds_t nr_echoes;
static int slots[SLOTS];
static unsigned offsets[SLOTS];
static int udp_echo, udp_control, tcp_echo, tcp_puppet;
static char big[1 << 20], answer[4096];
static long from_ourselves; /* datagrams whose sender is our own port 7 */

static int listening(int type, int port)
{
    struct sockaddr_in6 at = {.sin6_family = AF_INET6,
                              .sin6_port = htons((uint16_t)port)};
    int fd = socket(AF_INET6, type | SOCK_NONBLOCK, 0), on = 1;

    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) ||
        bind(fd, (void *)&at, sizeof(at)) ||
        (type == SOCK_STREAM && listen(fd, 128))) {
        perror("listening");
        exit(1);
    }
    return fd;
}

static int to_address(const char *text, int port, struct sockaddr_in6 *to)
{
    char mapped[64];

    memset(to, 0, sizeof(*to));
    to->sin6_family = AF_INET6;
    to->sin6_port = htons((uint16_t)port);
    snprintf(mapped, sizeof(mapped), "%s%s", strchr(text, ':') ? "" : "::ffff:",
             text);
    return inet_pton(AF_INET6, mapped, &to->sin6_addr) == 1 ? 0 : -1;
}

static int new_slot(int fd)
{
    for (int i = 0; fd >= 0 && i < SLOTS; i++)
        if (slots[i] < 0) {
            slots[i] = fd;
            offsets[i] = 0;
            return i;
        }
    if (fd >= 0)
        close(fd);
    errno = fd < 0 ? errno : EMFILE;
    return -1;
}

static void say_int(long n)
{
    if (n < 0)
        snprintf(answer, sizeof(answer), "err %d", errno);
    else
        snprintf(answer, sizeof(answer), "ok %ld", n);
}

static void do_connect(const char *addr, int port, int from)
{
    struct sockaddr_in6 to, at = {.sin6_family = AF_INET6,
                                  .sin6_port = htons((uint16_t)from)};
    int fd = socket(AF_INET6, SOCK_STREAM | SOCK_NONBLOCK, 0), on = 1;

    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (to_address(addr, port, &to) || (from && bind(fd, (void *)&at, sizeof(at))) ||
        (connect(fd, (void *)&to, sizeof(to)) && errno != EINPROGRESS)) {
        say_int(-1);
        close(fd);
        return;
    }
    say_int(new_slot(fd));
}

static void do_send(int slot, size_t n)
{
    for (size_t i = 0; i < n && i < sizeof(big); i++)
        big[i] = (char)((offsets[slot] + i) % 251);
    ssize_t k = send(slots[slot], big, n, MSG_NOSIGNAL);
    if (k > 0)
        offsets[slot] = (offsets[slot] + (unsigned)k) % 251;
    say_int(k);
}

static void do_read(int slot, size_t max)
{
    unsigned char bytes[600]; /* the answer fits one packet */
    ssize_t n = read(slots[slot], bytes, max < sizeof(bytes) ? max
                                                             : sizeof(bytes));
    int at = snprintf(answer, sizeof(answer), "ok %zd ", n);

    if (n < 0)
        snprintf(answer + at, sizeof(answer) - (size_t)at, "%d", errno);
    for (ssize_t i = 0; i < n; i++)
        at += snprintf(answer + at, sizeof(answer) - (size_t)at, "%02x",
                       bytes[i]);
}

static void do_info(int slot)
{
    struct tcp_info info = {0};
    socklen_t len = sizeof(info);

    if (getsockopt(slots[slot], IPPROTO_TCP, TCP_INFO, &info, &len))
        say_int(-1);
    else
        snprintf(answer, sizeof(answer), "ok %u %u", info.tcpi_state,
                 info.tcpi_snd_mss);
}

static void do_sendto(const char *addr, int port, size_t n)
{
    struct sockaddr_in6 to;

    for (size_t i = 0; i < n && i < sizeof(big); i++)
        big[i] = (char)(i % 251);
    if (to_address(addr, port, &to))
        errno = EINVAL, say_int(-1);
    else
        say_int(sendto(udp_echo, big, n, 0, (void *)&to, sizeof(to)));
}

static void do_group(const char *addr, int is_join)
{
    struct ipv6_mreq v6 = {.ipv6mr_interface = 0};
    struct ip_mreqn v4 = {.imr_ifindex = 0};

    if (inet_pton(AF_INET6, addr, &v6.ipv6mr_multiaddr) == 1)
        say_int(setsockopt(udp_echo, IPPROTO_IPV6,
                           is_join ? IPV6_JOIN_GROUP : IPV6_LEAVE_GROUP, &v6,
                           sizeof(v6)));
    else if (inet_pton(AF_INET, addr, &v4.imr_multiaddr) == 1)
        say_int(setsockopt(udp_echo, IPPROTO_IP,
                           is_join ? IP_ADD_MEMBERSHIP : IP_DROP_MEMBERSHIP,
                           &v4, sizeof(v4)));
    else
        errno = EINVAL, say_int(-1);
}

static void do_memory(void)
{
    FILE *f = fopen("/proc/meminfo", "r");
    long kib = -1;
    char line[128];

    while (f && fgets(line, sizeof(line), f))
        if (sscanf(line, "MemAvailable: %ld", &kib) == 1)
            break;
    if (f)
        fclose(f);
    say_int(kib);
}

static void end_slot(int slot, int is_abort)
{
    struct linger now = {.l_onoff = 1};

    if (is_abort)
        setsockopt(slots[slot], SOL_SOCKET, SO_LINGER, &now, sizeof(now));
    say_int(close(slots[slot]));
    slots[slot] = -1;
}

/* Commands about one slot. 0: it was none of them. */
static int slot_command(const char *line)
{
    char verb[16];
    long a = 0, b = 0, c = 0;
    int slot, n = sscanf(line, "%15s %d %ld %ld %ld", verb, &slot, &a, &b, &c);
    int value = (int)c;
    socklen_t len = sizeof(value);

    if (n < 2 || slot < 0 || slot >= SLOTS || slots[slot] < 0)
        return 0;
    if (!strcmp(verb, "send"))
        do_send(slot, (size_t)a);
    else if (!strcmp(verb, "read"))
        do_read(slot, (size_t)a);
    else if (!strcmp(verb, "info"))
        do_info(slot);
    else if (!strcmp(verb, "set"))
        say_int(setsockopt(slots[slot], (int)a, (int)b, &value, len));
    else if (!strcmp(verb, "shut"))
        say_int(shutdown(slots[slot], (int)a));
    else if (!strcmp(verb, "error"))
        say_int(getsockopt(slots[slot], SOL_SOCKET, SO_ERROR, &value, &len)
                    ? -1
                    : value);
    else if (!strcmp(verb, "close") || !strcmp(verb, "abort"))
        end_slot(slot, verb[0] == 'a');
    else
        return 0;
    return 1;
}

static void command(const char *line)
{
    char addr[64];
    int port, from = 0;
    size_t n;

    if (!strcmp(line, "accept"))
        say_int(new_slot(accept4(tcp_puppet, NULL, NULL, SOCK_NONBLOCK)));
    else if (sscanf(line, "connect %63s %d %d", addr, &port, &from) >= 2)
        do_connect(addr, port, from);
    else if (sscanf(line, "sendto %63s %d %zu", addr, &port, &n) == 3)
        do_sendto(addr, port, n);
    else if (sscanf(line, "join %63s", addr) == 1)
        do_group(addr, 1);
    else if (sscanf(line, "leave %63s", addr) == 1)
        do_group(addr, 0);
    else if (sscanf(line, "udp %d", &from) == 1)
        say_int(from_ourselves);
    else if (!strcmp(line, "memory"))
        do_memory();
    else if (!slot_command(line))
        errno = EBADMSG, say_int(-1);
}

/* Datagrams: commands (each with a number in front, which comes back), echo. */
static void serve_datagrams(int fd)
{
    static char in[65536], out[5000];
    static unsigned last;
    struct sockaddr_in6 from;
    socklen_t len = sizeof(from);
    ssize_t n;

    while ((n = recvfrom(fd, in, sizeof(in) - 1, 0, (void *)&from, &len)) >=
           0) {
        if (fd == udp_control) {
            int at = 0;
            unsigned number = 0;

            in[n] = 0;
            if (sscanf(in, "%u %n", &number, &at) < 1 || !at)
                continue;
            if (!strcmp(in + at, "quit")) {
                puts("bye");
                exit(0);
            }
            if (number != last) /* else it was asked again: the same answer */
                command(in + at);
            last = number;
            n = snprintf(out, sizeof(out), "%u %s", number, answer);
            sendto(fd, out, (size_t)n, 0, (void *)&from, len);
        } else {
            if (from.sin6_port == htons(7))
                from_ourselves++; /* an answer would go round for ever */
            else
                sendto(fd, in, (size_t)n, 0, (void *)&from, len);
        }
        len = sizeof(from);
    }
}

/* False: the connection is at its end. */
static int serve_echo(struct echo *e)
{
    ssize_t n;

    if (!e->len) {
        n = read(e->fd, e->buf, BUF);
        if (n <= 0)
            return n < 0 && errno == EAGAIN;
        e->len = (size_t)n;
        e->at = 0;
    }
    n = send(e->fd, e->buf + e->at, e->len - e->at, MSG_NOSIGNAL);
    if (n < 0)
        return errno == EAGAIN;
    e->at += (size_t)n;
    if (e->at == e->len)
        e->len = 0;
    return 1;
}

static void new_echo(void)
{
    int fd = accept4(tcp_echo, NULL, NULL, SOCK_NONBLOCK);

    if (fd < 0)
        return;
    /* The oldest gives way: a test must not be able to use them all up. */
    if (nr_echoes == MAX_ECHOES) {
        close(echoes[0].fd);
        free(echoes[0].buf);
        memmove(echoes, echoes + 1, sizeof(echoes[0]) * --nr_echoes);
    }
    echoes[nr_echoes++] = (struct echo){.fd = fd, .buf = malloc(BUF)};
}

static void serve_echoes(const struct pollfd *fds)
{
    nfds_t kept = 0;

    for (nfds_t i = 0; i < nr_echoes; i++) {
        if (fds[i].revents && !serve_echo(&echoes[i])) {
            close(echoes[i].fd);
            free(echoes[i].buf);
            continue;
        }
        echoes[kept++] = echoes[i];
    }
    nr_echoes = kept;
}

int main(void)
{
    struct pollfd fds[MAX_ECHOES + 3];

    signal(SIGPIPE, SIG_IGN);
    memset(slots, -1, sizeof(slots));
    udp_echo = listening(SOCK_DGRAM, 7);
    udp_control = listening(SOCK_DGRAM, 9);
    tcp_echo = listening(SOCK_STREAM, 7);
    tcp_puppet = listening(SOCK_STREAM, 1000);
    puts("listening");
    fflush(stdout);
    for (;;) {
        fds[0] = (struct pollfd){.fd = udp_echo, .events = POLLIN};
        fds[1] = (struct pollfd){.fd = udp_control, .events = POLLIN};
        fds[2] = (struct pollfd){.fd = tcp_echo, .events = POLLIN};
        for (nfds_t i = 0; i < nr_echoes; i++)
            fds[3 + i] = (struct pollfd){
                .fd = echoes[i].fd, .events = echoes[i].len ? POLLOUT : POLLIN};
        if (poll(fds, 3 + nr_echoes, -1) < 0) {
            perror("poll");
            return 1;
        }
        serve_echoes(fds + 3);
        if (fds[0].revents)
            serve_datagrams(udp_echo);
        if (fds[1].revents)
            serve_datagrams(udp_control);
        if (fds[2].revents)
            new_echo();
    }
}
