/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * vsnprintf for what the kernel prints: %d %i %u %x %X %o %p %s %c %% with
 * the flags - 0 and +, width and precision (also *), and l, ll, z, h, hh.
 */
#include "lib/string.h"

struct out {
    char *buf;
    size_t size, len;
};

struct spec {
    bool left, zero, plus;
    int width, precision; /* precision -1: none */
    int longs;
};

static void put(struct out *o, char c)
{
    if (o->len + 1 < o->size)
        o->buf[o->len] = c;
    o->len++;
}

static void put_padded(struct out *o, const char *s, size_t n,
                       const struct spec *f, char pad)
{
    int fill = f->width - (int)n;

    for (; !f->left && fill > 0; fill--)
        put(o, pad);
    for (size_t i = 0; i < n; i++)
        put(o, s[i]);
    for (; fill > 0; fill--)
        put(o, ' ');
}

static void put_number(struct out *o, uint64_t v, bool negative,
                       unsigned base, bool upper, struct spec *f)
{
    const char *digits = upper ? "0123456789ABCDEF" : "0123456789abcdef";
    char tmp[72];
    size_t n = sizeof(tmp);
    int count = 0;

    do {
        tmp[--n] = digits[v % base];
        v /= base;
        count++;
    } while (v || (count < f->precision && n > 2));
    if (f->zero && !f->left && f->precision < 0) {
        int sign = negative || f->plus;
        while (count < f->width - sign && n > 2) {
            tmp[--n] = '0';
            count++;
        }
    }
    if (negative)
        tmp[--n] = '-';
    else if (f->plus)
        tmp[--n] = '+';
    put_padded(o, tmp + n, sizeof(tmp) - n, f, ' ');
}

static const char *parse_spec(const char *p, struct spec *f, va_list *args)
{
    *f = (struct spec){.precision = -1};
    for (;; p++) {
        if (*p == '-')
            f->left = true;
        else if (*p == '0')
            f->zero = true;
        else if (*p == '+')
            f->plus = true;
        else
            break;
    }
    if (*p == '*') {
        f->width = va_arg(*args, int);
        p++;
    }
    for (; *p >= '0' && *p <= '9'; p++)
        f->width = f->width * 10 + (*p - '0');
    if (*p == '.') {
        p++;
        f->precision = 0;
        if (*p == '*') {
            f->precision = va_arg(*args, int);
            p++;
        }
        for (; *p >= '0' && *p <= '9'; p++)
            f->precision = f->precision * 10 + (*p - '0');
    }
    for (; *p == 'l' || *p == 'z' || *p == 'h' || *p == 'j'; p++)
        f->longs += *p == 'h' ? -1 : *p == 'l' ? 1 : 2;
    return p;
}

static void put_conversion(struct out *o, char c, struct spec *f,
                           va_list *args)
{
    switch (c) {
    case 'd':
    case 'i': {
        int64_t v = f->longs > 0 ? va_arg(*args, int64_t)
                                 : va_arg(*args, int);
        put_number(o, v < 0 ? -(uint64_t)v : (uint64_t)v, v < 0, 10, false, f);
        break;
    }
    case 'u':
    case 'x':
    case 'X':
    case 'o': {
        uint64_t v = f->longs > 0 ? va_arg(*args, uint64_t)
                                  : va_arg(*args, unsigned);
        put_number(o, v, false, c == 'u' ? 10 : c == 'o' ? 8 : 16, c == 'X',
                   f);
        break;
    }
    case 'p':
        put(o, '0');
        put(o, 'x');
        put_number(o, va_arg(*args, uint64_t), false, 16, false, f);
        break;
    case 's': {
        const char *s = va_arg(*args, const char *);
        s = s ? s : "(null)";
        size_t n = f->precision >= 0 ? strnlen(s, (size_t)f->precision)
                                     : strlen(s);
        put_padded(o, s, n, f, ' ');
        break;
    }
    case 'c': {
        char ch = (char)va_arg(*args, int);
        put_padded(o, &ch, 1, f, ' ');
        break;
    }
    default:
        put(o, c);
    }
}

int vsnprintf(char *buf, size_t size, const char *fmt, va_list args)
{
    struct out o = {buf, size, 0};
    struct spec f;
    va_list ap;

    va_copy(ap, args);
    for (const char *p = fmt; *p; p++) {
        if (*p != '%') {
            put(&o, *p);
            continue;
        }
        p = parse_spec(p + 1, &f, &ap);
        if (!*p)
            break;
        put_conversion(&o, *p, &f, &ap);
    }
    va_end(ap);
    if (size)
        buf[MIN(o.len, size - 1)] = 0;
    return (int)o.len;
}

int snprintf(char *buf, size_t size, const char *fmt, ...)
{
    va_list args;
    int n;

    va_start(args, fmt);
    n = vsnprintf(buf, size, fmt, args);
    va_end(args);
    return n;
}

uint64_t parse_number(const char *s, const char **end, int base)
{
    uint64_t v = 0;

    for (;; s++) {
        int d = *s >= '0' && *s <= '9'   ? *s - '0'
                : *s >= 'a' && *s <= 'f' ? *s - 'a' + 10
                : *s >= 'A' && *s <= 'F' ? *s - 'A' + 10
                                         : 99;
        if (d >= base)
            break;
        v = v * (uint64_t)base + (uint64_t)d;
    }
    if (end)
        *end = s;
    return v;
}
