/* SPDX-License-Identifier: BSD-2-Clause */
/* getrandom and what else gives random bytes. */
#include "abi.h"

#include <sys/auxv.h>
#include <sys/random.h>

static unsigned char a[4096], b[4096];

static int different_bits(void)
{
    int n = 0;

    for (int i = 0; i < COUNT(a); i++)
        n += __builtin_popcount(a[i] ^ b[i]);
    return n;
}

int main(void)
{
    int counts[256] = {0}, missing = 0;

    watchdog();
    E(getrandom(a, sizeof(a), 0));
    E(getrandom(b, sizeof(b), GRND_NONBLOCK));
    SAY("about half of the bits differ",
        different_bits() > 15000 && different_bits() < 17800);
    for (int i = 0; i < COUNT(a); i++) {
        counts[a[i]]++;
        counts[b[i]]++;
    }
    for (int i = 0; i < 256; i++)
        missing += counts[i] == 0;
    SAY("every byte occurs", missing == 0);
    E(getrandom(a, 256, GRND_RANDOM));
    E(getrandom(a, 256, GRND_INSECURE));
    E(getrandom(a, 0, 0));
    E(getrandom(a, 10, 0x80));
    E(getrandom(a, 10, GRND_RANDOM | GRND_INSECURE));
    E(getrandom((void *)8, 10, 0));
    memset(a, 0, sizeof(a));
    E(getrandom(a, 1, 0));
    YES(a[1] == 0);
    E(getentropy(a, 256));
    E(getentropy(a, 257));
    unsigned char *r = (unsigned char *)getauxval(AT_RANDOM);
    YES(r != NULL);
    int sum = 0;
    for (int i = 0; i < 16; i++)
        sum |= r[i];
    YES(sum != 0);
    size_t size = 1 << 20;
    unsigned char *big = malloc(size);
    E(getrandom(big, size, 0));
    YES(memcmp(big, big + size / 2, 4096) != 0);
    return 0;
}
