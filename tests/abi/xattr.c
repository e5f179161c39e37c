/* SPDX-License-Identifier: BSD-2-Clause */
/* Extended attributes. File systems may refuse to keep them; what is printed
 * is what all answer. */
#include "abi.h"

#include <sys/xattr.h>

/* "ok" if the name may be missing or the file system keeps none. */
static void missing(const char *what, ssize_t r)
{
    int e = errno;

    printf("%s: %s\n", what,
           r == -1 && (e == ENODATA || e == EOPNOTSUPP) ? "none"
           : r == -1                                    ? errno_name(e)
                                                        : "there");
}

int main(void)
{
    char buf[100], name[300];
    int fd;

    watchdog();
    scratch_begin();
    put_file("f", "text");
    MUST(symlink("f", "l"));
    MUST(symlink("none", "dangling"));
    fd = (int)MUST(open("f", O_RDWR));
    memset(name, 'n', sizeof(name));
    memcpy(name, "user.", 5);
    name[299] = 0;

    SECTION("reading");
    missing("getxattr", getxattr("f", "user.a", buf, sizeof(buf)));
    missing("lgetxattr", lgetxattr("f", "user.a", buf, sizeof(buf)));
    missing("fgetxattr", fgetxattr(fd, "user.a", buf, sizeof(buf)));
    missing("removexattr", removexattr("f", "user.a"));
    missing("capability", getxattr("f", "security.capability", buf, 100));
    missing("acl", getxattr("f", "system.posix_acl_access", buf, 100));
    SECTION("errors");
    E(getxattr("none", "user.a", buf, sizeof(buf)));
    E(getxattr("f/x", "user.a", buf, sizeof(buf)));
    E(getxattr("dangling", "user.a", buf, sizeof(buf)));
    E(getxattr("", "user.a", buf, sizeof(buf)));
    E(getxattr((char *)8, "user.a", buf, sizeof(buf)));
    E(getxattr("f", (char *)8, buf, sizeof(buf)));
    E(getxattr("f", "", buf, sizeof(buf)));
    E(getxattr("f", name, buf, sizeof(buf)));
    E(getxattr("f", "nonsense.a", buf, sizeof(buf)));
    E(setxattr("f", "nonsense.a", "v", 1, 0));
    E(removexattr("f", "nonsense.a"));
    E(fgetxattr(99, "user.a", buf, sizeof(buf)));
    E(fsetxattr(99, "user.a", "v", 1, 0));
    E(flistxattr(99, buf, sizeof(buf)));
    E(fremovexattr(99, "user.a"));
    E(setxattr("none", "user.a", "v", 1, 0));
    E(setxattr("f", "user.a", "v", 1, 77));
    E(setxattr("f", "user.a", buf, 1 << 20, 0));
    E(setxattr("f", name, "v", 1, 0));
    E(setxattr("f", "", "v", 1, 0));
    E(removexattr("none", "user.a"));
    E(removexattr("f", ""));
    E(lsetxattr("l", "user.a", "v", 1, 0) == -1); /* never on a link */
    E(lgetxattr("dangling", "user.a", buf, 10) == -1);
    SECTION("lists");
    E(listxattr("none", buf, sizeof(buf)));
    E(llistxattr("none", buf, sizeof(buf)));
    E(listxattr("f/x", buf, sizeof(buf)));
    YES(listxattr("f", NULL, 0) >= 0);
    YES(llistxattr("l", NULL, 0) >= 0);
    YES(flistxattr(fd, NULL, 0) >= 0);
    /* A file system that keeps them keeps them right. */
    bool right = true;
    if (setxattr("f", "user.kept", "value", 5, XATTR_CREATE) == 0) {
        right = getxattr("l", "user.kept", buf, 100) == 5 &&
                memcmp(buf, "value", 5) == 0 &&
                setxattr("f", "user.kept", "x", 1, XATTR_CREATE) == -1 &&
                errno == EEXIST && getxattr("f", "user.kept", buf, 2) == -1 &&
                errno == ERANGE && removexattr("f", "user.kept") == 0 &&
                setxattr("f", "user.kept", "x", 1, XATTR_REPLACE) == -1 &&
                errno == ENODATA;
    } else {
        right = errno == EOPNOTSUPP;
    }
    SAY("kept right or refused", right);
    close(fd);
    return 0;
}
