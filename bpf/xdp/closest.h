/*
 * The contacts closest to a target, exactly, without sorting the table.
 *
 * Let diff = self XOR target. The non-empty buckets whose bit is set in diff, from the most significant bit
 * down, then the others, from the least significant bit up, come in order of distance: every contact of a
 * bucket is closer than all of the following. So buckets are taken whole until one does not fit, and only
 * that one is looked into.
 */
#pragma once

#include "csum.h"
#include "query.h"

/*
 * Leading zeros of a number with one bit set, found by the six bits that its product with a de Bruijn
 * sequence begins with. The compiler must not recognise this: BPF has no instruction for it, and what it
 * would emit takes longer.
 */
#define DE_BRUIJN 0x03f79d71b4cb0a89ULL
static const u8 leading_zeros[64] = {
    63, 62, 15, 61, 6,	14, 35, 60, 2,	5,  13, 21, 25, 34, 46, 59, 1,	8,  4,	27, 10, 12,
    20, 41, 18, 24, 30, 33, 39, 45, 51, 58, 0,	16, 7,	36, 3,	22, 26, 47, 9,	28, 11, 42,
    19, 31, 40, 52, 17, 37, 23, 48, 29, 43, 32, 53, 38, 49, 44, 54, 50, 55, 56, 57,
};

INLINE u32 zeros_before(u64 bit)
{
	u64 product = bit * DE_BRUIJN;

	OPAQUE(product);
	return leading_zeros[product >> 58];
}

/* Takes the highest bit out of *set and returns its number, bit 63 being number 0. */
INLINE u32 take_highest(u64 *set)
{
	u64 x = *set;

	x |= x >> 1;
	x |= x >> 2;
	x |= x >> 4;
	x |= x >> 8;
	x |= x >> 16;
	x |= x >> 32;
	x ^= x >> 1;
	*set ^= x;
	return zeros_before(x);
}

/* The same with the lowest bit. */
INLINE u32 take_lowest(u64 *set)
{
	u64 x = *set & -*set;

	*set ^= x;
	return zeros_before(x);
}

/*
 * The set of the wanted contacts of a bucket that are closest to target, where it has more than wanted > 0: a
 * walk down the tree of its IDs, towards the target. A side that is not larger than what is wanted is taken
 * as a whole.
 */
INLINE u32 nearest(const struct bucket *bucket, const u8 *target, u32 wanted)
{
	u32 taken = 0, at = 0;

	for (int i = 0; i < BUCKET_SIZE - 1; i++) {
		const struct fork *fork = &bucket->forks[at & (BUCKET_SIZE - 1)];
		u32 near = (target[fork->byte & 31] & fork->bit) != 0;
		u32 count = fork->count[near];
		if (count > wanted) {
			at = fork->next[near];
			continue;
		}
		taken |= fork->contacts[near];
		wanted -= count;
		if (!wanted)
			break;
		at = fork->next[near ^ 1];
	}
	return taken;
}

/*
 * Writes the contacts of a family closest to target into the packet at offset and returns their ones'
 * complement sum. There is room for as many as the family says.
 */
static __attribute__((noinline)) u64 put_closest(struct xdp_md *ctx, const struct snapshot *snap,
						 const u8 *target, u32 family, u32 offset)
{
	const struct family *f = &snap->families[family ? IPV6 : IPV4];
	u32 size = family ? NODE6_LEN : NODE_LEN, left = BUCKET_SIZE;
	u64 sum = 0;
	u64 diff, full;

	offset &= 1023;
	full = f->full[0];
	diff = f->self[0] ^ be64(AT64(target));
	u64 near0 = full & diff, far0 = full & ~diff;
	full = f->full[1];
	diff = f->self[1] ^ be64(AT64(target + 8));
	u64 near1 = full & diff, far1 = full & ~diff;
	full = f->full[2];
	diff = f->self[2] ^ (u64)be32(AT32(target + 16)) << 32;
	u64 near2 = full & diff, far2 = full & ~diff;

	for (int i = 0; i < BUCKET_SIZE; i++) {
		u32 index;
		if (near0)
			index = take_highest(&near0);
		else if (near1)
			index = 64 + take_highest(&near1);
		else if (near2)
			index = 128 + take_highest(&near2);
		else if (far2)
			index = 128 + take_lowest(&far2);
		else if (far1)
			index = 64 + take_lowest(&far1);
		else if (far0)
			index = take_lowest(&far0);
		else
			break;
		OPAQUE(index);
		if (index >= BUCKETS)
			break;
		const struct bucket *bucket = &f->buckets[index];
		const u8 *nodes = family ? snap->nodes6[index] : snap->nodes[index];
		u32 count = bucket->count;
		if (count <= left) {
			u32 bytes = count * size;
			if (!count || bytes > BUCKET_SIZE * (family ? NODE6_LEN : NODE_LEN))
				break;
			store_bytes(ctx, offset, nodes, bytes);
			sum += bucket->sum;
			left -= count;
			if (!left)
				break;
			offset += bytes;
			continue;
		}
		u32 taken = nearest(bucket, target, left);
		for (int j = 0; j < BUCKET_SIZE; j++) {
			if (!(taken >> j & 1))
				continue;
			store_bytes(ctx, offset, nodes + j * size, size);
			sum += bucket->sums[j];
			offset += size;
		}
		break;
	}
	return sum;
}
