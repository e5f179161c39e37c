// SPDX-License-Identifier: BSD-2-Clause
/*
 * usage: load SERVER PORT [KEY=VALUE...]
 *
 * mode=short|keep|hold   a connection per request; many requests on each; open
 *                        all, then obey lines on stdin: "check" asks on each
 *                        connection once more, end of file closes them
 * closer=server|client|turns   of short connections (default turns)
 * file=NAME=PATH         HTTP: GET /NAME gives the bytes of PATH; repeated
 * redis=PIPELINE         Redis instead
 * value=N                Redis: values of up to N bytes (default 512)
 * slots=N                connections at a time
 * opening=N              mode=hold: asked at a time (default 128)
 * count=N, seconds=S     how much (either or both)
 * source=ADDR            bind to it; repeated, used in turn
 * watch=PID              the process that runs the guest: see gaps.c
 * limit=MS               a longer request is a stall (default 1000)
 * patience=S             an even longer one is an error (default 30)
 *
 * Prints one JSON object (mode=hold: one per step). Status 0: no error, no
 * stall net of gaps; 1: some; 2: wrong usage.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "load.h"

#define TICK_MS 5
#define TOLD_MAX 10u

struct options opt = {
    .slots = 32, .pipeline = 1, .value_max = 512, .closer = CLOSE_TURNS,
    .opening = 128, .limit = SECOND, .patience = 30 * SECOND,
};

static const char *const kinds[ERR_KINDS] = {
    "connect", "reset", "early_end", "timeout", "status", "body", "extra",
    "local",
};

static struct {
    struct slot *slots;
    int epoll_fd;
    uint64_t begun, done, stalls, errors[ERR_KINDS], nr_errors;
    nsec_t started, finish_by, longest, longest_net;
    uint64_t histogram[64 * 16]; /* 16 steps per doubling of nanoseconds */
} run;

/* ---- what the slots tell ---- */

void report_error(const struct slot *s, enum error_kind kind, const char *why)
{
    run.errors[kind]++;
    if (run.nr_errors++ < TOLD_MAX)
        fprintf(stderr, "load: %.3f s: port %u, slot %u: %s: %s\n",
                (double)(now_ns() - run.started) / SECOND, s->local_port,
                s->number, kinds[kind], why);
}

static unsigned bucket(uint64_t ns)
{
    unsigned top = 63 - (unsigned)__builtin_clzll(ns | 16);

    return (top << 4) + (unsigned)((ns >> (top - 4)) & 15);
}

void report_done(const struct slot *s, nsec_t end)
{
    nsec_t took = end - s->began, net = took;

    run.done++;
    run.histogram[bucket((uint64_t)took)]++;
    if (took > run.longest)
        run.longest = took;
    if (took > opt.limit / 4)
        net -= gaps_within(s->began, end);
    if (net > run.longest_net)
        run.longest_net = net;
    if (net > opt.limit && run.stalls++ < TOLD_MAX)
        fprintf(stderr,
                "load: %.3f s: port %u, slot %u: stall of %.3f s, %.3f s net\n",
                (double)(end - run.started) / SECOND, s->local_port, s->number,
                (double)took / SECOND, (double)net / SECOND);
}

bool begin_request(void)
{
    if (opt.count && run.begun >= opt.count)
        return false;
    if (opt.seconds > 0 && now_ns() >= run.finish_by)
        return false;
    run.begun++;
    return true;
}

/* ---- the report ---- */

static double percentile_ms(double share)
{
    uint64_t want = (uint64_t)(share * (double)run.done), seen = 0;

    for (unsigned i = 0; i < 64 * 16; i++) {
        seen += run.histogram[i];
        if (seen > want)
            return (double)((16ull + (i & 15)) << ((i >> 4) - 4)) / 1e6;
    }
    return (double)run.longest / 1e6;
}

static void print_report(const char *step)
{
    double seconds = (double)(now_ns() - run.started) / SECOND;

    printf("{\"step\": \"%s\", \"done\": %llu, \"errors\": %llu, \"stalls\": "
           "%llu, \"seconds\": %.3f, \"rate\": %.1f, \"p50_ms\": %.3f, "
           "\"p99_ms\": %.3f, \"p999_ms\": %.3f, \"max_ms\": %.1f, "
           "\"max_net_ms\": %.1f, \"gap_ms\": %.1f, \"kinds\": {",
           step, (unsigned long long)run.done,
           (unsigned long long)run.nr_errors, (unsigned long long)run.stalls,
           seconds, (double)run.done / seconds, percentile_ms(0.5),
           percentile_ms(0.99), percentile_ms(0.999), (double)run.longest / 1e6,
           (double)run.longest_net / 1e6, (double)gaps_longest() / 1e6);
    for (int i = 0, n = 0; i < ERR_KINDS; i++) {
        if (run.errors[i])
            printf("%s\"%s\": %llu", n++ ? ", " : "", kinds[i],
                   (unsigned long long)run.errors[i]);
    }
    printf("}}\n");
    fflush(stdout);
}

/* ---- the loop ---- */

static void check_all(void)
{
    nsec_t now = now_ns();

    for (unsigned i = 0; i < opt.slots; i++)
        slot_check(&run.slots[i], now);
}

static void turn(void)
{
    static nsec_t last_check;
    struct epoll_event events[256];
    nsec_t from = now_ns(), to;
    int n = epoll_wait(run.epoll_fd, events, 256, TICK_MS);

    to = now_ns();
    gaps_note(from + TICK_MS * 1000000ll, to);
    for (int i = 0; i < n; i++)
        slot_event(events[i].data.ptr, events[i].events);
    if (to - last_check > SECOND / 4) {
        check_all();
        last_check = to;
    }
}

static unsigned count_state(enum slot_state state)
{
    unsigned n = 0;

    for (unsigned i = 0; i < opt.slots; i++)
        n += run.slots[i].state == state;
    return n;
}

/* Until nothing more may begin and all is answered. */
static void run_requests(void)
{
    bool busy = true;

    while (busy) {
        busy = false;
        for (unsigned i = 0; i < opt.slots; i++) {
            struct slot *s = &run.slots[i];

            if (s->state == SLOT_FREE && begin_request())
                slot_start(s);
            busy |= s->state != SLOT_FREE && s->state != SLOT_IDLE;
        }
        if (busy)
            turn();
    }
}

/* Asks on every connection, opt.opening at a time; opens it before. */
static void hold_round(bool is_first)
{
    unsigned next = 0, busy = 0;

    do {
        busy = opt.slots - count_state(SLOT_FREE) - count_state(SLOT_IDLE);
        for (; next < opt.slots && busy < opt.opening; next++) {
            struct slot *s = &run.slots[next];

            if (is_first)
                slot_start(s);
            else if (s->state == SLOT_IDLE)
                slot_ask(s);
            busy++;
        }
        turn();
    } while (next < opt.slots || busy);
}

static void hold(void)
{
    char line[64];

    hold_round(true);
    printf("{\"held\": %u}\n", count_state(SLOT_IDLE));
    print_report("open");
    for (;;) {
        struct pollfd in = {.fd = 0, .events = POLLIN};
        ssize_t n;

        while (poll(&in, 1, 0) == 0)
            turn();
        n = read(0, line, sizeof(line) - 1);
        if (n <= 0)
            break;
        hold_round(false);
        printf("{\"held\": %u}\n", count_state(SLOT_IDLE));
        print_report("check");
    }
}

/* ---- options ---- */

static void wrong(const char *what)
{
    fprintf(stderr, "load: %s: see the head of load.c\n", what);
    exit(2);
}

static void add_file(char *value)
{
    struct file *f = &opt.files[opt.nr_files++];
    char *path = strchr(value, '=');
    struct stat st;
    FILE *in;

    if (!path || opt.nr_files > MAX_FILES)
        wrong(value);
    *path++ = '\0';
    in = fopen(path, "r");
    if (!in || fstat(fileno(in), &st) != 0)
        wrong(path);
    f->name = value;
    f->len = (size_t)st.st_size;
    f->data = malloc(f->len + 1);
    if (!f->data || fread(f->data, 1, f->len, in) != f->len)
        wrong(path);
    fclose(in);
}

static int choice(const char *value, const char *const *names)
{
    for (int i = 0; names[i]; i++) {
        if (strcmp(value, names[i]) == 0)
            return i;
    }
    wrong(value);
    return 0;
}

static void set_option(char *arg)
{
    static const char *const modes[] = {"short", "keep", "hold", NULL};
    static const char *const closers[] = {"server", "client", "turns", NULL};
    char *value = strchr(arg, '=');

    if (!value)
        wrong(arg);
    *value++ = '\0';
    if (strcmp(arg, "mode") == 0)
        opt.mode = (enum mode)choice(value, modes);
    else if (strcmp(arg, "closer") == 0)
        opt.closer = (enum closer)choice(value, closers);
    else if (strcmp(arg, "file") == 0)
        add_file(value);
    else if (strcmp(arg, "redis") == 0)
        opt.is_redis = true, opt.pipeline = (unsigned)atoi(value);
    else if (strcmp(arg, "value") == 0)
        opt.value_max = (unsigned)atoi(value);
    else if (strcmp(arg, "slots") == 0)
        opt.slots = (unsigned)atoi(value);
    else if (strcmp(arg, "opening") == 0)
        opt.opening = (unsigned)atoi(value);
    else if (strcmp(arg, "count") == 0)
        opt.count = strtoull(value, NULL, 10);
    else if (strcmp(arg, "seconds") == 0)
        opt.seconds = atof(value);
    else if (strcmp(arg, "watch") == 0)
        opt.watched = atoi(value);
    else if (strcmp(arg, "limit") == 0)
        opt.limit = atoll(value) * 1000000;
    else if (strcmp(arg, "patience") == 0)
        opt.patience = atoll(value) * SECOND;
    else if (strcmp(arg, "source") == 0 && opt.nr_sources < MAX_SOURCES &&
             inet_pton(AF_INET, value, &opt.sources[opt.nr_sources]) == 1)
        opt.nr_sources++;
    else
        wrong(arg);
}

static void read_options(int argc, char **argv)
{
    struct rlimit files;

    if (argc < 3 ||
        inet_pton(AF_INET, argv[1], &opt.server.sin_addr) != 1)
        wrong("SERVER PORT");
    opt.server.sin_family = AF_INET;
    opt.server.sin_port = htons((uint16_t)atoi(argv[2]));
    for (int i = 3; i < argc; i++)
        set_option(argv[i]);
    if (!opt.slots || !opt.opening || !opt.pipeline || !opt.value_max ||
        (!opt.is_redis && !opt.nr_files) ||
        (opt.mode != MODE_HOLD && !opt.count && opt.seconds <= 0))
        wrong("slots, redis, value, file, count or seconds");
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    if (files.rlim_cur < opt.slots + 64)
        wrong("slots (more than ulimit -Hn allows: start several)");
}

int main(int argc, char **argv)
{
    read_options(argc, argv);
    run.slots = calloc(opt.slots, sizeof(*run.slots));
    run.epoll_fd = conn_init();
    if (!run.slots || run.epoll_fd < 0)
        wrong("no memory or no epoll");
    for (unsigned i = 0; i < opt.slots; i++)
        run.slots[i].number = i;
    gaps_start();
    if (opt.watched)
        gaps_watch(opt.watched);
    run.started = now_ns();
    run.finish_by = run.started + (nsec_t)(opt.seconds * SECOND);
    if (opt.mode == MODE_HOLD)
        hold();
    else
        run_requests();
    for (unsigned i = 0; i < opt.slots; i++)
        slot_close(&run.slots[i]);
    print_report("end");
    return run.nr_errors || run.stalls ? 1 : 0;
}
