/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Intrusive circular doubly linked lists. A head is a `struct list` too; an
 * unlinked node points to itself after list_init and list_del.
 */
#pragma once

#include "lib/types.h"

struct list {
    struct list *next, *prev;
};

#define LIST_INIT(name) {&(name), &(name)}

static inline void list_init(struct list *l)
{
    l->next = l->prev = l;
}

static inline bool list_empty(const struct list *l)
{
    return l->next == l;
}

static inline void list_insert_between(struct list *n, struct list *prev,
                                       struct list *next)
{
    n->prev = prev;
    n->next = next;
    prev->next = n;
    next->prev = n;
}

/* Inserts n right after `head` (the front). */
static inline void list_add(struct list *head, struct list *n)
{
    list_insert_between(n, head, head->next);
}

/* Inserts n right before `head` (the back). */
static inline void list_add_tail(struct list *head, struct list *n)
{
    list_insert_between(n, head->prev, head);
}

static inline void list_del(struct list *n)
{
    n->prev->next = n->next;
    n->next->prev = n->prev;
    list_init(n);
}

#define list_entry(ptr, type, member) container_of(ptr, type, member)
#define list_first(head, type, member) \
    list_entry((head)->next, type, member)
#define list_for_each(pos, head, member)                              \
    for (pos = list_entry((head)->next, __typeof__(*pos), member);    \
         &pos->member != (head);                                      \
         pos = list_entry(pos->member.next, __typeof__(*pos), member))
#define list_for_each_safe(pos, tmp, head, member)                       \
    for (pos = list_entry((head)->next, __typeof__(*pos), member),       \
        tmp = list_entry(pos->member.next, __typeof__(*pos), member);    \
         &pos->member != (head);                                         \
         pos = tmp, tmp = list_entry(tmp->member.next, __typeof__(*tmp), \
                                     member))
