/* Tells user space who asks, at most once per address and five minutes. */
#pragma once

#include "packet.h"
#include "query.h"

enum {
	SIGHTING_PAUSE = 300 * 1000000000ULL >> 30,
	/* Added to the time, so that soon after boot the stamp 0 is old. */
	SIGHTING_EPOCH = 2 * SIGHTING_PAUSE,
};

static __attribute__((noinline)) void report(struct sighting *out, const struct packet *pk)
{
	AT64(out->addr) = pk->source[0];
	AT64(out->addr + 8) = pk->source[1];
	out->port = pk->ports;
	AT16(out->pad) = 0;
	ringbuf_submit(out, 0);
	count(&events, EVENT_SIGHTING);
}

/* Called while the frame is still that of the query. */
INLINE void note_sighting(struct xdp_md *ctx, const struct packet *pk, const struct settings *live,
			  const struct scratch *s)
{
	/* Addresses that share a slot share its pause: a bound for all reports together. */
	u64 hash = (pk->source[0] ^ live->seed) * 0x9e3779b97f4a7c15ULL ^ pk->source[1];
	u32 slot = (hash ^ hash >> 32) * 0xd6e8feb86659fd93ULL >> 48;
	u32 *stamp = map_lookup(&seen, &slot);
	u32 units = (s->time >> 30) + SIGHTING_EPOCH;

	if (!stamp)
		return;
	u32 last = *stamp;
	/* Another CPU's clock may be ahead by a unit. */
	if (LIKELY((s32)(units - last) < (s32)SIGHTING_PAUSE))
		return;
	struct sighting *out = ringbuf_reserve(&sightings, sizeof(*out), 0);
	if (!out) {
		count(&events, EVENT_SIGHTING_LOST);
		return;
	}
	if (__sync_val_compare_and_swap(stamp, last, units) != last || /* another CPU was faster */
	    load_bytes(ctx, pk->l4 + s->query.id, out->id, ID_LEN)) {
		ringbuf_discard(out, 0);
		return;
	}
	report(out, pk);
}
