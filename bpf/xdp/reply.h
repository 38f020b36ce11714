/*
 * Turns the frame of a query into that of its reply:
 *
 *   d2:ip6:<asker>1:rd2:id20:<self>[5:nodes<n>:<...>][6:nodes6<n>:<...>][5:token8:<...>]e1:t<n>:<tid>1:v4:<v>1:y1:re
 *
 * A lean one, to a ping, leaves out the asker's address and has the length of the shortest query.
 *
 * Until the frame has its size nothing is written, and failing leaves it as it came. After that nothing can
 * fail.
 */
#pragma once

#include "closest.h"
#include "packet.h"
#include "siphash.h"

enum {
	PREFIX_LEN = 44, /* of the reply over IPv4: see struct family */
	PREFIX6_LEN = 57,
	LEAN_LEN = 32,
	TAIL_LEN = 16,
	TOKEN_KEY_LEN = 9, /* 5:token8: */
};

/*
 * Changes the length of the frame. It grows at the head: what drivers leave at the tail is often next to
 * nothing. Only what the head cannot give comes from the tail, and all of it where a driver leaves no
 * headroom.
 */
INLINE int resize(struct xdp_md *ctx, int by)
{
	if (by <= 0)
		return by == 0 || !adjust_tail(ctx, by);
	if (by <= HEADROOM)
		return !adjust_head(ctx, -by) || !adjust_tail(ctx, by);
	int tail = by - HEADROOM;
	if (adjust_tail(ctx, tail))
		return 0;
	if (!adjust_head(ctx, -HEADROOM) || !adjust_tail(ctx, HEADROOM))
		return 1;
	adjust_tail(ctx, -tail);
	return 0;
}

INLINE void put_ethernet(void *data, const struct packet *pk, const struct scratch *s)
{
	u64 dest = s->mac & 0xffffffffffff, source = s->mac >> 48 | (u64)s->mac_rest << 16;

	AT64(data) = source | dest << 48;
	AT32(data + 8) = dest >> 16;
	if (pk->l2 != ETH_LEN)
		AT32(data + 12) = s->vlan;
	AT16(data + pk->l2 - 2) = pk->v6 ? be16(ETH_P_IPV6) : be16(ETH_P_IP);
}

INLINE void put_ipv4(void *ip, const struct packet *pk, const struct scratch *s, u32 len)
{
	u32 first = 0x45 | be16(len + IP_LEN) << 16;
	u32 second = be16(IP_DONT_FRAGMENT) << 16; /* atomic, so its identification may be 0 (RFC 6864) */
	u32 third = HOP_LIMIT | IP_PROTO_UDP << 8;

	AT32(ip) = first;
	AT32(ip + 4) = second;
	AT32(ip + 8) = third | (~sum_fold(pk->addr_sum + first + second + third) & 0xffff) << 16;
	AT32(ip + 12) = s->dest.addr[1] >> 32;
	AT32(ip + 16) = pk->source[1] >> 32;
}

INLINE void put_ipv6(void *ip, const struct packet *pk, const struct scratch *s, u32 len)
{
	AT32(ip) = 0x60;
	AT32(ip + 4) = be16(len) | IP_PROTO_UDP << 16 | HOP_LIMIT << 24;
	AT64(ip + 8) = s->dest.addr[0];
	AT64(ip + 16) = s->dest.addr[1];
	AT64(ip + 24) = pk->source[0];
	AT64(ip + 32) = pk->source[1];
}

/* Puts the start of the payload and returns its sum. */
INLINE u64 put_prefix(void *to, const struct family *f, const struct packet *pk)
{
	u64 sum = f->prefix_sum;
	u16 port = pk->ports;

	if (pk->v6) {
#pragma unroll
		for (int i = 0; i < 64; i += 8)
			AT64(to + i) = AT64(f->prefix + i);
		AT64(to + 8) = pk->source[0];
		AT64(to + 16) = pk->source[1];
		AT16(to + 24) = port;
		return sum + sum64(pk->source[0]) + sum64(pk->source[1]) + port;
	}
	u32 addr = pk->source[1] >> 32;
#pragma unroll
	for (int i = 0; i < 40; i += 8)
		AT64(to + i) = AT64(f->prefix + i);
	AT32(to + 40) = AT32(f->prefix + 40);
	AT32(to + 7) = addr;
	AT16(to + 11) = port;
	return sum + sum_at((u64)addr + port, 7);
}

/* Puts a family's contacts, with their key, at offset at. Returns the offset behind them, or 0. */
INLINE u32 put_nodes(void *data, const void *end, const struct snapshot *snap, struct scratch *s, u32 at,
		     u64 *sum, const int v6)
{
	const struct family *f = &snap->families[v6 ? IPV6 : IPV4];
	void *p = data + at;
	u64 part = 0;

	if (p + 16 > end)
		return 0;
	AT64(p) = AT64(f->key);
	AT32(p + 8) = AT32(f->key + 8);
	*sum += sum_at(f->key_sum, at);
	at += f->key_len & 15;
	if (!put_closest(data + at, end, snap, s, &part, v6))
		return 0;
	*sum += sum_at(part, at);
	return at + (f->count & 15) * (v6 ? NODE6_LEN : NODE_LEN);
}

/* Puts the asker's token. Returns the offset behind it, or 0. */
INLINE u32 put_token(void *data, const void *end, const struct snapshot *snap, const struct packet *pk,
		     u32 at, u64 *sum)
{
	u64 token = siphash(snap->siphash, pk->source, pk->v6);
	void *p = data + at;

	if (p + TOKEN_KEY_LEN + TOKEN_LEN > end)
		return 0;
	AT64(p) = T8("5:token8");
	AT8(p + 8) = ':';
	AT64(p + 9) = token;
	*sum += sum_at(sum64(T8("5:token8")) + ':' + (sum64(token) << 8), at);
	return at + TOKEN_KEY_LEN + TOKEN_LEN;
}

/* Puts what follows the arguments: the transaction ID, of tid_len <= MAX_TID, our version, and the type.
 * Returns the offset behind it, or 0. */
INLINE u32 put_end(void *data, const void *end, const struct snapshot *snap, const struct query *q,
		   u32 tid_len, u32 at, u64 *sum)
{
	void *p = data + at;

	if (p + 7 + TAIL_LEN > end)
		return 0;
	AT32(p) = T4("e1:t");
	u32 digits;
	if (LIKELY(tid_len <= 9)) {
		digits = ('0' + tid_len) | ':' << 8;
		AT16(p + 4) = digits;
		at += 6;
	} else {
		digits = ('0' + tid_len / 10) | ('0' + tid_len % 10) << 8 | ':' << 16;
		AT16(p + 4) = digits;
		AT8(p + 6) = ':';
		at += 7;
	}
	*sum += sum_at((u64)T4("e1:t") + digits, p - data);
	/* Whole words, of which the tail overwrites what is too much. */
	const u64 *tid = q->tid;
	for (int i = 0; i < 2 && UNLIKELY(tid_len > 8); i++) {
		p = data + at;
		if (p + 8 > end)
			return 0;
		AT64(p) = *tid;
		*sum += sum_at(sum64(*tid), at);
		at += 8;
		tid++;
		tid_len -= 8;
	}
	p = data + at;
	if (p + 8 > end)
		return 0;
	AT64(p) = *tid;
	*sum += sum_at(sum64(*tid & ~0ULL >> (64 - 8 * tid_len)), at);
	at += tid_len;

	p = data + at;
	if (p + TAIL_LEN > end)
		return 0;
	AT64(p) = AT64(snap->tail);
	AT64(p + 8) = AT64(snap->tail + 8);
	*sum += sum_at(snap->tail_sum, at);
	return at + TAIL_LEN;
}

/* Puts the headers in front of a datagram of len bytes that has this sum. Returns 0 if they do not fit. */
INLINE int put_headers(void *data, const void *end, const struct packet *pk, const struct scratch *s, u32 len,
		       u64 sum)
{
	void *p = data + pk->l2;

	if (data + ETH_LEN + VLAN_LEN > end || p + IP6_LEN + UDP_LEN > end)
		return 0;
	put_ethernet(data, pk, s);
	if (pk->v6) {
		put_ipv6(p, pk, s, len);
		p += IP6_LEN;
	} else {
		put_ipv4(p, pk, s, len);
		p += IP_LEN;
	}
	AT32(p) = pk->ports >> 16 | pk->ports << 16;
	AT32(p + 4) = be16(len) | (u32)sum_finish(sum) << 16;
	return 1;
}

/* The sum of what a reply of len bytes has beside its payload. */
INLINE u64 sum_headers(const struct packet *pk, u32 len)
{
	return pk->addr_sum + be16(IP_PROTO_UDP) + 2 * (u64)be16(len) + (pk->ports & 0xffff) +
	       (pk->ports >> 16);
}

/* The families of the contacts in the reply. */
INLINE u32 wanted(const struct packet *pk, const struct query *q)
{
	if (q->method == METHOD_PING)
		return 0;
	return q->want ? q->want : pk->v6 ? WANT_IPV6 : WANT_IPV4;
}

/* The length of the datagram of the reply, unless it is a lean one. */
INLINE u32 reply_len(const struct packet *pk, const struct query *q, const struct snapshot *snap, u32 want)
{
	u32 len =
	    UDP_LEN + (pk->v6 ? PREFIX6_LEN : PREFIX_LEN) + 6 + (q->tid_len > 9) + q->tid_len + TAIL_LEN;

	if (want & WANT_IPV4)
		len += snap->families[IPV4].key_len + snap->families[IPV4].count * NODE_LEN;
	if (want & WANT_IPV6)
		len += snap->families[IPV6].key_len + snap->families[IPV6].count * NODE6_LEN;
	if (q->method >= METHOD_GET_PEERS)
		len += TOKEN_KEY_LEN + TOKEN_LEN;
	return len;
}

/* Writes the reply to s->query, of that length. Says which answer it was, or why there is none. */
INLINE int put_reply(struct xdp_md *ctx, const struct packet *pk, struct scratch *s,
		     const struct snapshot *snap, u32 want, u32 len)
{
	const struct query *q = &s->query;
	u32 method = q->method, tid_len = q->tid_len;

	if (tid_len > MAX_TID)
		return REASON_BAD_TRANSACTION;
	OPAQUE(tid_len);
	if (!resize(ctx, (int)(pk->l4 + len) - (int)pk->frame))
		return REASON_NO_ROOM;

	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	u32 at = pk->l4 + UDP_LEN;
	u64 sum = sum_headers(pk, len);
	void *p = data + at;
	const struct family *own = &snap->families[pk->v6 ? IPV6 : IPV4];
	if (UNLIKELY(q->lean)) {
		if (p + LEAN_LEN > end)
			return IMPOSSIBLE;
#pragma unroll
		for (int i = 0; i < LEAN_LEN; i += 8)
			AT64(p + i) = AT64(own->lean + i);
		sum += own->lean_sum;
		at += LEAN_LEN;
	} else {
		if (p + 64 > end)
			return IMPOSSIBLE;
		sum += put_prefix(p, own, pk);
		at += pk->v6 ? PREFIX6_LEN : PREFIX_LEN;
	}

	if (want & WANT_IPV4) {
		at = put_nodes(data, end, snap, s, at, &sum, 0);
		if (!at)
			return IMPOSSIBLE;
	}
	if (want & WANT_IPV6) {
		at = put_nodes(data, end, snap, s, at, &sum, 1);
		if (!at)
			return IMPOSSIBLE;
	}
	if (method >= METHOD_GET_PEERS) {
		at = put_token(data, end, snap, pk, at, &sum);
		if (!at)
			return IMPOSSIBLE;
	}
	at = put_end(data, end, snap, q, tid_len, at, &sum);
	if (!at || !put_headers(data, end, pk, s, len, sum))
		return IMPOSSIBLE;
	return REASON_ANSWERED_PING + method - METHOD_PING;
}
