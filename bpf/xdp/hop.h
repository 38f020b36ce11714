/* Makes a query of our own to the next node, and sends it in the frame of what came. */
#pragma once

#include "challenge.h"
#include "pace.h"
#include "recursion.h"
#include "reply.h"

/* Makes the payload of our query at s->frame + PAYLOAD, with 8 zeros behind it, and returns its length:
 *
 *   d1:ad2:id20:<self>6:target20:<target>e1:q9:find_node[2:roi1e]1:t4:<transaction>1:v4:<v>1:y1:qe
 *   d1:ad2:id20:<self>9:info_hash20:<target>e1:q9:get_peers[2:roi1e]1:t4:<transaction>1:v4:<v>1:y1:qe
 *   d1:ad2:id20:<self>6:target20:<target>e1:q3:get[2:roi1e]1:t4:<transaction>1:v4:<v>1:y1:qe
 */
INLINE u32 put_hop_payload(struct scratch *s, const struct snapshot *snap, u32 transaction, const u32 method)
{
	const u64 *self = snap->families[s->recursion.v6 ? IPV6 : IPV4].self, *target = s->recursion.target;
	u8 *p = s->frame + PAYLOAD;

	AT64(p) = T8("d1:ad2:i");
	AT32(p + 8) = T4("d20:");
	AT64(p + 12) = be64(self[0]);
	AT64(p + 20) = be64(self[1]);
	AT32(p + 28) = be32((u32)(self[2] >> 32));
	p += 32;
	if (method == METHOD_GET_PEERS) {
		AT64(p) = T8("9:info_h");
		AT32(p + 8) = T4("ash2");
		AT16(p + 12) = T2("0:");
		p += 14;
	} else {
		AT64(p) = T8("6:target");
		AT32(p + 7) = T4("t20:");
		p += 11;
	}
	AT64(p) = be64(target[0]);
	AT64(p + 8) = be64(target[1]);
	AT32(p + 16) = be32((u32)(target[2] >> 32));
	p += 20;
	if (method == METHOD_GET) {
		AT64(p) = T8("e1:q3:ge");
		AT8(p + 8) = 't';
		p += 9;
	} else if (method == METHOD_GET_PEERS) {
		AT64(p) = T8("e1:q9:ge");
		AT64(p + 7) = T8("et_peers");
		p += 15;
	} else {
		AT64(p) = T8("e1:q9:fi");
		AT64(p + 7) = T8("ind_node");
		p += 15;
	}
	if (snap->read_only[s->recursion.v6 ? IPV6 : IPV4]) {
		AT64(p) = T8N("2:roi1e", 7);
		p += 7;
	}
	AT32(p) = T4("1:t4");
	AT8(p + 4) = ':';
	AT32(p + 5) = transaction;
	p += 9;
	/* The end of a reply, but for its type. */
	AT64(p) = AT64(snap->tail);
	AT64(p + 8) = AT64(snap->tail + 8);
	AT8(p + 14) = 'q';
	AT64(p + 16) = 0;
	return p + 16 - (s->frame + PAYLOAD);
}

/* Puts the headers in front of the payload of that length, and returns where the frame begins in s->frame. */
INLINE u32 put_hop_headers(struct scratch *s, const struct route *route, u64 mac, u32 payload, const int v6)
{
	const u32 begin = PAYLOAD - UDP_LEN - (v6 ? IP6_LEN : IP_LEN) - ETH_LEN, len = UDP_LEN + payload;
	u8 *p = s->frame + begin;
	u64 sum = be16(IP_PROTO_UDP) + 2 * (u64)be16(len);
	u16 source_port = route->port, dest_port = s->next.port;

	AT64(p) = mac | (u64)AT16(route->mac) << 48;
	AT32(p + 8) = AT32(route->mac + 2);
	AT16(p + 12) = v6 ? be16(ETH_P_IPV6) : be16(ETH_P_IP);
	p += ETH_LEN;
	if (v6) {
		AT32(p) = 0x60;
		AT32(p + 4) = be16(len) | IP_PROTO_UDP << 16 | HOP_LIMIT << 24;
		AT64(p + 8) = route->source[0];
		AT64(p + 16) = route->source[1];
		AT64(p + 24) = s->next.addr[0];
		AT64(p + 32) = s->next.addr[1];
		sum += sum64(route->source[0]) + sum64(route->source[1]) + sum64(s->next.addr[0]) +
		       sum64(s->next.addr[1]);
		p += IP6_LEN;
	} else {
		u32 source = route->source[1] >> 32, dest = s->next.addr[1] >> 32;
		u32 first = 0x45 | be16(len + IP_LEN) << 16;
		u32 second = be16(IP_DONT_FRAGMENT) << 16;
		u32 third = HOP_LIMIT | IP_PROTO_UDP << 8;
		AT32(p) = first;
		AT32(p + 4) = second;
		AT32(p + 8) = third | (~sum_fold((u64)source + dest + first + second + third) & 0xffff) << 16;
		AT32(p + 12) = source;
		AT32(p + 16) = dest;
		sum += (u64)source + dest;
		p += IP_LEN;
	}
	for (u32 i = PAYLOAD; i < FRAME_LEN; i += 8) {
		if (i >= PAYLOAD + payload)
			break;
		sum += sum64(AT64(s->frame + i));
	}
	sum += (u64)source_port + dest_port;
	AT16(p) = source_port;
	AT16(p + 2) = dest_port;
	AT16(p + 4) = be16(len);
	AT16(p + 6) = sum_finish(sum);
	return begin;
}

/* Finds how to reach s->next. Says GO_ON, or why it cannot be from here: what came in by the interface with
 * the number ingress goes out by another only if that takes it, or if launch.h sends it. */
INLINE int find_route(u32 ingress, struct scratch *s, const struct route **route, u64 *mac, u32 launched)
{
	s->route_key.prefix_len = 128;
	s->route_key.addr[0] = s->next.addr[0];
	s->route_key.addr[1] = s->next.addr[0] >> 32;
	s->route_key.addr[2] = s->next.addr[1];
	s->route_key.addr[3] = s->next.addr[1] >> 32;
	const struct route *r = map_lookup(&routes, &s->route_key);
	if (!r || !r->ifindex || (r->ifindex != ingress && !r->redirect && !launched))
		return REASON_NO_ROUTE;
	int on_link = !r->gateway[0] && !r->gateway[1];
	s->neighbour_key.addr[0] = on_link ? s->next.addr[0] : r->gateway[0];
	s->neighbour_key.addr[1] = on_link ? s->next.addr[1] : r->gateway[1];
	s->neighbour_key.ifindex = r->ifindex;
	const u64 *m = map_lookup(&neighbours, &s->neighbour_key);
	if (!m)
		return REASON_NO_NEIGHBOUR;
	*route = r;
	*mac = *m;
	return GO_ON;
}

/*
 * A transaction ID that nobody can guess: SipHash, under a key that only this host knows, of what is never
 * the same twice. It has 31 bits, because one tells the program's from user space's.
 */
INLINE u32 new_transaction(struct scratch *s, const struct settings *live, u64 now)
{
	u64 input[2] = {now, (u64)this_cpu() << 48 | ++s->transactions};

	return (u32)siphash(live->transaction, input, 1) | TRANSACTION_BIT;
}

/* Tells user space, which takes over what is late. It wakes nobody who has not come to read again since. */
INLINE void tell_begun(void)
{
	u64 *record = ringbuf_reserve(&begun, sizeof(*record), 0);
	if (record) {
		*record = 0;
		ringbuf_submit(record, 0);
	}
}

/*
 * Makes the query of s->recursion to s->next, the first of a path or the next, and has its answer waited for.
 * Says GO_ON with s->hop, or why it cannot be sent. A function of its own for the verifier.
 */
__attribute__((noinline)) int prepare(u32 ingress, u32 first)
{
	u32 zero = 0;
	const struct settings *settings = map_lookup(&live, &zero);
	struct scratch *s = map_lookup(&scratch, &zero);
	const struct snapshot *snap = published();
	const struct route *route;
	u64 mac;

	if (!settings || !s || !snap)
		return REASON_NO_SNAPSHOT;
	struct recursion *r = &s->recursion;
	int reason = find_route(ingress, s, &route, &mac, first && r->shared);
	if (reason != GO_ON)
		return reason;
	u32 hop = r->hops;
	if (hop >= MAX_HOPS)
		return REASON_HOP_LIMIT;
	if (!take_query(s, settings))
		return first ? REASON_RECURSION_PACED : REASON_HOP_PACED;
	r->asked[hop] = s->next;
	r->hops = hop + 1;
	r->distance[0] = s->next_distance[0];
	r->distance[1] = s->next_distance[1];
	r->distance[2] = s->next_distance[2];
	r->source[0] = route->source[0];
	r->source[1] = route->source[1];
	r->source_port = route->port;
	u64 now = ktime();
	r->sent = now;
	u32 transaction = new_transaction(s, settings, now);
	u32 len;
	switch (r->method) {
	case METHOD_GET_PEERS:
		len = put_hop_payload(s, snap, transaction, METHOD_GET_PEERS);
		break;
	case METHOD_GET:
		len = put_hop_payload(s, snap, transaction, METHOD_GET);
		break;
	default:
		len = put_hop_payload(s, snap, transaction, METHOD_FIND_NODE);
	}
	u32 begin = r->v6 ? put_hop_headers(s, route, mac, len, 1) : put_hop_headers(s, route, mac, len, 0);

	if (map_update(&pending, &transaction, r, UPDATE_NO_EXIST))
		return REASON_RECURSION_FULL;
	if (!has_turn(s->next.addr[0], s->next.addr[1], 1)) { /* another CPU was faster */
		map_delete(&pending, &transaction);
		return first ? REASON_RECURSION_PACED : REASON_HOP_PACED;
	}
	/* Not every reply is one that the program knows as such: it may be longer than it looks at. */
	expect_reply(r->v6 ? s->next.addr[0] : s->next.addr[1]);
	s->hop.transaction = transaction;
	s->hop.begin = begin;
	s->hop.len = PAYLOAD + len - begin;
	s->hop.ifindex = route->ifindex;
	return GO_ON;
}

/*
 * Sends the query of s->hop instead of what came. Returns the reason, with the verdict in its upper half, or
 * REASON_NO_ROOM if the frame cannot be made to fit.
 */
static __attribute__((noinline)) int emit(struct xdp_md *ctx, u32 reason)
{
	u32 zero = 0;
	struct scratch *s = map_lookup(&scratch, &zero);

	if (!s)
		return REASON_NO_SNAPSHOT;
	u32 begin = s->hop.begin, total = s->hop.len, ifindex = s->hop.ifindex;
	if (!resize(ctx, (int)total - (int)s->packet.frame))
		return REASON_NO_ROOM;
	OPAQUE(begin);
	OPAQUE(total); /* two comparisons with the number itself, as verifiers up to 6.12 need them */
	if (begin >= PAYLOAD || total > FRAME_LEN)
		return IMPOSSIBLE;
	OPAQUE(total);
	if (!total)
		return IMPOSSIBLE;
	if (store_bytes(ctx, 0, s->frame + begin, total))
		return IMPOSSIBLE;
	u32 verdict = ifindex == ctx->ingress_ifindex ? XDP_TX : redirect(ifindex, 0);
	return reason | verdict << 16;
}
