/* What user space publishes, what the program keeps per CPU, and what it reports. */
#pragma once

#include "consts.h"

enum family_index { IPV4, IPV6, FAMILIES };

/*
 * A fork in the binary tree of a bucket's IDs: a bit in which they differ. For either value of the bit: which
 * contacts have it (one bit each), how many they are, and the next fork among them.
 */
struct fork {
	u8 word;  /* of the ID as numbers */
	u8 shift; /* of the bit to the lowest place */
	u8 contacts[2];
	u8 count[2];
	u8 next[2];
};

/* What is known of one bucket beside its contacts. All sums are ones' complement sums of 16 bits. */
struct bucket {
	struct fork forks[BUCKET_SIZE]; /* the first is the root; at most BUCKET_SIZE - 1 are in use */
	u16 sums[BUCKET_SIZE];		/* of each contact */
	u16 sum;			/* of all contacts */
	u8 count;
	u8 pad[5];
};

/* One family's routing table, and the parts of replies that depend on it alone. What every reply needs comes
 * first. */
struct family {
	u8 prefix[64]; /* the reply to an asker of this family up to and with our ID, its address being zero
			*/
	u32 prefix_sum;
	u32 key_sum;
	u32 key_len;
	u32 count;   /* contacts in a reply: BUCKET_SIZE, or all there are */
	u8 key[16];  /* the key of the contacts and the length of their string */
	u64 self[3]; /* our ID as numbers, most significant first, padded with zeros */
	u64 full[3]; /* the levels that are not empty, level 0 in the most significant bit */
	u8 lean[32]; /* the prefix without the asker's address */
	u64 lean_sum;
	u64 shift;	   /* 64 - b: what brings the bits of a level down from the top of a word */
	u16 taken[LEVELS]; /* of each level, the buckets that hold contacts, bucket 0 in the lowest bit */
	/* Where among the following each bucket of a level is, plus 1; 0: it holds no contacts. */
	u16 place[LEVELS][LEVEL_BUCKETS];
	struct bucket buckets[BUCKETS];
};

/*
 * All that replies are made from: published as one value, so that a reply comes from one state of the table.
 * Level i has the contacts that share exactly i leading bits with us, in 2^(b-1) buckets by the bits that
 * follow in their IDs. Zeros are an empty table.
 */
struct snapshot {
	u64 siphash[4]; /* its state after taking in the key */
	u8 tail[16];	/* the reply after the transaction ID */
	u32 tail_sum;
	u8 read_only[FAMILIES]; /* 1: our own queries say that we are no node (BEP 43) */
	u8 pad[2];
	struct family families[FAMILIES];
	u8 nodes[BUCKETS][BUCKET_SIZE * NODE_LEN];
	u8 nodes6[BUCKETS][BUCKET_SIZE * NODE6_LEN];
};

/* User space writes it in place, and of a large table only what has changed. */
struct snapshot_map {
	MAP_UINT(type, MAP_ARRAY);
	MAP_UINT(map_flags, MAP_MMAPABLE);
	MAP_UINT(max_entries, 1);
	MAP_TYPE(key, u32);
	MAP_TYPE(value, struct snapshot);
};

/* The published snapshot: a map of one value, replaced as a whole. */
struct {
	MAP_UINT(type, MAP_ARRAY_OF_MAPS);
	MAP_UINT(max_entries, 1);
	MAP_TYPE(key, u32);
	MAP_VALUES(values, struct snapshot_map);
} snapshots SEC(".maps");

/* The snapshot to answer from; NULL if there is none yet. */
INLINE const struct snapshot *published(void)
{
	u32 zero = 0;
	struct snapshot_map *inner = map_lookup(&snapshots, &zero);

	return inner ? map_lookup(inner, &zero) : NULL;
}

/* A local address and port, as they are on the wire. IPv4 addresses are in their IPv4-mapped form. */
struct endpoint {
	u64 addr[2];
	u64 port;
};

/* What an endpoint is. */
enum endpoint_kind {
	ENDPOINT_OURS = 1,
	ENDPOINT_MANY, /* others have it, too: that of a broadcast, or address 0, which stands for every group
			*/
};

/* All endpoints that are ours, and those by which sockets of ours hear what is for many. */
struct {
	MAP_UINT(type, MAP_HASH);
	MAP_UINT(max_entries, 1024);
	MAP_TYPE(key, struct endpoint);
	MAP_TYPE(value, u32);
} endpoints SEC(".maps");

/* What changes at run time. */
struct settings {
	u64 lease; /* answer until then, CLOCK_MONOTONIC in ns */
	u64 ports; /* bit (port & 63), of the port as it is on the wire: one of ours has it */
	struct endpoint
	    endpoint[FAMILIES]; /* one of our endpoints of each family, to find most without a search */
	u64 seed;		/* key of the hash that places sightings */
	u64 held_overflow;	/* not every key held here is in the map "held" */
	u64 recursion;		/* begin recursions until then, CLOCK_MONOTONIC in ns */
	u64 private_network;	/* private addresses are nodes like any other */
	u64 patience;		/* with a node that is asked for a client, in ns; 0: without end */
	u64 transaction[4];	/* SipHash after taking in the key of our transaction IDs */
	/* Limits, see limit.h and challenge.h. Zero is none. */
	u64 interval;	   /* between two datagrams of one source, in limiter's ticks */
	u64 window;	   /* so far ahead of its interval a source may be, in limiter's ticks */
	u64 growth_cost;   /* of a byte by which a reply is longer than its query, in 2^-10 ns */
	u64 unproven_cost; /* of a datagram from an unproven source for user space, in ns */
	u64 cookie[4];	   /* the state of SipHash after taking in the cookies' key */
	/* Of our own queries to one destination, see pace.h: as interval and window. */
	u64 pace_interval;
	u64 pace_window;
	/* Of our own queries for clients to all destinations together, likewise: what one costs, in ns, and
	 * the window. */
	u64 query_cost;
	u64 query_window;
};

struct {
	MAP_UINT(type, MAP_ARRAY);
	MAP_UINT(max_entries, 1);
	MAP_TYPE(key, u32);
	MAP_TYPE(value, struct settings);
} live SEC(".maps");

struct id {
	u8 bytes[ID_LEN];
};

/*
 * Keys for which something is stored or kept here: get and get_peers for them are answered from the hot map,
 * or by user space. The value is the place in the hot map for askers over IPv4, and in its upper half that
 * for IPv6: see enum place.
 */
struct {
	MAP_UINT(type, MAP_HASH);
	MAP_UINT(max_entries, 1 << 18);
	MAP_UINT(map_flags, MAP_NO_PREALLOC);
	MAP_TYPE(key, struct id);
	MAP_TYPE(value, u64);
} held SEC(".maps");

/*
 * Where in the hot map something is: 0 is nowhere, 1 the first entry of hot_small or, marked, of hot_large.
 * A place also tells whether it is for recursive queries only, or for others only.
 */
enum place {
	PLACE_INDEX = (1 << 24) - 1,
	PLACE_PLAIN = 1 << 29,
	PLACE_RECURSIVE = 1 << 30,
	PLACE_LARGE = 1U << 31,
};

enum hot_sizes {
	MAX_VALUES = 127, /* peers; a reply has room for 115 at most */
	HOT_AFTER = 192,  /* room for what comes after the token: in a small entry, and in a large one */
	HOT_AFTER_LARGE = 1008,
};

/*
 * An entry of the hot map: the parts of a reply that depend on the key alone, with their sums. A place is
 * given to another key only once no program reads it any more, see bpf/hot.go.
 *
 *   get:       [1:k32:<...>] nodes [3:seqi<...>e[3:sig64:<...>]] token 1:v<...>
 *   get_peers: nodes token 6:valuesl<6:...>...e
 */
struct hot {
	struct id key;
	u32 hits;    /* place of its counter */
	u64 expires; /* CLOCK_MONOTONIC in ns */
	u64 seq;
	u16 method;	/* that it answers */
	u16 is_mutable; /* the item has k, seq, sig */
	u16 k_len;
	u16 k_sum;
	u16 seq_len; /* of seq alone */
	u16 seq_sum;
	u16 sig_len; /* of seq and sig */
	u16 sig_sum;
	u16 v_len; /* of an item, what comes after the token */
	u16 v_sum;
	u16 values; /* peers */
	u16 others; /* enum want: families of which there are, or may be, peers that this entry has not */
	u8 k[6 + KEY_LEN + 2]; /* 1:k32: */
	/* Of an item, 3:seqi<seq>e3:sig64:. Of peers, sums of 16 bits: of the first so many with what is in
	   front of them. */
	u8 before[2 * (MAX_VALUES + 1)];
};

struct small_entry {
	struct hot hot;
	u8 after[HOT_AFTER];
};

struct large_entry {
	struct hot hot;
	u8 after[HOT_AFTER_LARGE];
};

struct {
	MAP_UINT(type, MAP_ARRAY);
	MAP_UINT(max_entries, 4096);
	MAP_TYPE(key, u32);
	MAP_TYPE(value, struct small_entry);
} hot_small SEC(".maps");

struct {
	MAP_UINT(type, MAP_ARRAY);
	MAP_UINT(max_entries, 1536);
	MAP_TYPE(key, u32);
	MAP_TYPE(value, struct large_entry);
} hot_large SEC(".maps");

/* Answers by entry of the hot map. */
struct {
	MAP_UINT(type, MAP_PERCPU_ARRAY);
	MAP_UINT(max_entries, 4096 + 1536);
	MAP_TYPE(key, u32);
	MAP_TYPE(value, u64);
} hot_hits SEC(".maps");

/* A set bit for the first 18 bits of each key in "held". */
struct {
	MAP_UINT(type, MAP_ARRAY);
	MAP_UINT(max_entries, 1 << 12);
	MAP_TYPE(key, u32);
	MAP_TYPE(value, u64);
} held_filter SEC(".maps");

/*
 * The last report of an asker, by a hash of its address. From the top: when it was, 32 bits in units of 2^30
 * ns, 0 is never; 16 bits more of the hash of address and port; and 16 bits that tell its ID from most
 * others.
 */
struct {
	MAP_UINT(type, MAP_ARRAY);
	MAP_UINT(max_entries, 1 << 16);
	MAP_TYPE(key, u32);
	MAP_TYPE(value, u64);
} seen SEC(".maps");

/*
 * What is remembered of some sources: words of a part of the hash of the source, a flag, and a time, see
 * limit.h. A set is one line of the cache, and stands at the begin of one because the map is mapped to pages
 * of its own.
 */
enum { SETS = 1 << 11, WAYS = 8 };

struct ways {
	u64 way[WAYS];
};

/* How much sources have sent. */
struct {
	MAP_UINT(type, MAP_ARRAY);
	MAP_UINT(max_entries, SETS);
	MAP_UINT(map_flags, MAP_MMAPABLE);
	MAP_TYPE(key, u32);
	MAP_TYPE(value, struct ways);
} sources SEC(".maps");

/* How much we have sent to destinations, see pace.h. User space counts in it, too. */
struct {
	MAP_UINT(type, MAP_ARRAY);
	MAP_UINT(max_entries, SETS);
	MAP_UINT(map_flags, MAP_MMAPABLE);
	MAP_TYPE(key, u32);
	MAP_TYPE(value, struct ways);
} destinations SEC(".maps");

/* Sources that proved their address, and those that we have sent a query to. */
struct {
	MAP_UINT(type, MAP_ARRAY);
	MAP_UINT(max_entries, SETS);
	MAP_UINT(map_flags, MAP_MMAPABLE);
	MAP_TYPE(key, u32);
	MAP_TYPE(value, struct ways);
} proofs SEC(".maps");

/* What all unproven sources together have used up, and all clients: the times, in ns, at which nothing of it
 * will be left. */
struct budget {
	u64 growth; /* of replies beyond the size of their queries */
	u64 pad[7];
	u64 unproven; /* of datagrams for user space */
	u64 pad_unproven[7];
	u64 queries; /* of ours for clients */
	u64 pad_queries[7];
	u64 trusted; /* of datagrams for user space from exempt sources and clients, who may be forged, too */
	u64 pad_trusted[7];
	u64 recursions; /* that are begun for clients who may be forged */
};

struct {
	MAP_UINT(type, MAP_ARRAY);
	MAP_UINT(max_entries, 1);
	MAP_TYPE(key, u32);
	MAP_TYPE(value, struct budget);
} budgets SEC(".maps");

/* A prefix of addresses, IPv4 ones in their IPv4-mapped form. */
struct prefix {
	u32 bits;
	u8 addr[16];
};

/* Sources without limits. A value of 0 takes a prefix out of a shorter one. */
struct {
	MAP_UINT(type, MAP_LPM_TRIE);
	MAP_UINT(max_entries, 1024);
	MAP_UINT(map_flags, MAP_NO_PREALLOC);
	MAP_TYPE(key, struct prefix);
	MAP_TYPE(value, u8);
} exempt SEC(".maps");

/* One report of an asker. */
struct sighting {
	u8 addr[16]; /* IPv4 in its IPv4-mapped form */
	u16 port;    /* as on the wire */
	u8 id[ID_LEN];
	u8 proven; /* it is where it says */
	u8 pad;
};

struct {
	MAP_UINT(type, MAP_RINGBUF);
	MAP_UINT(max_entries, 1 << 18);
} sightings SEC(".maps");

/* Packets by reason, and events. */
struct {
	MAP_UINT(type, MAP_PERCPU_ARRAY);
	MAP_UINT(max_entries, REASONS);
	MAP_TYPE(key, enum reason);
	MAP_TYPE(value, u64);
} reasons SEC(".maps");

struct {
	MAP_UINT(type, MAP_PERCPU_ARRAY);
	MAP_UINT(max_entries, EVENTS);
	MAP_TYPE(key, enum event);
	MAP_TYPE(value, u64);
} events SEC(".maps");

INLINE void count(void *map, u32 key)
{
	u64 *counter = map_lookup(map, &key);

	if (counter)
		(*counter)++;
}
