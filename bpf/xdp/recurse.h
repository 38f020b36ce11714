/*
 * Carries the query of a client through the network: to the closest contacts, and from each of them, referral
 * by referral, to ever closer nodes, on paths that have no node in common (S/Kademlia's disjoint paths). The
 * first answer goes to user space, and everything that is not a plain step as well; it then takes what is in
 * "pending" of all paths. A path that comes to nothing, or is answered with an error, ends, unless it is the
 * last that goes on in time.
 */
#pragma once

#include "bencode.h"
#include "checksum.h"
#include "hop.h"
#include "referral.h"
#include "sighting.h"

/* A client's slot that is as old is free again, whatever became of its query. */
#define JOIN_LIFE (20 * 1000000000ULL)

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
	r->ended = GOES_ON;
	for (u32 i = 0; i < PATHS; i++)
		s->join.transaction[i] = 0;
	s->join.asked = 0;
	s->join.begun = now;
	s->join.tid[0] = r->tid[0];
	s->join.tid[1] = r->tid[1];
	s->join.tid[2] = r->tid[2];
	s->join.port = r->client_port;
	s->join.tid_len = tid_len;
	s->join.what = r->target[0] ^ r->method;
	s->join.host = r->client[0] ? r->client[1] : 0;
	s->join.taken = 0;
}

/* Leaves whose slots those of the recursion in s are: of an IPv4 address, or of an IPv6 /64. */
INLINE void name_client(struct scratch *s)
{
	u64 high = s->recursion.client[0];

	s->join_key.addr[0] = high;
	s->join_key.addr[1] = high ? 0 : s->recursion.client[1];
}

/* Finds a slot for the client's query, and whether it is being seen to already. */
INLINE int find_slot(struct scratch *s)
{
	const struct join *new = &s->join;
	u64 hash =
	    ((new->tid[0] ^ new->tid[1] * 3 ^ new->tid[2] * 5) * 31 + new->port + new->what + new->host * 7) *
	    0x9e3779b97f4a7c15ULL;
	u64 first = hash >> 58, slot = CLIENT_SLOTS;

	name_client(s);
	for (u32 i = 0; i < CLIENT_PROBES; i++) {
		s->join_key.slot = (first + i) & (CLIENT_SLOTS - 1);
		const struct join *j = map_lookup(&joins, &s->join_key);
		if (!j || new->begun - j->begun > JOIN_LIFE) {
			slot = s->join_key.slot;
			continue;
		}
		if (j->tid[0] == new->tid[0] && j->tid[1] == new->tid[1] && j->tid[2] == new->tid[2] &&
		    j->what == new->what && j->host == new->host && j->port == new->port &&
		    j->tid_len == new->tid_len)
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

enum { NOT_GATHERED = 255 };

/* Where contacts of ours are judged: those of IPv6 behind those of IPv4. */
INLINE u32 gathered_at(u32 i, const int v6)
{
	return v6 ? BUCKET_SIZE * NODE_LEN + i * NODE6_LEN : i * NODE_LEN;
}

/* Puts our contacts of a family that are closest to the target where those of a reply would be. A function of
 * its own for the verifier. */
__attribute__((noinline)) int gather(u32 v6)
{
	u32 zero = 0;
	struct scratch *s = map_lookup(&scratch, &zero);
	const struct snapshot *snap = published();

	if (!s || !snap)
		return 0;
	u32 count = choose(s, snap, v6);
	for (u32 i = 0; i < BUCKET_SIZE; i++) {
		if (i >= count)
			break;
		u32 bucket = s->chosen[i] / BUCKET_SIZE, j = s->chosen[i] % BUCKET_SIZE;
		if (bucket >= BUCKETS)
			break;
		if (v6)
			copy_contact(s->datagram + gathered_at(i, 1), snap->nodes6[bucket] + j * NODE6_LEN,
				     1);
		else
			copy_contact(s->datagram + gathered_at(i, 0), snap->nodes[bucket] + j * NODE_LEN, 0);
	}
	s->gathered[v6 & 1] = count;
	return 0;
}

/* Judges our contacts of a family. */
INLINE void judge_gathered(struct scratch *s, const int v6)
{
	if (s->gathered[v6] == NOT_GATHERED)
		gather(v6);
	u32 count = s->gathered[v6];
	for (u32 i = 0; i < BUCKET_SIZE; i++) {
		if (i >= count)
			break;
		judge(s, gathered_at(i, v6), v6);
	}
}

/*
 * Chooses whom to ask first on the path with that number. Says whether there is somebody. A function of its
 * own for the verifier.
 *
 * The client's family comes first. The other one will do for a host on the LAN that uses IPv6 where the world
 * has only IPv4. An item is put in the networks of both families, so that the closest nodes of either are
 * asked for it, where several can be asked; peers are in that of their own family.
 */
__attribute__((noinline)) int choose_first(u32 path)
{
	u32 zero = 0;
	struct scratch *s = map_lookup(&scratch, &zero);

	if (!s)
		return 0;
	u32 both = s->recursion.shared && s->recursion.method == METHOD_GET;
	s->found = s->recursion.hops = 0;
	s->recursion.path = path;
	s->next_distance[0] = s->next_distance[1] = s->next_distance[2] = ~0ULL;
	for (u32 i = 0; i < FAMILIES; i++) {
		if (s->found && !both)
			break;
		if ((s->packet.v6 ^ i) & 1)
			judge_gathered(s, 1);
		else
			judge_gathered(s, 0);
	}
	s->judged = 1;
	s->recursion.v6 = s->next_v6;
	u32 at = s->join.asked; /* whether it can be asked or not: not on another path */
	if (at < MAX_HOSTS) {
		s->join.hosts[at] = host_of(s, s->next.addr[0], s->next.addr[1]);
		s->join.asked = at + 1;
	}
	return s->found;
}

/* Puts the query of s->hop, the first of a path, where launch.h finds it. A function of its own for the
 * verifier. */
__attribute__((noinline)) int put_flight(u32 path)
{
	u32 zero = 0;
	struct scratch *s = map_lookup(&scratch, &zero);

	if (!s || path >= PATHS)
		return 0;
	struct launch *l = &s->flight.launch[path];
	u32 begin = s->hop.begin;
	OPAQUE(begin);
	if (begin > PAYLOAD)
		return 0;
	l->ifindex = s->hop.ifindex;
	l->len = s->hop.len;
	for (u32 i = 0; i < FRAME_LEN; i += 8) {
		if (!s->recursion.shared)
			break;
		AT64(l->frame + i) = AT64(s->frame + begin + i);
	}
	s->join.transaction[path] = s->hop.transaction;
	s->flight.count = path + 1;
	return 0;
}

/* What a query counts of those that are sent for clients who never proved their address: they have so much
 * less of them. As in user space. */
enum { UNPROVEN_SHARE = 8 };

/*
 * Whether a recursion may begin for the client, if it may be forged: each costs user space something at its
 * end, and nobody but who can be found is to keep others from having theirs.
 */
INLINE int may_ask(const struct scratch *s, const struct settings *rules, u32 paths)
{
	u32 zero = 0;
	struct budget *all = map_lookup(&budgets, &zero);

	if (!rules->query_cost || !rules->unproven_cost || is_known(s, 0))
		return 1;
	u64 cost = (u64)paths * UNPROVEN_SHARE * rules->query_cost, window = 2 * rules->query_window;
	/* However little there is, there is a recursion's worth at some time. */
	return all && spend(&all->recursions, s->time, cost, cost > window ? cost : window);
}

/* Makes the first queries for what is in s, as many as may be. Returns how many there are, or why there is
 * none. */
INLINE u32 begin_paths(struct scratch *s, const struct settings *settings, u32 ingress)
{
	u32 failed = 0, path = 0;
	const u32 *launcher = map_lookup(&launchers, &ingress);
	/* What a local sender left to hardware is kept in the socket buffer, and would spoil what launch.h
	 * puts there. */
	u32 most = launcher && *launcher && !is_partial(&s->packet) ? PATHS : 1;

	if (!may_begin(s, settings, most) || !may_ask(s, settings, most))
		return REASON_RECURSION_PACED;
	s->recursion.shared = most > 1;
	s->seed = settings->seed;
	s->paced = s->judged = 0;
	s->allow_private = settings->private_network;
	s->interface_id = settings->private_network ? ~0ULL : 0;
	s->gathered[IPV4] = s->gathered[IPV6] = NOT_GATHERED;
	for (u32 i = 0; i < TRIES; i++) {
		if (path >= most || !choose_first(path))
			break;
		u32 reason = prepare(ingress, 1);
		if (reason == GO_ON) {
			put_flight(path);
			path++;
			continue;
		}
		failed = reason;
		if (most == 1)
			break;
	}
	if (path)
		return path;
	if (failed)
		return failed;
	return s->paced ? REASON_RECURSION_PACED : REASON_RECURSION_NO_CONTACT;
}

/* Forgets the queries of s->join, none of which was sent. */
INLINE void forget_paths(struct scratch *s)
{
	for (u32 i = 0; i < PATHS; i++)
		if (s->join.transaction[i])
			map_delete(&pending, &s->join.transaction[i]);
}

/* Begins recursion for the query in s. Returns the reason, with the verdict in its upper half if it was sent
 * on. Nothing is written to the frame unless all went well. */
static __attribute__((noinline)) int begin(struct xdp_md *ctx)
{
	u32 zero = 0;
	const struct settings *settings = map_lookup(&live, &zero);
	struct scratch *s = map_lookup(&scratch, &zero);

	if (!settings || !s)
		return REASON_NO_SNAPSHOT;
	if (s->time >= settings->recursion)
		return REASON_RECURSION_OFF;
	/*
	 * Left to user space: noseed and scrape, for which several nodes must be asked anyway, each with
	 * another query than those of hop.h.
	 */
	if (s->query.flags & FLAG_FILTER)
		return REASON_RECURSION_ARGUMENT;
	/* What comes from a link-local address, for which user space must know the interface by which it
	 * came. */
	if (be16((u16)s->packet.source[0]) >> 6 == 0x3fa)
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
	u32 paths = begin_paths(s, settings, ctx->ingress_ifindex);
	if (paths > PATHS)
		return paths;
	s->join.live = paths;
	if (map_update(&joins, &s->join_key, &s->join, UPDATE_ANY)) {
		forget_paths(s);
		return REASON_RECURSION_FULL;
	}
	if (s->recursion.shared) {
		AT16(s->note) = be16(ETH_P_LAUNCH);
		AT32(s->note + 2) = s->join.transaction[0];
		if (map_update(&flights, &s->join.transaction[0], &s->flight, UPDATE_ANY)) {
			forget_paths(s);
			map_delete(&joins, &s->join_key);
			return REASON_RECURSION_FULL;
		}
		if (store_bytes(ctx, ETH_LEN - 2, s->note, 6))
			return IMPOSSIBLE;
		tell_begun();
		return REASON_RECURSION_BEGUN | XDP_PASS << 16;
	}
	reason = emit(ctx, REASON_RECURSION_BEGUN);
	if (reason == REASON_NO_ROOM) {
		forget_paths(s);
		map_delete(&joins, &s->join_key);
	} else {
		tell_begun();
	}
	return reason;
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

/* What the paths of the recursion in s have in common; NULL if it was forgotten. */
INLINE struct join *find_join(struct scratch *s)
{
	name_client(s);
	s->join_key.slot = s->recursion.slot;
	struct join *j = map_lookup(&joins, &s->join_key);
	return j && j->begun == s->recursion.begun ? j : NULL;
}

/* Whether another path of the recursion in s goes on, and its node is not late yet. A function of its own for
 * the verifier. */
__attribute__((noinline)) int others_go_on(struct scratch *s)
{
	u32 zero = 0;
	const struct settings *rules = map_lookup(&live, &zero);

	if (!s || !rules)
		return 0;
	const struct join *j = find_join(s);
	if (!j)
		return 0;
	u64 now = ktime();
	for (u32 i = 0; i < PATHS; i++) {
		if (!j->transaction[i] || j->transaction[i] == s->transaction)
			continue;
		const struct recursion *other = map_lookup(&pending, &j->transaction[i]);
		if (!other) /* a reply has come this moment */
			return 1;
		if (other->ended == GOES_ON && (!rules->patience || now - other->sent < rules->patience))
			return 1;
	}
	return 0;
}

/* Ends the path in s for that reason, if others of the recursion go on: else user space does. What is in s is
 * kept. */
INLINE int end_path(struct scratch *s, struct join *j, u32 reason, u32 end)
{
	if (!j || !s->recursion.shared || __sync_fetch_and_sub(&j->live, 1) <= 1 || !others_go_on(s))
		return reason;
	s->recursion.ended = end;
	if (map_update(&pending, &s->transaction, &s->recursion, UPDATE_EXIST))
		return REASON_HOP_TAKEN; /* user space was faster */
	return REASON_HOP_ENDED | XDP_DROP << 16;
}

/* Keeps the contacts of the last reply but one, because the last has none. A function of its own for the
 * verifier. */
__attribute__((noinline)) int keep_last_referral(struct scratch *s)
{
	if (!s)
		return 0;
	const struct recursion *r = map_lookup(&pending, &s->transaction);
	if (!r)
		return 0;
	for (u32 i = 0; i < REFERRAL_LEN; i += 8)
		AT64(s->recursion.referral + i) = AT64(r->referral + i);
	return 0;
}

/* What becomes of a reply to a query of ours that is not waited for here. If nobody else does, its sender
 * counts as one who has sent a query: it is alive, as far as one can tell. */
static __attribute__((noinline)) int leave(struct xdp_md *ctx)
{
	u32 zero = 0;
	const struct settings *settings = map_lookup(&live, &zero);
	struct scratch *s = map_lookup(&scratch, &zero);

	if (!settings || !s)
		return REASON_NO_LEASE;
	if (map_lookup(&awaited, &s->transaction))
		return REASON_HOP_TAKEN;
	if (check_copy(s) != GO_ON || !may_look_at(s, settings))
		return REASON_HOP_LATE;
	int reason = parse_response(s);
	u32 id = s->query.id;
	if ((reason != GO_ON && reason != REASON_HOP_ANSWER) || !HAS(KEY_ID) || id > MAX_DATAGRAM)
		return REASON_HOP_LATE;
	set_asker(&s->query, s->datagram + id);
	note_sighting(ctx, &s->packet, settings, s);
	return REASON_HOP_LATE;
}

/* Goes on with the reply in s->datagram, if it is one that is waited for. Returns the reason, with the
 * verdict in its upper half if it does not follow from it. */
static __attribute__((noinline)) int follow(struct xdp_md *ctx)
{
	u32 zero = 0;
	const struct settings *settings = map_lookup(&live, &zero);
	struct scratch *s = map_lookup(&scratch, &zero);

	if (!settings || !s)
		return REASON_NO_LEASE;
	const struct recursion *waiting = map_lookup(&pending, &s->transaction);
	if (!waiting || waiting->ended)
		return leave(ctx);
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
	struct join *j = find_join(s);
	if (reason == GO_ON) {
		u32 id = s->query.id;
		if (id > MAX_DATAGRAM)
			return REASON_MALFORMED;
		const u8 *from = s->datagram + id;
		if (AT64(from) != AT64(asked->id) || AT64(from + 8) != AT64(asked->id + 8) ||
		    AT32(from + 16) != AT32(asked->id + 16))
			reason = REASON_HOP_OTHER_ID;
	}
	if (reason == REASON_HOP_ERROR || reason == REASON_HOP_OTHER_ID) {
		keep_last_referral(s);
		return end_path(s, j, reason, END_FAILED);
	}
	if (reason != GO_ON)
		return reason;

	s->join.asked = 0;
	if (j && r->shared) {
		s->join.asked = j->asked;
		for (u32 i = 0; i < MAX_HOSTS; i++)
			s->join.hosts[i] = j->hosts[i];
	}
	s->seed = settings->seed;
	s->found = s->paced = s->judged = 0;
	s->allow_private = settings->private_network && may_name_private(asked->addr, r->v6);
	s->interface_id = settings->private_network ? ~0ULL : 0;
	s->next_distance[0] = r->distance[0];
	s->next_distance[1] = r->distance[1];
	s->next_distance[2] = r->distance[2];
	if (r->v6)
		judge_all(s, s->nodes6, s->nodes6_len, 1);
	else
		judge_all(s, s->nodes, s->nodes_len, 0);
	u32 ends = 0;
	if (!s->found)
		ends = s->paced ? REASON_HOP_PACED : REASON_HOP_NO_CLOSER;
	else if (r->hops >= MAX_HOPS)
		ends = REASON_HOP_LIMIT;
	if (ends && !r->shared)
		return ends;
	if (!ends && pk->l2 != ETH_LEN)
		return REASON_NO_ROUTE;
	if (r->v6 ? keep_referral(ctx, s, s->nodes6, s->nodes6_len, NODE6_LEN)
		  : keep_referral(ctx, s, s->nodes, s->nodes_len, NODE_LEN))
		return REASON_TRUNCATED;
	if (ends)
		return end_path(s, j, ends, END_NOBODY);
	reason = prepare(ctx->ingress_ifindex, 0);
	if (reason != GO_ON)
		return reason;
	if (j) {
		u32 path = r->path;
		/* Before the old one is gone, so that user space finds one of them. Of two CPUs with the same
		   reply one goes on. */
		if (path < PATHS && __sync_val_compare_and_swap(&j->transaction[path], s->transaction,
								s->hop.transaction) != s->transaction) {
			map_delete(&pending, &s->hop.transaction);
			return REASON_HOP_TAKEN;
		}
		if (r->shared) {
			u32 at = __sync_fetch_and_add(&j->asked, 1);
			if (at < MAX_HOSTS)
				j->hosts[at] = host_of(s, s->next.addr[0], s->next.addr[1]);
		}
	}
	if (map_delete(&pending, &s->transaction)) { /* user space was faster, or another CPU */
		map_delete(&pending, &s->hop.transaction);
		return REASON_HOP_TAKEN;
	}
	/* Where the frame cannot be made to fit, nothing is lost but time: user space asks who was not asked.
	 */
	return emit(ctx, REASON_HOP_FOLLOWED);
}
