/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The C string routines the compiler and the kernel need; semantics as in
 * ISO C. Bulk copies choose `rep` or plain loops by host (hosts.md: `rep` is
 * slow under TCG).
 */
#pragma once

#include "lib/types.h"

/* string.c */
void *memcpy(void *dst, const void *src, size_t n);
void *memmove(void *dst, const void *src, size_t n);
void *memset(void *dst, int c, size_t n);
int memcmp(const void *a, const void *b, size_t n);
void *memchr(const void *s, int c, size_t n);
size_t strlen(const char *s);
size_t strnlen(const char *s, size_t max);
int strcmp(const char *a, const char *b);
int strncmp(const char *a, const char *b, size_t n);
char *strchr(const char *s, int c);
char *strrchr(const char *s, int c);
/* Copies at most size - 1 bytes, always terminates; returns strlen(src). */
size_t strlcpy(char *dst, const char *src, size_t size);
/* Zeroes one page at `page`. */
void page_zero(void *page);
void page_copy(void *dst, const void *src);

/* format.c: %d %i %u %x %p %s %c %% with l, ll, z, width, 0, -, precision. */
int snprintf(char *buf, size_t size, const char *fmt, ...) __printf(3, 4);
int vsnprintf(char *buf, size_t size, const char *fmt, va_list args);
/* Parses digits of `base` (10 or 16); *end is the first other character. */
uint64_t parse_number(const char *s, const char **end, int base);
