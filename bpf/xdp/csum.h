/*
 * The Internet checksum (RFC 1071). Sums are collected in 64 bits, in the machine's (little-endian) view of
 * the words, and folded at the end. A part that begins at an odd offset counts with its bytes swapped, which
 * is a shift by 8 bits.
 */
#pragma once

#include "consts.h"

INLINE u64 sum64(u64 x)
{
	return (x & 0xffffffff) + (x >> 32);
}

/* The part's share in a sum, if it stands at that offset. */
INLINE u64 sum_at(u64 part, u32 offset)
{
	return part << (8 * (offset & 1));
}

/*
 * The sum of len bytes at p, which are surely before end, though the verifier wants to be told again and
 * again. A loop of our own, because calling the kernel for it takes longer where returning from a function is
 * slowed down against speculation.
 */
INLINE u64 sum_bytes(const void *p, u32 len, const void *end)
{
	u64 sum = 0;

	for (int i = 0; i < MAX_DATAGRAM / 32; i++) {
		if (len < 32 || p + 32 > end)
			break;
		sum += (u64)AT32(p) + AT32(p + 4) + AT32(p + 8) + AT32(p + 12);
		sum += (u64)AT32(p + 16) + AT32(p + 20) + AT32(p + 24) + AT32(p + 28);
		p += 32;
		len -= 32;
	}
	if (len & 16 && p + 16 <= end) {
		sum += (u64)AT32(p) + AT32(p + 4) + AT32(p + 8) + AT32(p + 12);
		p += 16;
	}
	if (len & 8 && p + 8 <= end) {
		sum += (u64)AT32(p) + AT32(p + 4);
		p += 8;
	}
	if (len & 4 && p + 4 <= end) {
		sum += AT32(p);
		p += 4;
	}
	if (len & 2 && p + 2 <= end) {
		sum += AT16(p);
		p += 2;
	}
	if (len & 1 && p + 1 <= end)
		sum += AT8(p);
	return sum;
}

/* Folds to 16 bits. */
INLINE u32 sum_fold(u64 sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16); /* 18 bits at most */
	sum = (sum & 0xffff) + (sum >> 16);
	return (sum & 0xffff) + (sum >> 16);
}

/* The checksum to send. It is never 0, which would mean "none" (RFC 768) and is forbidden over IPv6 (RFC
 * 8200). */
INLINE u16 sum_finish(u64 sum)
{
	u16 sum16 = ~sum_fold(sum);

	return sum16 ? sum16 : 0xffff;
}
