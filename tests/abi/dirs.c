/* SPDX-License-Identifier: BSD-2-Clause */
/* mkdir, rmdir, rename, link, unlink, getdents. */
#include "abi.h"

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static const char *type_name(int t)
{
    return t == DT_DIR    ? "dir"
           : t == DT_REG  ? "file"
           : t == DT_LNK  ? "link"
           : t == DT_FIFO ? "fifo"
           : t == DT_SOCK ? "socket"
           : t == DT_CHR  ? "char"
                          : "?";
}

static void list(const char *path)
{
    DIR *dir = opendir(path);
    char *names[100], text[300];
    struct dirent *d;
    int n = 0;

    if (dir == NULL) {
        printf("  opendir %s: %s\n", path, errno_name(errno));
        return;
    }
    while ((d = readdir(dir)) != NULL && n < 100) {
        snprintf(text, sizeof(text), "%s(%s)", d->d_name,
                 type_name(d->d_type));
        names[n++] = strdup(text);
    }
    closedir(dir);
    qsort(names, n, sizeof(names[0]), by_name);
    printf("  %s:", path);
    for (int i = 0; i < n; i++) {
        printf(" %s", names[i]);
        free(names[i]);
    }
    printf("\n");
}

static void making(void)
{
    SECTION("mkdir and rmdir");
    E(mkdir("d", 0755));
    E(mkdir("d", 0755));
    E(mkdir("d/", 0755));
    E(mkdir("e/", 0755));
    E(mkdir("none/x", 0755));
    E(mkdir("", 0755));
    E(mkdir("d/.", 0755));
    E(mkdir("d/..", 0755));
    E(mkdir("/", 0755));
    put_file("f", "text");
    E(mkdir("f", 0755));
    E(mkdir("f/x", 0755));
    E(symlink("nowhere", "dangling"));
    E(mkdir("dangling", 0755));
    E(rmdir("f"));
    E(rmdir("none"));
    E(rmdir("d/."));
    E(rmdir("d/.."));
    E(rmdir("/"));
    E(mkdir("d/sub", 0700));
    E(rmdir("d"));
    E(rmdir("d/sub/"));
    E(unlink("d"));
    E(unlink("none"));
    E(unlink("f/"));
    E(unlinkat(AT_FDCWD, "d", AT_REMOVEDIR));
    E(unlinkat(AT_FDCWD, "f", AT_REMOVEDIR));
    E(unlinkat(AT_FDCWD, "f", 1));
    E(unlinkat(99, "f", 0));
    E(symlink("e", "to-e"));
    E(rmdir("to-e"));
    E(rmdir("to-e/"));
    list(".");
}

static void linking(void)
{
    struct stat st;

    SECTION("link");
    E(link("f", "g"));
    E(link("f", "g"));
    E(link("none", "h"));
    E(link("e", "h"));
    E(link("f", "none/h"));
    E(link("f/", "h"));
    stat("g", &st);
    printf("links %d\n", (int)st.st_nlink);
    E(unlink("f"));
    stat("g", &st);
    printf("links %d\n", (int)st.st_nlink);
    E(link("to-e", "to-e2")); /* the symlink itself */
    lstat("to-e2", &st);
    printf("is a link %d, links %d\n", S_ISLNK(st.st_mode) != 0,
           (int)st.st_nlink);
    E(linkat(AT_FDCWD, "dangling", AT_FDCWD, "h", AT_SYMLINK_FOLLOW));
    E(linkat(AT_FDCWD, "g", AT_FDCWD, "h", 1));
    int fd = (int)MUST(open("g", O_RDONLY));
    E(linkat(fd, "", AT_FDCWD, "h", AT_EMPTY_PATH));
    close(fd);
    list(".");
}

static void renaming(void)
{
    struct stat a, b;

    SECTION("rename");
    E(rename("g", "f"));
    E(rename("none", "x"));
    E(rename("f", "none/x"));
    E(rename("f", "e"));
    E(rename("e", "f"));
    E(rename("f", "f"));
    E(rename("f", "h")); /* two names of one file: nothing happens */
    list(".");
    E(rename("e", "e/x"));
    E(rename("e", "e/x/y"));
    E(rename("e/.", "x"));
    E(rename(".", "x"));
    E(rename("f", "x/"));
    E(rename("e", "x/"));
    E(rename("x", "e"));
    E(mkdir("full", 0755));
    put_file("full/a", "a");
    E(rename("e", "full"));
    E(rename("full", "e"));
    list("e");
    put_file("new", "new");
    put_file("old", "old");
    stat("new", &a);
    E(rename("new", "old"));
    stat("old", &b);
    SAY("same inode", a.st_ino == b.st_ino);
    E(rename("to-e", "old"));
    lstat("old", &b);
    SAY("a link", S_ISLNK(b.st_mode));
    E(rename("e/a", "a"));
    E(rename("a", "e/b"));
    E(mkdir("deep", 0755));
    E(mkdir("deep/er", 0755));
    E(rename("deep/er", "er"));
    E(rename("e", "er/e"));
    list("er/e");
    stat("er", &a);
    stat("er/e/..", &b);
    SAY("parent follows", a.st_ino == b.st_ino);
    list(".");
}

static void renaming2(void)
{
    struct stat st;

    SECTION("renameat2");
    put_file("p", "p");
    put_file("q", "qq");
    E(renameat2(AT_FDCWD, "p", AT_FDCWD, "q", RENAME_NOREPLACE));
    E(renameat2(AT_FDCWD, "p", AT_FDCWD, "r", RENAME_NOREPLACE));
    E(renameat2(AT_FDCWD, "r", AT_FDCWD, "q", RENAME_EXCHANGE));
    stat("q", &st);
    printf("size of q %d\n", (int)st.st_size);
    E(renameat2(AT_FDCWD, "q", AT_FDCWD, "none", RENAME_EXCHANGE));
    E(renameat2(AT_FDCWD, "q", AT_FDCWD, "er", RENAME_EXCHANGE));
    list("q");
    E(renameat2(AT_FDCWD, "q", AT_FDCWD, "q/e", RENAME_EXCHANGE));
    E(renameat2(AT_FDCWD, "q", AT_FDCWD, "r",
                RENAME_EXCHANGE | RENAME_NOREPLACE));
    E(renameat2(AT_FDCWD, "q", AT_FDCWD, "r", 0x80));
}

static void many(void)
{
    char name[32], buf[1024];
    int n = 0, fd, seen = 0, dots = 0;
    static char found[500];

    SECTION("many entries");
    E(mkdir("many", 0755));
    for (int i = 0; i < 500; i++) {
        snprintf(name, sizeof(name), "many/entry-%d", i);
        close((int)MUST(open(name, O_CREAT | O_WRONLY, 0600)));
    }
    fd = (int)MUST(open("many", O_RDONLY | O_DIRECTORY));
    while ((n = (int)syscall(SYS_getdents64, fd, buf, sizeof(buf))) > 0)
        for (int at = 0; at < n;) {
            struct dirent64 *d = (void *)(buf + at);
            int k;
            if (sscanf(d->d_name, "entry-%d", &k) == 1 && k >= 0 && k < 500)
                seen += found[k]++ == 0;
            else
                dots++;
            at += d->d_reclen;
        }
    printf("seen %d, others %d, last %d\n", seen, dots, n);
    E(syscall(SYS_getdents64, fd, buf, sizeof(buf)));
    E(lseek(fd, 0, SEEK_SET));
    OK(syscall(SYS_getdents64, fd, buf, sizeof(buf)));
    E(lseek(fd, 0, SEEK_SET));
    E(syscall(SYS_getdents64, fd, buf, 8));
    E(syscall(SYS_getdents64, fd, (void *)8, 1024));
    E(syscall(SYS_getdents64, 99, buf, sizeof(buf)));
    close(fd);
    fd = (int)MUST(open("p2", O_CREAT | O_RDWR, 0600));
    E(syscall(SYS_getdents64, fd, buf, sizeof(buf)));
    close(fd);

    /* Removing while reading: nothing is met twice, all of it goes. */
    DIR *dir = opendir("many");
    struct dirent *d;
    int gone = 0;
    while ((d = readdir(dir)) != NULL)
        if (d->d_name[0] != '.')
            gone += unlinkat(dirfd(dir), d->d_name, 0) == 0;
    closedir(dir);
    printf("removed %d\n", gone);
    E(rmdir("many"));

    /* A directory that is removed while open. */
    E(mkdir("gone", 0755));
    fd = (int)MUST(open("gone", O_RDONLY | O_DIRECTORY));
    E(rmdir("gone"));
    E(syscall(SYS_getdents64, fd, buf, sizeof(buf)));
    E(openat(fd, "x", O_CREAT | O_RDWR, 0600));
    E(mkdirat(fd, "x", 0700));
    close(fd);
}

static void nodes(void)
{
    SECTION("mknod");
    E(mknod("fifo", S_IFIFO | 0644, 0));
    E(mknod("fifo", S_IFIFO | 0644, 0));
    E(mknod("plain", S_IFREG | 0600, 0));
    E(mknod("sock", S_IFSOCK | 0600, 0));
    E(mknod("dir", S_IFDIR | 0700, 0));
    E(mknodat(AT_FDCWD, "none/x", S_IFREG, 0));
    E(open("sock", O_RDWR));
    list(".");
}

int main(void)
{
    watchdog();
    scratch_begin();
    making();
    linking();
    renaming();
    renaming2();
    many();
    nodes();
    return 0;
}
