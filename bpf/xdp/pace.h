/*
 * How much is sent for clients: to all destinations together, whatever clients ask, and to one of them, an
 * address: others ignore who sends them more than they expect,
 * libtorrent for minutes whoever sends it 50 datagrams within 10 s.
 *
 * Each destination has a token bucket, as sources have (see limit.h), in a table that user space counts its
 * own queries in as well: what both halves send together is within the limit. bpf/limit does the same in user
 * space. Other than a source, a destination never loses its place while its bucket is not full: one for which
 * there is none has no tokens. User space may take tokens in advance and wait for them, so a time may be
 * further ahead than the window.
 */
#pragma once

#include "limit.h"

/*
 * Whether there are tokens for the first queries of a recursion, one for each path. Half of the bucket is for
 * the queries that follow, so that when there are more clients than can be served here, recursions that have
 * begun are not given up for others that begin.
 */
INLINE int may_begin(const struct scratch *s, const struct settings *rules, u32 paths)
{
	u32 zero = 0;
	const struct budget *all = map_lookup(&budgets, &zero);

	if (!rules->query_cost)
		return 1;
	if (!all)
		return 0;
	u64 now = s->time, old = all->queries;
	return (old > now ? old : now) + paths * rules->query_cost <= now + rules->query_window / 2;
}

/* Takes a token for a query to whatever destination. Says whether there is one. */
INLINE int take_query(const struct scratch *s, const struct settings *rules)
{
	u32 zero = 0;
	struct budget *all = map_lookup(&budgets, &zero);

	return !rules->query_cost ||
	       (all && spend(&all->queries, s->time, rules->query_cost, rules->query_window));
}

/* How far beyond the window, in ticks: 4.3 s. */
#define PACE_AHEAD (1ULL << 22)

/*
 * Whether there is a token for a destination, which is taken if take is 1. Of CPUs that take one for the same
 * place at the same moment, one succeeds. A function of its own for the verifier.
 */
__attribute__((noinline)) int has_turn(u64 high, u64 low, u32 take)
{
	u32 zero = 0;
	const struct settings *rules = map_lookup(&live, &zero);
	const struct scratch *s = map_lookup(&scratch, &zero);

	if (!rules || !s)
		return 0;
	u64 interval = rules->pace_interval, window = rules->pace_window;
	if (!interval)
		return 1;
	u64 hash = hash_words(rules->seed, low, high);
	hash = (hash ^ hash >> 32) * 0x9e3779b97f4a7c15ULL;
	u32 slot = SET_OF(hash), own = WAY_OF(hash), found = WAYS;
	struct ways *set = map_lookup(&destinations, &slot);
	if (!set)
		return 0;
	u64 now = ticks(s), most = window + PACE_AHEAD, old = 0, ahead = 0;
	for (u32 i = 0; i < WAYS; i++) {
		u32 at = (own + i) & (WAYS - 1);
		u64 word = set->way[at];
		if (!((word ^ hash) & TAG_MASK)) {
			found = at;
			old = word;
			ahead = ahead_of(word, now, most);
			break;
		}
		if (found == WAYS && !ahead_of(word, now, most)) {
			found = at;
			old = word;
		}
	}
	if (found == WAYS)
		return 0;
	ahead += interval;
	if (ahead > window)
		return 0;
	if (!take)
		return 1;
	u64 *way = &set->way[found & (WAYS - 1)];
	return __sync_val_compare_and_swap(way, old, (hash & TAG_MASK) | ((now + ahead) & TIME_MASK)) == old;
}
