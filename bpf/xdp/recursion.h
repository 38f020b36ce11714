/*
 * What is remembered of a client's query while it is carried through the network, and what user space
 * publishes for that: whom it is done for, and how datagrams leave this host. All addresses are as on the
 * wire, IPv4 ones in their IPv4-mapped form.
 */
#pragma once

#include "maps.h"

enum {
	/* Set in the first byte of every transaction ID of the program, and of none of user space. */
	TRANSACTION_BIT = 0x80,
	/* The frame of a query: Ethernet, IPv6 and UDP headers end at PAYLOAD, so that all of it is aligned
	   whatever the family; a get_peers query has 106 bytes. */
	PAYLOAD = 64,
	FRAME_LEN = PAYLOAD + 120,
};

/* A node that was asked. */
struct asked {
	u64 addr[2];
	u16 port;
	u8 id[ID_LEN];
	u8 pad[2];
};

/* Whether a path has come to nothing. */
enum end {
	GOES_ON,
	END_NOBODY, /* the last node has answered, and there was nobody to ask next */
	END_FAILED, /* it has answered with an error, or under another ID */
};

/*
 * The state of one client's query, on one of the paths on which it is sent on at the same time. Each path is
 * carried on by itself, by the replies that come on it; what the paths have in common is in struct join.
 */
struct recursion {
	u64 begun; /* CLOCK_MONOTONIC in ns */
	u64 sent;  /* the last query */
	/* The client, and the address of ours that it asked. */
	u64 client[2];
	u64 entry[2];
	u64 tid[3];	 /* of the client, zeros behind its end */
	u64 target[3];	 /* as in struct query */
	u64 seq;	 /* likewise, with FLAG_SEQ */
	u64 distance[3]; /* from the target to the node that was asked last */
	u64 source[2];	 /* ours, from which that one was asked */
	u16 client_port;
	u16 entry_port;
	u16 source_port;
	u16 tid_len;
	u8 method;
	u8 want;
	u8 v6;	  /* the family of the nodes that are asked */
	u8 hops;  /* nodes asked */
	u8 slot;  /* in "joins" */
	u8 flags; /* FLAG_SEQ, or none */
	u16 referral_len;
	u8 path;   /* its number */
	u8 shared; /* there are others */
	u8 ended;  /* enum end */
	u8 pad[5];
	struct asked asked[MAX_HOPS];
	/* The contacts in the last reply, as they came, as far as there is room. It comes last, because the
	   program itself does not read it again. */
	u8 referral[REFERRAL_LEN];
};

/*
 * The queries of ours that wait for an answer, by our transaction ID. Every hop has a new one, so that who
 * takes an element out goes on with that recursion, and nobody else: the program with the next hop, or user
 * space.
 */
struct {
	MAP_UINT(type, MAP_HASH);
	MAP_UINT(max_entries, PATHS *MAX_RECURSIONS);
	MAP_TYPE(key, u32);
	MAP_TYPE(value, struct recursion);
} pending SEC(".maps");

/*
 * Queries of ours that user space has taken over and waits for itself. What answers others that are not in
 * "pending" comes too late, or twice. User space takes them out; the oldest make room.
 */
struct {
	MAP_UINT(type, MAP_LRU_HASH);
	MAP_UINT(max_entries, 4 * MAX_RECURSIONS);
	MAP_TYPE(key, u32);
	MAP_TYPE(value, u32);
} awaited SEC(".maps");

/*
 * The clients' queries that were sent on, so that a repeated one does not begin again. A client, an IPv4
 * address or an IPv6 /64, has a few slots, which bounds what it can have going. Those that user space has
 * taken over count no more, but are remembered: user space knows best what to do about a repeated one.
 */
struct join_key {
	u64 addr[2];
	u64 slot;
};

struct join {
	u64 begun; /* CLOCK_MONOTONIC in ns */
	u64 tid[3];
	u64 what; /* the target's first bytes and the method, for clients that use a transaction ID again at
		     once */
	u64 host; /* the lower half of an IPv6 address */
	u16 port;
	u16 tid_len;
	u32 taken; /* 1: user space has taken it over */
	/* Of the paths: how many go on, and the transaction ID of each one's last query, 0 of those that
	   there are not. Who takes one over takes all. */
	u32 live;
	u32 transaction[PATHS];
	/* The hosts that were asked on any path, by a hash of their address, as far as there is room: how
	   many, and which. */
	u32 asked;
	u32 pad;
	u32 hosts[MAX_HOSTS];
};

struct {
	MAP_UINT(type, MAP_LRU_HASH);
	MAP_UINT(max_entries, 4 * MAX_RECURSIONS);
	MAP_TYPE(key, struct join_key);
	MAP_TYPE(value, struct join);
} joins SEC(".maps");

/* Key of a table of prefixes. */
struct route_key {
	u32 prefix_len;
	u32 addr[4];
};

/* Who gets recursion. A value of 0 takes a prefix out of a shorter one. */
struct {
	MAP_UINT(type, MAP_LPM_TRIE);
	MAP_UINT(max_entries, 1024);
	MAP_UINT(map_flags, MAP_NO_PREALLOC);
	MAP_TYPE(key, struct route_key);
	MAP_TYPE(value, u32);
} clients SEC(".maps");

/* How datagrams to a prefix leave. */
struct route {
	u64 gateway[2]; /* zeros: the destination is on the link */
	u64 source[2];	/* one of our endpoints */
	u32 ifindex;	/* 0: they cannot leave from here */
	u16 port;	/* of the source */
	u8 mac[6];	/* of the interface */
	u32 redirect;	/* the interface takes frames from others */
};

struct {
	MAP_UINT(type, MAP_LPM_TRIE);
	MAP_UINT(max_entries, 4096);
	MAP_UINT(map_flags, MAP_NO_PREALLOC);
	MAP_TYPE(key, struct route_key);
	MAP_TYPE(value, struct route);
} routes SEC(".maps");

/* Link addresses of hosts on the links. */
struct neighbour_key {
	u64 addr[2];
	u64 ifindex;
};

struct {
	MAP_UINT(type, MAP_HASH);
	MAP_UINT(max_entries, 4096);
	MAP_UINT(map_flags, MAP_NO_PREALLOC);
	MAP_TYPE(key, struct neighbour_key);
	MAP_TYPE(value, u64);
} neighbours SEC(".maps");

/*
 * The first queries of a recursion, on their way from the XDP hook, which can send one frame for one that
 * came, to that of traffic control (see launch.h), by the transaction ID of the first of them.
 */
struct launch {
	u32 ifindex;
	u32 len;
	u8 frame[FRAME_LEN];
};

struct flight {
	u32 count;
	u32 pad;
	struct launch launch[PATHS];
};

/* One whose note is lost stays here; so the oldest make room. */
struct {
	MAP_UINT(type, MAP_LRU_HASH);
	MAP_UINT(max_entries, 512);
	MAP_TYPE(key, u32);
	MAP_TYPE(value, struct flight);
} flights SEC(".maps");

/* The interfaces where there is somebody to launch them. */
struct {
	MAP_UINT(type, MAP_HASH);
	MAP_UINT(max_entries, 1024);
	MAP_TYPE(key, u32);
	MAP_TYPE(value, u32);
} launchers SEC(".maps");

/* Has an element for each recursion that begins, for user space to look in time at what has become of it. */
struct {
	MAP_UINT(type, MAP_RINGBUF);
	MAP_UINT(max_entries, 1 << 16);
} begun SEC(".maps");
