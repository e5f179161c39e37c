// SPDX-License-Identifier: BSD-2-Clause
// Signals at random points over linked code: usage storm SECONDS.
//
// Three threads call into libc at a known depth below a marked function and are
// interrupted every 150 us or so: interval timers (SIGPROF, SIGALRM) and
// pthread_kill. The handler unwinds: a backtrace that does not reach the marked
// function is truncated; then it throws and catches. Values computed beside are
// checked for deviations. (While the worker itself throws or allocates, the handler
// only returns: libgcc cannot unwind through the end of its own unwinding, and
// malloc is not for handlers, on any system.)
// The last line has the counts; status 0 when all are as they must be.
#include <errno.h>
#include <execinfo.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <string>

namespace {

constexpr int kThreads = 3;
constexpr int kFrames = 64;

std::atomic<bool> stop;
std::atomic<uint64_t> signals, truncated, deviations, entered, destroyed, rounds;
thread_local void *marked_low, *marked_high; // the code of worker()
thread_local volatile bool is_marked;

uint64_t mix(uint64_t h, uint64_t v)
{
    h ^= v;
    h *= 0x9e3779b97f4a7c15ull;
    return h ^ h >> 29;
}

bool reaches_worker(void **frames, int n)
{
    for (int i = 0; i < n; i++) {
        if (frames[i] >= marked_low && frames[i] < marked_high)
            return true;
    }
    return false;
}

struct Guard {
    std::atomic<uint64_t> &count;
    ~Guard() { count++; }
};

__attribute__((noinline)) void throwing(uint64_t n, int depth)
{
    std::string on_the_heap(40 + n % 50, 'x');
    Guard guard{destroyed};

    entered++;
    if (depth == 0) {
        if (getppid() < 0 || n % 3 == 0)
            throw std::runtime_error(on_the_heap);
        return;
    }
    throwing(n, depth - 1);
}

__attribute__((noinline)) void throw_and_catch(uint64_t n)
{
    try {
        throwing(n, 4);
    } catch (const std::runtime_error &e) {
        if (strlen(e.what()) != 40 + n % 50)
            deviations++;
    }
}

void on_signal(int, siginfo_t *, void *)
{
    int saved = errno;
    void *frames[kFrames];

    if (is_marked) {
        is_marked = false; // another signal may come in here
        int n = backtrace(frames, kFrames);
        if (!reaches_worker(frames, n) && truncated++ == 0 && getenv("STORM_VERBOSE"))
            backtrace_symbols_fd(frames, n, 2);
        throw_and_catch(signals++);
        is_marked = true;
    }
    errno = saved;
}

// System calls of every kind of site: number in a constant, in a register, xor.
__attribute__((noinline)) void calls(int fd[2])
{
    char in[100], out[100];
    struct timespec t = {0, 1000};

    memset(out, 0x5a, sizeof(out));
    if (write(fd[1], out, sizeof(out)) != sizeof(out) ||
        read(fd[0], in, sizeof(in)) != sizeof(in) || memcmp(in, out, sizeof(in)))
        deviations++;
    struct iovec v[2] = {{out, 10}, {out + 10, 20}};
    if (writev(fd[1], v, 2) != 30 || read(fd[0], in, 100) != 30)
        deviations++;
    if (getppid() < 0 || syscall(SYS_getpid) != getpid())
        deviations++;
    if (read(-1, in, 1) != -1 || errno != EBADF)
        deviations++;
    if (nanosleep(&t, nullptr) != 0 && errno != EINTR)
        deviations++;
    if (fcntl(fd[0], F_GETFD) < 0 || lseek(fd[0], 0, SEEK_CUR) != -1 || errno != ESPIPE)
        deviations++;
}

__attribute__((noinline)) void *worker(void *)
{
    int fd[2];
    uint64_t a = 1, b = 1, n = 0;
    double x = 1, y = 1;

    marked_low = (void *)&worker;
    marked_high = (char *)marked_low + 4096;
    if (pipe(fd))
        abort();
    for (; !stop; n++) {
        a = mix(a, n);
        x = x * 1.0000001 + (double)(n & 7);
        is_marked = true;
        calls(fd);
        is_marked = false;
        throw_and_catch(n);
        b = mix(b, n);
        y = y * 1.0000001 + (double)(n & 7);
        if (a != b || x != y)
            deviations++;
        rounds++;
    }
    close(fd[0]);
    close(fd[1]);
    return nullptr;
}

void catch_signals()
{
    struct sigaction sa = {};
    void *warm_up[4];

    backtrace(warm_up, 4); // loads libgcc
    sa.sa_sigaction = on_signal;
    sa.sa_flags = SA_SIGINFO | SA_RESTART;
    for (int sig : {SIGPROF, SIGALRM, SIGUSR1})
        sigaction(sig, &sa, nullptr);
}

} // namespace

int main(int argc, char **argv)
{
    pthread_t threads[kThreads];
    struct itimerval timer = {{0, 150}, {0, 150}};
    long seconds = argc > 1 ? atol(argv[1]) : 5;
    unsigned seed = 1;

    catch_signals();
    for (auto &t : threads)
        pthread_create(&t, nullptr, worker, nullptr);
    setitimer(ITIMER_REAL, &timer, nullptr);
    setitimer(ITIMER_PROF, &timer, nullptr);
    for (time_t end = time(nullptr) + seconds; time(nullptr) < end;) {
        struct timespec t = {0, 1000 + rand_r(&seed) % 300000};
        nanosleep(&t, nullptr);
        pthread_kill(threads[rand_r(&seed) % kThreads], SIGUSR1);
    }
    memset(&timer, 0, sizeof(timer));
    setitimer(ITIMER_REAL, &timer, nullptr);
    setitimer(ITIMER_PROF, &timer, nullptr);
    stop = true;
    for (auto &t : threads)
        pthread_join(t, nullptr);
    bool cleaned = entered == destroyed && entered >= rounds * 5;
    printf("signals %llu truncated %llu deviations %llu destructors %s rounds %llu\n",
           (unsigned long long)signals, (unsigned long long)truncated,
           (unsigned long long)deviations, cleaned ? "all" : "MISSING",
           (unsigned long long)rounds);
    return truncated || deviations || !cleaned || signals < 10;
}
