/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The "#!" line (man 2 execve, "Interpreter scripts"): one optional argument
 * that may contain blanks. Depends on nothing but bytes.
 */
#include "exec/script.h"
#include "lib/errno.h"
#include "lib/string.h"

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

int script_parse(char *head, size_t len, char **interp, char **arg)
{
    char *end, *p = head + 2; /* head has room for one byte more */

    if (len < 3 || head[0] != '#' || head[1] != '!')
        return -ENOEXEC;
    end = memchr(head, '\n', len);
    if (end == NULL) {
        /* The line was cut: good only if the interpreter's name ended. */
        end = head + len;
        while (p < end && is_blank(*p))
            p++;
        while (p < end && *p != '\0' && !is_blank(*p))
            p++;
        if (p == end && len == EXEC_HEAD_SIZE)
            return -ENOEXEC;
        p = head + 2;
    }
    while (end > p && (is_blank(end[-1]) || end[-1] == '\0'))
        end--;
    while (p < end && is_blank(*p))
        p++;
    if (p == end)
        return -ENOEXEC;
    *end = '\0';
    *interp = p;
    while (*p != '\0' && !is_blank(*p))
        p++;
    *arg = NULL;
    if (*p == '\0')
        return 0;
    *p++ = '\0';
    while (is_blank(*p))
        p++;
    if (*p != '\0')
        *arg = p;
    return 0;
}
