/*
 * What sources get that never proved to be where they say they are, so that nobody can make this node send to
 * a victim more than he sends himself, or keep user space busy from forged addresses.
 *
 * Budgets are for all of them together: of the bytes by which replies are longer than their queries, and of
 * the datagrams that go up to user space, those of odd.h included. While they last, all is as usual. Then
 * a ping is answered without the asker's address, which makes the reply as long as the shortest query.
 * Whoever asks for more is sent a ping himself, shorter than his query, whose transaction ID is a cookie: a
 * keyed hash of his address and the time, so that nothing has to be remembered. A reply with the cookie
 * proves the address, and the next query is answered as usual.
 *
 * Proofs are written by proofs, and by queries of ours to those who are to answer: what is forged cannot
 * displace them.
 */
#pragma once

#include "limit.h"
#include "reply.h"
#include "sighting.h"

enum {
	COOKIE_LEN = 8,
	/* d1:ad2:id20:<self>e1:q4:ping1:t8:<cookie>1:y1:qe */
	CHALLENGE_LEN = 32 + 15 + COOKIE_LEN + 7,
	COOKIE_SHIFT = 33, /* cookies change every 2^33 ns, 8.6 s; that of the period before is good, too */
};

/* How long a proof is good, in ticks: 30 min. */
#define PROOF_TIME (1800 * 1000000000ULL >> TICK_SHIFT)
/* How long the reply to a query of ours may take, in ticks: 10 s. */
#define ASKED_TIME (10 * 1000000000ULL >> TICK_SHIFT)
/* There is never more than a second's worth of the budget of growth, and a quarter's of those of datagrams
 * for user space. */
#define ONE_SECOND 1000000000ULL
#define PASS_WINDOW (ONE_SECOND / 4)

/*
 * Whether the source has proved its address or, if that will do, is one that we have sent a query to, so that
 * its reply is not lost among what is forged: the flag marks those.
 */
INLINE int is_known(const struct scratch *s, const int asked_will_do)
{
	u32 slot = SET_OF(s->hash);
	struct ways *set = map_lookup(&proofs, &slot);

	if (!set)
		return 0;
	u64 now = ticks(s), word = set->way[WAY_OF(s->hash)];
	if ((word ^ s->hash) & TAG_MASK)
		word = *find_way(set, s->hash, now, PROOF_TIME + SKEW);
	return !((word ^ s->hash) & TAG_MASK) && ahead_of(word, now, PROOF_TIME + SKEW) &&
	       (asked_will_do || !(word & FLAG));
}

/* may_look() for a sender of whom may_grow() was not asked. */
INLINE int may_look_at(struct scratch *s, const struct settings *live)
{
	if (s->looks >= looks_per_round && s->looks_unproven >= looks_per_round)
		return 0;
	s->credible = !live->growth_cost || s->exempt || is_known(s, 0);
	return may_look(s);
}

/* Remembers that the source has proved its address. */
INLINE void set_proven(const struct scratch *s)
{
	u32 slot = SET_OF(s->hash);
	struct ways *set = map_lookup(&proofs, &slot);
	u64 now = ticks(s);

	if (set)
		*find_way(set, s->hash, now, PROOF_TIME + SKEW) =
		    (s->hash & TAG_MASK) | ((now + PROOF_TIME) & TIME_MASK);
}

/* Remembers that a query of ours is sent to a host, unless it has proved its address; the key is as in
 * take_token(). A function of its own for the verifier. */
__attribute__((noinline)) int expect_reply(u64 key)
{
	u32 zero = 0;
	const struct settings *rules = map_lookup(&live, &zero);
	const struct scratch *s = map_lookup(&scratch, &zero);

	if (!rules || !s || !rules->unproven_cost)
		return 0;
	u64 hash = hash_words(rules->seed, key, 0);
	u32 slot = SET_OF(hash);
	struct ways *set = map_lookup(&proofs, &slot);
	if (!set)
		return 0;
	u64 now = ticks(s), *way = find_way(set, hash, now, PROOF_TIME + SKEW), word = *way;
	if (!((word ^ hash) & TAG_MASK) && ahead_of(word, now, PROOF_TIME + SKEW) > ASKED_TIME)
		return 0;
	*way = (hash & TAG_MASK) | FLAG | ((now + ASKED_TIME) & TIME_MASK);
	return 0;
}

/* By how many bytes a reply may be longer than its query for one token of its source. */
enum { FREE_GROWTH_SHIFT = 8, FREE_GROWTH = 1 << FREE_GROWTH_SHIFT };

/*
 * Whether the source may have a reply that is so many bytes longer than its query. One that proved its
 * address may be forged all the same, by somebody who knows that this node is known here: a reply that is
 * much longer takes more of its tokens.
 */
__attribute__((noinline)) int may_grow(struct scratch *s, const struct settings *live, u32 by)
{
	u32 zero = 0;

	if (!s || !live)
		return 0;
	s->credible = s->exempt || is_known(s, 0);
	if (s->exempt || (s->credible && (!live->interval || by <= FREE_GROWTH)))
		return 1;
	if (s->credible)
		return charge(s, live, live->interval * (by - FREE_GROWTH) >> FREE_GROWTH_SHIFT);
	struct budget *all = map_lookup(&budgets, &zero);
	return (all && spend(&all->growth, s->time, by * live->growth_cost >> 10, ONE_SECOND)) ||
	       is_exempt(s);
}

/*
 * Whether user space takes a datagram of the source. Exempt ones and clients may be forged as well, but have
 * a budget of their own: a flood from elsewhere does not keep them from being answered. It is half as large,
 * because what they ask for costs more.
 */
__attribute__((noinline)) int may_pass(struct scratch *s, const struct settings *live)
{
	u32 zero = 0;

	if (!s || !live)
		return 0;
	if (!live->unproven_cost || is_known(s, 1))
		return 1;
	struct budget *all = map_lookup(&budgets, &zero);
	if (!all)
		return 0;
	/* Filled at the beginning of each round, for the same reason as with sightings. */
	u64 round = s->time >> ROUND_SHIFT << ROUND_SHIFT;
	if (s->exempt || is_exempt(s) || is_client(s))
		return spend(&all->trusted, round, 2 * live->unproven_cost, PASS_WINDOW);
	return spend(&all->unproven, round, live->unproven_cost, PASS_WINDOW);
}

/* The cookie of the source in a period: 56 bits of SipHash-2-4 over address, port and period, and 8 of the
 * period. */
static __attribute__((noinline)) u64 cookie(const struct scratch *s, const struct settings *live, u64 period)
{
	const u8 *addr = s->source.addr;
	u64 hash = siphash_words(live->cookie, AT64(addr), AT64(addr + 8), s->port | period << 16);

	return (hash & ~0xffULL) | (period & 0xff);
}

/*
 * Looks for a cookie in the reply in s->datagram, in the two places where nearly all clients have it. One
 * that stands elsewhere user space finds. It cannot be forged, so nothing else of the reply matters, but that
 * it is one: what merely comes back as it was sent proves nothing.
 */
__attribute__((noinline)) int note_proof(struct scratch *s, const struct settings *live)
{
	if (!s || !live)
		return 0;
	u32 len = s->len;
	OPAQUE(len); /* two comparisons with the number itself, as verifiers up to 6.12 need them */
	if (len > MAX_DATAGRAM)
		return 0;
	OPAQUE(len);
	if (len < MIN_DATAGRAM)
		return 0;
	const u8 *end = s->datagram + len - 7;
	/* ...1:t8:<cookie>1:y1:re or ...1:t8:<cookie>1:v4:<version>1:y1:re */
	if (AT64(end - 1) >> 8 != T8N("1:y1:re", 7))
		return 0;
	if (AT32(end - 9) == T4("1:v4") && AT8(end - 5) == ':')
		end -= 9;
	if (AT32(end - 13) != T4("1:t8") || AT8(end - 9) != ':')
		return 0;
	u64 got = AT64(end - 8), period = s->time >> COOKIE_SHIFT;
	u64 age = (period - got) & 0xff;
	if (age > 1 || cookie(s, live, period - age) != got)
		return 0;
	set_proven(s);
	count(&events, EVENT_PROVEN);
	return 1;
}

/*
 * Makes the frame of the datagram in s->packet that of a ping with s->cookie to its source. Says so, or that
 * the datagram is too short for that.
 */
static __attribute__((noinline)) int put_challenge(struct xdp_md *ctx)
{
	const u32 len = UDP_LEN + CHALLENGE_LEN;
	u32 zero = 0;
	struct scratch *s = map_lookup(&scratch, &zero);
	const struct snapshot *snap = published();

	if (!s || !snap)
		return REASON_NO_SNAPSHOT;
	struct packet pk = s->packet;
	pk.l4 &= 63; /* the verifier has forgotten its bounds */
	pk.l2 = pk.l2 == ETH_LEN ? ETH_LEN : ETH_LEN + VLAN_LEN;
	int by = (int)(pk.l4 + len) - (int)pk.frame;
	if (pk.len < len || (by && adjust_tail(ctx, by)))
		return REASON_OVERLOADED;

	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	void *ip = data + pk.l2, *udp = data + pk.l4, *p = udp + UDP_LEN;
	if (data + ETH_LEN + VLAN_LEN > end || ip + IP6_LEN > end || p + CHALLENGE_LEN > end)
		return IMPOSSIBLE;
	put_ethernet(data, &pk, s);
	if (pk.v6)
		put_ipv6(ip, &pk, s, len);
	else
		put_ipv4(ip, &pk, s, len);
	AT32(udp) = pk.ports >> 16 | pk.ports << 16;
	AT32(udp + 4) = be16(len);
	const u8 *lean = snap->families[pk.v6 ? IPV6 : IPV4].lean;
#pragma unroll
	for (int i = 0; i < LEAN_LEN; i += 8)
		AT64(p + i) = AT64(lean + i);
	AT8(p + 3) = 'a';
	AT64(p + 32) = T8("e1:q4:pi");
	AT64(p + 39) = T8("ing1:t8:");
	AT64(p + 47) = s->cookie;
	AT64(p + 54) = (u64)T8N("1:y1:qe", 7) << 8 | (s->cookie >> 56);
	u64 sum = pk.addr_sum + be16(IP_PROTO_UDP) + be16(len) + sum_datagram(udp, len, end);
	AT16(udp + 6) = sum_finish(sum);
	return REASON_CHALLENGED;
}

/* Continues with a challenge to the source of the datagram in s->packet. */
INLINE u32 challenge(struct xdp_md *ctx)
{
	u32 zero = 0;
	struct scratch *s = map_lookup(&scratch, &zero);
	const struct settings *settings = map_lookup(&live, &zero);

	if (!s || !settings)
		return REASON_NO_LEASE;
	s->cookie = cookie(s, settings, s->time >> COOKIE_SHIFT);
	return put_challenge(ctx);
}

/*
 * What becomes of a datagram that is for user space by now; s->packet is its own. Who answers a query that
 * the program has sent itself is known (see expect_reply()), and is not forged by just anybody.
 */
INLINE u32 pass_up(struct scratch *s, const struct settings *live, u32 reason)
{
	if ((reason >= REASON_TOO_SHORT && reason <= REASON_NO_NEIGHBOUR) ||
	    reason == REASON_HOP_OTHER_SOURCE)
		return may_pass(s, live) ? reason : CONTINUE_CHALLENGE;
	return reason;
}
