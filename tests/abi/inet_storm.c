/* SPDX-License-Identifier: BSD-2-Clause */
/* Threads that do anything to each other's sockets: close, connect again,
 * shut down, wait, while others are in a call. Nothing is observed but that it
 * ends: locks, references and tables of the network have to stand it. */
#include "inet.h"

#define NR_SLOTS 24
#define NR_THREADS 8
#define NR_EPOLLS 3
#define SECONDS 3

static int slots[NR_SLOTS], epolls[NR_EPOLLS], server;
static in_port_t tcp_port, udp_port;
static volatile bool is_over;

static unsigned draw(unsigned *seed, unsigned n)
{
    *seed = *seed * 1664525u + 1013904223u;
    return (*seed >> 8) % n;
}

/* The socket whose place it takes is closed, whoever uses it. */
static void put(int fd, unsigned *seed)
{
    struct timeval wait = {0, 2000};
    int old;

    if (fd < 0)
        return;
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof(wait));
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait));
    old = __atomic_exchange_n(&slots[draw(seed, NR_SLOTS)], fd,
                              __ATOMIC_SEQ_CST);
    if (old > 0)
        close(old);
}

static void do_connect(int fd, unsigned *seed)
{
    struct sockaddr unspec = {.sa_family = AF_UNSPEC};
    struct sockaddr_storage a;
    socklen_t len = loopback(&a, AF_INET, draw(seed, 4) ? tcp_port : 1);

    if (draw(seed, 4) == 0)
        connect(fd, &unspec, sizeof(unspec));
    else
        connect(fd, (void *)&a, len);
}

static void do_new(int fd, unsigned *seed)
{
    int flags = draw(seed, 2) ? SOCK_NONBLOCK : 0;
    int s = socket(AF_INET, SOCK_STREAM | flags, 0);

    if (s >= 0)
        do_connect(s, seed);
    put(s, seed);
    put(accept4(server, NULL, NULL, flags), seed);
}

static void do_datagram(int fd, unsigned *seed)
{
    static const char bytes[3000];
    struct sockaddr_storage a;
    socklen_t len = loopback(&a, AF_INET, udp_port);
    int s = socket(AF_INET, SOCK_DGRAM, 0);

    if (draw(seed, 2))
        (void)!connect(s, (void *)&a, len);
    sendto(s, bytes, draw(seed, sizeof(bytes)), 0, (void *)&a, len);
    put(s, seed);
}

static void do_send(int fd, unsigned *seed)
{
    static const char bytes[4096];

    send(fd, bytes, draw(seed, sizeof(bytes)),
         MSG_NOSIGNAL | (draw(seed, 2) ? MSG_DONTWAIT : 0));
}

static void do_recv(int fd, unsigned *seed)
{
    char bytes[4096];

    recv(fd, bytes, draw(seed, sizeof(bytes)),
         draw(seed, 2) ? MSG_DONTWAIT : 0);
}

static void do_shutdown(int fd, unsigned *seed)
{
    shutdown(fd, (int)draw(seed, 3));
}

static void do_dup(int fd, unsigned *seed)
{
    put(dup(fd), seed);
}

static void do_options(int fd, unsigned *seed)
{
    struct linger now = {1, 0};
    int v = (int)draw(seed, 200000);

    if (draw(seed, 2))
        setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
    setsockopt(fd, SOL_SOCKET, draw(seed, 2) ? SO_RCVBUF : SO_SNDBUF, &v,
               sizeof(v));
    v &= 1;
    setsockopt(fd, IPPROTO_TCP, draw(seed, 2) ? TCP_NODELAY : TCP_CORK, &v,
               sizeof(v));
}

static void do_epoll(int fd, unsigned *seed)
{
    struct epoll_event e = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP};

    e.events |= draw(seed, 2) ? EPOLLET : 0;
    e.events |= draw(seed, 2) ? EPOLLONESHOT : 0;
    epoll_ctl(epolls[draw(seed, NR_EPOLLS)], 1 + (int)draw(seed, 3), fd, &e);
}

static void do_wait(int fd, unsigned *seed)
{
    struct epoll_event e[8];
    struct pollfd p = {fd, POLLIN | POLLOUT, 0};

    epoll_wait(epolls[draw(seed, NR_EPOLLS)], e, 8, (int)draw(seed, 3));
    poll(&p, 1, (int)draw(seed, 2));
}

static void do_ask(int fd, unsigned *seed)
{
    struct sockaddr_storage a;
    socklen_t len = sizeof(a);
    char text[4096];
    int file;

    getpeername(fd, (void *)&a, &len);
    file = draw(seed, 8) ? -1 : open("/proc/net/tcp", O_RDONLY);
    if (file < 0)
        return;
    while (read(file, text, sizeof(text)) > 0)
        ;
    close(file);
}

static void *work(void *arg)
{
    static void (*const deeds[])(int fd, unsigned *seed) = {
        do_new, do_new, do_connect, do_datagram, do_send, do_send, do_recv,
        do_recv, do_shutdown, do_dup, do_options, do_epoll, do_wait, do_ask,
    };
    unsigned seed = (unsigned)(uintptr_t)arg * 7919 + 1;

    while (!is_over) {
        unsigned deed = draw(&seed, COUNT(deeds));
        int fd = __atomic_load_n(&slots[draw(&seed, NR_SLOTS)],
                                 __ATOMIC_SEQ_CST);
        if (fd > 0 || deed == 0)
            deeds[deed](fd, &seed);
    }
    return NULL;
}

int main(void)
{
    struct epoll_event e = {.events = EPOLLIN | EPOLLEXCLUSIVE};
    pthread_t threads[NR_THREADS];
    struct sockaddr_storage a;
    socklen_t len;

    alarm(50);
    signal(SIGPIPE, SIG_IGN);
    server = listener(AF_INET, SOCK_STREAM, &a, &len);
    tcp_port = port_of(server);
    MUST(fcntl(server, F_SETFL, O_NONBLOCK));
    slots[0] = listener(AF_INET, SOCK_DGRAM, &a, &len);
    udp_port = port_of(slots[0]);
    for (int i = 0; i < NR_EPOLLS; i++)
        epolls[i] = (int)MUST(epoll_create1(0));
    MUST(epoll_ctl(epolls[0], EPOLL_CTL_ADD, server, &e));
    for (uintptr_t i = 0; i < NR_THREADS; i++)
        MUST(pthread_create(&threads[i], NULL, work, (void *)i) ? -1 : 0);
    sleep_ms(SECONDS * 1000);
    is_over = true;
    for (int i = 0; i < NR_THREADS; i++)
        pthread_join(threads[i], NULL);
    printf("the storm is over\n");
    return 0;
}
