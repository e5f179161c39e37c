/* SPDX-License-Identifier: BSD-2-Clause */
/* The current directory and the file creation mask. */
#include "abi.h"

static char base[PATH_MAX];

/* The current directory, relative to the scratch directory. */
static void where(void)
{
    char text[PATH_MAX];

    if (getcwd(text, sizeof(text)) == NULL)
        printf("  getcwd: %s\n", errno_name(errno));
    else if (strncmp(text, base, strlen(base)) == 0)
        printf("  in .%s\n", text + strlen(base));
    else
        printf("  in %s\n", text);
}

static void *elsewhere(void *arg)
{
    where();
    E(chdir("a"));
    return NULL;
}

static mode_t made(const char *path, mode_t mode)
{
    struct stat st;
    int fd = open(path, O_CREAT | O_EXCL | O_RDWR, mode);

    if (fd < 0)
        return 077777;
    fstat(fd, &st);
    close(fd);
    unlink(path);
    return st.st_mode & 07777;
}

static void directory(void)
{
    char text[PATH_MAX];
    pthread_t t;
    int fd;

    SECTION("chdir");
    where();
    E(mkdir("a", 0755));
    E(mkdir("a/b", 0755));
    E(chdir("a/b"));
    where();
    E(chdir(".."));
    where();
    E(chdir("../a/./b/../../a/b//"));
    where();
    E(chdir("none"));
    E(chdir(""));
    E(chdir((char *)8));
    where();
    E(chdir("/"));
    where();
    E(chdir(".."));
    where();
    E(chdir(base));
    put_file("f", "x");
    E(chdir("f"));
    E(symlink("a/b", "l"));
    E(chdir("l"));
    where(); /* where it leads, not what it is called */
    E(chdir(".."));
    where();
    SECTION("fchdir");
    fd = (int)MUST(open(base, O_RDONLY | O_DIRECTORY));
    E(fchdir(fd));
    where();
    close(fd);
    E(fchdir(fd));
    fd = (int)MUST(open("f", O_RDONLY));
    E(fchdir(fd));
    close(fd);
    fd = (int)MUST(open("a", O_PATH | O_DIRECTORY));
    E(fchdir(fd));
    where();
    close(fd);
    SECTION("getcwd");
    E(syscall(SYS_getcwd, text, 2));
    E(syscall(SYS_getcwd, text, sizeof(text)) == (long)strlen(text) + 1);
    E(syscall(SYS_getcwd, (void *)8, 4096));
    E(readlink("/proc/self/cwd", text, sizeof(text)) ==
      (long)strlen(base) + 2);
    SECTION("threads share it");
    MUST(chdir(".."));
    pthread_create(&t, NULL, elsewhere, NULL);
    pthread_join(t, NULL);
    where();
    SECTION("renamed and removed under us");
    MUST(chdir("b"));
    E(rename("../../a", "../../c"));
    where();
    E(rmdir("../b"));
    where();
    E(access(".", F_OK));
    E(access("..", F_OK));
    E(open("x", O_CREAT | O_RDWR, 0600));
    E(mkdir("x", 0700));
    E(chdir(".."));
    where();
    E(chdir(base));
    /* Deep: longer than any path may be. */
    for (int i = 0; i < 60; i++) {
        memset(text, 'd', 100);
        text[100] = 0;
        MUST(mkdir(text, 0755));
        MUST(chdir(text));
    }
    E(syscall(SYS_getcwd, text, sizeof(text)));
    put_file("deep", "x");
    E(access("deep", F_OK));
    E(chdir(base));
}

static void mask(void)
{
    static const mode_t masks[] = {0, 022, 077, 0777, 0123};

    SECTION("umask");
    for (int i = 0; i < COUNT(masks); i++) {
        umask(masks[i]);
        printf("%03o: %o %o", masks[i], made("m", 0666), made("m", 07777));
        struct stat st;
        mkdir("md", 0777);
        stat("md", &st);
        printf(" directory %o", st.st_mode & 07777);
        rmdir("md");
        mkfifo("mf", 0666);
        stat("mf", &st);
        printf(" fifo %o", st.st_mode & 07777);
        unlink("mf");
        symlink("x", "ml");
        lstat("ml", &st);
        printf(" link %o\n", st.st_mode & 07777);
        unlink("ml");
    }
    E(umask(07777));
    E(umask(022)); /* only nine bits are kept */
}

int main(void)
{
    watchdog();
    scratch_begin();
    MUST(getcwd(base, sizeof(base)) != NULL ? 0 : -1);
    directory();
    mask();
    return 0;
}
