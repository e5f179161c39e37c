/* SPDX-License-Identifier: BSD-2-Clause */
/* Pipes and fifos: sizes, blocking, ends, splice, tee, sendfile. */
#include "abi.h"

#include <poll.h>
#include <sys/ioctl.h>
#include <sys/sendfile.h>

static char big[1 << 20], back[1 << 20];
static volatile int sigpipes;

static void on_pipe(int sig, siginfo_t *info, void *uc)
{
    sigpipes++;
}

static int waiting(int fd)
{
    int n = -1;

    return ioctl(fd, FIONREAD, &n) == 0 ? n : -1;
}

static void state(int fd)
{
    struct pollfd p = {fd, POLLIN | POLLOUT, 0};
    int r = poll(&p, 1, 0);

    printf("  poll %d:%s%s%s%s\n", r, p.revents & POLLIN ? " IN" : "",
           p.revents & POLLOUT ? " OUT" : "", p.revents & POLLHUP ? " HUP" : "",
           p.revents & POLLERR ? " ERR" : "");
}

static void basics(void)
{
    int p[2];

    SECTION("basics");
    E(pipe2(p, 0x123));
    E(pipe((void *)8));
    E(pipe2(p, O_CLOEXEC | O_NONBLOCK));
    printf("%x %x %d\n", fcntl(p[0], F_GETFL), fcntl(p[1], F_GETFL),
           fcntl(p[0], F_GETFD));
    state(p[0]);
    state(p[1]);
    E(read(p[0], back, 10));
    E(write(p[1], "hello", 5));
    E(waiting(p[0]));
    E(waiting(p[1]));
    state(p[0]);
    E(read(p[0], back, 3));
    E(write(p[1], "!", 1));
    E(read(p[0], back + 3, 10));
    printf("  %.6s\n", back);
    E(read(p[1], back, 1));
    E(write(p[0], back, 1));
    E(lseek(p[0], 0, SEEK_SET));
    E(pread(p[0], back, 1, 0));
    E(pwrite(p[1], back, 1, 0));
    E(ftruncate(p[1], 0));
    E(fsync(p[1]));
    E(write(p[1], back, 0));
    E(read(p[0], back, 0));
    E(write(p[1], (void *)8, 1));
    SECTION("the reader goes");
    close(p[0]);
    state(p[1]);
    E(write(p[1], "x", 1));
    E(sigpipes);
    signal(SIGPIPE, SIG_IGN);
    E(write(p[1], "x", 1));
    E(sigpipes);
    on_signal(SIGPIPE, on_pipe, 0);
    close(p[1]);
    SECTION("the writer goes");
    E(pipe(p));
    E(write(p[1], "rest", 4));
    close(p[1]);
    state(p[0]);
    E(read(p[0], back, 10));
    state(p[0]);
    E(read(p[0], back, 10));
    close(p[0]);
}

static void sizes(void)
{
    int p[2];

    SECTION("sizes");
    E(pipe2(p, O_NONBLOCK));
    E(fcntl(p[0], F_GETPIPE_SZ));
    E(write(p[1], big, sizeof(big)));
    E(waiting(p[0]));
    E(write(p[1], big, 1));
    state(p[1]);
    E(read(p[0], back, 4095));
    E(write(p[1], big, 4096));
    E(read(p[0], back, 1));
    state(p[1]);
    E(write(p[1], big, PIPE_BUF)); /* a whole one or none */
    E(write(p[1], big, PIPE_BUF));
    E(read(p[0], back, 100));
    E(write(p[1], big, PIPE_BUF));
    E(fcntl(p[1], F_SETPIPE_SZ, 1 << 17));
    E(fcntl(p[0], F_GETPIPE_SZ));
    E(waiting(p[0]));
    E(fcntl(p[1], F_SETPIPE_SZ, 4096)); /* more than that is in it */
    E(read(p[0], back, sizeof(back)));
    E(fcntl(p[1], F_SETPIPE_SZ, 100));
    E(write(p[1], big, 5000));
    E(fcntl(p[1], F_SETPIPE_SZ, 0));
    E(fcntl(p[1], F_SETPIPE_SZ, 5000));
    E(fcntl(1 << 20, F_SETPIPE_SZ, 5000));
    close(p[0]);
    close(p[1]);
}

static void *writer(void *arg)
{
    int fd = (int)(long)arg;

    for (size_t at = 0, n; at < sizeof(big); at += n) {
        n = at % 7919 + 1;
        n = n > sizeof(big) - at ? sizeof(big) - at : n;
        if (write(fd, big + at, n) != (ssize_t)n)
            printf("short write\n");
    }
    close(fd);
    return NULL;
}

static void through(void)
{
    size_t at = 0;
    pthread_t t;
    ssize_t n;
    int p[2];

    SECTION("a megabyte through a pipe");
    for (size_t i = 0; i < sizeof(big); i++)
        big[i] = (char)(i * 13 + i / 255);
    E(pipe(p));
    pthread_create(&t, NULL, writer, (void *)(long)p[1]);
    while ((n = read(p[0], back + at, at % 10007 + 1)) > 0)
        at += (size_t)n;
    pthread_join(t, NULL);
    printf("%zu bytes, same %d\n", at, memcmp(big, back, sizeof(big)) == 0);
    close(p[0]);
}

static void splicing(void)
{
    int p[2], q[2], f, g;
    loff_t off = 2, out = 0;

    SECTION("splice, tee, sendfile");
    MUST(pipe2(p, O_NONBLOCK));
    MUST(pipe2(q, O_NONBLOCK));
    put_file("f", "0123456789");
    f = (int)MUST(open("f", O_RDWR));
    g = (int)MUST(open("g", O_RDWR | O_CREAT, 0600));
    E(splice(f, NULL, p[1], NULL, 4, 0));
    E(splice(f, &off, p[1], NULL, 100, 0));
    printf("  offset %d, position %d\n", (int)off, (int)lseek(f, 0, SEEK_CUR));
    E(tee(p[0], q[1], 100, 0));
    E(waiting(p[0]));
    E(read(q[0], back, 100));
    printf("  %.12s\n", back);
    E(splice(p[0], NULL, g, &out, 5, 0));
    E(splice(p[0], NULL, q[1], NULL, 100, 0));
    E(splice(p[0], NULL, q[1], NULL, 100, 0));
    E(splice(q[0], NULL, g, NULL, 100, 0));
    E(pread(g, back, 100, 0));
    printf("  %.7s\n", back);
    E(splice(f, NULL, g, NULL, 1, 0));
    E(splice(p[0], &off, g, NULL, 1, 0));
    E(splice(p[0], NULL, p[1], NULL, 1, 0));
    E(tee(p[0], p[1], 1, 0));
    E(tee(f, p[1], 1, 0));
    E(splice(p[0], NULL, g, NULL, 0, 0));
    off = 0;
    E(lseek(f, 0, SEEK_SET));
    E(sendfile(p[1], f, NULL, 3));
    off = 6;
    E(sendfile(p[1], f, &off, 100));
    E(read(p[0], back, 100));
    printf("  %.7s, offset %d\n", back, (int)off);
    off = 0;
    E(ftruncate(g, 0));
    E(lseek(g, 0, SEEK_SET));
    E(sendfile(g, f, &off, 10));
    E(pread(g, back, 100, 0));
    E(sendfile(g, p[0], NULL, 10));
    E(sendfile(99, f, NULL, 1));
    E(sendfile(f, g, (void *)8, 1));
    struct iovec iov[2] = {{"one ", 4}, {"two", 3}};
    E(vmsplice(p[1], iov, 2, 0));
    E(read(p[0], back, 100));
    printf("  %.7s\n", back);
    for (int i = 0; i < 2; i++) {
        close(p[i]);
        close(q[i]);
    }
    close(f);
    close(g);
}

static void *open_writer(void *arg)
{
    sleep_ms(30);
    int fd = open("fifo", O_WRONLY);

    if (write(fd, "through the fifo", 16) != 16)
        printf("write: %s\n", errno_name(errno));
    close(fd);
    return NULL;
}

static void fifos(void)
{
    pthread_t t;
    int r, w, rw;

    SECTION("fifo");
    E(mkfifo("fifo", 0644));
    E(open("fifo", O_WRONLY | O_NONBLOCK));
    r = (int)E(open("fifo", O_RDONLY | O_NONBLOCK));
    state(r);
    E(read(r, back, 10));
    w = (int)E(open("fifo", O_WRONLY | O_NONBLOCK));
    E(read(r, back, 10));
    E(write(w, "abc", 3));
    E(read(r, back, 10));
    close(w);
    state(r);
    E(read(r, back, 10));
    w = (int)E(open("fifo", O_WRONLY));
    state(r);
    close(w);
    close(r);
    rw = (int)E(open("fifo", O_RDWR));
    E(write(rw, "self", 4));
    E(read(rw, back, 10));
    state(rw);
    close(rw);
    pthread_create(&t, NULL, open_writer, NULL);
    r = (int)E(open("fifo", O_RDONLY)); /* waits for the writer */
    E(read(r, back, 100));
    E(read(r, back, 100));
    pthread_join(t, NULL);
    close(r);
}

int main(void)
{
    watchdog();
    scratch_begin();
    on_signal(SIGPIPE, on_pipe, 0);
    basics();
    sizes();
    through();
    splicing();
    fifos();
    return 0;
}
