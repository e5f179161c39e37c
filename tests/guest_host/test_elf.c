/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The ELF header parser and the "#!" parser: real files of this machine, and
 * mutations of them, of which the parser must never accept one that breaks the
 * promises in exec/elf.h. Buffers have their exact size on the heap for ASan.
 */
#include "check.h"
#include "exec/elf.h"
#include "exec/script.h"
#include "lib/errno.h"
#include "lib/string.h"

#define ROUNDS 200000

static uint64_t rng = 20261121;

static int parse(const uint8_t *file, size_t len, uint64_t file_size,
                 struct elf_image *elf)
{
    size_t bytes = 0;
    int err = elf_parse_header(file, len, file_size, elf, &bytes);

    if (err != 0)
        return err;
    CHECK(bytes > 0 && bytes <= ELF_MAX_PHDRS_BYTES);
    if (elf->phoff > len)
        return -ENOEXEC;
    return elf_parse_phdrs(file + elf->phoff, len - elf->phoff, file_size,
                           elf);
}

static void check_promises(const struct elf_image *elf, uint64_t file_size)
{
    uint64_t end = 0;

    CHECK(elf->nr_segments > 0 && elf->nr_segments <= ELF_MAX_SEGMENTS);
    for (unsigned i = 0; i < elf->nr_segments; i++) {
        const struct elf_segment *s = &elf->segments[i];

        CHECK(s->vaddr >= end);
        CHECK(s->memsz > 0 && s->filesz <= s->memsz);
        CHECK(s->vaddr < ELF_MAX_SPAN && s->memsz <= ELF_MAX_SPAN - s->vaddr);
        CHECK(s->offset <= file_size && s->filesz <= file_size - s->offset);
        CHECK(s->filesz == 0 ||
              s->vaddr % ELF_PAGE == s->offset % ELF_PAGE);
        end = s->vaddr + s->memsz;
    }
    CHECK(elf->start % ELF_PAGE == 0 && elf->end % ELF_PAGE == 0);
    CHECK(elf->start <= elf->segments[0].vaddr && elf->end >= end);
    CHECK(elf->entry >= elf->start && elf->entry < elf->end);
    CHECK((elf->max_align & (elf->max_align - 1)) == 0);
    CHECK(elf->max_align >= ELF_PAGE);
    CHECK(elf->interp_offset <= file_size &&
          elf->interp_size <= file_size - elf->interp_offset);
}

static uint8_t *read_head(const char *path, size_t *len, uint64_t *size)
{
    FILE *f = fopen(path, "rb");
    uint8_t *buf = malloc(4096);

    if (f == NULL) {
        free(buf);
        return NULL;
    }
    *len = fread(buf, 1, 4096, f);
    fseek(f, 0, SEEK_END);
    *size = (uint64_t)ftell(f);
    fclose(f);
    return buf;
}

static void mutate(const uint8_t *good, size_t len, uint64_t size)
{
    struct elf_image elf;
    int accepted = 0;

    for (int round = 0; round < ROUNDS; round++) {
        size_t n = rng_below(&rng, 8) == 0 ? rng_below(&rng, len + 1) : len;
        uint8_t *copy = malloc(n != 0 ? n : 1);

        memcpy(copy, good, n);
        for (uint64_t i = rng_below(&rng, 4); i < 4 && n > 0; i++) {
            size_t at = rng_below(&rng, n < 900 ? n : 900);
            copy[at] = rng_below(&rng, 2) ? (uint8_t)rng_next(&rng)
                                          : (uint8_t)(copy[at] ^ 0x80);
        }
        if (parse(copy, n, size, &elf) == 0) {
            check_promises(&elf, size);
            accepted++;
        }
        free(copy);
    }
    CHECK(accepted > 0 && accepted < ROUNDS);
}

static void test_real_files(void)
{
    static const char *const paths[] = {
        "/bin/sh", "/lib64/ld-linux-x86-64.so.2", "/proc/self/exe",
        "/usr/bin/python3", "/bin/busybox",
    };

    for (size_t i = 0; i < ARRAY_SIZE(paths); i++) {
        struct elf_image elf;
        uint64_t size;
        size_t len;
        uint8_t *head = read_head(paths[i], &len, &size);

        if (head == NULL)
            continue;
        /* /proc/self/exe has no size of its own: any will do. */
        CHECK_EQ(parse(head, len, size, &elf), 0);
        check_promises(&elf, size);
        CHECK(!elf.exec_stack);
        CHECK(elf.phdr_vaddr != 0);
        if (elf.interp_size != 0 && elf.interp_offset + elf.interp_size < len)
            CHECK_EQ(elf_check_interp((char *)head + elf.interp_offset,
                                      elf.interp_size), 0);
        if (i < 3)
            mutate(head, len, size);
        free(head);
    }
    CHECK_EQ(elf_check_interp("/lib", 4), -ENOEXEC);
    CHECK_EQ(elf_check_interp("", 1), -ENOEXEC);
}

static void script(const char *line, const char *interp, const char *arg)
{
    size_t len = strlen(line);
    char *head = malloc(len + 1), *i = NULL, *a = NULL;
    int err;

    memcpy(head, line, len);
    head[len] = 'X'; /* whatever was there */
    err = script_parse(head, len, &i, &a);
    if (interp == NULL) {
        CHECK_EQ(err, -ENOEXEC);
    } else {
        CHECK_EQ(err, 0);
        CHECK(strcmp(i, interp) == 0);
        CHECK((a == NULL) == (arg == NULL));
        CHECK(arg == NULL || strcmp(a, arg) == 0);
    }
    free(head);
}

static void test_scripts(void)
{
    char line[EXEC_HEAD_SIZE + 1];

    script("#!/bin/sh\necho", "/bin/sh", NULL);
    script("#! /bin/sh \necho", "/bin/sh", NULL);
    script("#!/usr/bin/env  python3 -u \t\nx", "/usr/bin/env", "python3 -u");
    script("#!/bin/sh", "/bin/sh", NULL);
    script("#!/bin/sh -e", "/bin/sh", "-e");
    script("#!\n", NULL, NULL);
    script("#!  ", NULL, NULL);
    script("#", NULL, NULL);
    script("#x/bin/sh\n", NULL, NULL);
    /* Longer than what is looked at: good only if the name ended. */
    memset(line, 'a', EXEC_HEAD_SIZE);
    memcpy(line, "#!/", 3);
    line[EXEC_HEAD_SIZE] = '\0';
    script(line, NULL, NULL);
    line[100] = ' ';
    {
        char name[99], arg[EXEC_HEAD_SIZE]; /* 98 bytes, then a blank */

        memset(name, 'a', sizeof(name));
        name[0] = '/';
        name[98] = '\0';
        memset(arg, 'a', sizeof(arg));
        arg[EXEC_HEAD_SIZE - 101] = '\0';
        script(line, name, arg);
    }
}

int main(void)
{
    test_real_files();
    test_scripts();
    printf("test_elf: ok\n");
    return 0;
}
