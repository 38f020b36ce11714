/*
 * Tells user space who asks, at most once per address and five minutes, or if its ID has changed.
 *
 * Those who never proved where they are may be forged, in any number: few of them are reported at a time, and
 * they hold a place that others may need for seconds only. So a flood does not keep honest nodes from being
 * heard of, neither while it lasts, if they prove their address, nor afterwards.
 */
#pragma once

#include "limit.h"
#include "query.h"

enum {
	SIGHTING_PAUSE = 300 * 1000000000ULL >> 30,
	/* Added to the time, so that soon after boot the stamp 0 is old. */
	SIGHTING_EPOCH = 2 * SIGHTING_PAUSE,
	/* Sources and IDs can be forged: another ID counts so many units after the last report of its sender,
	   and so often within a unit on each CPU. */
	CHANGE_PAUSE = 3,
	MAX_CHANGES = 64,
	/* Of those who never proved their address: so many are reported in a round, and their stamps are good
	   for so many units. */
	MAX_UNPROVEN = 2,
	UNPROVEN_PAUSE = 3,
};

/*
 * How many stamps a CPU looks at in a round, set by the loader. A stamp is seldom in a cache, and waiting for
 * it takes as long as a quarter of the answer; a node that is asked so often that it must leave some out
 * hears of more nodes than it can ever use. All at the beginning of a round: what wakes user space in a flood
 * is cheaper the less often it does.
 */
const volatile u32 looks_per_round SEC(".rodata") = 64;

/* Whether the stamp of the asker may be looked at. */
INLINE int may_look(struct scratch *s)
{
	if (s->credible)
		return s->looks < looks_per_round && ++s->looks;
	return s->unproven < MAX_UNPROVEN && s->looks_unproven < looks_per_round && ++s->looks_unproven;
}

static __attribute__((noinline)) void report(struct sighting *out, u64 high, u64 low, u16 port, u8 proven)
{
	AT64(out->addr) = high;
	AT64(out->addr + 8) = low;
	out->port = port;
	out->proven = proven;
	out->pad = 0;
	ringbuf_submit(out, 0);
	count(&events, EVENT_SIGHTING);
}

/*
 * Whether the asker of word is the one of last under another ID, and there is leave to report that, age units
 * after last.
 */
INLINE int id_changed(struct scratch *s, u64 last, u64 word, u32 units, s32 age)
{
	u32 differ = last ^ word;

	if (LIKELY(!differ || differ >> 16) || age < CHANGE_PAUSE)
		return 0;
	if (s->changes_unit != units) {
		s->changes_unit = units;
		s->changes = 0;
	}
	return s->changes++ < MAX_CHANGES;
}

/* Called while the frame is still that of the query. */
INLINE void note_sighting(struct xdp_md *ctx, const struct packet *pk, const struct settings *live,
			  struct scratch *s)
{
	/* Addresses that share a slot share its pause: a bound for all reports together. */
	u64 hash = hash_words(live->seed, pk->source[1], pk->source[0]);
	u32 slot = hash >> 48;
	u64 *seen_last = map_lookup(&seen, &slot);
	u64 units = (u32)((s->time >> 30) + SIGHTING_EPOCH);
	u64 sender = (hash >> 32 ^ pk->ports) & 0xffff;
	u64 stamp = s->credible ? units : units - (SIGHTING_PAUSE - UNPROVEN_PAUSE);
	u64 word = stamp << 32 | sender << 16 | s->query.asker * 0x9e3779b97f4a7c15ULL >> 48;

	if (!seen_last)
		return;
	u64 last = *seen_last;
	s32 age = units - (last >> 32);
	/* Another CPU's clock may be ahead by a unit. */
	if (LIKELY(age < (s32)SIGHTING_PAUSE) && !(s->credible && id_changed(s, last, word, units, age)))
		return;
	struct sighting *out = ringbuf_reserve(&sightings, sizeof(*out), 0);
	if (!out) {
		count(&events, EVENT_SIGHTING_LOST);
		return;
	}
	if (__sync_val_compare_and_swap(seen_last, last, word) != last || /* another CPU was faster */
	    load_bytes(ctx, pk->l4 + s->query.id, out->id, ID_LEN)) {
		ringbuf_discard(out, 0);
		return;
	}
	s->unproven += !s->credible;
	report(out, pk->source[0], pk->source[1], pk->ports, s->credible);
}
