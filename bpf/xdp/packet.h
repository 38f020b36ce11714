/* From the Ethernet frame to a UDP datagram for one of our endpoints. */
#pragma once

#include "csum.h"
#include "query.h"

#define MAPPED(ipv4) (0xffff0000ULL | (u64)(ipv4) << 32)

/* Whether an address is that of a group: multicast, or of IPv4 everything from there up. */
INLINE int is_group(const u64 *addr, const int v6)
{
	return v6 ? (u8)addr[0] == 0xff : (u8)(addr[1] >> 32) >= 224;
}

/* Whose s->dest is: GO_ON if it is one of our endpoints, CONTINUE_ODD if many have it and a socket of ours is
 * among them, else REASON_NOT_OURS. */
INLINE int whose(struct scratch *s, const struct settings *live, const int v6)
{
	struct endpoint *dest = &s->dest;
	const struct endpoint *likely = &live->endpoint[v6 ? IPV6 : IPV4];
	u64 port = dest->port;

	/* Port 0 is nobody's, and marks the likely endpoint of a family that has none. */
	if (!port || !(live->ports >> (port & 63) & 1))
		return REASON_NOT_OURS;
	if (likely->port == port && likely->addr[1] == dest->addr[1] &&
	    (!v6 || likely->addr[0] == dest->addr[0]))
		return GO_ON;
	if (is_group(dest->addr, v6)) { /* all groups are one */
		dest->addr[0] = 0;
		dest->addr[1] = v6 ? 0 : MAPPED(0);
	}
	const u32 *kind = map_lookup(&endpoints, dest);
	if (!kind)
		return REASON_NOT_OURS;
	return *kind == ENDPOINT_OURS ? GO_ON : CONTINUE_ODD;
}

/* A number in network byte order. Verifiers up to 6.12 do not see that it has 16 bits. */
INLINE u64 read16(const void *p)
{
	u64 number = be16(AT16(p));

	OPAQUE(number);
	return number & 0xffff;
}

/* This network, loopback, and everything from multicast up are nobody's address (RFC 6890). */
INLINE int is_bad_source4(u32 source, u32 dest)
{
	u8 net = source;

	return net == 0 || net == 127 || net >= 224 || source == dest;
}

/* Multicast; unspecified and loopback; IPv4-mapped (RFC 6890). */
INLINE int is_bad_source6(const u64 *source, const u64 *dest)
{
	return (u8)source[0] == 0xff ||
	       (!source[0] && (!(source[1] & ~be64(1)) || (u32)source[1] == 0xffff0000)) ||
	       (source[0] == dest[0] && source[1] == dest[1]);
}

INLINE int read_ipv4(struct packet *pk, struct scratch *s, const struct settings *live, const void *ip,
		     const void *end)
{
	if (ip + IP_LEN + UDP_LEN > end)
		return REASON_TRUNCATED;
	if (AT8(ip + 9) != IP_PROTO_UDP)
		return REASON_NOT_UDP;
	if (AT8(ip) != 0x45 || AT16(ip + 6) & be16(IP_FRAGMENT_MASK))
		return CONTINUE_ODD;

	u32 source = AT32(ip + 12), dest = AT32(ip + 16);
	pk->l4 = pk->l2 + IP_LEN;
	pk->ports = AT32(ip + IP_LEN);
	pk->len = read16(ip + IP_LEN + 4);
	pk->check = AT16(ip + IP_LEN + 6);
	pk->source[0] = 0;
	pk->source[1] = MAPPED(source);
	pk->addr_sum = (u64)source + dest;
	s->dest.addr[0] = 0;
	s->dest.addr[1] = MAPPED(dest);
	s->dest.port = pk->ports >> 16;
	int reason = whose(s, live, 0);
	if (reason != GO_ON)
		return reason;

	if (be16(AT16(ip + 2)) != pk->len + IP_LEN)
		return CONTINUE_ODD;
	if (sum_fold(pk->addr_sum + AT32(ip) + AT32(ip + 4) + AT32(ip + 8)) != 0xffff)
		return REASON_BAD_IP_CHECKSUM;
	return is_bad_source4(source, dest) ? CONTINUE_ODD : GO_ON;
}

INLINE int is_extension(u8 next_header)
{
	switch (next_header) {
	case EXTENSION_HOP_BY_HOP:
	case EXTENSION_ROUTING:
	case EXTENSION_FRAGMENT:
	case EXTENSION_DESTINATION:
	case 50:  /* encapsulating security payload */
	case 51:  /* authentication */
	case 135: /* mobility */
	case 139: /* host identity */
	case 140: /* shim6 */
		return 1;
	}
	return 0;
}

INLINE int read_ipv6(struct packet *pk, struct scratch *s, const struct settings *live, const void *ip,
		     const void *end)
{
	if (ip + IP6_LEN + UDP_LEN > end)
		return REASON_TRUNCATED;
	if (AT8(ip + 6) != IP_PROTO_UDP)
		return is_extension(AT8(ip + 6)) ? CONTINUE_ODD : REASON_NOT_UDP;

	pk->l4 = pk->l2 + IP6_LEN;
	pk->ports = AT32(ip + IP6_LEN);
	pk->len = read16(ip + IP6_LEN + 4);
	pk->check = AT16(ip + IP6_LEN + 6);
	pk->source[0] = AT64(ip + 8);
	pk->source[1] = AT64(ip + 16);
	u64 dest[2] = {AT64(ip + 24), AT64(ip + 32)};
	pk->addr_sum = sum64(pk->source[0]) + sum64(pk->source[1]) + sum64(dest[0]) + sum64(dest[1]);
	s->dest.addr[0] = dest[0];
	s->dest.addr[1] = dest[1];
	s->dest.port = pk->ports >> 16;
	int reason = whose(s, live, 1);
	if (reason != GO_ON)
		return reason;

	if (AT8(ip) >> 4 != 6 || be16(AT16(ip + 4)) != pk->len)
		return CONTINUE_ODD;
	return is_bad_source6(pk->source, dest) ? CONTINUE_ODD : GO_ON;
}

/* The bits of a frame's first 8 bytes that say that an address is a group's. */
#define GROUP_BITS (1 | 1ULL << 48)

/* Whether a frame is one of the loopback interface: nobody else has no address. */
INLINE int is_loopback(u64 mac, u32 mac_rest)
{
	return !(mac | mac_rest);
}

/* Whether a frame is sent from the address that it is sent to, and was on a wire. */
INLINE int is_from_itself(u64 mac, u32 mac_rest)
{
	return !is_loopback(mac, mac_rest) && (mac >> 48 | (u64)mac_rest << 16) == (mac & 0xffffffffffff);
}

/* What is left to check once the headers are read. Says GO_ON when it is a whole datagram for one of our
 * endpoints. */
INLINE int check_frame(const struct packet *pk, struct scratch *s, const void *data)
{
	u64 mac = AT64(data);
	u32 mac_rest = AT32(data + 8);

	/* The group bits: a frame for many is not answered, whatever address is in it, and nobody sends from
	   a group's address, to which a reply would go to many. */
	s->mac = mac;
	s->mac_rest = mac_rest;
	s->vlan = AT32(data + 12);
	if (mac & GROUP_BITS || !(u16)pk->ports || is_from_itself(mac, mac_rest))
		return CONTINUE_ODD;
	if (pk->l4 + pk->len > pk->frame)
		return REASON_TRUNCATED;
	if (pk->len < MIN_DATAGRAM)
		return REASON_TOO_SHORT;
	if (pk->len > MAX_DATAGRAM)
		return REASON_TOO_LONG;
	return GO_ON;
}

/* Fills pk from a frame of which there are ETH_LEN + VLAN_LEN bytes, and whose Ethernet header says IPv4. */
INLINE int read_usual(struct packet *pk, struct scratch *s, const struct settings *live, const void *data,
		      const void *end)
{
	pk->frame = end - data;
	pk->l2 = ETH_LEN;
	pk->v6 = 0;
	int reason = read_ipv4(pk, s, live, data + ETH_LEN, end);

	return reason == GO_ON ? check_frame(pk, s, data) : reason;
}

/* Fills pk from any other frame of which there are as many bytes. */
INLINE int read_other(struct packet *pk, struct scratch *s, const struct settings *live, const void *data,
		      const void *end)
{
	int reason;

	pk->frame = end - data;
	pk->l2 = ETH_LEN;
	u16 proto = AT16(data + 12);
	if (proto == be16(ETH_P_8021Q) || proto == be16(ETH_P_8021AD)) {
		proto = AT16(data + 16);
		pk->l2 = ETH_LEN + VLAN_LEN;
	}
	if (proto == be16(ETH_P_IPV6)) {
		pk->v6 = 1;
		reason = read_ipv6(pk, s, live, data + pk->l2, end);
	} else if (proto == be16(ETH_P_IP)) {
		pk->v6 = 0;
		reason = read_ipv4(pk, s, live, data + pk->l2, end);
	} else if (proto == be16(ETH_P_8021Q) || proto == be16(ETH_P_8021AD)) {
		return REASON_VLAN_STACK;
	} else {
		return REASON_NOT_IP;
	}
	return reason == GO_ON ? check_frame(pk, s, data) : reason;
}
