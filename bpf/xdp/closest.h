/*
 * The contacts closest to a target, exactly, without sorting the table.
 *
 * Let diff = self XOR target. The non-empty levels whose bit is set in diff, from the most significant bit
 * down, then the others, from the least significant bit up, come in order of distance: every contact of a
 * level is closer than all of the following. So do the buckets of a level, in rising order of their number
 * XOR the target's bits in its place: what comes before those bits is the same for all of them. So buckets
 * are taken whole until one does not fit, and only that one is looked into.
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
INLINE u32 nearest(const struct bucket *bucket, const u64 *target, u32 wanted)
{
	u32 taken = 0, at = 0;

	for (int i = 0; i < BUCKET_SIZE - 1; i++) {
		const struct fork *fork = &bucket->forks[at & (BUCKET_SIZE - 1)];
		u32 near = target[fork->word & 3] >> (fork->shift & 63) & 1;
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

/* The number of the bucket of a level that a target belongs to; bits before the level's are ignored. */
INLINE u32 bucket_of(const struct family *f, const u64 *target, u32 level)
{
	u32 word = level / 64 & 3, off = level & 63;
	/* Two shifts of which neither is by 64; the word behind the last is part of the array, and 0. */
	u64 bits = target[word] << off | target[word + 1 & 3] >> 1 >> (63 - off);

	return (bits & ~0ULL >> 1) >> (f->shift & 63);
}

/* Of a set of numbers up to 15, the set of each number XOR by. */
INLINE u32 xor_each(u32 set, u32 by)
{
	u32 t;

	t = (set ^ set >> 1) & 0x5555 & -(by & 1);
	set ^= t | t << 1;
	t = (set ^ set >> 2) & 0x3333 & -(by >> 1 & 1);
	set ^= t | t << 2;
	t = (set ^ set >> 4) & 0x0f0f & -(by >> 2 & 1);
	set ^= t | t << 4;
	t = (set ^ set >> 8) & 0x00ff & -(by >> 3 & 1);
	return set ^ t ^ t << 8;
}

/* Takes the level to visit next, with its buckets; LEVELS if none is left. */
INLINE void next_level(struct walk *w, const struct family *f, const u64 *target)
{
	u32 level = LEVELS;

	if (w->levels[0])
		level = take_highest(&w->levels[0]);
	else if (w->levels[1])
		level = 64 + take_highest(&w->levels[1]);
	else if (w->levels[2])
		level = 128 + take_highest(&w->levels[2]);
	else if (w->levels[5])
		level = 128 + take_lowest(&w->levels[5]);
	else if (w->levels[4])
		level = 64 + take_lowest(&w->levels[4]);
	else if (w->levels[3])
		level = take_lowest(&w->levels[3]);
	OPAQUE(level);
	w->level = level;
	if (level >= LEVELS)
		return;
	u32 by = bucket_of(f, target, level);
	w->by = by;
	w->buckets = xor_each(f->taken[level], by);
}

/*
 * Chooses the contacts of a family that are closest to the target, leaving their places in s->chosen, in the
 * order of the reply. A function of its own for the verifier, and for the queries, few in a large network,
 * that one full bucket does not answer.
 */
__attribute__((noinline)) int choose(struct scratch *s, const struct snapshot *snap, u32 family)
{
	if (!s || !snap)
		return 0;
	const struct family *f = &snap->families[family ? IPV6 : IPV4];
	const u64 *target = s->query.target;
	struct walk *w = &s->walk;
	u32 chosen = 0;

	for (int i = 0; i < 3; i++) {
		u64 near = f->full[i] & (f->self[i] ^ target[i]);
		w->levels[i] = near;
		w->levels[3 + i] = f->full[i] & ~near;
	}
	w->buckets = 0;
	for (int i = 0; i < BUCKET_SIZE; i++) {
		if (!w->buckets)
			next_level(w, f, target);
		u32 level = w->level, number = 63 - take_lowest(&w->buckets) ^ w->by;
		if (level >= LEVELS)
			break;
		u32 index = f->place[level][number & (LEVEL_BUCKETS - 1)] - 1;
		OPAQUE(index);
		if (index >= BUCKETS)
			break;
		const struct bucket *bucket = &f->buckets[index];
		u32 left = BUCKET_SIZE - chosen, count = bucket->count, taken = (1 << (count & 15)) - 1;
		if (count > left)
			taken = nearest(bucket, target, left);
		for (int j = 0; j < BUCKET_SIZE; j++) {
			s->chosen[chosen & (2 * BUCKET_SIZE - 1)] = index * BUCKET_SIZE + j;
			chosen += taken >> j & 1;
		}
		if (chosen >= BUCKET_SIZE)
			break;
	}
	return chosen;
}

INLINE void copy_words(void *to, const void *from, u32 bytes)
{
#pragma unroll
	for (u32 i = 0; i < bytes; i += 8)
		AT64(to + i) = AT64(from + i);
}

/* Copies one contact, of 26 or 38 bytes. */
INLINE void copy_contact(void *to, const void *from, const int v6)
{
	if (v6) {
		copy_words(to, from, 32);
		AT32(to + 32) = AT32(from + 32);
		AT16(to + 36) = AT16(from + 36);
	} else {
		copy_words(to, from, 24);
		AT16(to + 24) = AT16(from + 24);
	}
}

/*
 * Writes the contacts of a family that are closest to the target to p and adds their sum to *sum. Returns 0
 * if they did not fit, which cannot be.
 */
INLINE int put_closest(void *p, const void *end, const struct snapshot *snap, struct scratch *s, u64 *sum,
		       const int v6)
{
	const struct family *f = &snap->families[v6 ? IPV6 : IPV4];
	const u32 size = v6 ? NODE6_LEN : NODE_LEN;
	u64 near = f->full[0] & (f->self[0] ^ s->query.target[0]);

	if (LIKELY(near)) {
		/* Of the levels whose bits are all in the first word. */
		u32 level = take_highest(&near) & 63;
		u64 bits = s->query.target[0] << level & ~0ULL >> 1;
		u32 number = bits >> (f->shift & 63);
		u32 index = f->place[level][number & (LEVEL_BUCKETS - 1)] - 1;
		OPAQUE(index);
		if (LIKELY(level <= 64 - MAX_BITS && index < BUCKETS)) {
			const struct bucket *bucket = &f->buckets[index];
			if (LIKELY(bucket->count == BUCKET_SIZE)) {
				if (p + BUCKET_SIZE * size > end)
					return 0;
				copy_words(p, v6 ? snap->nodes6[index] : snap->nodes[index],
					   BUCKET_SIZE * size);
				*sum += bucket->sum;
				return 1;
			}
		}
	}
	choose(s, snap, v6);
	u32 count = f->count;
	for (u32 i = 0; i < BUCKET_SIZE; i++) {
		if (i >= count)
			break;
		u32 bucket = s->chosen[i] / BUCKET_SIZE, j = s->chosen[i] % BUCKET_SIZE;
		if (bucket >= BUCKETS || p + size > end)
			return 0;
		copy_contact(p, (v6 ? snap->nodes6[bucket] : snap->nodes[bucket]) + j * size, v6);
		*sum += f->buckets[bucket].sums[j];
		p += size;
	}
	return 1;
}
