/* SPDX-License-Identifier: BSD-2-Clause */
/* /proc/net: our own sockets among the others, the loopback interface. */
#include "inet.h"

/* The line of `file` with `text` in it, in `line`. */
static bool find(const char *file, const char *text, char line[512])
{
    FILE *f = fopen(file, "r");
    bool found = false;

    if (f == NULL) {
        printf("%s: %s\n", file, errno_name(errno));
        return false;
    }
    while (!found && fgets(line, 512, f) != NULL)
        found = strstr(line, text) != NULL;
    fclose(f);
    return found;
}

static void first_line(const char *file)
{
    char line[512] = "";

    find(file, "", line);
    printf("%s: %s", file, line);
}

static void row(const char *file, int fd, const char *address)
{
    char line[512], text[64];
    struct stat st;
    unsigned state = 0, uid = 99;
    unsigned long inode = 0;
    int n;

    MUST(fstat(fd, &st));
    snprintf(text, sizeof(text), ": %s:%04X ", address, ntohs(port_of(fd)));
    if (!find(file, text, line)) {
        printf("%s: not there\n", file);
        return;
    }
    n = sscanf(line, " %*u: %*s %*s %X %*s %*s %*s %u %*d %lu", &state, &uid,
               &inode);
    printf("%s: %d fields, state %02X, its inode %d, its owner %d\n", file, n,
           state, inode == st.st_ino, uid == getuid());
}

int main(void)
{
    struct sockaddr_storage a;
    socklen_t len;
    char line[512];
    int s, pair[2];

    watchdog();
    s = listener(AF_INET, SOCK_STREAM, &a, &len);
    row("/proc/net/tcp", s, "0100007F");
    close(s);
    s = listener(AF_INET6, SOCK_STREAM, &a, &len);
    row("/proc/net/tcp6", s, "00000000000000000000000001000000");
    close(s);
    tcp_pair(AF_INET, pair);
    row("/proc/self/net/tcp", pair[0], "0100007F");
    s = listener(AF_INET, SOCK_DGRAM, &a, &len);
    row("/proc/net/udp", s, "0100007F");
    MUST(connect(s, (void *)&a, len));
    row("/proc/net/udp", s, "0100007F");
    close(s);
    s = listener(AF_INET6, SOCK_DGRAM, &a, &len);
    row("/proc/net/udp6", s, "00000000000000000000000001000000");
    first_line("/proc/net/tcp");
    first_line("/proc/net/tcp6");
    first_line("/proc/net/udp");
    first_line("/proc/net/udp6");
    first_line("/proc/net/dev");
    first_line("/proc/net/route");
    YES(find("/proc/net/dev", "    lo: ", line));
    YES(find("/proc/net/if_inet6", " lo\n", line));
    printf("  %s", line);
    return 0;
}
