/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The VMA tree of the guest against a model: random insertions, removals and
 * moved borders in a small address space (one byte per page in `map`), the
 * tree's invariants after each, look-ups and the search for room compared with
 * a scan of the model.
 */
#include "mm/vma.h"

#include "check.h"

#include <string.h>

#define NR_PAGES 2048u
#define ROUNDS 60000

static uint8_t map[NR_PAGES]; /* 1: mapped, 2: kept free below a stack */
static struct vma *root;

static uint64_t gap_of(const struct vma *v)
{
    vaddr_t from = v->prev ? v->prev->end : 0;
    vaddr_t to = vma_start_gap(v);
    return to > from ? to - from : 0;
}

/* Checks the subtree; returns its height. */
static int check_node(const struct vma *v, const struct vma *parent,
                      uint64_t *max_gap, size_t *count)
{
    uint64_t left_gap = 0, right_gap = 0;
    int l, r;

    *max_gap = 0;
    if (!v)
        return 0;
    CHECK(v->parent == parent);
    CHECK(!v->left || v->left->start < v->start);
    CHECK(!v->right || v->right->start > v->start);
    l = check_node(v->left, v, &left_gap, count);
    r = check_node(v->right, v, &right_gap, count);
    CHECK(l - r >= -1 && l - r <= 1);
    CHECK_EQ(v->height, 1 + MAX(l, r));
    *max_gap = MAX(MAX(left_gap, right_gap), gap_of(v));
    CHECK_EQ(v->max_gap, *max_gap);
    ++*count;
    return v->height;
}

static void check_tree(void)
{
    uint64_t gap;
    size_t count = 0, listed = 0;
    vaddr_t last = 0;

    check_node(root, NULL, &gap, &count);
    for (struct vma *v = vma_first(root), *p = NULL; v; p = v, v = v->next) {
        CHECK(v->prev == p);
        CHECK(v->start >= last && v->start < v->end);
        last = v->end;
        listed++;
    }
    CHECK_EQ(count, listed);
}

static void paint(void)
{
    memset(map, 0, sizeof(map));
    for (struct vma *v = vma_first(root); v; v = v->next) {
        vaddr_t a = MAX(vma_start_gap(v), v->prev ? v->prev->end : 0);
        for (; a < v->end; a += PAGE_SIZE)
            map[a / PAGE_SIZE] = a >= v->start ? 1 : 2;
    }
}

static bool model_find_gap(vaddr_t low, vaddr_t high, uint64_t len,
                           vaddr_t *out)
{
    if (high < low || high - low < len)
        return false;
    for (vaddr_t a = high - len + PAGE_SIZE; a-- > low;) {
        bool is_free = true;
        a = ALIGN_DOWN(a, PAGE_SIZE);
        for (vaddr_t b = a; b < a + len; b += PAGE_SIZE)
            is_free &= !map[b / PAGE_SIZE];
        if (is_free && a >= low && a + len <= high) {
            *out = a;
            return true;
        }
        if (a == 0)
            break;
    }
    return false;
}

static void compare_lookups(uint64_t *rng)
{
    vaddr_t addr = rng_below(rng, NR_PAGES) * PAGE_SIZE + 5;
    vaddr_t low = rng_below(rng, NR_PAGES) * PAGE_SIZE;
    vaddr_t high = low + rng_below(rng, NR_PAGES - low / PAGE_SIZE + 1) *
                             PAGE_SIZE;
    uint64_t len = (1 + rng_below(rng, 64)) * PAGE_SIZE;
    vaddr_t a = 0, b = 0;
    struct vma *v = vma_find(root, addr), *w = vma_first(root);
    bool found, expected;

    while (w && w->end <= addr)
        w = w->next;
    CHECK(v == w);
    found = vma_find_gap(root, low, high, len, &a);
    expected = model_find_gap(low, high, len, &b);
    CHECK_EQ(found, expected);
    if (found)
        CHECK_EQ(a, b);
}

static struct vma *add(vaddr_t start, vaddr_t end, uint32_t flags)
{
    struct vma *v = calloc(1, sizeof(*v));

    CHECK(v != NULL);
    v->start = start;
    v->end = end;
    v->flags = flags;
    vma_insert(&root, v);
    return v;
}

static void step(uint64_t *rng)
{
    vaddr_t start = rng_below(rng, NR_PAGES) * PAGE_SIZE;
    struct vma *v = vma_find(root, start);

    if (v && v->start <= start) {
        switch (rng_below(rng, 3)) {
        case 0: /* cut the tail off, or all */
            if (v->start < start) {
                v->end = start;
                vma_changed(&root, v);
                return;
            }
            break;
        case 1: /* grow down */
            v->start = v->prev ? v->prev->end : 0;
            vma_changed(&root, v);
            return;
        default:
            break;
        }
        vma_erase(&root, v);
        free(v);
        return;
    }
    vaddr_t limit = v ? v->start : NR_PAGES * PAGE_SIZE;
    vaddr_t end = start + (1 + rng_below(rng, 20)) * PAGE_SIZE;
    add(start, MIN(end, limit), rng_below(rng, 40) ? 0 : VM_GROWSDOWN);
}

static void drop_all(void)
{
    while (root) {
        struct vma *v = root;
        vma_erase(&root, v);
        free(v);
        check_tree();
    }
}

/* A large sorted load stays shallow, and room is found in it. */
static void test_many(void)
{
    vaddr_t at;

    for (uint64_t i = 0; i < 5000; i++)
        add(2 * i * PAGE_SIZE, (2 * i + 1) * PAGE_SIZE, 0);
    CHECK(root->height <= 17);
    CHECK(vma_find_gap(root, 0, 9999 * PAGE_SIZE, PAGE_SIZE, &at));
    CHECK_EQ(at, 9997 * PAGE_SIZE);
    CHECK(!vma_find_gap(root, 0, 9999 * PAGE_SIZE, 2 * PAGE_SIZE, &at));
    CHECK(vma_find_gap(root, 0, 1ul << 47, 1ul << 40, &at));
    CHECK_EQ(at, (1ul << 47) - (1ul << 40));
    drop_all();
}

int main(int argc, char **argv)
{
    uint64_t seed = argc > 1 ? strtoull(argv[1], NULL, 0) : 0x5eed;
    uint64_t rng = seed;

    printf("test_vma: seed %llu\n", (unsigned long long)seed);
    for (int i = 0; i < ROUNDS; i++) {
        step(&rng);
        if (i % 16 == 0) {
            check_tree();
            paint();
            compare_lookups(&rng);
        }
        if (i % 20000 == 19999)
            drop_all();
    }
    drop_all();
    test_many();
    printf("test_vma: ok\n");
    return 0;
}
