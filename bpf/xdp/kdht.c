/*
 * The kernel half of the node: answers ping, find_node, and get_peers and get for keys that are not held
 * here, at the XDP hook. What it does not answer it passes on as it came.
 */
#include "bencode.h"
#include "held.h"
#include "hot.h"
#include "packet.h"
#include "recurse.h"
#include "reply.h"
#include "sighting.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* Whether the lease runs. Reads the clock once per tick, and leaves the time in s. */
INLINE int lease_runs(struct scratch *s, const struct settings *live)
{
	u64 tick = jiffies64();

	if (UNLIKELY(tick != s->tick)) {
		s->tick = tick;
		s->looks = 0;
		s->time = ktime_coarse();
	}
	return s->time < live->lease;
}

/* Parses the query into s->query. */
INLINE int read_query(struct xdp_md *ctx, const struct packet *pk, struct scratch *s, const void *payload,
		      const void *end)
{
	if (LIKELY(usual_query(&s->query, payload, payload + pk->len - UDP_LEN, end)))
		return GO_ON;
	u32 len = pk->len;
	OPAQUE(len);
	if (len < MIN_DATAGRAM || len > MAX_DATAGRAM)
		return REASON_TOO_LONG;
	s->len = len;
	if (load_bytes(ctx, pk->l4, s->datagram, len))
		return REASON_TRUNCATED;
	return parse_query(s);
}

/* Answers the datagram that pk describes, or says why not. */
INLINE int answer(struct xdp_md *ctx, const struct settings *settings, struct scratch *s,
		  const struct packet *pk)
{
	if (!lease_runs(s, settings))
		return REASON_NO_LEASE;
	const void *end = (void *)(long)ctx->data_end, *udp = (void *)(long)ctx->data + pk->l4;
	int reason = read_query(ctx, pk, s, udp + UDP_LEN, end);
	if (reason != GO_ON) {
		if (reason != REASON_NOT_QUERY || !ends_like_ours(s))
			return reason;
		s->packet = *pk;
		return CONTINUE_REFERRAL;
	}
	reason = check_sum(pk, udp, end);
	if (reason != GO_ON)
		return reason;

	if (UNLIKELY(s->query.flags & FLAG_RECURSIVE) && !is_client(s, pk))
		s->query.flags &= ~FLAG_RECURSIVE;
	const struct snapshot *snap = published();
	if (!snap)
		return REASON_NO_SNAPSHOT;
	if (s->query.method >= METHOD_GET_PEERS) {
		reason = is_held(s, settings);
		if (reason != GO_ON) {
			if (reason == CONTINUE_HOT)
				s->packet = *pk;
			return reason;
		}
	}
	if (s->looks < looks_per_tick && !s->query.read_only) {
		s->looks++;
		note_sighting(ctx, pk, settings, s);
	}
	if (UNLIKELY(s->query.flags & FLAG_RECURSIVE) && s->query.method != METHOD_PING) {
		s->packet = *pk;
		return CONTINUE_RECURSION;
	}
	return put_reply(ctx, pk, s, snap);
}

/* Frames that are not IPv4 right behind the Ethernet header. */
static __attribute__((noinline)) int handle_other(struct xdp_md *ctx)
{
	u32 zero = 0;
	const struct settings *settings = map_lookup(&live, &zero);
	struct scratch *s = map_lookup(&scratch, &zero);
	const void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct packet pk;

	if (!settings || !s)
		return REASON_NO_LEASE;
	if (data + ETH_LEN + VLAN_LEN > end)
		return REASON_TRUNCATED;
	int reason = read_other(&pk, s, settings, data, end);
	return reason == GO_ON ? answer(ctx, settings, s, &pk) : reason;
}

/* IPv4 without a tag is compiled on its own, because there the offset of every header is a constant. */
INLINE int handle(struct xdp_md *ctx)
{
	u32 zero = 0;
	const void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct packet pk;

	if (data + ETH_LEN + VLAN_LEN > end)
		return REASON_TRUNCATED;
	if (UNLIKELY(AT16(data + 12) != be16(ETH_P_IP)))
		return handle_other(ctx);
	const struct settings *settings = map_lookup(&live, &zero);
	struct scratch *s = map_lookup(&scratch, &zero);
	if (!settings || !s)
		return REASON_NO_LEASE;
	int reason = read_usual(&pk, s, settings, data, end);
	return reason == GO_ON ? answer(ctx, settings, s, &pk) : reason;
}

/*
 * What takes more of the stack than is left below answer(), which the interpreter's 512 bytes nearly fill:
 * answer() leaves what it knows in struct scratch and returns what is to be done, and a function of its own
 * begins again from the top. Returns the reason, with the verdict in its upper half where that does not
 * follow from it.
 */
INLINE u32 carry_on(struct xdp_md *ctx, u32 what)
{
	if (what == CONTINUE_HOT) {
		what = prepare_hot(ctx);
		return what == GO_ON ? put_hot(ctx) : what;
	}
	if (what == CONTINUE_RECURSION)
		return begin(ctx);
	if (what == CONTINUE_REFERRAL)
		return follow(ctx);
	return IMPOSSIBLE;
}

SEC("xdp") int kdht(struct xdp_md *ctx)
{
	u32 reason = handle(ctx), verdict = 0;

	if (UNLIKELY(reason >= REASONS)) {
		reason = carry_on(ctx, reason);
		verdict = reason >> 16;
		reason &= 0xffff;
		if (reason >= REASONS)
			return XDP_ABORTED;
	}
	count(&reasons, reason);
	if (UNLIKELY(verdict))
		return verdict;
	return reason <= REASON_ANSWERED_HOT_GET ? XDP_TX : XDP_PASS;
}
