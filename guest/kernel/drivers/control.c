/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Lines from the launcher on the control port (docs/host-guest.md): a kernel
 * thread reads them, `line` below is its own. A line it does not know is
 * logged and ignored. Started once the program runs, so that it does not delay
 * the first output.
 */
#include "drivers/console.h"
#include "drivers/drivers.h"
#include "lib/errno.h"
#include "lib/printk.h"
#include "lib/string.h"
#include "linux/task.h"
#include "param.h"
#include "sched/thread.h"

#define SIGNAL_TERM 15
#define CONTROL_LINE_MAX 256 /* all lines to the guest are short */

static struct {
    char line[CONTROL_LINE_MAX];
    size_t len;
    bool is_too_long;
} control;

/* Parses " N" at *p; false when there is no number. */
static bool control_number(const char **p, uint64_t *out)
{
    const char *s = *p, *end;

    if (*s != ' ')
        return false;
    *out = parse_number(s + 1, &end, 10);
    *p = end;
    return end != s + 1;
}

static void control_line(const char *line)
{
    uint64_t a, b;
    const char *p;

    if (strcmp(line, "stop") == 0) {
        signal_from_host(SIGNAL_TERM);
        return;
    }
    if (strcmp(line, "threads") == 0) {
        threads_report();
        return;
    }
    p = line + 3;
    if (strncmp(line, "eof", 3) == 0 && control_number(&p, &a) && !*p) {
        console_set_eof(a);
        return;
    }
    p = line + 7;
    if (strncmp(line, "winsize", 7) == 0 && control_number(&p, &a) &&
        control_number(&p, &b) && !*p) {
        tty_set_winsize((uint16_t)a, (uint16_t)b);
        return;
    }
    p = line + 6;
    if (strncmp(line, "signal", 6) == 0 && control_number(&p, &a) && !*p &&
        a >= 1 && a <= NSIG) {
        signal_from_host((int)a);
        return;
    }
    klog(LOG_WARN, "control: unknown line '%s'", line);
}

static void control_byte(char c)
{
    if (c != '\n') {
        if (control.len < sizeof(control.line) - 1)
            control.line[control.len++] = c;
        else
            control.is_too_long = true;
        return;
    }
    control.line[control.len] = 0;
    if (control.is_too_long)
        klog(LOG_WARN, "control: a line is too long");
    else
        control_line(control.line);
    control.len = 0;
    control.is_too_long = false;
}

static void control_thread(void *arg)
{
    struct waitq *wait = console_control_wait();
    char buf[64];
    ssize_t n;

    for (;;) {
        struct iov_iter to;

        iter_init_kernel(&to, buf, sizeof(buf));
        n = console_read_iter(CONSOLE_CONTROL, &to);
        for (ssize_t i = 0; i < n; i++)
            control_byte(buf[i]);
        if (n == -EAGAIN)
            wait_event(wait, console_port_readable(CONSOLE_CONTROL), 0,
                       NO_DEADLINE);
        else if (n <= 0)
            break; /* no such port */
    }
    thread_exit();
}

void control_start(void)
{
    if (!kthread_create("control", control_thread, NULL))
        klog(LOG_ERROR, "control: no memory for the thread");
    if (boot_params.tty & 1)
        tty_start();
}
