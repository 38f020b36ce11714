/*
 * Datagrams with IP options, with IPv6 extension headers, or in fragments, such whose headers do not agree on
 * their length, and such as nobody can be answered: from what is nobody's address or port, to an address that
 * many have, or in a frame for many. Nothing of what makes sense here comes like that, but for what is too
 * long for a link on its way, and the stack knows best what to do with it: so they go up. But they are held
 * to the same limits as all that user space must see to. Else whoever forges his address would have it see to
 * any number of them. What this machine sends itself, over its loopback interface, is not held to them.
 *
 * What is not for one of our endpoints passes. That is told from the first fragment. The others have no ports
 * and may be any program's, so they pass, and come to nothing if the first did not: the stack throws them
 * away after a while, within bounds of its own.
 */
#pragma once

#include "challenge.h"

enum {
	/* Extension headers that are looked behind. Twice as many as RFC 8200 (4.1) has places for. A packet
	 * with more is none that anybody sends, whoever it is for, and counts as one for us. */
	MAX_EXTENSIONS = 16,
	/* Instead of the offset of a UDP header: there is none in this packet that is whole; there are more
	   headers in front. */
	NO_UDP = 0,
	UDP_TOO_FAR = 1,
};

/* Finds the UDP header behind the IPv4 header at ip. */
INLINE u32 find_udp4(const u8 *ip, u32 at)
{
	u32 len = (AT8(ip) & 15) * 4;

	if (AT8(ip) >> 4 != 4 || len < IP_LEN || AT16(ip + 6) & be16(IP_OFFSET_MASK))
		return NO_UDP;
	return at + len;
}

/* Finds the UDP header behind extension headers, the first of which is at that offset and has the number
 * next. */
INLINE u32 find_udp6(struct xdp_md *ctx, struct scratch *s, u8 next, u32 at)
{
	u8 *header = s->datagram;

	for (u32 i = 0; next != IP_PROTO_UDP; i++) {
		if (i == MAX_EXTENSIONS)
			return UDP_TOO_FAR;
		if (next != EXTENSION_HOP_BY_HOP && next != EXTENSION_ROUTING && next != EXTENSION_FRAGMENT &&
		    next != EXTENSION_DESTINATION)
			return NO_UDP;
		if (load_bytes(ctx, at, header, 8))
			return NO_UDP;
		if (next != EXTENSION_FRAGMENT)
			at += 8 * AT8(header + 1);
		else if (AT16(header + 2) & be16(IP6_OFFSET_MASK))
			return NO_UDP;
		at += 8;
		next = AT8(header);
	}
	return at;
}

/*
 * Reads the headers into s as those of a plain datagram, and whether and why it is none, so that a challenge
 * can be made of it, and returns the offset of the UDP header. Its length is what there is of it in this
 * packet: no more may be sent back.
 */
INLINE u32 read_odd(struct xdp_md *ctx, struct scratch *s, u32 *reason)
{
	struct packet *pk = &s->packet;
	u8 *ip = s->datagram;
	u32 at, ip_end;

	pk->addr_sum = 0;
	if (pk->v6) {
		if (load_bytes(ctx, pk->l2, ip, IP6_LEN))
			return NO_UDP;
		pk->l4 = pk->l2 + IP6_LEN;
		pk->source[0] = AT64(ip + 8);
		pk->source[1] = AT64(ip + 16);
		s->dest.addr[0] = AT64(ip + 24);
		s->dest.addr[1] = AT64(ip + 32);
		pk->addr_sum = sum64(pk->source[0]) + sum64(pk->source[1]) + sum64(s->dest.addr[0]) +
			       sum64(s->dest.addr[1]);
		ip_end = pk->l4 + be16(AT16(ip + 4));
		*reason = AT8(ip + 6) == IP_PROTO_UDP ? GO_ON : REASON_IPV6_EXTENSION;
		at = find_udp6(ctx, s, AT8(ip + 6), pk->l4);
	} else {
		if (load_bytes(ctx, pk->l2, ip, IP_LEN))
			return NO_UDP;
		u32 source = AT32(ip + 12), dest = AT32(ip + 16);
		pk->l4 = pk->l2 + IP_LEN;
		pk->source[0] = 0;
		pk->source[1] = MAPPED(source);
		s->dest.addr[0] = 0;
		s->dest.addr[1] = MAPPED(dest);
		pk->addr_sum = (u64)source + dest;
		ip_end = pk->l2 + be16(AT16(ip + 2));
		*reason = GO_ON;
		if (AT8(ip) != 0x45)
			*reason = REASON_IP_OPTIONS;
		else if (AT16(ip + 6) & be16(IP_FRAGMENT_MASK))
			*reason = REASON_FRAGMENT;
		at = find_udp4(ip, pk->l2);
	}
	if (ip_end > pk->frame)
		ip_end = pk->frame;
	pk->len = ip_end > at ? ip_end - at : 0;
	return at;
}

/* Why the datagram in s is not to be answered: nobody is where it says that it comes from, or it is for many;
 * GO_ON if it may be. */
INLINE u32 unanswerable(const struct scratch *s)
{
	const struct packet *pk = &s->packet;

	if (pk->v6 ? is_bad_source6(pk->source, s->dest.addr)
		   : is_bad_source4(pk->source[1] >> 32, s->dest.addr[1] >> 32))
		return REASON_BAD_SOURCE;
	if (s->mac & GROUP_BITS)
		return REASON_NOT_UNICAST;
	return !(u16)pk->ports || is_from_itself(s->mac, s->mac_rest) ? REASON_BAD_SOURCE : GO_ON;
}

/* Whether the headers of a plain datagram, in s->datagram and s->note, do not agree on its length. */
INLINE int is_bad_length(const struct scratch *s)
{
	const u8 *ip = s->datagram;
	u32 len = be16(AT16(s->note + 4));

	if (s->packet.v6)
		return AT8(ip) >> 4 != 6 || be16(AT16(ip + 4)) != len;
	return be16(AT16(ip + 2)) != len + IP_LEN;
}

/* What becomes of a frame that is UDP over IP and not plain, or cannot be answered, or has an extension
 * header of IPv6. */
static __attribute__((noinline)) int judge_odd(struct xdp_md *ctx)
{
	u32 zero = 0;
	const struct settings *settings = map_lookup(&live, &zero);
	struct scratch *s = map_lookup(&scratch, &zero);
	const void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;

	if (!settings || !s)
		return REASON_NO_LEASE;
	if (data + ETH_LEN + VLAN_LEN + IP_LEN > end)
		return REASON_TRUNCATED;
	struct packet *pk = &s->packet;
	u16 proto = AT16(data + 12);
	s->mac = AT64(data);
	s->mac_rest = AT32(data + 8);
	s->vlan = AT32(data + 12);
	pk->l2 = ETH_LEN;
	if (proto == be16(ETH_P_8021Q) || proto == be16(ETH_P_8021AD)) {
		proto = AT16(data + 16);
		pk->l2 = ETH_LEN + VLAN_LEN;
	}
	pk->v6 = proto == be16(ETH_P_IPV6);
	pk->frame = end - data;
	u32 reason = REASON_TRUNCATED, at = read_odd(ctx, s, &reason), plain = reason == GO_ON;
	if (plain)
		reason = REASON_NOT_OURS; /* any more */
	pk->ports = 0;
	int whose_is = GO_ON;
	if (at == NO_UDP)
		return reason;
	if (at != UDP_TOO_FAR) {
		if (load_bytes(ctx, at, s->note, UDP_LEN))
			return reason;
		pk->ports = AT32(s->note);
		s->dest.port = pk->ports >> 16;
		whose_is = whose(s, settings, pk->v6 != 0);
		if (whose_is == REASON_NOT_OURS)
			return reason;
	}
	u32 not_answered = whose_is == GO_ON ? unanswerable(s) : REASON_NOT_UNICAST;
	if (plain && is_bad_length(s))
		reason = REASON_BAD_LENGTH;
	else if (plain)
		reason = not_answered == REASON_NOT_UNICAST ? REASON_NOT_UNICAST : REASON_BAD_SOURCE;
	if (!lease_runs(s, settings) || is_loopback(s->mac, s->mac_rest))
		return reason;
	AT64(s->source.addr) = pk->source[0];
	AT64(s->source.addr + 8) = pk->source[1];
	s->port = (u16)pk->ports;
	if (!take_token(s, settings, pk->v6 ? pk->source[0] : pk->source[1]))
		return REASON_LIMITED;
	if (may_pass(s, settings))
		return reason;
	if (not_answered != GO_ON)
		pk->len = 0;
	return CONTINUE_CHALLENGE;
}
