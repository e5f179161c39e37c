/* SPDX-License-Identifier: BSD-2-Clause */
/* The Internet checksum. See checksum.h. */
#include "net/checksum.h"

#include "lib/string.h"

/* a + b with the carry added at the bottom. */
static inline uint64_t add_carry(uint64_t a, uint64_t b)
{
    uint64_t sum;

    return __builtin_add_overflow(a, b, &sum) ? sum + 1 : sum;
}

uint64_t csum_add(uint64_t sum, const void *data, size_t n)
{
    const uint8_t *p = data;
    uint64_t tail = 0;

    for (; n >= 32; n -= 32, p += 32) {
        sum = add_carry(sum, get_le64(p));
        sum = add_carry(sum, get_le64(p + 8));
        sum = add_carry(sum, get_le64(p + 16));
        sum = add_carry(sum, get_le64(p + 24));
    }
    for (; n >= 8; n -= 8, p += 8)
        sum = add_carry(sum, get_le64(p));
    if (n) {
        __builtin_memcpy(&tail, p, n);
        sum = add_carry(sum, tail);
    }
    return sum;
}

uint16_t csum_fold(uint64_t sum)
{
    sum = (sum & 0xffffffffu) + (sum >> 32);
    sum = (sum & 0xffffffffu) + (sum >> 32);
    sum = (sum & 0xffffu) + (sum >> 16);
    sum = (sum & 0xffffu) + (sum >> 16);
    return (uint16_t)~sum;
}

void csum_store(void *to, uint64_t sum)
{
    uint16_t v = csum_fold(sum);

    __builtin_memcpy(to, &v, sizeof(v));
}

uint64_t csum_pseudo(const struct net_addr *src, const struct net_addr *dst,
                     uint32_t proto, uint32_t len)
{
    uint64_t sum = __builtin_bswap32(proto);

    sum += __builtin_bswap32(len);
    if (addr_is_v4(dst)) {
        sum += src->w[3];
        return sum + dst->w[3];
    }
    sum = add_carry(sum, src->q[0]);
    sum = add_carry(sum, src->q[1]);
    sum = add_carry(sum, dst->q[0]);
    return add_carry(sum, dst->q[1]);
}

uint64_t csum_add_frame(uint64_t sum, struct frame *f, uint32_t off,
                        uint32_t n)
{
    bool is_odd = false;

    while (n) {
        uint8_t *data;
        uint32_t k = MIN(frame_piece(f, off, &data), n);
        uint64_t part;

        if (!k)
            break;
        part = csum_add(0, data, k);
        if (is_odd) { /* bytes stand in the other half of their words */
            part = (uint16_t)~csum_fold(part);
            part = __builtin_bswap16((uint16_t)part);
        }
        sum = add_carry(sum, part);
        is_odd ^= k & 1;
        off += k;
        n -= k;
    }
    return sum;
}

bool csum_check_transport(struct frame *f)
{
    uint64_t sum;

    if (f->flags & FRAME_CSUM_OK)
        return true;
    sum = csum_pseudo(&f->src, &f->dst, f->proto, frame_total(f));
    if (csum_fold(csum_add_frame(sum, f, 0, frame_total(f))) != 0)
        return false;
    f->flags |= FRAME_CSUM_OK;
    return true;
}
