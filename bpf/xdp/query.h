/*
 * What a query asks, and the shapes that nearly all queries have, recognised as wholes. Anything else is left
 * to the parser in bencode.h.
 */
#pragma once

#include "maps.h"

/* Words of text as they are in memory. */
#define T2(s) ((u16)(u8)(s)[0] | (u16)((u8)(s)[1] << 8))
#define T4(s) ((u32)T2(s) | (u32)T2((s) + 2) << 16)
#define T8(s) ((u64)T4(s) | (u64)T4((s) + 4) << 32)
/* The same for the first n bytes. */
#define T8N(s, n) (T8(s) & ((1ULL << (8 * (n))) - 1))

/* Offsets are from the start of the UDP header. */
struct query {
	u16 method; /* enum method */
	u16 target; /* offset of the target or infohash */
	u16 id;	    /* offset of the asker's ID */
	u16 tid;    /* offset of the transaction ID */
	u16 tid_len;
	u16 want; /* enum want, as a set; 0: not said */
	u16 read_only;
	u16 pad;
};

/* An open list or dictionary, see bencode.h. */
struct level {
	u64 key[2]; /* the last key as a number, padded with zeros */
	u8 key_len;
	u8 state;
	u8 meaning;
	u8 pad[5];
};

/* One datagram being read; per CPU. */
struct scratch {
	struct query query;
	/* The parser's state, see bencode.h. */
	u32 pos;
	u32 len;
	u32 depth;
	u32 key;
	u32 present;
	u32 pad;
	struct level level[8];
	u8 datagram[MAX_DATAGRAM + 64]; /* UDP header and payload, then room to read beyond them */
};

struct {
	MAP_UINT(type, MAP_PERCPU_ARRAY);
	MAP_UINT(max_entries, 1);
	MAP_TYPE(key, u32);
	MAP_TYPE(value, struct scratch);
} scratch SEC(".maps");

/* The end of a query that begins at d[at], if it is of the usual shape. Returns 0 if not. */
INLINE int usual_end(struct query *q, const u8 *d, u32 at, u32 len)
{
	u64 word = AT64(d + at);
	u32 read_only = 0;

	/* 2:roi1e */
	if ((word & T8N("\xff\xff\xff\xff\xff\0\xff", 7)) == T8N("2:roi\0e", 7)) {
		read_only = (u32)(word >> 40 & 0xff) - '0';
		if (read_only > 1)
			return 0;
		at += 7;
		word = AT64(d + at);
	}
	/* 1:t2:xx */
	if ((word & T8N("\xff\xff\xff\0\xff", 5)) != T8N("1:t\0:", 5))
		return 0;
	u32 tid_len = (u32)(word >> 24 & 0xff) - '0';
	if (tid_len - 1 > 7)
		return 0;
	q->tid = at + 5;
	q->tid_len = tid_len;
	q->read_only = read_only;
	at += 5 + tid_len;
	word = AT64(d + at);
	/* 1:v4:xxxx */
	if ((word & T8N("\xff\xff\xff\xff\xff", 5)) == T8N("1:v4:", 5)) {
		at += 9;
		word = AT64(d + at);
	}
	return (word & T8N("\xff\xff\xff\xff\xff\xff\xff", 7)) == T8N("1:y1:qe", 7) && at + 7 == len;
}

/* Recognises the usual queries without optional arguments other than want. Returns 0 if it is none of them.
 */
INLINE int usual_query(struct query *q, const u8 *d, u32 len)
{
	const u8 *b = d + UDP_LEN;
	u32 at;

	if (AT64(b) != T8("d1:ad2:i") || AT32(b + 8) != T4("d20:"))
		return 0;
	q->id = UDP_LEN + 12;
	q->want = 0;
	u64 word = AT64(b + 32);
	if (word == T8("e1:q4:pi")) {
		if (AT16(b + 40) != T2("ng"))
			return 0;
		q->method = METHOD_PING;
		q->target = 0;
		return usual_end(q, d, UDP_LEN + 42, len);
	}
	if (word == T8("6:target")) {
		if (AT32(b + 39) != T4("t20:"))
			return 0;
		at = UDP_LEN + 43;
	} else if (word == T8("9:info_h")) {
		if (AT32(b + 40) != T4("ash2") || AT16(b + 44) != T2("0:"))
			return 0;
		at = UDP_LEN + 46;
	} else {
		return 0;
	}
	OPAQUE(at);
	at &= 63;
	q->target = at;
	u32 by_target = at == UDP_LEN + 43;
	at += ID_LEN;
	if (AT64(d + at) == T8("4:wantl2")) {
		u64 list = AT64(d + at + 8);
		if (list == T8(":n42:n6e")) {
			q->want = WANT_IPV4 | WANT_IPV6;
			at += 16;
		} else if ((u32)list == T4(":n4e")) {
			q->want = WANT_IPV4;
			at += 12;
		} else if ((u32)list == T4(":n6e")) {
			q->want = WANT_IPV6;
			at += 12;
		} else {
			return 0;
		}
	}
	word = AT64(d + at);
	if (by_target) {
		if (word == T8("e1:q9:fi") && AT64(d + at + 7) == T8("ind_node")) {
			q->method = METHOD_FIND_NODE;
			at += 15;
		} else if (word == T8("e1:q3:ge") && AT8(d + at + 8) == 't') {
			q->method = METHOD_GET;
			at += 9;
		} else {
			return 0;
		}
	} else {
		if (word != T8("e1:q9:ge") || AT64(d + at + 7) != T8("et_peers"))
			return 0;
		q->method = METHOD_GET_PEERS;
		at += 15;
	}
	return usual_end(q, d, at, len);
}
