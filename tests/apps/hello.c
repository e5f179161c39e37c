#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv)
{
    printf("hello, %d arguments, last %s\n", argc, argv[argc - 1]);
    fprintf(stderr, "to stderr\n");
    return getenv("HOME") ? 3 : 4;
}
