/* Which of the contacts that a node names is to be asked next. */
#pragma once

#include "pace.h"
#include "query.h"

/* Addresses that no node can have, or none that is reached from everywhere: those of router.Usable. host is
 * the address in host byte order. */
INLINE int is_private4(u32 host)
{
	return host >> 24 == 10 || host >> 20 == 0xac1 || host >> 16 == 0xc0a8 || host >> 16 == 0xa9fe ||
	       host >> 22 == 0x191; /* 10/8, 172.16/12, 192.168/16, 169.254/16, 100.64/10 */
}

INLINE int is_bogus4(u32 host, u64 allow_private)
{
	u32 net = host >> 24;

	return net == 0 || net == 127 || net >= 224 || (!allow_private && is_private4(host));
}

/* Global unicast is 2000::/3; the halves of the address are in host byte order. */
INLINE int is_private6(u64 high)
{
	return high >> 61 != 1;
}

INLINE int is_bogus6(u64 high, u64 low, u64 allow_private)
{
	if (!high && (low <= 1 || low >> 32 == 0xffff)) /* unspecified, loopback, IPv4-mapped */
		return 1;
	return high >> 56 == 0xff || high >> 54 == 0x3fa /* multicast, link-local */ ||
	       (!allow_private && is_private6(high));
}

/* Whether a node at that address may refer to private ones: not from afar. */
INLINE int may_name_private(const u64 *addr, int v6)
{
	return v6 ? is_private6(be64(addr[0])) : is_private4(be32((u32)(addr[1] >> 32)));
}

/* The lower half of an address, as far as it tells hosts apart: in a public network an IPv6 /64 is one, or it
 * would be all nodes of a path, and all paths. */
INLINE u64 low_of(const struct scratch *s, u64 high, u64 low)
{
	return high ? low & s->interface_id : low;
}

/* What a recursion remembers of a host that it has asked: a hash that nobody can foresee. */
INLINE u32 host_of(const struct scratch *s, u64 high, u64 low)
{
	return hash_words(s->seed, high, low_of(s, high, low)) >> 32;
}

/* Why the contact at s->next_endpoint is not to be asked, or GO_ON. */
INLINE int refusal(const struct scratch *s, const u32 v6)
{
	const struct recursion *r = &s->recursion;
	u64 high = s->next_endpoint.addr[0], low = s->next_endpoint.addr[1];
	u16 port = s->next_endpoint.port;

	if (!port)
		return EVENT_REFERRAL_BOGUS;
	if (v6 ? is_bogus6(be64(high), be64(low), s->allow_private)
	       : is_bogus4(be32((u32)(low >> 32)), s->allow_private))
		return EVENT_REFERRAL_BOGUS;
	if (low == r->client[1] && high == r->client[0] && port == r->client_port)
		return EVENT_REFERRAL_CLIENT;
	for (u32 i = 0; i < MAX_HOPS; i++) {
		if (i >= r->hops)
			break;
		if (high == r->asked[i].addr[0] && !low_of(s, high, low ^ r->asked[i].addr[1]))
			return EVENT_REFERRAL_AGAIN;
	}
	if (r->shared) {
		u32 host = host_of(s, high, low);
		for (u32 i = 0; i < MAX_HOSTS; i++) {
			if (i >= s->join.asked)
				break;
			if (s->join.hosts[i] == host)
				return EVENT_REFERRAL_OTHER_PATH;
		}
	}
	if (map_lookup(&endpoints, &s->next_endpoint))
		return EVENT_REFERRAL_OWN;
	return GO_ON;
}

/* Counts why a contact was not asked. */
INLINE void note_refusal(const struct scratch *s, u32 event)
{
	if (!s->judged)
		count(&events, event);
}

/*
 * Makes the contact at that offset of s->datagram the next to ask, if it is closer to the target than
 * s->next_distance and may be asked. A function of its own for the verifier.
 */
__attribute__((noinline)) int judge(struct scratch *s, u32 at, u32 v6)
{
	if (!s || at > MAX_DATAGRAM)
		return 0;
	const u8 *p = s->datagram + at;
	u64 d0 = be64(AT64(p)) ^ s->recursion.target[0], d1 = be64(AT64(p + 8)) ^ s->recursion.target[1];
	u64 d2 = (u64)be32(AT32(p + 16)) << 32 ^ s->recursion.target[2];
	const u64 *limit = s->next_distance;

	if (d0 > limit[0] || (d0 == limit[0] && (d1 > limit[1] || (d1 == limit[1] && d2 >= limit[2]))))
		return 0;
	/* Behind NAT our address is not one that this host knows as its own. */
	const struct snapshot *snap = published();
	if (!snap)
		return 0;
	const u64 *self = snap->families[v6 ? IPV6 : IPV4].self;
	if ((d0 ^ s->recursion.target[0]) == self[0] && (d1 ^ s->recursion.target[1]) == self[1] &&
	    (d2 ^ s->recursion.target[2]) == self[2]) {
		note_refusal(s, EVENT_REFERRAL_OWN);
		return 0;
	}
	if (v6) {
		s->next_endpoint.addr[0] = AT64(p + 20);
		s->next_endpoint.addr[1] = AT64(p + 28);
		s->next_endpoint.port = AT16(p + 36);
	} else {
		s->next_endpoint.addr[0] = 0;
		s->next_endpoint.addr[1] = MAPPED(AT32(p + 20));
		s->next_endpoint.port = AT16(p + 24);
	}
	int event = v6 ? refusal(s, 1) : refusal(s, 0);
	if (event != GO_ON) {
		note_refusal(s, event);
		return 0;
	}
	/* The next best will do: it is closer than the last one as well. User space has a look at what was
	 * left out. */
	if (!has_turn(s->next_endpoint.addr[0], s->next_endpoint.addr[1], 0)) {
		s->paced = 1;
		note_refusal(s, EVENT_REFERRAL_PACED);
		return 0;
	}
	s->found = 1;
	s->next_v6 = v6;
	s->next_distance[0] = d0;
	s->next_distance[1] = d1;
	s->next_distance[2] = d2;
	s->next.addr[0] = s->next_endpoint.addr[0];
	s->next.addr[1] = s->next_endpoint.addr[1];
	s->next.port = s->next_endpoint.port;
	AT64(s->next.id) = AT64(p);
	AT64(s->next.id + 8) = AT64(p + 8);
	AT32(s->next.id + 16) = AT32(p + 16);
	return 1;
}
