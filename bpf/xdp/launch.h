/*
 * Sends several queries for one datagram. The XDP hook can send one frame for one that came; so it leaves the
 * first queries of a recursion in "flights" and passes a note, a frame of a type of its own, to the program
 * here, in the hook of traffic control right behind it, which can clone. A note that is lost, or one that
 * somebody else made up, does no harm: user space asks the nodes that do not answer again, and nobody can
 * guess which flights there are.
 */
#pragma once

#include "recursion.h"

/* Makes the frame of skb the query. Returns 0 if there is no memory. */
INLINE int put_launch(struct __sk_buff *skb, const struct launch *l)
{
	u32 len = l->len;

	OPAQUE(len); /* two comparisons with the number itself, as verifiers up to 6.12 need them */
	if (len > FRAME_LEN)
		return 0;
	OPAQUE(len);
	if (!len)
		return 0;
	if (skb_change_tail(skb, len, 0))
		return 0;
	return !skb_store_bytes(skb, 0, l->frame, len, RECOMPUTE_CHECKSUM);
}

SEC("tc") int kdht_launch(struct __sk_buff *skb)
{
	if (LIKELY(skb->protocol != be16(ETH_P_LAUNCH)))
		return TC_NEXT;
	u32 first, last = 0;
	if (skb_load_bytes(skb, ETH_LEN, &first, sizeof(first))) /* the frame may be in pieces */
		return TC_NEXT;
	const struct flight *f = map_lookup(&flights, &first);
	if (!f)
		return TC_NEXT;
	for (u32 i = 0; i < PATHS; i++) {
		if (i >= f->count) /* what is behind is of another flight */
			break;
		const struct launch *l = &f->launch[i];
		if (!put_launch(skb, l))
			continue;
		last = l->ifindex;
		if (i + 1 >= f->count)
			break;
		clone_redirect(skb, last, 0);
		last = 0;
	}
	map_delete(&flights, &first);
	return last ? redirect(last, 0) : TC_DROP;
}
