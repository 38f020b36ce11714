/*
 * The Internet checksum (RFC 1071). Sums are collected in 64 bits, in the machine's (little-endian) view of
 * the words, and folded at the end. A part that begins at an odd offset counts with its bytes swapped, which
 * is a shift by 8 bits.
 */
#pragma once

#include "kernel.h"

INLINE u64 sum64(u64 x)
{
	return (x & 0xffffffff) + (x >> 32);
}

/* The part's share in a sum, if it stands at that offset. */
INLINE u64 sum_at(u64 part, u32 offset)
{
	return part << (8 * (offset & 1));
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
