/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The line discipline's input half: editing, echo, signals (man 3 termios).
 * Everything here runs in the tty thread with tty.lock held; echo that the
 * host does not take at once is dropped, so that Ctrl-C always works.
 */
#include "drivers/console.h"
#include "drivers/tty.h"
#include "lib/string.h"
#include "linux/task.h"

#define SIGNAL_INT 2
#define SIGNAL_QUIT 3
#define SIGNAL_TSTP 20

static bool has_lflag(uint32_t flag)
{
    return (tty.termios.lflag & flag) != 0;
}

static bool has_iflag(uint32_t flag)
{
    return (tty.termios.iflag & flag) != 0;
}

/* Is c the (enabled) control character `which`? */
static bool is_cc(unsigned which, uint8_t c)
{
    return c && tty.termios.cc[which] == c;
}

/* ---- echo ---- */

static void echo_flush(void)
{
    struct iov_iter from;

    if (!tty.echo_len)
        return;
    iter_init_kernel(&from, tty.echo, tty.echo_len);
    console_write_iter(tty.port, &from, true, false);
    tty.echo_len = 0;
}

static void echo_raw(char c)
{
    if (tty.echo_len == TTY_ECHO_BUF)
        echo_flush();
    tty.echo[tty.echo_len++] = c;
}

static bool is_continuation(uint8_t c)
{
    return has_iflag(IUTF8) && (c & 0xc0) == 0x80;
}

uint32_t tty_column_after(uint32_t column, uint8_t c)
{
    if (c == '\t')
        return (column | 7) + 1;
    if (c == '\r' || c == '\n')
        return 0;
    if (c == '\b')
        return column ? column - 1 : 0;
    if (c < 0x20 || c == 0x7f || is_continuation(c))
        return column;
    return column + 1;
}

/* As an edited character is shown: ^X for control characters. */
static uint32_t column_after_echo(uint32_t column, uint8_t c)
{
    if ((c < 0x20 && c != '\t') || c == 0x7f)
        return column + (has_lflag(ECHOCTL) ? 2 : 0);
    return tty_column_after(column, c);
}

static void echo_char(uint8_t c)
{
    if (c == '\n') {
        if ((tty.termios.oflag & (OPOST | ONLCR)) == (OPOST | ONLCR))
            echo_raw('\r');
        echo_raw('\n');
        tty.column = 0;
        return;
    }
    tty.column = column_after_echo(tty.column, c);
    if (has_lflag(ECHOCTL) && ((c < 0x20 && c != '\t') || c == 0x7f)) {
        echo_raw('^');
        echo_raw((char)(c ^ 0x40));
        return;
    }
    echo_raw((char)c);
}

/* ---- the ring ---- */

bool tty_has_room(void)
{
    uint32_t used = tty.head - tty.tail;

    /* An over-long line goes on being taken (and dropped), or its newline
     * would never arrive. */
    return used < TTY_BUF - 1 || (has_lflag(ICANON) && tty.canon == tty.tail);
}

static void ring_put(uint8_t c, bool is_delimiter)
{
    uint32_t i = tty.head % TTY_BUF, used = tty.head - tty.tail;
    uint32_t bit = 1u << (i % 32);

    if (used >= TTY_BUF - (is_delimiter ? 0 : 1))
        return;
    tty.data[i] = c;
    if (is_delimiter)
        tty.delimiters[i / 32] |= bit;
    else
        tty.delimiters[i / 32] &= ~bit;
    tty.head++;
    if (is_delimiter)
        tty.canon = tty.head;
}

size_t tty_nr_readable(void)
{
    if (!has_lflag(ICANON))
        return tty.head - tty.tail;
    return tty.canon - tty.tail;
}

void tty_flush_input(void)
{
    tty.tail = tty.canon = tty.head;
    tty.is_literal_next = false;
    wait_wake(&tty.space_wait, 1);
}

void tty_mode_changed(void)
{
    uint32_t last = (tty.head - 1) % TTY_BUF;

    memset(tty.delimiters, 0, sizeof(tty.delimiters));
    tty.canon = tty.tail;
    if (has_lflag(ICANON) && tty.head != tty.tail) {
        tty.delimiters[last / 32] |= 1u << (last % 32);
        tty.canon = tty.head;
    }
    tty.is_literal_next = false;
}

/* ---- editing ---- */

/* Removes the last character of the edited line from ring and screen. */
static void erase_one(void)
{
    uint32_t column = tty.line_column, width;
    uint8_t c;

    do {
        c = tty.data[--tty.head % TTY_BUF];
    } while (is_continuation(c) && tty.head != tty.canon);
    if (!has_lflag(ECHO))
        return;
    if (!has_lflag(ECHOE)) {
        echo_char(tty.termios.cc[VERASE]);
        return;
    }
    for (uint32_t i = tty.canon; i != tty.head; i++)
        column = column_after_echo(column, tty.data[i % TTY_BUF]);
    width = tty.column > column ? tty.column - column : 0;
    for (uint32_t i = 0; i < width; i++) {
        echo_raw('\b');
        if (c != '\t') {
            echo_raw(' ');
            echo_raw('\b');
        }
    }
    tty.column = column;
}

static bool is_word(uint8_t c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') ||
           (c >= 'A' && c <= 'Z') || c == '_' || c >= 0x80;
}

static void erase_word(void)
{
    bool has_seen_word = false;

    while (tty.head != tty.canon) {
        bool word = is_word(tty.data[(tty.head - 1) % TTY_BUF]);

        if (has_seen_word && !word)
            break;
        has_seen_word |= word;
        erase_one();
    }
}

static void kill_line(void)
{
    if (has_lflag(ECHO) && has_lflag(ECHOK) &&
        !(has_lflag(ECHOKE) && has_lflag(ECHOE))) {
        tty.head = tty.canon;
        echo_char(tty.termios.cc[VKILL]);
        echo_char('\n');
        return;
    }
    while (tty.head != tty.canon)
        erase_one();
}

static void reprint(void)
{
    echo_char(tty.termios.cc[VREPRINT]);
    echo_char('\n');
    tty.line_column = 0;
    for (uint32_t i = tty.canon; i != tty.head; i++)
        echo_char(tty.data[i % TTY_BUF]);
}

static void input_literal(uint8_t c)
{
    if (tty.head == tty.canon)
        tty.line_column = tty.column;
    if (has_lflag(ECHO))
        echo_char(c);
    ring_put(c, false);
}

/* Canonical mode: returns true when c was an editing character. */
static bool input_edit(uint8_t c)
{
    bool extended = has_lflag(IEXTEN);

    if (is_cc(VERASE, c)) {
        if (tty.head != tty.canon)
            erase_one();
    } else if (is_cc(VKILL, c)) {
        kill_line();
    } else if (extended && is_cc(VWERASE, c)) {
        erase_word();
    } else if (extended && is_cc(VLNEXT, c)) {
        tty.is_literal_next = true;
        if (has_lflag(ECHO) && has_lflag(ECHOCTL)) {
            echo_raw('^');
            echo_raw('\b');
        }
    } else if (extended && has_lflag(ECHO) && is_cc(VREPRINT, c)) {
        reprint();
    } else if (is_cc(VEOF, c)) {
        ring_put(0, true);
    } else if (c == '\n') {
        if (has_lflag(ECHO | ECHONL))
            echo_char('\n');
        ring_put(c, true);
    } else if (is_cc(VEOL, c) || (extended && is_cc(VEOL2, c))) {
        if (has_lflag(ECHO))
            echo_char(c);
        ring_put(c, true);
    } else {
        return false;
    }
    return true;
}

static bool input_signal(uint8_t c)
{
    int signo = 0;

    if (is_cc(VINTR, c))
        signo = SIGNAL_INT;
    else if (is_cc(VQUIT, c))
        signo = SIGNAL_QUIT;
    else if (is_cc(VSUSP, c))
        signo = SIGNAL_TSTP;
    if (!signo)
        return false;
    if (!has_lflag(NOFLSH))
        tty_flush_input();
    if (has_lflag(ECHO))
        echo_char(c);
    atomic_store_release(&tty.is_stopped, false);
    wait_wake(&tty.flow_wait, 1);
    signal_from_host(signo);
    return true;
}

/* Flow control; returns true when c was taken. */
static bool input_flow(uint8_t c)
{
    bool was_stopped = tty.is_stopped;

    if (is_cc(VSTOP, c)) {
        atomic_store_release(&tty.is_stopped, true);
        return true;
    }
    if (is_cc(VSTART, c) || (was_stopped && has_iflag(IXANY))) {
        atomic_store_release(&tty.is_stopped, false);
        wait_wake(&tty.flow_wait, 1);
        return is_cc(VSTART, c);
    }
    return false;
}

static void input_byte(uint8_t c)
{
    if (has_iflag(ISTRIP))
        c &= 0x7f;
    if (tty.is_literal_next) {
        tty.is_literal_next = false;
        input_literal(c);
        return;
    }
    if (has_iflag(IXON) && input_flow(c))
        return;
    if (has_lflag(ISIG) && input_signal(c))
        return;
    if (c == '\r') {
        if (has_iflag(IGNCR))
            return;
        if (has_iflag(ICRNL))
            c = '\n';
    } else if (c == '\n' && has_iflag(INLCR)) {
        c = '\r';
    }
    if (has_lflag(ICANON)) {
        if (!input_edit(c))
            input_literal(c);
        return;
    }
    if (has_lflag(ECHO))
        echo_char(c);
    ring_put(c, false);
}

void tty_input_bytes(const uint8_t *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        input_byte(p[i]);
    echo_flush();
    if (tty_nr_readable())
        wait_wake_key(&tty.read_wait, 1, EPOLLIN | EPOLLRDNORM);
}
