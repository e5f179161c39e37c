/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Shared by tty.c (files, ioctls) and tty_input.c (the line discipline).
 *
 * There is one terminal. `lock` protects everything but the output part,
 * which out_lock protects; order lock -> out_lock. `column` is written by both
 * echo and output without a lock: it only steers how a tab is erased.
 */
#pragma once

#include "drivers/drivers.h"
#include "fs/vfs.h"
#include "sched/mutex.h"

/* asm-generic/termbits.h */
#define ISTRIP 0000040u
#define INLCR 0000100u
#define IGNCR 0000200u
#define ICRNL 0000400u
#define IXON 0002000u
#define IXANY 0004000u
#define IUTF8 0040000u
#define OPOST 0000001u
#define ONLCR 0000004u
#define OCRNL 0000010u
#define ONOCR 0000020u
#define ONLRET 0000040u
#define TABDLY 0014000u
#define B38400 0000017u
#define CS8 0000060u
#define CREAD 0000200u
#define ISIG 0000001u
#define ICANON 0000002u
#define ECHO 0000010u
#define ECHOE 0000020u
#define ECHOK 0000040u
#define ECHONL 0000100u
#define NOFLSH 0000200u
#define ECHOCTL 0001000u
#define ECHOKE 0004000u
#define IEXTEN 0100000u

enum {
    VINTR, VQUIT, VERASE, VKILL, VEOF, VTIME, VMIN, VSWTC, VSTART, VSTOP,
    VSUSP, VEOL, VREPRINT, VDISCARD, VWERASE, VLNEXT, VEOL2, NCCS = 19
};

struct termios_abi { /* struct termios2; TCGETS stops before the speeds */
    uint32_t iflag, oflag, cflag, lflag;
    uint8_t line;
    uint8_t cc[NCCS];
    uint32_t ispeed, ospeed;
};
_Static_assert(sizeof(struct termios_abi) == 44, "struct termios2");
#define TERMIOS_OLD_SIZE 36

#define TTY_BUF 4096u
#define TTY_ECHO_BUF 256u
#define TTY_OUT_BUF 1024u

struct tty {
    struct mutex lock;
    struct waitq read_wait;  /* input or hang-up */
    struct waitq space_wait; /* the reader thread waits for room */
    struct waitq flow_wait;  /* output was resumed */
    enum console_port port;  /* for echo; set once */
    bool has_thread;
    /* --- protected by lock --- */
    struct termios_abi termios;
    uint16_t rows, cols;
    int pgrp, session;
    /* Input ring, running indices: [tail, canon) complete lines, [canon, head)
     * the line being edited. Raw mode reads [tail, head). */
    uint32_t tail, canon, head;
    uint8_t data[TTY_BUF];
    uint32_t delimiters[TTY_BUF / 32]; /* bit: ends a line; \0 = EOF */
    bool is_literal_next;
    bool is_hung_up;       /* the host's input ended */
    uint32_t line_column;  /* where the edited line began */
    char echo[TTY_ECHO_BUF];
    uint32_t echo_len;
    /* --- atomic --- */
    bool is_stopped;       /* XOFF */
    uint32_t column;
    /* --- protected by out_lock --- */
    struct mutex out_lock;
    char out[TTY_OUT_BUF];
};

extern struct tty tty;

static inline bool tty_is_delimiter(uint32_t i)
{
    i %= TTY_BUF;
    return (tty.delimiters[i / 32] >> (i % 32)) & 1;
}

/* tty_input.c; REQUIRES(tty.lock) */
void tty_input_bytes(const uint8_t *p, size_t n);
void tty_flush_input(void);
/* Input became canonical or raw. */
void tty_mode_changed(void);
/* May the reader thread take more? */
bool tty_has_room(void);
size_t tty_nr_readable(void);
/* The column after character c is shown at `column`. */
uint32_t tty_column_after(uint32_t column, uint8_t c);
