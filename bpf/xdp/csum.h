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
 * The sum of a datagram of len bytes, which does end before end, though the verifier wants to be told again
 * and again. A loop of our own, because calling the kernel for it takes longer where returning from a
 * function is slowed down against speculation. Every part begins with a pointer of its own, so that the
 * verifier sees the same whichever way it came.
 */
INLINE u64 sum_datagram(const void *udp, u64 len, const void *end)
{
	const void *p = udp;
	u64 sum = 0;

	OPAQUE(len);
	if (len < UDP_LEN || len > MAX_DATAGRAM)
		return 0;
	for (u32 i = 32; i <= MAX_DATAGRAM; i += 32) {
		if (len < i || p + 32 > end)
			break;
		sum += (u64)AT32(p) + AT32(p + 4) + AT32(p + 8) + AT32(p + 12);
		sum += (u64)AT32(p + 16) + AT32(p + 20) + AT32(p + 24) + AT32(p + 28);
		p += 32;
	}
	p = udp + (len & ~31ULL);
	if (len & 16 && p + 16 <= end)
		sum += (u64)AT32(p) + AT32(p + 4) + AT32(p + 8) + AT32(p + 12);
	p = udp + (len & ~15ULL);
	if (len & 8 && p + 8 <= end)
		sum += (u64)AT32(p) + AT32(p + 4);
	/* The rest are the last bytes of the last word. */
	p = udp + (len - 8);
	if (len & 7 && p + 8 <= end)
		sum += sum64(AT64(p) >> (64 - 8 * (len & 7)));
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
