/* SPDX-License-Identifier: BSD-2-Clause */
/* Resets: what was sent before one arrives, and a call that moved bytes
 * before it came leaves the error to the next. */
#include "inet.h"

static void answer_then_reset(int family)
{
    struct linger now = {1, 0};
    char text[32];
    int s[2];

    SECTION("bytes, then a close that resets");
    tcp_pair(family, s);
    E(send(s[0], "answer", 6, 0));
    MUST(setsockopt(s[0], SOL_SOCKET, SO_LINGER, &now, sizeof(now)));
    close(s[0]);
    state_after(s[1], POLLERR);
    E(recv(s[1], text, sizeof(text), 0));
    E(recv(s[1], text, sizeof(text), 0));
    E(recv(s[1], text, sizeof(text), 0));
    close(s[1]);
    SECTION("an answer, then a close with unread bytes");
    tcp_pair(family, s);
    MUST(send(s[1], "request", 7, 0));
    MUST(recv(s[0], text, 3, 0));
    E(send(s[0], "too long", 8, 0));
    close(s[0]);
    state_after(s[1], POLLERR);
    E(recv(s[1], text, sizeof(text), 0));
    E(recv(s[1], text, sizeof(text), 0));
    close(s[1]);
}

/* MSG_WAITALL: some bytes, then the reset. */
static void *wait_for_all(void *arg)
{
    char text[100];
    int fd = *(int *)arg;

    E(recv(fd, text, sizeof(text), MSG_WAITALL));
    E(recv(fd, text, sizeof(text), MSG_WAITALL));
    E(recv(fd, text, sizeof(text), MSG_WAITALL));
    return NULL;
}

static void reset_while_waiting(void)
{
    struct linger now = {1, 0};
    pthread_t t;
    int s[2];

    SECTION("a reset in the middle of MSG_WAITALL");
    tcp_pair(AF_INET, s);
    pthread_create(&t, NULL, wait_for_all, &s[1]);
    sleep_ms(50);
    MUST(send(s[0], "some", 4, 0));
    sleep_ms(50);
    MUST(setsockopt(s[0], SOL_SOCKET, SO_LINGER, &now, sizeof(now)));
    close(s[0]);
    pthread_join(t, NULL);
    close(s[1]);
}

/* A batch that does not fit: nothing follows a part of a message. */
static void partial_batch(void)
{
    static char big[200];
    struct iovec iov[3] = {{big, sizeof(big)}, {big, 100}, {big, 100}};
    struct mmsghdr m[3];
    int s[2];

    SECTION("sendmmsg stops after a part of a message");
    tcp_pair(AF_INET, s);
    memset(m, 0, sizeof(m));
    for (int i = 0; i < 3; i++) {
        m[i].msg_hdr.msg_iov = &iov[i];
        m[i].msg_hdr.msg_iovlen = 1;
    }
    iov[0].iov_len = 16 << 20;
    iov[0].iov_base = mmap(NULL, 16 << 20, PROT_READ,
                           MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    E(sendmmsg(s[0], m, 3, MSG_DONTWAIT));
    SAY("only a part", m[0].msg_len > 0 && m[0].msg_len < 16 << 20);
    close(s[0]);
    close(s[1]);
}

int main(void)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    alarm(40);
    answer_then_reset(AF_INET);
    answer_then_reset(AF_INET6);
    reset_while_waiting();
    partial_batch();
    return 0;
}
