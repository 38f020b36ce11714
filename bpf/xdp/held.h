/* Whether something is stored here for a key, or known and often asked for. */
#pragma once

#include "query.h"

/*
 * Says GO_ON for nearly every key, and CONTINUE_HOT, leaving in s->hot where, if it may be in the hot map for
 * queries of this kind over this family.
 */
INLINE int is_held(struct scratch *s, const struct settings *live, u32 v6)
{
	if (live->held_overflow)
		return REASON_HELD_OVERFLOW;
	/* Nearly every key fails this cheaper test. */
	u32 slot = s->query.target[0] >> 52;
	const u64 *filter = map_lookup(&held_filter, &slot);
	if (LIKELY(filter && !(*filter >> (s->query.target[0] >> 46 & 63) & 1)))
		return GO_ON;
	u8 *key = s->held_key.bytes;
	AT64(key) = be64(s->query.target[0]);
	AT64(key + 8) = be64(s->query.target[1]);
	AT32(key + 16) = be32(s->query.target[2] >> 32);
	const u64 *places = map_lookup(&held, key);
	if (!places)
		return GO_ON;
	s->hot = *places;
	if (!s->hot)
		return REASON_HELD;
	u32 place = v6 ? s->hot >> 32 : s->hot;
	if (s->query.flags & FLAG_RECURSIVE)
		return place & PLACE_PLAIN ? REASON_HELD : CONTINUE_HOT;
	return place & PLACE_RECURSIVE ? GO_ON : CONTINUE_HOT;
}
