/* SPDX-License-Identifier: BSD-2-Clause */
/* Who wakes up: threads that wait in accept, recv, send, connect and poll when
 * another thread shuts the socket down, closes it, or runs out of
 * descriptors. */
#include "inet.h"

#include <sys/resource.h>

#define NR_THREADS 4
#define SETTLE (50 * MS)

struct sleeper {
    pthread_t thread;
    int fd;
    long result;
    int error;
    volatile bool is_done;
};

static void rest(long ns)
{
    struct timespec t = {ns / 1000000000, ns % 1000000000};
    nanosleep(&t, NULL);
}

static void finish(struct sleeper *s, long result)
{
    s->result = result;
    s->error = result < 0 ? errno : 0;
    s->is_done = true;
}

static void *sleep_accept(void *arg)
{
    struct sleeper *s = arg;
    finish(s, accept(s->fd, NULL, NULL));
    return NULL;
}

static void *sleep_recv(void *arg)
{
    struct sleeper *s = arg;
    char c;
    finish(s, recv(s->fd, &c, 1, 0));
    return NULL;
}

static void *sleep_send(void *arg)
{
    struct sleeper *s = arg;
    static char big[1 << 20];
    long n;

    do
        n = send(s->fd, big, sizeof(big), MSG_NOSIGNAL);
    while (n > 0);
    finish(s, n);
    return NULL;
}

static void *sleep_poll(void *arg)
{
    struct sleeper *s = arg;
    struct pollfd p = {s->fd, POLLIN | POLLRDHUP, 0};
    int n = poll(&p, 1, -1);
    finish(s, n > 0 ? p.revents : n);
    return NULL;
}

static void start(struct sleeper *s, int n, int fd, void *(*f)(void *))
{
    for (int i = 0; i < n; i++) {
        s[i] = (struct sleeper){.fd = fd};
        MUST(pthread_create(&s[i].thread, NULL, f, &s[i]) ? -1 : 0);
    }
    rest(SETTLE);
}

static void wait_all(struct sleeper *s, int n)
{
    for (int k = 0; k < 100; k++) {
        int done = 0;
        for (int i = 0; i < n; i++)
            done += s[i].is_done;
        if (done == n)
            break;
        rest(20 * MS);
    }
    for (int i = 0; i < n; i++) {
        if (!s[i].is_done) {
            printf("  still asleep\n");
            fflush(stdout);
            exit(1);
        }
        pthread_join(s[i].thread, NULL);
        printf("  woke up: %ld %s\n", s[i].result < 0 ? -1 : s[i].result,
               s[i].error ? errno_name(s[i].error) : "-");
    }
}

static int one_listener(struct sockaddr_storage *a, socklen_t *len)
{
    return listener(AF_INET, SOCK_STREAM, a, len);
}

static void shut_listener(void)
{
    struct sleeper s[NR_THREADS];
    struct sockaddr_storage a;
    socklen_t len;
    int l = one_listener(&a, &len);

    SECTION("shutdown of a listener wakes all who accept");
    start(s, NR_THREADS, l, sleep_accept);
    E(shutdown(l, SHUT_RDWR));
    wait_all(s, NR_THREADS);
    start(s, 1, l, sleep_poll);
    wait_all(s, 1);
    E(listen(l, 5));
    close(l);
}

static void several_at_once(void)
{
    struct sleeper s[NR_THREADS];
    struct sockaddr_storage a;
    socklen_t len;
    int l = one_listener(&a, &len), c[NR_THREADS];

    SECTION("connections at once reach as many who accept");
    start(s, NR_THREADS, l, sleep_accept);
    for (int i = 0; i < NR_THREADS; i++)
        c[i] = (int)MUST(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
    for (int i = 0; i < NR_THREADS; i++)
        (void)!connect(c[i], (void *)&a, len);
    for (int i = 0; i < NR_THREADS; i++) {
        for (int k = 0; k < 100 && !s[i].is_done; k++)
            rest(20 * MS);
        printf("  accepted %s\n", s[i].is_done && s[i].result >= 0 ? "yes"
                                                                  : "no");
        close((int)s[i].result);
        close(c[i]);
        pthread_join(s[i].thread, NULL);
    }
    close(l);
}

static void shut_connection(void)
{
    struct sleeper s[NR_THREADS];
    int fds[2];

    SECTION("shutdown of a connection wakes all who read");
    tcp_pair(AF_INET, fds);
    start(s, NR_THREADS, fds[0], sleep_recv);
    E(shutdown(fds[0], SHUT_RD));
    wait_all(s, NR_THREADS);
    close(fds[0]);
    close(fds[1]);
    SECTION("the peer's end wakes all who read");
    tcp_pair(AF_INET, fds);
    start(s, NR_THREADS, fds[0], sleep_recv);
    E(shutdown(fds[1], SHUT_WR));
    wait_all(s, NR_THREADS);
    SECTION("a reset wakes who writes");
    start(s, 1, fds[1], sleep_poll);
    wait_all(s, 0);
    close(fds[0]);
    pthread_join(s[0].thread, NULL);
    close(fds[1]);
    tcp_pair(AF_INET, fds);
    start(s, 1, fds[0], sleep_send);
    close(fds[1]);
    wait_all(s, 1);
    close(fds[0]);
    SECTION("shutdown for writing wakes who writes");
    tcp_pair(AF_INET, fds);
    start(s, 1, fds[0], sleep_send);
    E(shutdown(fds[0], SHUT_WR));
    wait_all(s, 1);
    close(fds[0]);
    close(fds[1]);
    SECTION("shutdown for both wakes who polls");
    tcp_pair(AF_INET, fds);
    start(s, NR_THREADS, fds[0], sleep_poll);
    E(shutdown(fds[0], SHUT_RDWR));
    wait_all(s, NR_THREADS);
    close(fds[0]);
    close(fds[1]);
}

static void close_elsewhere(void)
{
    struct sleeper s[1];
    int fds[2];

    SECTION("close leaves who waits in the call");
    tcp_pair(AF_INET, fds);
    start(s, 1, fds[0], sleep_recv);
    close(fds[0]);
    rest(SETTLE);
    YES(!s[0].is_done);
    MUST(write(fds[1], "x", 1));
    wait_all(s, 1);
    close(fds[1]);
}

static void datagram_shutdown(void)
{
    struct sleeper s[1];
    struct sockaddr_storage a;
    socklen_t len;
    int u = listener(AF_INET, SOCK_DGRAM, &a, &len);

    SECTION("shutdown of a datagram socket");
    MUST(connect(u, (void *)&a, len));
    start(s, 1, u, sleep_recv);
    E(shutdown(u, SHUT_RD));
    wait_all(s, 1);
    close(u);
}

/* The connection waits for better times, it is not lost. */
static void no_descriptors(void)
{
    struct sockaddr_storage a;
    socklen_t len;
    int l = one_listener(&a, &len), c, top, s;
    struct rlimit old, few;
    char byte = 0;

    SECTION("accept without a free descriptor");
    c = (int)MUST(socket(AF_INET, SOCK_STREAM, 0));
    MUST(connect(c, (void *)&a, len));
    top = (int)MUST(dup(0));
    close(top);
    MUST(getrlimit(RLIMIT_NOFILE, &old));
    few = old;
    few.rlim_cur = (rlim_t)top;
    MUST(setrlimit(RLIMIT_NOFILE, &few));
    E(accept(l, NULL, NULL));
    MUST(setrlimit(RLIMIT_NOFILE, &old));
    s = accept(l, NULL, NULL);
    YES(s >= 0);
    MUST(write(c, "x", 1));
    E(read(s, &byte, 1));
    YES(byte == 'x');
    MUST(setrlimit(RLIMIT_NOFILE, &few));
    MUST(fcntl(l, F_SETFL, O_NONBLOCK));
    E(accept(l, NULL, NULL));
    MUST(setrlimit(RLIMIT_NOFILE, &old));
    E(accept(l, NULL, NULL));
    close(s);
    close(c);
    close(l);
}

int main(void)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    alarm(50);
    shut_listener();
    several_at_once();
    shut_connection();
    close_elsewhere();
    datagram_shutdown();
    no_descriptors();
    return 0;
}
