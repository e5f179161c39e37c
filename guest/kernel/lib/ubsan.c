/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the compiler calls when -fsanitize=undefined finds undefined behaviour
 * (DEBUG=1 builds): each panics with the place, the kind and the values.
 *
 * The descriptors are GCC's and clang's: gcc/ubsan.cc, compiler-rt's
 * ubsan_handlers.h. Values arrive as they are when they fit a register, else
 * by address. Release builds leave this file empty.
 */
#ifdef DEBUG

#include "lib/printk.h"
#include "lib/string.h"
#include "lib/types.h"

struct place {
    const char *file;
    uint32_t line, column;
};

struct type {
    uint16_t kind; /* 0: integer */
    uint16_t info; /* bit 0: signed; the rest: log2 of the width in bits */
    char name[];
};

struct overflow_data {
    struct place place;
    const struct type *type;
};

struct shift_data {
    struct place place;
    const struct type *left, *right;
};

struct bounds_data {
    struct place place;
    const struct type *array, *index;
};

struct mismatch_data {
    struct place place;
    const struct type *type;
    uint8_t log_alignment, kind;
};

struct implicit_data {
    struct place place;
    const struct type *from, *to;
    uint8_t kind;
};

struct pair_data {
    struct place place, attribute;
};

static const char *const accesses[] = {
    "load of",          "store to",          "reference to",
    "member access in", "member call on",    "constructor call on",
    "downcast of",      "downcast of",       "upcast of",
    "cast to virtual base of", "nonnull use of", "dynamic use of",
};

static __noreturn void report(const struct place *at, const char *what)
{
    panic("undefined behaviour: %s:%u:%u: %s", at->file, at->line, at->column,
          what);
}

/* "-5" or "7", as the type says. */
static void number(char *buf, size_t size, const struct type *type,
                   uint64_t value)
{
    unsigned bits = 1u << (type->info >> 1);

    if (type->kind != 0) {
        snprintf(buf, size, "(%s)", type->name);
        return;
    }
    if (bits > 64) {
        value = *(const uint64_t *)value;
        bits = 64;
    }
    if (type->info & 1)
        snprintf(buf, size, "%ld",
                 (int64_t)(value << (64 - bits)) >> (64 - bits));
    else
        snprintf(buf, size, "%lu", value);
}

static __noreturn void report_overflow(const struct overflow_data *d,
                                       const char *op, uint64_t left,
                                       uint64_t right)
{
    char a[24], b[24], text[120];

    number(a, sizeof(a), d->type, left);
    number(b, sizeof(b), d->type, right);
    snprintf(text, sizeof(text), "%s %s %s does not fit %s", a, op, b,
             d->type->name);
    report(&d->place, text);
}

#define OVERFLOW(name, op)                                              \
    void __ubsan_handle_##name##_overflow(const struct overflow_data *, \
                                          uint64_t, uint64_t);          \
    void __ubsan_handle_##name##_overflow(const struct overflow_data *d, \
                                          uint64_t a, uint64_t b)       \
    {                                                                   \
        report_overflow(d, op, a, b);                                   \
    }

OVERFLOW(add, "+")
OVERFLOW(sub, "-")
OVERFLOW(mul, "*")
OVERFLOW(divrem, "/")

void __ubsan_handle_negate_overflow(const struct overflow_data *, uint64_t);
void __ubsan_handle_negate_overflow(const struct overflow_data *d, uint64_t v)
{
    report_overflow(d, "negated, from", 0, v);
}

void __ubsan_handle_shift_out_of_bounds(const struct shift_data *, uint64_t,
                                        uint64_t);
void __ubsan_handle_shift_out_of_bounds(const struct shift_data *d,
                                        uint64_t left, uint64_t right)
{
    char a[24], b[24], text[120];

    number(a, sizeof(a), d->left, left);
    number(b, sizeof(b), d->right, right);
    snprintf(text, sizeof(text), "%s shifted by %s, type %s", a, b,
             d->left->name);
    report(&d->place, text);
}

void __ubsan_handle_out_of_bounds(const struct bounds_data *, uint64_t);
void __ubsan_handle_out_of_bounds(const struct bounds_data *d, uint64_t index)
{
    char i[24], text[120];

    number(i, sizeof(i), d->index, index);
    snprintf(text, sizeof(text), "index %s of %s", i, d->array->name);
    report(&d->place, text);
}

void __ubsan_handle_type_mismatch_v1(const struct mismatch_data *, uint64_t);
void __ubsan_handle_type_mismatch_v1(const struct mismatch_data *d,
                                     uint64_t pointer)
{
    const char *access =
        d->kind < ARRAY_SIZE(accesses) ? accesses[d->kind] : "use of";
    const char *why = "too little room";
    char text[120];

    if (pointer == 0)
        why = "NULL";
    else if (pointer & ((1ul << d->log_alignment) - 1))
        why = "not aligned";
    snprintf(text, sizeof(text), "%s %s at %lx: %s", access, d->type->name,
             pointer, why);
    report(&d->place, text);
}

void __ubsan_handle_pointer_overflow(const struct place *, uint64_t, uint64_t);
void __ubsan_handle_pointer_overflow(const struct place *at, uint64_t base,
                                     uint64_t result)
{
    char text[120];

    snprintf(text, sizeof(text), "pointer %lx moved to %lx", base, result);
    report(at, text);
}

void __ubsan_handle_load_invalid_value(const struct overflow_data *, uint64_t);
void __ubsan_handle_load_invalid_value(const struct overflow_data *d,
                                       uint64_t value)
{
    char text[120];

    snprintf(text, sizeof(text), "%lu is no value of %s", value,
             d->type->name);
    report(&d->place, text);
}

void __ubsan_handle_implicit_conversion(const struct implicit_data *, uint64_t,
                                        uint64_t);
void __ubsan_handle_implicit_conversion(const struct implicit_data *d,
                                        uint64_t from, uint64_t to)
{
    char a[24], b[24], text[120];

    number(a, sizeof(a), d->from, from);
    number(b, sizeof(b), d->to, to);
    snprintf(text, sizeof(text), "%s %s becomes %s %s", d->from->name, a,
             d->to->name, b);
    report(&d->place, text);
}

void __ubsan_handle_vla_bound_not_positive(const struct overflow_data *,
                                           uint64_t);
void __ubsan_handle_vla_bound_not_positive(const struct overflow_data *d,
                                           uint64_t bound)
{
    char text[120];

    snprintf(text, sizeof(text), "array of %ld elements", (int64_t)bound);
    report(&d->place, text);
}

void __ubsan_handle_alignment_assumption(const struct overflow_data *, uint64_t,
                                         uint64_t, uint64_t);
void __ubsan_handle_alignment_assumption(const struct overflow_data *d,
                                         uint64_t pointer, uint64_t alignment,
                                         uint64_t offset)
{
    char text[120];

    snprintf(text, sizeof(text), "%lx is assumed to be aligned to %lu",
             pointer - offset, alignment);
    report(&d->place, text);
}

#define SIMPLE(name, struct_type, text)                 \
    void __ubsan_handle_##name(const struct_type *);    \
    void __ubsan_handle_##name(const struct_type *d)    \
    {                                                   \
        report((const struct place *)d, text);          \
    }

SIMPLE(builtin_unreachable, struct place, "unreachable code was reached")
SIMPLE(missing_return, struct place, "the end of a function with a value")
SIMPLE(nonnull_arg, struct pair_data, "NULL for an argument that is nonnull")
SIMPLE(invalid_builtin, struct place, "0 given to a bit-counting builtin")

void __ubsan_handle_nonnull_return_v1(const struct pair_data *,
                                      const struct place *);
void __ubsan_handle_nonnull_return_v1(const struct pair_data *d,
                                      const struct place *at)
{
    report(at, "NULL returned by a function that never does");
}

void __ubsan_handle_function_type_mismatch(const struct overflow_data *,
                                           uint64_t);
void __ubsan_handle_function_type_mismatch(const struct overflow_data *d,
                                           uint64_t function)
{
    char text[120];

    snprintf(text, sizeof(text), "function %lx called as %s", function,
             d->type->name);
    report(&d->place, text);
}

#endif
