/*
 * What a query asks, and the shapes that nearly all queries have, recognised as wholes. Anything else is left
 * to the parser in bencode.h.
 */
#pragma once

#include "recursion.h"

/* Words of text as they are in memory. */
#define T2(s) ((u16)(u8)(s)[0] | (u16)((u8)(s)[1] << 8))
#define T4(s) ((u32)T2(s) | (u32)T2((s) + 2) << 16)
#define T8(s) ((u64)T4(s) | (u64)T4((s) + 4) << 32)
/* The same for the first n bytes. */
#define T8N(s, n) (T8(s "\0\0\0\0\0\0\0") & ((1ULL << (8 * (n))) - 1))

/* What is asked. Both parsers leave it here. */
struct query {
	u64 target[4]; /* target or infohash as numbers, most significant first, padded with zeros */
	u64 tid[3];    /* the transaction ID, as it is in memory; what follows its end means nothing */
	u64 asker;     /* tells the asker's ID from most others */
	u64 seq;       /* with FLAG_SEQ: the asker has this version */
	u16 want;      /* enum want, as a set; 0: not said */
	u16 flags;     /* enum flag, as a set */
	u16 method;    /* enum method */
	u16 read_only; /* 1: the asker is no node (BEP 43) */
	u16 tid_len;
	u16 id;	  /* offset of the asker's ID from the UDP header */
	u16 lean; /* 1: the reply to a ping leaves the asker's address out, see challenge.h */
	u16 pad;
};

/* What a reply needs of the query's headers, beside what is in struct scratch. Ports, addresses and lengths
 * are as on the wire unless said otherwise. */
struct packet {
	/* These fill whole slots of the stack, so that the verifier keeps their bounds. */
	u64 v6;
	u64 l2;	       /* length of the Ethernet header, with the tag */
	u64 l4;	       /* offset of the UDP header */
	u64 len;       /* length of the UDP datagram, host byte order */
	u64 source[2]; /* IPv4 in its IPv4-mapped form */
	u64 addr_sum;  /* of both addresses */
	u32 frame;     /* length of the frame */
	u32 ports;     /* source, destination */
	u32 check;     /* the UDP checksum */
};

/* What an entry of the hot map contributes to a reply, see hot.h: lengths and sums of the parts. */
struct share {
	u32 len;    /* of the whole UDP datagram */
	u32 mtu;    /* of the whole packet */
	u32 want;   /* enum want, as a set: contacts in the reply */
	u32 values; /* peers in the reply */
	u32 hits;   /* place of the entry's counter */
	u32 k_len, k_sum;
	u32 seq_len, seq_sum;
	u32 v_len, v_sum;
	u32 pad;
};

/* An open list or dictionary, see bencode.h. */
struct level {
	u64 key[2]; /* the last key as a number, padded with zeros */
	u8 key_len;
	u8 state;
	u8 meaning;
	u8 pad[5];
};

/* A query of ours in struct scratch's frame, that is waited for already. */
struct hop {
	u32 transaction;
	u32 begin; /* offset of the frame */
	u32 len;
	u32 ifindex; /* by which it leaves */
};

/* How far the search for the closest contacts has come, see closest.h. */
struct walk {
	u64 levels[6]; /* still to be visited */
	u32 level;     /* the one that is visited */
	u32 by;	       /* the target's bits there */
	u64 buckets;   /* of it, still to be visited, each number XOR by */
};

/* What wakes user space on behalf of unproven sources comes in rounds of 2^ROUND_SHIFT ns, 34 ms. */
enum { ROUND_SHIFT = 25 };

/* The state of one CPU. */
struct scratch {
	u64 tick; /* when the clock was last read, in jiffies */
	u64 time; /* what it said: CLOCK_MONOTONIC in ns */
	/* In this round: looks at stamps of askers that are who they say, and of others, and those reported
	 * of these; see sighting.h. */
	u64 looks;
	u32 looks_unproven;
	u32 unproven;
	u32 changes;	      /* of IDs that were reported in one unit of time, see sighting.h */
	u32 changes_unit;     /* which */
	u64 hash;	      /* of the source, see limit.h */
	u64 exempt;	      /* the source is known to have no limits */
	u64 credible;	      /* the source is where it says, as far as may_grow() knows */
	u64 cookie;	      /* see challenge.h */
	u32 port;	      /* of the source, as on the wire */
	struct prefix source; /* its whole address */
	struct query query;
	/* What is better here than on the stack, which is short: where the query was sent, its Ethernet
	 * header, and its target as it is on the wire. */
	struct endpoint dest;
	u64 mac;      /* destination and first 2 bytes of the source */
	u32 mac_rest; /* last 4 bytes of the source */
	u32 vlan;     /* the tag, if there is one */
	struct id held_key;
	u32 pad_key;
	u64 hot;	      /* with CONTINUE_HOT: where in the hot map, the value of "held" */
	struct packet packet; /* for what carries on where answer() has left off, see carry_on() */
	struct share share;   /* see prepare_hot() */
	struct walk walk;
	u16 chosen[2 * BUCKET_SIZE]; /* contacts for the reply: bucket * BUCKET_SIZE + place in it */
	/* The parser's state, see bencode.h. */
	u32 pos;
	u32 len;
	u32 depth;
	u32 key;
	u32 present;
	u32 target; /* offsets */
	u32 tid;
	u32 expect; /* the y of the message: 'q', 'r' or 'e' */
	u32 nodes;  /* offset and length of the contacts of each family in a response */
	u32 nodes_len;
	u32 nodes6;
	u32 nodes6_len;
	struct level level[8];
	u8 datagram[MAX_DATAGRAM + 64]; /* UDP header and payload, then room to read beyond them */
	/* What begin() and follow() work at. */
	struct recursion recursion;
	u64 transactions; /* of ours that this CPU has made */
	u32 transaction;  /* of the reply at hand */
	u32 found;	  /* next is a contact to ask */
	struct asked next;
	u64 next_distance[3];
	u64 allow_private; /* it may be at a private address */
	u64 interface_id;  /* which bits of the lower half of IPv6 addresses tell hosts apart */
	u32 paced;	   /* closer ones were sent enough already */
	u32 next_v6;
	u32 judged;		/* the contacts were judged before, and what they are not good for counted */
	u32 gathered[FAMILIES]; /* our contacts that are judged, see choose_first() */
	u32 is_error;		/* the reply at hand says that it is an error message */
	u64 seed;		/* key of the hash of hosts */
	struct hop hop;
	u8 note[8]; /* for launch.h: Ethernet type, transaction ID */
	struct endpoint next_endpoint;
	struct route_key route_key;
	struct neighbour_key neighbour_key;
	struct join_key join_key;
	struct join join;
	struct flight flight;
	u8 frame[PAYLOAD + FRAME_LEN]; /* more than the frame, for the verifier */
	/* Of no length: makes the compiler describe the type, which it does not for what is only in an inner
	 * map. */
	struct snapshot type[0];
};

struct {
	MAP_UINT(type, MAP_PERCPU_ARRAY);
	MAP_UINT(max_entries, 1);
	MAP_TYPE(key, u32);
	MAP_TYPE(value, struct scratch);
} scratch SEC(".maps");

INLINE void set_asker(struct query *q, const void *id)
{
	q->asker = AT64(id) ^ AT64(id + 8) ^ AT32(id + 16);
}

INLINE void set_target(struct query *q, const void *id)
{
	q->target[0] = be64(AT64(id));
	q->target[1] = be64(AT64(id + 8));
	q->target[2] = (u64)be32(AT32(id + 16)) << 32;
}

/*
 * The end of a query, at p, if it is of the usual shape and ends at last. Reads the packet, so every step
 * shows the verifier that it is not beyond end. Returns 0 if not.
 */
INLINE int usual_end(struct query *q, const void *p, const void *last, const void *end)
{
	if (p + 8 > end)
		return 0;
	u64 word = AT64(p);
	q->read_only = 0;
	/* 2:rdi1e */
	if (UNLIKELY((word & T8N("\xff\xff\xff\xff\xff\0\xff", 7)) == T8N("2:rdi\0e", 7))) {
		u32 value = (u32)(word >> 40 & 0xff) - '0';
		if (value > 1)
			return 0;
		q->flags |= value ? FLAG_RECURSIVE : 0;
		p += 7;
		if (p + 8 > end)
			return 0;
		word = AT64(p);
	}
	/* 2:roi1e */
	if ((word & T8N("\xff\xff\xff\xff\xff\0\xff", 7)) == T8N("2:roi\0e", 7)) {
		u32 value = (u32)(word >> 40 & 0xff) - '0';
		if (value > 1)
			return 0;
		q->read_only = value;
		p += 7;
		if (p + 8 > end)
			return 0;
		word = AT64(p);
	}
	/* 1:t2:xx */
	if ((word & T8N("\xff\xff\xff\0\xff", 5)) != T8N("1:t\0:", 5))
		return 0;
	u64 tid_len = (word >> 24 & 0xff) - '0';
	OPAQUE(tid_len); /* two comparisons with the number itself, as verifiers up to 6.12 need them */
	if (tid_len > 8)
		return 0;
	OPAQUE(tid_len);
	if (!tid_len)
		return 0;
	p += 5;
	if (p + 8 > end)
		return 0;
	q->tid[0] = AT64(p);
	q->tid_len = tid_len;
	p += tid_len;
	if (p + 7 > end)
		return 0;
	word = AT32(p) | (u64)AT16(p + 4) << 32;
	/* 1:v4:xxxx */
	if ((word & 0xffffffffff) == T8N("1:v4:", 5)) {
		p += 9;
		if (p + 7 > end)
			return 0;
		word = AT32(p) | (u64)AT16(p + 4) << 32;
	}
	return word == T8N("1:y1:q", 6) && AT8(p + 6) == 'e' && p + 7 == last;
}

/*
 * Optional arguments after the target:
 * [6:noseedi1e][6:scrapei1e][4:wantl2:n42:n6e]. There are 16 bytes at p. Returns what follows, or NULL if
 * there is another.
 */
INLINE const void *usual_options(struct query *q, const void *p, const void *end)
{
	const u32 flag = T4("i\0e\0"), flag_mask = 0x00ff00ff;

	if (AT64(p) == T8("6:noseed")) {
		if ((AT32(p + 8) & flag_mask) != flag || (AT8(p + 9) & ~1) != '0')
			return NULL;
		q->flags |= AT8(p + 9) & FLAG_FILTER;
		p += 11;
		if (p + 16 > end)
			return NULL;
	}
	if (AT64(p) == T8("6:scrape")) {
		if ((AT32(p + 8) & flag_mask) != flag || (AT8(p + 9) & ~1) != '0')
			return NULL;
		q->flags |= AT8(p + 9) & FLAG_FILTER;
		p += 11;
		if (p + 16 > end)
			return NULL;
	}
	if (AT64(p) != T8("4:wantl2"))
		return p;
	u64 list = AT64(p + 8);
	if (list == T8(":n42:n6e")) {
		q->want = WANT_IPV4 | WANT_IPV6;
		return p + 16;
	}
	if ((u32)list == T4(":n4e")) {
		q->want = WANT_IPV4;
		return p + 12;
	}
	if ((u32)list == T4(":n6e")) {
		q->want = WANT_IPV6;
		return p + 12;
	}
	return NULL;
}

/*
 * Recognises the usual queries without optional arguments other than want; p is their first byte. Returns 0
 * if it is none of them.
 */
INLINE int usual_query(struct query *q, const void *p, const void *last, const void *end)
{
	if (p + MIN_QUERY > end)
		return 0;
	if (AT64(p) != T8("d1:ad2:i") || AT32(p + 8) != T4("d20:"))
		return 0;
	q->id = UDP_LEN + 12;
	set_asker(q, p + 12);
	q->want = 0;
	q->flags = 0;
	u64 word = AT64(p + 32);
	if (word == T8("e1:q4:pi")) {
		if (AT16(p + 40) != T2("ng"))
			return 0;
		q->method = METHOD_PING;
		return usual_end(q, p + 42, last, end);
	}
	/* The shortest rest from here on: ...e1:q3:get1:t1:x1:y1:qe */
	if (p + 43 + ID_LEN + 9 + 13 > end)
		return 0;
	u32 by_target = word == T8("6:target");
	if (by_target) {
		if (AT32(p + 39) != T4("t20:"))
			return 0;
		p += 43;
	} else {
		if (word != T8("9:info_h") || AT32(p + 40) != T4("ash2") || AT16(p + 44) != T2("0:"))
			return 0;
		p += 46;
	}
	if (p + ID_LEN + 16 > end)
		return 0;
	set_target(q, p);
	p += ID_LEN;
	if (UNLIKELY(AT8(p) != 'e')) {
		p = usual_options(q, p, end);
		if (!p || p + 16 > end)
			return 0;
	}
	word = AT64(p);
	if (by_target) {
		if (word == T8("e1:q9:fi") && AT64(p + 7) == T8("ind_node")) {
			q->method = METHOD_FIND_NODE;
			p += 15;
		} else if (word == T8("e1:q3:ge") && AT8(p + 8) == 't') {
			q->method = METHOD_GET;
			p += 9;
		} else {
			return 0;
		}
	} else {
		if (word != T8("e1:q9:ge") || AT64(p + 7) != T8("et_peers"))
			return 0;
		q->method = METHOD_GET_PEERS;
		p += 15;
	}
	return usual_end(q, p, last, end);
}
