/* SPDX-License-Identifier: BSD-2-Clause */
/* Says that it is there, then sleeps in a system call below three functions. */
#include <stdio.h>
#include <unistd.h>

__attribute__((noinline)) static int inner(int n)
{
    return pause() + n;
}

__attribute__((noinline)) static int middle(int n)
{
    return inner(n + 1) + n;
}

__attribute__((noinline)) int outer(int n)
{
    return middle(n + 1) + n;
}

int main(void)
{
    puts("sleeping");
    fflush(stdout);
    return outer(1);
}
