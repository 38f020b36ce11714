/*
 * How much one source may send: an IPv4 address, or an IPv6 /64.
 *
 * Each has a token bucket, kept as the time until which its datagrams would last if they had come at the rate
 * that is allowed (the generic cell rate algorithm, ITU-T I.371). A source whose time is past has a full
 * bucket, so it may as well be forgotten. So memory is a fixed number of sets, each a line of the cache, and
 * a source that finds its set full takes the place of the one that has sent the least: whoever floods from
 * ever new addresses displaces their like, and those that are over the limit stay. bpf/limit does the same in
 * user space.
 */
#pragma once

#include "packet.h"

/* A word of a set, from the top: bits of the hash, a flag, and a time in ticks. */
enum { TICK_SHIFT = 10, TIME_BITS = 40, TAG_SHIFT = TIME_BITS + 1 };

#define TIME_MASK ((1ULL << TIME_BITS) - 1)
#define FLAG (1ULL << TIME_BITS)
#define TAG_MASK (~0ULL << TAG_SHIFT)
/* How much clocks may differ, in ticks: 1.1 s. The coarse one of a busy virtual machine misses its timer. */
#define SKEW (1ULL << 20)

/*
 * A hash of two words under a key: that of an address, or of a source, which is one word. The upper half is
 * good. bpf/limit does the same in user space.
 */
INLINE u64 hash_words(u64 seed, u64 first, u64 second)
{
	u64 hash = (first ^ seed) * 0x9e3779b97f4a7c15ULL;

	return (hash ^ hash >> 32 ^ second) * 0xd6e8feb86659fd93ULL;
}

/* The set and the first place in it are below the tag. */
#define SET_OF(hash) ((u32)((hash) >> 30) & (SETS - 1))
#define WAY_OF(hash) ((u32)((hash) >> 27) & (WAYS - 1))

/* Whether the lease runs. Reads the clock once per tick, and leaves the time in s. */
INLINE int lease_runs(struct scratch *s, const struct settings *live)
{
	u64 tick = jiffies64();

	if (UNLIKELY(tick != s->tick)) {
		u64 time = ktime_coarse();
		s->tick = tick;
		if ((time ^ s->time) >> ROUND_SHIFT)
			s->looks = s->looks_unproven = s->unproven = 0;
		s->time = time;
	}
	return s->time < live->lease;
}

INLINE u64 ticks(const struct scratch *s)
{
	return s->time >> TICK_SHIFT & TIME_MASK;
}

/* How far the time of word is ahead of now. What is more than most is past: it cannot be meant. */
INLINE u64 ahead_of(u64 word, u64 now, u64 most)
{
	u64 ahead = (word - now) & TIME_MASK;

	return ahead > most ? 0 : ahead;
}

/*
 * Takes cost ns out of a budget of which there is never more than a window's worth. Of CPUs that do this at
 * the same moment, one succeeds.
 */
INLINE int spend(u64 *budget, u64 now, u64 cost, u64 window)
{
	u64 old = *budget, until = (old > now ? old : now) + cost;

	return until <= now + window && __sync_val_compare_and_swap(budget, old, until) == old;
}

/* The place of a source in its set: its own, else the one whose time is the least. */
static __attribute__((noinline)) u64 *find_way(struct ways *set, u64 hash, u64 now, u64 most)
{
	u32 best = WAY_OF(hash);
	if (!((set->way[best] ^ hash) & TAG_MASK))
		return &set->way[best];
	u64 least = ahead_of(set->way[best], now, most);

	for (u32 i = 0; i < WAYS; i++) {
		u64 word = set->way[i];
		if (!((word ^ hash) & TAG_MASK))
			return &set->way[i];
		u64 ahead = ahead_of(word, now, most);
		if (ahead < least) {
			least = ahead;
			best = i;
		}
	}
	return &set->way[best & (WAYS - 1)];
}

/* Whether the source has no limits by configuration. */
__attribute__((noinline)) int is_exempt(struct scratch *s)
{
	if (!s)
		return 0;
	s->source.bits = 128;
	const u8 *yes = map_lookup(&exempt, &s->source);
	return yes && *yes;
}

/* Whether recursion is done for the source. The key is that of a prefix in either map. */
__attribute__((noinline)) int is_client(struct scratch *s)
{
	if (!s)
		return 0;
	s->source.bits = 128;
	const u32 *yes = map_lookup(&clients, &s->source);
	return yes && *yes;
}

/*
 * Moves the time at way, the place of the source, by cost. Says 0 when it has not as much. A source that is
 * known to be exempt has, and is noted as such.
 */
INLINE int charge_way(struct scratch *s, const struct settings *live, u64 *way, u64 cost)
{
	u64 hash = s->hash, now = ticks(s), window = live->window, word = *way;

	if ((word ^ hash) & TAG_MASK)
		word = now;
	u64 ahead = ahead_of(word, now, window + SKEW);
	if (UNLIKELY(word & FLAG && ahead)) {
		s->exempt = 1;
		return 1;
	}
	ahead += cost;
	if (UNLIKELY(ahead > window))
		return 0;
	*way = (hash & TAG_MASK) | ((now + ahead) & TIME_MASK);
	return 1;
}

/*
 * Takes so many ticks of the source, wherever in its set it is. Says 0 when it has not as many, and is not
 * exempt.
 */
__attribute__((noinline)) int charge(struct scratch *s, const struct settings *live, u64 cost)
{
	if (!s || !live)
		return 1;
	u32 slot = SET_OF(s->hash);
	struct ways *set = map_lookup(&sources, &slot);
	if (!set)
		return 1;
	u64 *way = find_way(set, s->hash, ticks(s), live->window + SKEW);
	OPAQUE(s); /* what it has is read again, rather than kept on the stack */
	OPAQUE(live);
	if (charge_way(s, live, way, cost))
		return 1;
	/* The outcome of the search is good for the length of the window. */
	s->exempt = is_exempt(s);
	if (s->exempt)
		*way = (s->hash & TAG_MASK) | FLAG | ((ticks(s) + live->window) & TIME_MASK);
	return s->exempt;
}

/*
 * Takes a token of the source, of which s->source has the whole address. Says 0 when there is none. Of two
 * CPUs that do this at the same moment for the same source, only one may be counted.
 */
INLINE int take_token(struct scratch *s, const struct settings *live, u64 key)
{
	u64 hash = hash_words(live->seed, key, 0);

	s->hash = hash;
	s->exempt = 0;
	if (!live->interval)
		return 1;
	u32 slot = SET_OF(hash);
	struct ways *set = map_lookup(&sources, &slot);
	if (!set)
		return 1;
	u64 *way = &set->way[WAY_OF(hash)];
	if (LIKELY(!((*way ^ hash) & TAG_MASK)) && LIKELY(charge_way(s, live, way, live->interval)))
		return 1;
	return charge(s, live, live->interval);
}
