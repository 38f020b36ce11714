/* Names for the fixed numbers of the protocols, and the reasons for which a datagram leaves the program. */
#pragma once

#include "kernel.h"

enum ethernet {
	ETH_LEN = 14,
	VLAN_LEN = 4,
	ETH_P_IP = 0x0800,
	ETH_P_8021Q = 0x8100,
	ETH_P_IPV6 = 0x86dd,
	ETH_P_8021AD = 0x88a8,
	/* IEEE 802, for local experiments: what the program leaves to launch.h, and never leaves the host. */
	ETH_P_LAUNCH = 0x88b5,
};

enum ip {
	IP_LEN = 20,
	IP6_LEN = 40,
	UDP_LEN = 8,
	IP_PROTO_UDP = 17,
	IP_DONT_FRAGMENT = 0x4000,
	IP_FRAGMENT_MASK = 0x3fff, /* offset and "more fragments" */
	IP_OFFSET_MASK = 0x1fff,
	IP6_OFFSET_MASK = 0xfff8,
	HOP_LIMIT = 64,
	/* Extension headers of IPv6 behind which there may be a datagram for us. */
	EXTENSION_HOP_BY_HOP = 0,
	EXTENSION_ROUTING = 43,
	EXTENSION_FRAGMENT = 44,
	EXTENSION_DESTINATION = 60,
};

enum kademlia {
	ID_LEN = 20,
	BUCKET_SIZE = 8,    /* k */
	LEVELS = 160,	    /* lengths of prefix that a contact can share with us */
	MAX_BITS = 5,	    /* largest b: bits of an ID that a level tells apart, its first included */
	LEVEL_BUCKETS = 16, /* buckets of a level at that b */
	BUCKETS = 512,	    /* that hold contacts, of a family, at most */
	NODE_LEN = 26,	    /* BEP 5: ID, IPv4 address, port */
	NODE6_LEN = 38,	    /* BEP 32 */
	TOKEN_LEN = 8,
	MAX_TID = 20,
	KEY_LEN = 32, /* BEP 44: Ed25519 */
	SIG_LEN = 64,
	VALUES_LEN = 10, /* 6:valuesl...e */
	VALUE_LEN = 8,	 /* 6:<address, port> */
	VALUE6_LEN = 21, /* 18:<address, port> */
};

enum bounds {
	/* UDP header and payload of the longest query looked at: what csum_diff takes at once before
	   Linux 6.13. */
	MAX_DATAGRAM = 512,
	/* The shortest datagram that means something here: an error message without words, to a query of
	 * ours.
	 */
	MIN_DATAGRAM = UDP_LEN + 29,
	/* The shortest payload of a query, a ping with a transaction ID of one byte. */
	MIN_QUERY = 55,
	/* Room that a driver surely leaves in front of a frame: 256 bytes less the bookkeeping of an XDP
	   frame. */
	HEADROOM = 212,
	/* The longest payload of a reply (BEP 32), and of one with a value (BEP 44) by the asker's family: a
	   single packet is the aim, and over IPv6 tunnels take their share. */
	MAX_PAYLOAD = 1024,
	MAX_VALUE_PAYLOAD = 1472,
	MAX_VALUE_PAYLOAD6 = 1400,
	/* What every IPv6 link carries (RFC 8200), and nearly every other. */
	MIN_MTU = 1280,
};

enum method { METHOD_NONE, METHOD_PING, METHOD_FIND_NODE, METHOD_GET_PEERS, METHOD_GET };
enum want { WANT_IPV4 = 1, WANT_IPV6 = 2 };
/* What makes a difference only for some keys: noseed or scrape is 1 (BEP 33); a seq (BEP 44); the query asks
 * for recursion, and may. */
enum flag { FLAG_FILTER = 1, FLAG_SEQ = 2, FLAG_RECURSIVE = 4 };

/* Bounds of what is done for clients that ask for recursion. */
enum recursion_bounds {
	MAX_RECURSIONS = 1024, /* under way at a time */
	PATHS = 3,	       /* on which one of them may go on at a time (Kademlia's alpha) */
	TRIES = 6,	       /* contacts that are tried for them */
	MAX_HOPS = 12,	    /* nodes that are asked on a path; each is closer to the target than the last */
	MAX_HOSTS = 32,	    /* that the paths of a recursion remember together, so as to stay apart */
	MAX_REFERRALS = 20, /* contacts of one reply that are looked at, as in user space */
	CLIENT_SLOTS = 64,  /* under way at a time for one client: an IPv4 address or an IPv6 /64 */
	CLIENT_PROBES = 4,  /* slots that one may take, by the hash of its host, port and transaction */
	REFERRAL_LEN = 304, /* bytes of contacts of the last reply that are kept */
};

/*
 * Why a datagram left the program. Every packet moves exactly one of these counters. First come those that
 * send something back, the answers in the order of enum method, then those from the hot map; what follows
 * them passes, and the last ones drop. Go derives the labels of metrics from the names.
 */
enum reason {
	REASON_ANSWERED_PING,
	REASON_ANSWERED_FIND_NODE,
	REASON_ANSWERED_GET_PEERS,
	REASON_ANSWERED_GET,
	REASON_ANSWERED_HOT_GET_PEERS,
	REASON_ANSWERED_HOT_GET,
	REASON_CHALLENGED, /* asked to prove its address, see challenge.h */
	/* Sent on as a query of our own. */
	REASON_RECURSION_BEGUN,
	REASON_HOP_FOLLOWED,
	/* Dropped: the query of a client for whom it is being asked already. */
	REASON_RECURSION_JOINED,
	/* Dropped: the reply with which a path ends, while others of the recursion go on. */
	REASON_HOP_ENDED,
	/* Not ours: everything that is not a whole UDP datagram to one of our endpoints. Of what has IP
	   options, extension headers or is a fragment, the stack finds out: see odd.h. */
	REASON_NOT_IP,
	REASON_NOT_UDP,
	REASON_NOT_OURS,
	REASON_NOT_UNICAST,
	REASON_VLAN_STACK,
	REASON_TRUNCATED,
	REASON_IP_OPTIONS,
	REASON_FRAGMENT,
	REASON_IPV6_EXTENSION,
	/* Ours, but the stack must judge it. */
	REASON_BAD_LENGTH,
	REASON_BAD_IP_CHECKSUM,
	REASON_BAD_UDP_CHECKSUM,
	REASON_PARTIAL_CHECKSUM,
	REASON_BAD_SOURCE,
	/* Ours, but the program has nothing to judge it by. */
	REASON_NO_LEASE,
	REASON_NO_SNAPSHOT,
	/* Ours, but user space must judge it. */
	REASON_TOO_SHORT,
	REASON_TOO_LONG,
	REASON_MALFORMED,
	REASON_NOT_CANONICAL,
	REASON_TOO_COMPLEX,
	REASON_NOT_QUERY,
	REASON_BAD_TRANSACTION,
	REASON_OTHER_METHOD,
	REASON_OTHER_ARGUMENT,
	REASON_BAD_ARGUMENT,
	REASON_MISSING_ARGUMENT,
	REASON_HELD,
	REASON_HELD_OVERFLOW,
	REASON_NO_ROOM,
	REASON_REPLY_TOO_LONG,
	/* A client's query that user space must see to. */
	REASON_RECURSION_OFF,
	REASON_RECURSION_ARGUMENT,
	REASON_RECURSION_TAKEN,
	REASON_RECURSION_CLIENT_FULL,
	REASON_RECURSION_FULL,
	REASON_RECURSION_NO_CONTACT,
	/* All contacts to ask were sent enough already, or all nodes together for clients, see pace.h. */
	REASON_RECURSION_PACED,
	REASON_NO_ROUTE,
	REASON_NO_NEIGHBOUR,
	/* A reply to a query that the program has sent, with which user space goes on. */
	REASON_HOP_ANSWER,
	REASON_HOP_ERROR,
	REASON_HOP_OTHER_ID,
	REASON_HOP_NO_CLOSER,
	REASON_HOP_LIMIT,
	REASON_HOP_PACED, /* likewise with those that are closer */
	/* A reply to a query of the program that user space has taken over, and waits for. */
	REASON_HOP_TAKEN,
	/* A reply that is not from where it should be. */
	REASON_HOP_OTHER_SOURCE,
	/* Dropped. */
	REASON_LIMITED,	   /* more than its source may send, see limit.h */
	REASON_OVERLOADED, /* more than user space takes from unproven sources, see challenge.h */
	REASON_HOP_LATE,   /* a reply to a query of the program that nobody waits for any more */
	REASONS,
};

/* What functions that return a reason return when there is none to leave. */
enum no_reason {
	GO_ON = REASONS,
	MESSAGE_ENDS, /* the parser is through */
	IMPOSSIBLE,   /* a check for the verifier has failed after the frame was changed */
	/* What is left to do is in struct scratch, for a function that kdht() calls: see carry_on(). */
	CONTINUE_HOT,	    /* answer from the hot map */
	CONTINUE_RECURSION, /* begin() */
	CONTINUE_REFERRAL,  /* follow() */
	CONTINUE_CHALLENGE, /* ask for a proof of the address */
	CONTINUE_ODD,	    /* judge_odd() */
};

/* Things counted that are not exits. */
enum event {
	EVENT_SIGHTING,
	EVENT_SIGHTING_LOST,
	EVENT_PROVEN,
	/* Contacts in replies that were closer, but not to be asked: nobody's or a private address, our own,
	   the client's, or one that was asked before, on the same path or another; or one that was sent
	   enough already. */
	EVENT_REFERRAL_BOGUS,
	EVENT_REFERRAL_OWN,
	EVENT_REFERRAL_CLIENT,
	EVENT_REFERRAL_AGAIN,
	EVENT_REFERRAL_OTHER_PATH,
	EVENT_REFERRAL_PACED,
	EVENTS,
};
