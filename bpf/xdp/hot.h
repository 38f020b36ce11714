/*
 * Answers get and get_peers for keys that are asked often, from what user space has prepared: the item or the
 * peers, verified, with their sums. Contacts and token are added as for any other key.
 */
#pragma once

#include "challenge.h"
#include "reply.h"
#include "sighting.h"

/* The entry at the place for the asker's family; NULL if there is none. */
INLINE const struct hot *find_hot(const struct scratch *s)
{
	u32 place = s->packet.v6 ? s->hot >> 32 : s->hot, slot = (place & PLACE_INDEX) - 1;

	if (place & PLACE_LARGE) {
		const struct large_entry *large = map_lookup(&hot_large, &slot);
		return large ? &large->hot : NULL;
	}
	const struct small_entry *small = map_lookup(&hot_small, &slot);
	return small ? &small->hot : NULL;
}

INLINE int is_key(const struct hot *hot, const struct query *q)
{
	const u8 *key = hot->key.bytes;
	u64 differ = be64(AT64(key)) ^ q->target[0];

	differ |= be64(AT64(key + 8)) ^ q->target[1];
	differ |= (u64)be32(AT32(key + 16)) << 32 ^ q->target[2];
	return !differ;
}

/*
 * Begins to continue answer(): finds out what the reply to s->query will be made of, and leaves that in
 * s->share. Says GO_ON, or why there is none.
 */
static __attribute__((noinline)) int prepare_hot(struct xdp_md *ctx)
{
	u32 zero = 0;
	struct scratch *s = map_lookup(&scratch, &zero);
	const struct settings *settings = map_lookup(&live, &zero);
	const struct snapshot *snap = published();

	if (!s || !settings || !snap)
		return REASON_NO_SNAPSHOT;
	const struct query *q = &s->query;
	const struct packet *pk = &s->packet;
	const struct hot *hot = find_hot(s);
	if (!hot || !is_key(hot, q) || hot->method != q->method || hot->expires <= s->time)
		return REASON_HELD;
	struct share *share = &s->share;
	u32 v6 = pk->v6, want = q->want, tid_len = q->tid_len, limit = MAX_PAYLOAD;
	if (tid_len > MAX_TID)
		return REASON_BAD_TRANSACTION;
	share->k_len = hot->k_len;
	share->k_sum = hot->k_sum;
	share->seq_len = hot->sig_len;
	share->seq_sum = hot->sig_sum;
	share->v_len = hot->v_len;
	share->v_sum = hot->v_sum;
	share->values = 0;
	share->hits = hot->hits;
	if (q->method == METHOD_GET) {
		limit = v6 ? MAX_VALUE_PAYLOAD6 : MAX_VALUE_PAYLOAD;
		/* The asker has this version, or a newer one: it is told seq alone (BEP 44). */
		if (hot->is_mutable && q->flags & FLAG_SEQ && hot->seq <= q->seq) {
			limit = MAX_PAYLOAD;
			share->k_len = share->k_sum = 0;
			share->seq_len = hot->seq_len;
			share->seq_sum = hot->seq_sum;
			share->v_len = share->v_sum = 0;
		}
	} else {
		/* Recursion goes on where there are no peers, for those of all families that are wanted. */
		if (q->flags & FLAG_FILTER ||
		    (q->flags & FLAG_RECURSIVE && (!hot->values || q->want & hot->others)))
			return REASON_HELD;
		share->v_len = share->v_sum = 0;
	}

	/* The length of the payload: without contacts, without values, and at last of all. */
	u32 len = (v6 ? PREFIX6_LEN : PREFIX_LEN) + share->k_len + share->seq_len + TOKEN_KEY_LEN +
		  TOKEN_LEN + share->v_len + 6 + (tid_len > 9) + tid_len + TAIL_LEN;
	u32 nodes = snap->families[IPV4].key_len + snap->families[IPV4].count * NODE_LEN;
	u32 nodes6 = snap->families[IPV6].key_len + snap->families[IPV6].count * NODE6_LEN;
	if (!want)
		want = v6 ? WANT_IPV6 : WANT_IPV4;
	u32 all = len + (want & WANT_IPV4 ? nodes : 0) + (want & WANT_IPV6 ? nodes6 : 0);
	if (all > MAX_PAYLOAD && want == (WANT_IPV4 | WANT_IPV6)) {
		want = v6 ? WANT_IPV6 : WANT_IPV4;
		all = len + (v6 ? nodes6 : nodes);
	}
	if (all > limit)
		return REASON_REPLY_TOO_LONG; /* user space leaves out contacts, the farthest first */
	if (hot->values && all < MAX_PAYLOAD - VALUES_LEN) {
		/* As many values as fit. */
		u32 left = MAX_PAYLOAD - VALUES_LEN - all;
		u32 values = v6 ? left / VALUE6_LEN : left / VALUE_LEN;
		if (values > hot->values)
			values = hot->values;
		if (values) {
			share->values = values;
			share->v_len = VALUES_LEN - 1 + values * (v6 ? VALUE6_LEN : VALUE_LEN);
			all += share->v_len + 1;
			OPAQUE(values);
			share->v_sum = AT16(hot->before + 2 * (values & MAX_VALUES));
		}
	}
	share->want = want;
	share->len = UDP_LEN + all;
	if (share->len + IP6_LEN > MIN_MTU) {
		share->mtu = share->len + (v6 ? IP6_LEN : IP_LEN);
		if (check_mtu(ctx, 0, &share->mtu, 0, 0))
			return REASON_REPLY_TOO_LONG;
	}
	u32 grows = settings->growth_cost && share->len > pk->len;
	if (grows && !may_grow(s, settings, share->len - pk->len))
		return CONTINUE_CHALLENGE;
	if (!q->read_only && (grows ? may_look(s) : may_look_at(s, settings)))
		note_sighting(ctx, pk, settings, s);
	return GO_ON;
}

enum part { PART_K, PART_SEQ, PART_AFTER };

/* Two comparisons with the number itself, as verifiers up to 6.12 need them. */
INLINE int copy_part(struct xdp_md *ctx, u32 at, const void *from, u32 len, const u32 room)
{
	OPAQUE(len);
	if (len > room)
		return 0;
	OPAQUE(len);
	if (!len)
		return 0;
	return !store_bytes(ctx, at, from, len);
}

/* Puts a part of the entry, of len bytes, at offset at. Returns 0 if it does not fit. */
static __attribute__((noinline)) int put_part(struct xdp_md *ctx, u32 part, u32 at, u32 len)
{
	u32 zero = 0;
	const struct scratch *s = map_lookup(&scratch, &zero);

	if (!s)
		return 0;
	if (part == PART_AFTER) {
		u32 place = s->packet.v6 ? s->hot >> 32 : s->hot, slot = (place & PLACE_INDEX) - 1;
		if (place & PLACE_LARGE) {
			const struct large_entry *large = map_lookup(&hot_large, &slot);
			return large && copy_part(ctx, at, large->after, len, HOT_AFTER_LARGE);
		}
		const struct small_entry *small = map_lookup(&hot_small, &slot);
		return small && copy_part(ctx, at, small->after, len, HOT_AFTER);
	}
	const struct hot *hot = find_hot(s);
	if (!hot)
		return 0;
	if (part == PART_K)
		return copy_part(ctx, at, hot->k, len, sizeof(hot->k));
	return copy_part(ctx, at, hot->before, len, sizeof(hot->before));
}

/* Continues after prepare_hot(): turns the frame into that of the reply. Says which it was, or why it could
 * not. */
static __attribute__((noinline)) int put_hot(struct xdp_md *ctx)
{
	u32 zero = 0;
	struct scratch *s = map_lookup(&scratch, &zero);
	const struct snapshot *snap = published();

	if (!s || !snap)
		return REASON_NO_SNAPSHOT;
	const struct share *share = &s->share;
	struct packet pk = s->packet;
	pk.l4 &= 63; /* the verifier has forgotten its bounds */
	u32 tid_len = s->query.tid_len, len = share->len, want = share->want;
	OPAQUE(tid_len);
	if (tid_len > MAX_TID)
		return REASON_BAD_TRANSACTION;
	if (!resize(ctx, (int)(pk.l4 + len) - (int)pk.frame))
		return REASON_NO_ROOM;

	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	u32 at = pk.l4 + UDP_LEN, size;
	u64 sum = sum_headers(&pk, len);
	void *p = data + at;
	if (p + 64 > end)
		return IMPOSSIBLE;
	sum += put_prefix(p, &snap->families[pk.v6 ? IPV6 : IPV4], &pk);
	at += pk.v6 ? PREFIX6_LEN : PREFIX_LEN;
	size = share->k_len & 63;
	if (size) {
		if (!put_part(ctx, PART_K, at, size))
			return IMPOSSIBLE;
		sum += sum_at(share->k_sum, at);
		at += size;
	}
	if (want & WANT_IPV4) {
		at = put_nodes(data, end, snap, s, at, &sum, 0);
		if (!at)
			return IMPOSSIBLE;
	}
	if (want & WANT_IPV6) {
		at = put_nodes(data, end, snap, s, at, &sum, 1);
		if (!at)
			return IMPOSSIBLE;
	}
	size = share->seq_len & 127;
	if (size) {
		if (!put_part(ctx, PART_SEQ, at, size))
			return IMPOSSIBLE;
		sum += sum_at(share->seq_sum, at);
		at += size;
	}
	at = put_token(data, end, snap, &pk, at, &sum);
	if (!at)
		return IMPOSSIBLE;
	size = share->v_len & 1023;
	if (size) {
		if (!put_part(ctx, PART_AFTER, at, size))
			return IMPOSSIBLE;
		sum += sum_at(share->v_sum, at);
		at += size;
	}
	if (share->values) {
		p = data + at;
		if (p + 1 > end)
			return IMPOSSIBLE;
		AT8(p) = 'e';
		sum += sum_at('e', at);
		at++;
	}
	at = put_end(data, end, snap, &s->query, tid_len, at, &sum);
	OPAQUE(data); /* or the compiler leaves out checks that it knows and the verifier does not */
	if (!at)
		return IMPOSSIBLE;
	if (pk.l2 == ETH_LEN) {
		pk.l2 = ETH_LEN;
		if (!put_headers(data, end, &pk, s, len, sum))
			return IMPOSSIBLE;
	} else {
		pk.l2 = ETH_LEN + VLAN_LEN;
		if (!put_headers(data, end, &pk, s, len, sum))
			return IMPOSSIBLE;
	}
	count(&hot_hits, share->hits);
	return s->query.method == METHOD_GET ? REASON_ANSWERED_HOT_GET : REASON_ANSWERED_HOT_GET_PEERS;
}
