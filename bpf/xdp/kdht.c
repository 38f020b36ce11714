/*
 * The kernel half of the node: answers ping, find_node, and get_peers and get for keys that are not held
 * here, at the XDP hook. What it does not answer it passes on as it came.
 */
#include "bencode.h"
#include "packet.h"
#include "reply.h"
#include "sighting.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* Whether the UDP checksum lets the datagram be answered. */
INLINE int checksum_is_good(const struct packet *pk, struct scratch *s)
{
	u64 pseudo = pk->addr_sum + be16(IP_PROTO_UDP) + be16(pk->len);

	if (!pk->check)
		return !pk->v6;
	/* From a local sender, who left the rest of the sum to hardware that a virtual link does not have. */
	if (pk->check == sum_fold(pseudo))
		return 1;
	u32 len = pk->len;
	if (len > MAX_DATAGRAM)
		return 0;
	AT32(s->datagram + len) = 0;
	s64 sum = csum_diff(NULL, 0, s->datagram, (len + 3) & ~3, 0);
	return sum_fold(pseudo + (u32)sum) == 0xffff;
}

INLINE int handle(struct xdp_md *ctx)
{
	u32 zero = 0;
	struct settings *now = map_lookup(&live, &zero);
	struct scratch *s = map_lookup(&scratch, &zero);
	struct packet pk;

	if (!now || !s)
		return REASON_NO_LEASE;
	int reason = read_packet(ctx, now, &pk);
	if (reason != GO_ON)
		return reason;
	u64 time = ktime_coarse();
	if (time >= now->lease)
		return REASON_NO_LEASE;

	u32 len = pk.len;
	OPAQUE(len);
	if (len < MIN_DATAGRAM || len > MAX_DATAGRAM)
		return REASON_TOO_LONG;
	if (load_bytes(ctx, pk.l4, s->datagram, len))
		return REASON_TRUNCATED;
	if (!usual_query(&s->query, s->datagram, len)) {
		s->len = len;
		reason = parse_query(s);
		if (reason != GO_ON)
			return reason;
	}
	if (!checksum_is_good(&pk, s))
		return REASON_BAD_UDP_CHECKSUM;

	struct snapshot_map *inner = map_lookup(&snapshots, &zero);
	if (!inner)
		return REASON_NO_SNAPSHOT;
	const struct snapshot *snap = map_lookup(inner, &zero);
	if (!snap)
		return REASON_NO_SNAPSHOT;
	if (s->query.method >= METHOD_GET_PEERS) {
		if (now->held_overflow)
			return REASON_HELD_OVERFLOW;
		u32 target = s->query.target;
		if (target > MAX_DATAGRAM || map_lookup(&held, s->datagram + target))
			return REASON_HELD;
	}
	reason = put_reply(ctx, &pk, s, snap);
	if (reason <= REASON_ANSWERED_GET && !s->query.read_only)
		note_sighting(&pk, now, s, time);
	return reason;
}

SEC("xdp") int kdht(struct xdp_md *ctx)
{
	u32 reason = handle(ctx);

	if (UNLIKELY(reason == IMPOSSIBLE))
		return XDP_ABORTED;
	count(&reasons, reason);
	return reason <= REASON_ANSWERED_GET ? XDP_TX : XDP_PASS;
}
