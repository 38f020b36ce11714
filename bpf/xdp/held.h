/* Whether something is stored here for a key. */
#pragma once

#include "query.h"

INLINE int is_held(struct scratch *s, const struct settings *live)
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
	return map_lookup(&held, key) ? REASON_HELD : GO_ON;
}
