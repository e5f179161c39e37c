/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A load generator for soak tests: many connections of one thread, each answer
 * checked to the last byte, each request timed.
 *
 * - A *slot* is one place for a connection. What is asked and how the answer
 *   is checked is a `struct protocol` (http.c, redis.c).
 * - An error is never repeated away: it is counted by kind, the first ones are
 *   told on stderr, and the status of the program is 1.
 * - A request longer than the limit is a stall. The machine may have been busy
 *   with others, so gaps.c notes when we, or the process that runs the guest,
 *   did not get a CPU; the whole time and the time net of that are told.
 *
 * load.c     options, the loop, the report
 * conn.c     slots: connect, send, receive, close
 * http.c     GET of files whose bytes are known
 * redis.c    SET, GET, INCR, APPEND, DEL, pipelined
 * gaps.c     when did the machine not run us
 */
#pragma once

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MAX_SOURCES 64
#define MAX_FILES 16
#define SECOND 1000000000ll

typedef int64_t nsec_t;

enum mode { MODE_SHORT, MODE_KEEP, MODE_HOLD };
/* Who closes a short connection. */
enum closer { CLOSE_SERVER, CLOSE_CLIENT, CLOSE_TURNS };

struct file {
    const char *name; /* as in the request: "/name" */
    char *data;
    size_t len;
};

struct options {
    struct sockaddr_in server;
    struct in_addr sources[MAX_SOURCES];
    unsigned nr_sources;
    struct file files[MAX_FILES];
    unsigned nr_files;
    enum mode mode;
    enum closer closer;
    bool is_redis;
    unsigned slots, opening, pipeline, value_max;
    int watched;     /* the process that runs the guest, 0: none */
    uint64_t count;  /* requests; 0: as many as there is time for */
    double seconds;  /* 0: until count */
    nsec_t limit;    /* a stall is longer */
    nsec_t patience; /* an error when longer, net of gaps */
};

enum error_kind {
    ERR_CONNECT, ERR_RESET, ERR_EARLY_END, ERR_TIMEOUT, ERR_STATUS, ERR_BODY,
    ERR_EXTRA, ERR_LOCAL, ERR_KINDS
};

enum slot_state { SLOT_FREE, SLOT_CONNECTING, SLOT_BUSY, SLOT_ENDING, SLOT_IDLE };

struct slot {
    int fd;
    enum slot_state state;
    bool server_closes;
    uint32_t number;   /* which slot */
    uint64_t requests; /* on this slot, all connections */
    nsec_t began;      /* of the request; with a new connection, of that */
    uint16_t local_port;
    const char *out;   /* what is left to send */
    size_t out_len;
    /* --- the protocol's --- */
    char *buf;         /* request, or header of the answer */
    size_t buf_len, buf_size;
    char *expected;    /* redis: the whole answer */
    size_t expected_len;
    const struct file *file;
    size_t done;       /* bytes of the body or answer seen */
    bool in_body;
    int64_t counter;   /* redis: what INCR will say */
};

enum verdict { MORE, COMPLETE, WRONG };

struct protocol {
    /* Prepares the next request: sets out, out_len. */
    void (*ask)(struct slot *s);
    /* Looks at n bytes; WRONG: *kind and `why` say what. */
    enum verdict (*take)(struct slot *s, const char *data, size_t n,
                         enum error_kind *kind, char why[128]);
};

extern struct options opt;
extern const struct protocol http_protocol, redis_protocol;

/* gaps.c */
nsec_t now_ns(void);
void gaps_start(void);
/* Waits of this process's threads for a CPU are gaps as well. */
void gaps_watch(int pid);
void gaps_note(nsec_t from, nsec_t to);
/* How much of this time the machine did not run us, on any of its CPUs. */
nsec_t gaps_within(nsec_t from, nsec_t to);
nsec_t gaps_longest(void);

/* load.c */
void report_error(const struct slot *s, enum error_kind kind, const char *why);
void report_done(const struct slot *s, nsec_t end);
/* May another request be started? Counts it. */
bool begin_request(void);

/* conn.c */
int conn_init(void); /* the epoll descriptor */
void slot_start(struct slot *s); /* connects and asks */
void slot_ask(struct slot *s);   /* on its open connection */
void slot_event(struct slot *s, uint32_t events);
void slot_close(struct slot *s);
/* A request that takes too long is given up. */
void slot_check(struct slot *s, nsec_t now);
