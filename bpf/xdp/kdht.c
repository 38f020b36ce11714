/*
 * The kernel half of the node: answers ping, find_node, and get_peers and get for keys that are not held
 * here, at the XDP hook. What it does not answer it passes on as it came.
 */
#include "bencode.h"
#include "challenge.h"
#include "held.h"
#include "hot.h"
#include "launch.h"
#include "packet.h"
#include "recurse.h"
#include "reply.h"
#include "sighting.h"
#include "odd.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

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
	const void *end = (void *)(long)ctx->data_end, *udp = (void *)(long)ctx->data + pk->l4;
	int reason = read_query(ctx, pk, s, udp + UDP_LEN, end);
	if (reason != GO_ON) {
		if (reason != REASON_NOT_QUERY)
			return reason;
		if (!ends_like_ours(s)) {
			note_proof(s, settings);
			return reason;
		}
		s->packet = *pk;
		return CONTINUE_REFERRAL;
	}
	reason = check_sum(pk, udp, end);
	if (reason != GO_ON)
		return reason;

	if (UNLIKELY(s->query.flags & FLAG_RECURSIVE) && !is_client(s))
		s->query.flags &= ~FLAG_RECURSIVE;
	const struct snapshot *snap = published();
	if (!snap)
		return REASON_NO_SNAPSHOT;
	if (s->query.method >= METHOD_GET_PEERS) {
		reason = is_held(s, settings, pk->v6);
		if (reason != GO_ON) {
			if (reason == CONTINUE_HOT)
				s->packet = *pk;
			return reason;
		}
	}
	u32 recursive = s->query.flags & FLAG_RECURSIVE && s->query.method != METHOD_PING;
	u32 want = wanted(pk, &s->query), len = reply_len(pk, &s->query, snap, want);
	s->query.lean = 0;
	u32 grows = settings->growth_cost && len > pk->len && !recursive;
	if (grows && UNLIKELY(!may_grow(s, settings, len - pk->len))) {
		if (s->query.method != METHOD_PING)
			return CONTINUE_CHALLENGE;
		s->query.lean = 1;
		len -= pk->v6 ? PREFIX6_LEN - LEAN_LEN : PREFIX_LEN - LEAN_LEN;
	}
	if (!s->query.read_only && !s->query.lean && (grows ? may_look(s) : may_look_at(s, settings)))
		note_sighting(ctx, pk, settings, s);
	if (UNLIKELY(recursive)) {
		s->packet = *pk;
		return CONTINUE_RECURSION;
	}
	return put_reply(ctx, pk, s, snap, want, len);
}

/* What becomes of the datagram that pk describes. reason is what its headers gave. */
INLINE u32 decide(struct xdp_md *ctx, const struct settings *settings, struct scratch *s,
		  const struct packet *pk, u32 reason)
{
	if (reason != GO_ON && reason != REASON_TOO_SHORT && reason != REASON_TOO_LONG)
		return reason;
	if (!lease_runs(s, settings))
		return REASON_NO_LEASE;
	AT64(s->source.addr) = pk->source[0];
	AT64(s->source.addr + 8) = pk->source[1];
	s->port = (u16)pk->ports;
	if (UNLIKELY(!take_token(s, settings, pk->v6 ? pk->source[0] : pk->source[1])))
		return REASON_LIMITED;
	if (LIKELY(reason == GO_ON))
		reason = answer(ctx, settings, s, pk);
	if (UNLIKELY(reason >= REASON_TOO_SHORT)) {
		reason = pass_up(s, settings, reason);
		if (reason == CONTINUE_CHALLENGE)
			s->packet = *pk;
	}
	return reason;
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
	return decide(ctx, settings, s, &pk, read_other(&pk, s, settings, data, end));
}

/*
 * IPv4 without a tag is compiled on its own, because there the offset of every header is a constant. A
 * function of its own, so that its stack is not below that of handle_other: a chain of calls has 512 bytes in
 * all.
 */
static __attribute__((noinline)) int handle_usual(struct xdp_md *ctx)
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
	return decide(ctx, settings, s, &pk, read_usual(&pk, s, settings, data, end));
}

INLINE int handle(struct xdp_md *ctx)
{
	const void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;

	if (data + ETH_LEN > end)
		return REASON_TRUNCATED;
	return LIKELY(AT16(data + 12) == be16(ETH_P_IP)) ? handle_usual(ctx) : handle_other(ctx);
}

/*
 * What takes more of the stack than is left below answer(), which the interpreter's 512 bytes nearly fill:
 * answer() leaves what it knows in struct scratch and returns what is to be done, and a function of its own
 * begins again from the top. Returns the reason, with the verdict in its upper half where that does not
 * follow from it.
 */
INLINE u32 carry_on(struct xdp_md *ctx, u32 what)
{
	u32 zero = 0;
	struct scratch *s = map_lookup(&scratch, &zero);
	const struct settings *settings = map_lookup(&live, &zero);

	if (!s || !settings)
		return REASON_NO_LEASE;
	if (what == CONTINUE_HOT) {
		what = prepare_hot(ctx);
		if (what == GO_ON)
			what = put_hot(ctx);
	} else if (what == CONTINUE_RECURSION) {
		what = begin(ctx);
	} else if (what == CONTINUE_REFERRAL) {
		what = follow(ctx);
	} else if (what == CONTINUE_ODD) {
		what = judge_odd(ctx);
	}
	what = pass_up(s, settings, what);
	return what == CONTINUE_CHALLENGE ? challenge(ctx) : what;
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
	if (reason <= REASON_CHALLENGED)
		return XDP_TX;
	return UNLIKELY(reason >= REASON_LIMITED) ? XDP_DROP : XDP_PASS;
}
