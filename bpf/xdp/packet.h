/* From the Ethernet frame to a UDP datagram for one of our endpoints. */
#pragma once

#include "csum.h"
#include "maps.h"

/* What a reply needs of the query's headers. Ports, addresses and lengths are as on the wire unless said
 * otherwise. */
struct packet {
	/* These fill whole slots of the stack, so that the verifier keeps their bounds. */
	u64 v6;
	u64 l2;	       /* length of the Ethernet header, with the tag */
	u64 l4;	       /* offset of the UDP header */
	u64 len;       /* length of the UDP datagram, host byte order */
	u64 source[2]; /* IPv4 in its IPv4-mapped form */
	u64 dest[2];
	u64 addr_sum; /* of both addresses */
	u64 mac;      /* destination and first 2 bytes of the source */
	u32 mac_rest; /* last 4 bytes of the source */
	u32 vlan;     /* the tag, if l2 is longer than ETH_LEN */
	u32 frame;    /* length of the frame */
	u32 ports;    /* source, destination */
	u32 check;    /* the UDP checksum */
};

#define MAPPED(ipv4) (0xffff0000ULL | (u64)(ipv4) << 32)

INLINE int is_ours(const struct packet *pk, const struct settings *live, const int v6)
{
	u64 port = pk->ports >> 16;
	const struct endpoint *likely = &live->endpoint[v6 ? IPV6 : IPV4];

	/* Port 0 is nobody's, and marks the likely endpoint of a family that has none. */
	if (!port || !(live->ports >> (port & 63) & 1))
		return 0;
	if (likely->port == port && likely->addr[1] == pk->dest[1] && (!v6 || likely->addr[0] == pk->dest[0]))
		return 1;
	struct endpoint key = {{pk->dest[0], pk->dest[1]}, port};
	return map_lookup(&endpoints, &key) != NULL;
}

/* A number in network byte order. Verifiers up to 6.12 do not see that it has 16 bits. */
INLINE u64 read16(const void *p)
{
	u64 number = be16(AT16(p));

	OPAQUE(number);
	return number & 0xffff;
}

INLINE int read_ipv4(struct packet *pk, const struct settings *live, const void *ip, const void *end)
{
	if (ip + IP_LEN + UDP_LEN > end)
		return REASON_TRUNCATED;
	if (AT8(ip + 9) != IP_PROTO_UDP)
		return REASON_NOT_UDP;
	if (AT8(ip) != 0x45)
		return REASON_IP_OPTIONS;
	if (AT16(ip + 6) & be16(IP_FRAGMENT_MASK))
		return REASON_FRAGMENT;

	u32 source = AT32(ip + 12), dest = AT32(ip + 16);
	pk->l4 = pk->l2 + IP_LEN;
	pk->ports = AT32(ip + IP_LEN);
	pk->len = read16(ip + IP_LEN + 4);
	pk->check = AT16(ip + IP_LEN + 6);
	pk->source[0] = 0;
	pk->source[1] = MAPPED(source);
	pk->dest[0] = 0;
	pk->dest[1] = MAPPED(dest);
	pk->addr_sum = (u64)source + dest;
	if (!is_ours(pk, live, 0))
		return REASON_NOT_OURS;

	if (be16(AT16(ip + 2)) != pk->len + IP_LEN)
		return REASON_BAD_LENGTH;
	if (sum_fold(pk->addr_sum + AT32(ip) + AT32(ip + 4) + AT32(ip + 8)) != 0xffff)
		return REASON_BAD_IP_CHECKSUM;
	/* This network, loopback, and everything from multicast up are nobody's address (RFC 6890). */
	u8 net = source;
	if (net == 0 || net == 127 || net >= 224 || source == dest)
		return REASON_BAD_SOURCE;
	return GO_ON;
}

INLINE int is_extension(u8 next_header)
{
	switch (next_header) {
	case 0:	  /* hop-by-hop options */
	case 43:  /* routing */
	case 44:  /* fragment */
	case 50:  /* encapsulating security payload */
	case 51:  /* authentication */
	case 60:  /* destination options */
	case 135: /* mobility */
	case 139: /* host identity */
	case 140: /* shim6 */
		return 1;
	}
	return 0;
}

INLINE int read_ipv6(struct packet *pk, const struct settings *live, const void *ip, const void *end)
{
	if (ip + IP6_LEN + UDP_LEN > end)
		return REASON_TRUNCATED;
	if (AT8(ip + 6) != IP_PROTO_UDP)
		return is_extension(AT8(ip + 6)) ? REASON_IPV6_EXTENSION : REASON_NOT_UDP;

	pk->l4 = pk->l2 + IP6_LEN;
	pk->ports = AT32(ip + IP6_LEN);
	pk->len = read16(ip + IP6_LEN + 4);
	pk->check = AT16(ip + IP6_LEN + 6);
	pk->source[0] = AT64(ip + 8);
	pk->source[1] = AT64(ip + 16);
	pk->dest[0] = AT64(ip + 24);
	pk->dest[1] = AT64(ip + 32);
	pk->addr_sum = sum64(pk->source[0]) + sum64(pk->source[1]) + sum64(pk->dest[0]) + sum64(pk->dest[1]);
	if (!is_ours(pk, live, 1))
		return REASON_NOT_OURS;

	if (AT8(ip) >> 4 != 6 || be16(AT16(ip + 4)) != pk->len)
		return REASON_BAD_LENGTH;
	/* Multicast; unspecified and loopback; IPv4-mapped (RFC 6890). */
	if ((u8)pk->source[0] == 0xff ||
	    (!pk->source[0] && (!(pk->source[1] & ~be64(1)) || (u32)pk->source[1] == 0xffff0000)) ||
	    (pk->source[0] == pk->dest[0] && pk->source[1] == pk->dest[1]))
		return REASON_BAD_SOURCE;
	return GO_ON;
}

/* Fills pk from the frame. Says GO_ON when it is a whole datagram for one of our endpoints. */
INLINE int read_packet(struct xdp_md *ctx, const struct settings *live, struct packet *pk)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	int reason;

	if (data + ETH_LEN + VLAN_LEN > end)
		return REASON_TRUNCATED;
	pk->frame = end - data;
	pk->l2 = ETH_LEN;
	u16 proto = AT16(data + 12);
	if (proto == be16(ETH_P_8021Q) || proto == be16(ETH_P_8021AD)) {
		proto = AT16(data + 16);
		pk->l2 = ETH_LEN + VLAN_LEN;
	}
	if (LIKELY(proto == be16(ETH_P_IP))) {
		pk->v6 = 0;
		reason = read_ipv4(pk, live, data + pk->l2, end);
	} else if (proto == be16(ETH_P_IPV6)) {
		pk->v6 = 1;
		reason = read_ipv6(pk, live, data + pk->l2, end);
	} else if (proto == be16(ETH_P_8021Q) || proto == be16(ETH_P_8021AD)) {
		return REASON_VLAN_STACK;
	} else {
		return REASON_NOT_IP;
	}
	if (reason != GO_ON)
		return reason;

	/* The group bits: a frame for many is not answered, whatever address is in it, and nobody sends from
	   a group's address, to which a reply would go to many. */
	pk->mac = AT64(data);
	pk->mac_rest = AT32(data + 8);
	pk->vlan = AT32(data + 12);
	if (pk->mac & (1 | 1ULL << 48))
		return REASON_NOT_UNICAST;
	if (!(u16)pk->ports || (pk->mac >> 48 | (u64)pk->mac_rest << 16) == (pk->mac & 0xffffffffffff))
		return REASON_BAD_SOURCE;
	if (pk->l4 + pk->len > pk->frame)
		return REASON_TRUNCATED;
	if (pk->len < MIN_DATAGRAM)
		return REASON_TOO_SHORT;
	if (pk->len > MAX_DATAGRAM)
		return REASON_TOO_LONG;
	return GO_ON;
}
