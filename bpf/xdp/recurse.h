/*
 * Carries the query of a client through the network: to the closest contact, and from there, referral by
 * referral, to ever closer nodes. The last answer goes to user space, and everything that is not a plain step
 * as well, together with what is in "pending".
 */
#pragma once

#include "bencode.h"
#include "checksum.h"
#include "hop.h"
#include "referral.h"

/* A client's slot that is as old is free again, whatever became of its query. */
#define JOIN_LIFE (20 * 1000000000ULL)

/* Whether recursion is done for who asks. */
INLINE int is_client(struct scratch *s, const struct packet *pk)
{
	s->route_key.prefix_len = 128;
	s->route_key.addr[0] = pk->source[0];
	s->route_key.addr[1] = pk->source[0] >> 32;
	s->route_key.addr[2] = pk->source[1];
	s->route_key.addr[3] = pk->source[1] >> 32;
	const u32 *client = map_lookup(&clients, &s->route_key);
	return client && *client;
}

/* The first len bytes of a word. */
INLINE u64 first_bytes(u64 word, s32 len)
{
	if (len <= 0)
		return 0;
	return len >= 8 ? word : word & ~0ULL >> (64 - 8 * len);
}

/* Leaves in s what tells the client's query from others. */
INLINE void describe_query(struct scratch *s, u64 now)
{
	struct recursion *r = &s->recursion;
	const struct packet *pk = &s->packet;
	const struct query *q = &s->query;
	s32 tid_len = q->tid_len;

	r->begun = now;
	r->client[0] = pk->source[0];
	r->client[1] = pk->source[1];
	r->client_port = pk->ports;
	r->entry[0] = s->dest.addr[0];
	r->entry[1] = s->dest.addr[1];
	r->entry_port = s->dest.port;
	r->tid[0] = first_bytes(q->tid[0], tid_len);
	r->tid[1] = first_bytes(q->tid[1], tid_len - 8);
	r->tid[2] = first_bytes(q->tid[2], tid_len - 16);
	r->tid_len = tid_len;
	r->target[0] = q->target[0];
	r->target[1] = q->target[1];
	r->target[2] = q->target[2];
	r->method = q->method;
	r->want = q->want;
	r->seq = q->seq;
	r->flags = q->flags & FLAG_SEQ;
	r->hops = 0;
	r->referral_len = 0;
	s->join.begun = now;
	s->join.tid[0] = r->tid[0];
	s->join.tid[1] = r->tid[1];
	s->join.tid[2] = r->tid[2];
	s->join.port = r->client_port;
	s->join.tid_len = tid_len;
	s->join.what = r->target[0] ^ r->method;
	s->join.taken = 0;
}

/* Finds a slot for the client's query, and whether it is being seen to already. */
INLINE int find_slot(struct scratch *s)
{
	const struct join *new = &s->join;
	u64 hash = ((new->tid[0] ^ new->tid[1] * 3 ^ new->tid[2] * 5) * 31 + new->port + new->what) *
		   0x9e3779b97f4a7c15ULL;
	u64 first = hash >> 58, slot = CLIENT_SLOTS;

	s->join_key.addr[0] = s->recursion.client[0];
	s->join_key.addr[1] = s->recursion.client[1];
	for (u32 i = 0; i < CLIENT_PROBES; i++) {
		s->join_key.slot = (first + i) & (CLIENT_SLOTS - 1);
		const struct join *j = map_lookup(&joins, &s->join_key);
		if (!j || new->begun - j->begun > JOIN_LIFE) {
			slot = s->join_key.slot;
			continue;
		}
		if (j->tid[0] == new->tid[0] && j->tid[1] == new->tid[1] && j->tid[2] == new->tid[2] &&
		    j->what == new->what && j->port == new->port && j->tid_len == new->tid_len)
			return j->taken ? REASON_RECURSION_TAKEN : REASON_RECURSION_JOINED | XDP_DROP << 16;
		if (j->taken)
			slot = s->join_key.slot;
	}
	if (slot == CLIENT_SLOTS)
		return REASON_RECURSION_CLIENT_FULL;
	s->join_key.slot = slot;
	s->recursion.slot = slot;
	return GO_ON;
}

/* Takes the closest of our contacts that may be asked. They are put where those of a reply would be. */
INLINE void choose_first(struct scratch *s, const struct snapshot *snap, const int v6)
{
	u32 count = choose(s, snap, v6);

	for (u32 i = 0; i < BUCKET_SIZE; i++) {
		if (i >= count)
			break;
		u32 bucket = s->chosen[i] / BUCKET_SIZE, j = s->chosen[i] % BUCKET_SIZE;
		if (bucket >= BUCKETS)
			break;
		if (v6)
			copy_contact(s->datagram, snap->nodes6[bucket] + j * NODE6_LEN, 1);
		else
			copy_contact(s->datagram, snap->nodes[bucket] + j * NODE_LEN, 0);
		judge(s, 0, v6);
	}
}

/* Begins recursion for the query in s. Returns what send_hop() does. */
static __attribute__((noinline)) int begin(struct xdp_md *ctx)
{
	u32 zero = 0;
	const struct settings *settings = map_lookup(&live, &zero);
	struct scratch *s = map_lookup(&scratch, &zero);
	const struct snapshot *snap = published();

	if (!settings || !s || !snap)
		return REASON_NO_SNAPSHOT;
	if (s->time >= settings->recursion)
		return REASON_RECURSION_OFF;
	/*
	 * Left to user space: noseed and scrape, for which several nodes must be asked anyway, each with
	 * another query than those of hop.h.
	 */
	if (s->query.flags & FLAG_FILTER)
		return REASON_RECURSION_ARGUMENT;
	/*
	 * And what comes with a tag: the route is one of the interface that the tag stands for, which user
	 * space does not attach to, and boxes seldom have. It is answered at the hook like any other unless
	 * it asks for recursion.
	 */
	if (s->packet.l2 != ETH_LEN)
		return REASON_NO_ROUTE;
	describe_query(s, ktime());
	int reason = find_slot(s);
	if (reason != GO_ON)
		return reason;
	s->found = s->paced = 0;
	s->allow_private = settings->private_network;
	s->next_distance[0] = s->next_distance[1] = s->next_distance[2] = ~0ULL;
	/* The client's family first. The other one will do for a host on the LAN that uses IPv6 where the
	   world has only IPv4; a value that is not found there user space looks for in both. */
	for (u32 i = 0; i < FAMILIES; i++) {
		u32 v6 = (s->packet.v6 ^ i) & 1;
		s->recursion.v6 = v6;
		if (v6)
			choose_first(s, snap, 1);
		else
			choose_first(s, snap, 0);
		if (s->found)
			break;
	}
	if (!s->found)
		return s->paced ? REASON_RECURSION_PACED : REASON_RECURSION_NO_CONTACT;
	return send_hop(ctx, 0);
}

/* Copies the state of a recursion, but for what is written anew. */
INLINE void copy_state(struct recursion *to, const struct recursion *from)
{
	const u64 *f = (const u64 *)from;
	u64 *t = (u64 *)to;

	for (u32 i = 0; i < __builtin_offsetof(struct recursion, referral) / 8; i++)
		t[i] = f[i];
}

/* Keeps the contacts of a reply, as many as there is room for. */
INLINE int keep_referral(struct xdp_md *ctx, struct scratch *s, u32 at, u64 len, const u32 size)
{
	const u32 room = REFERRAL_LEN - REFERRAL_LEN % size;

	if (len > room)
		len = room;
	s->recursion.referral_len = len;
	OPAQUE(len); /* two comparisons with the number itself, as verifiers up to 6.12 need them */
	if (len > REFERRAL_LEN)
		return 1;
	OPAQUE(len);
	if (!len)
		return 0;
	return load_bytes(ctx, s->packet.l4 + at, s->recursion.referral, len);
}

/* Judges the contacts in a reply. */
INLINE void judge_all(struct scratch *s, u32 at, u32 len, const int v6)
{
	for (u32 i = 0; i < MAX_REFERRALS; i++) {
		if (i * (v6 ? NODE6_LEN : NODE_LEN) >= len)
			break;
		judge(s, at + i * (v6 ? NODE6_LEN : NODE_LEN), v6);
	}
}

/* Goes on with the reply in s->datagram, if it is the one that is waited for. Returns what send_hop() does.
 */
static __attribute__((noinline)) int follow(struct xdp_md *ctx)
{
	u32 zero = 0;
	const struct settings *settings = map_lookup(&live, &zero);
	struct scratch *s = map_lookup(&scratch, &zero);

	if (!settings || !s)
		return REASON_NO_LEASE;
	const struct recursion *waiting = map_lookup(&pending, &s->transaction);
	if (!waiting)
		return REASON_HOP_LATE;
	struct recursion *r = &s->recursion;
	copy_state(r, waiting);
	u32 last = r->hops - 1;
	if (last >= MAX_HOPS)
		return REASON_HOP_LATE;
	const struct asked *asked = &r->asked[last];
	const struct packet *pk = &s->packet;
	if (asked->addr[0] != pk->source[0] || asked->addr[1] != pk->source[1] ||
	    asked->port != (u16)pk->ports || r->source[0] != s->dest.addr[0] ||
	    r->source[1] != s->dest.addr[1] || r->source_port != s->dest.port)
		return REASON_HOP_OTHER_SOURCE;
	int reason = check_copy(s);
	if (reason != GO_ON)
		return reason;
	reason = parse_response(s);
	if (reason != GO_ON)
		return reason;
	u32 id = s->query.id;
	if (id > MAX_DATAGRAM)
		return REASON_MALFORMED;
	const u8 *from = s->datagram + id;
	if (AT64(from) != AT64(asked->id) || AT64(from + 8) != AT64(asked->id + 8) ||
	    AT32(from + 16) != AT32(asked->id + 16))
		return REASON_HOP_OTHER_ID;

	s->found = s->paced = 0;
	s->allow_private = settings->private_network && may_name_private(asked->addr, r->v6);
	s->next_distance[0] = r->distance[0];
	s->next_distance[1] = r->distance[1];
	s->next_distance[2] = r->distance[2];
	if (r->v6)
		judge_all(s, s->nodes6, s->nodes6_len, 1);
	else
		judge_all(s, s->nodes, s->nodes_len, 0);
	if (!s->found)
		return s->paced ? REASON_HOP_PACED : REASON_HOP_NO_CLOSER;
	if (r->hops >= MAX_HOPS)
		return REASON_HOP_LIMIT;
	if (pk->l2 != ETH_LEN)
		return REASON_NO_ROUTE;
	if (r->v6 ? keep_referral(ctx, s, s->nodes6, s->nodes6_len, NODE6_LEN)
		  : keep_referral(ctx, s, s->nodes, s->nodes_len, NODE_LEN))
		return REASON_TRUNCATED;
	return send_hop(ctx, s->transaction);
}
