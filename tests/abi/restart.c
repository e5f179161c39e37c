/* SPDX-License-Identifier: BSD-2-Clause */
/* A signal during a waiting call: EINTR, or going on with SA_RESTART. */
#include "abi.h"

#include <linux/futex.h>
#include <mqueue.h>
#include <poll.h>
#include <semaphore.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/un.h>

static volatile int hits, step;
static pid_t main_tid;
static pthread_t main_thread;
static int p[2], s[2], ep, listener, holder;
static sem_t sem;
static uint32_t word;
static pthread_mutex_t m = PTHREAD_MUTEX_INITIALIZER;
static char full[70000], c;

static void on_usr1(int sig, siginfo_t *info, void *uc)
{
    hits++;
}

/* Lets the main thread wait, sends the signal, then ends the wait. */
static void (*finish)(void);

static void *helper(void *arg)
{
    wait_asleep(main_tid);
    pthread_kill(main_thread, SIGUSR1);
    while (!hits)
        sleep_ms(1);
    wait_asleep(main_tid); /* waits again, or is waiting for us */
    if (finish != NULL)
        finish();
    return NULL;
}

static void feed_pipe(void)
{
    MUST(write(p[1], "x", 1));
}

static void drain_pipe(void)
{
    MUST(read(p[0], full, sizeof(full)));
}

static void feed_socket(void)
{
    MUST(write(s[1], "y", 1));
}

static void post(void)
{
    sem_post(&sem);
}

static void wake(void)
{
    word = 1;
    syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

static void unlock(void)
{
    flock(holder, LOCK_UN);
}

static void call_in(void)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX, .sun_path = "listener"};
    int fd = (int)MUST(socket(AF_UNIX, SOCK_STREAM, 0));

    MUST(connect(fd, (void *)&a, sizeof(a)));
    close(fd);
}

/* The helper is joined before anything is printed: its end may come late. */
#define WAIT(name, after, call)                                            \
    do {                                                                   \
        pthread_t t_;                                                      \
        hits = 0;                                                          \
        finish = after;                                                    \
        pthread_create(&t_, NULL, helper, NULL);                           \
        errno = 0;                                                         \
        long r_ = (long)(call);                                            \
        int e_ = errno;                                                    \
        pthread_join(t_, NULL);                                            \
        printf("  %-14s %ld %s, handler ran %d\n", name, r_,               \
               r_ == -1 ? errno_name(e_) : r_ > 0 && r_ == e_ ? "" : "ok", \
               hits);                                                      \
    } while (0)

static int raw_nanosleep(int64_t ns, bool absolute)
{
    struct timespec t = to_timespec(
               absolute ? now_ns(CLOCK_MONOTONIC) + ns : ns),
           rem = {-1, 0};
    int r = clock_nanosleep(CLOCK_MONOTONIC, absolute ? TIMER_ABSTIME : 0, &t,
                            &rem);

    if (!absolute)
        SAY("  time remaining is told",
            rem.tv_sec * 1000000000ll + rem.tv_nsec > 0 &&
                rem.tv_sec * 1000000000ll + rem.tv_nsec <= ns + 10 * MS);
    else
        SAY("  time remaining is told", rem.tv_sec != -1);
    errno = r;
    return r == 0 ? 0 : -1;
}

static void all(bool restart)
{
    struct timespec t = {0, 300 * MS}, forever = {100, 0};
    struct timeval tv = {0, 300000};
    struct pollfd pf;
    struct epoll_event ev;
    sigset_t none, usr2;
    fd_set in;

    SECTION(restart ? "with SA_RESTART" : "without");
    on_signal(SIGUSR1, on_usr1, restart ? SA_RESTART : 0);
    WAIT("read", feed_pipe, read(p[0], &c, 1));
    if (!restart)
        MUST(read(p[0], &c, 1));
    MUST(write(p[1], full, 65536));
    WAIT("write", drain_pipe, write(p[1], full, 4096));
    if (restart)
        MUST(read(p[0], full, sizeof(full)));
    WAIT("recv", feed_socket, recv(s[0], &c, 1, 0));
    if (!restart)
        MUST(read(s[0], &c, 1));
    tv = (struct timeval){5, 0};
    setsockopt(s[0], SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
    WAIT("recv, timed", feed_socket, recv(s[0], &c, 1, 0)); /* never again */
    MUST(read(s[0], &c, 1));
    tv = (struct timeval){0, 0};
    setsockopt(s[0], SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
    if (restart) {
        WAIT("accept", call_in, accept(listener, NULL, NULL) > 0);
    } else {
        WAIT("accept", NULL, accept(listener, NULL, NULL));
    }
    pf = (struct pollfd){p[0], POLLIN, 0};
    WAIT("poll", NULL, poll(&pf, 1, 300));
    WAIT("poll, forever", NULL, poll(&pf, 1, -1));
    FD_ZERO(&in);
    FD_SET(p[0], &in);
    tv = (struct timeval){0, 300000};
    WAIT("select", NULL, select(p[0] + 1, &in, NULL, NULL, &tv));
    sigemptyset(&none);
    WAIT("ppoll", NULL, ppoll(&pf, 1, &forever, &none));
    WAIT("epoll_wait", NULL, epoll_wait(ep, &ev, 1, -1));
    WAIT("nanosleep", NULL, nanosleep(&t, NULL));
    WAIT("relative", NULL, raw_nanosleep(300 * MS, false));
    WAIT("absolute", NULL, raw_nanosleep(300 * MS, true));
    WAIT("sem_wait", post, sem_wait(&sem));
    if (!restart)
        sem_wait(&sem);
    t = to_timespec(now_ns(CLOCK_REALTIME) + 5000 * MS);
    WAIT("sem_timedwait", post, sem_timedwait(&sem, &t));
    if (!restart)
        sem_wait(&sem);
    word = 0;
    WAIT("futex", wake,
         syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0));
    word = 0;
    t = (struct timespec){5, 0};
    WAIT("futex, timed", wake,
         syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 0, &t, NULL, 0));
    WAIT("pause", NULL, pause());
    sigemptyset(&usr2);
    sigaddset(&usr2, SIGUSR2);
    WAIT("sigtimedwait", NULL, sigtimedwait(&usr2, NULL, &forever));
    WAIT("sigsuspend", NULL, sigsuspend(&none));
    MUST(flock(holder, LOCK_EX));
    int other = (int)MUST(open("lock", O_RDWR));
    WAIT("flock", unlock, flock(other, LOCK_EX));
    close(other);
}

static void *locker(void *arg)
{
    pthread_mutex_lock(&m);
    step = 1;
    while (!hits)
        sleep_ms(1);
    sleep_ms(10);
    pthread_mutex_unlock(&m);
    return NULL;
}

/* The library's mutexes never return EINTR. */
static void mutexes(void)
{
    pthread_t t, u;

    SECTION("mutex");
    on_signal(SIGUSR1, on_usr1, 0);
    hits = 0;
    finish = NULL;
    pthread_create(&t, NULL, locker, NULL);
    while (!step)
        sleep_ms(1);
    pthread_create(&u, NULL, helper, NULL);
    P(pthread_mutex_lock(&m));
    pthread_join(t, NULL);
    pthread_join(u, NULL);
}

int main(void)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX, .sun_path = "listener"};

    watchdog();
    scratch_begin();
    main_tid = (pid_t)syscall(SYS_gettid);
    main_thread = pthread_self();
    sigset_t usr2;
    sigemptyset(&usr2);
    sigaddset(&usr2, SIGUSR2);
    pthread_sigmask(SIG_BLOCK, &usr2, NULL);
    MUST(pipe(p));
    MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, s));
    ep = (int)MUST(epoll_create1(0));
    listener = (int)MUST(socket(AF_UNIX, SOCK_STREAM, 0));
    MUST(bind(listener, (void *)&a, sizeof(a)));
    MUST(listen(listener, 5));
    holder = (int)MUST(open("lock", O_RDWR | O_CREAT, 0600));
    sem_init(&sem, 0, 0);
    all(false);
    all(true);
    mutexes();
    return 0;
}
