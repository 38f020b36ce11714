/*
 * A tokenising parser for canonical queries and responses. One step reads one token: a key, a value, the
 * begin or the end of a list or dictionary. Its state is in the per-CPU scratch map and the step is a global
 * function, so the verifier checks it once, whatever the number of steps.
 *
 * It accepts less than user space does: keys sorted and unique, numbers in their one canonical form, nothing
 * after the end, every key of KRPC with the type and value it should have, and no argument of queries that
 * store something. Of a response it accepts referrals: what is looked for ends it at once.
 */
#pragma once

#include "query.h"

enum { MAX_STEPS = 64, MAX_DEPTH = 7, MAX_KEY = 16, MAX_DIGITS = 18 };

/* What comes next at a level: in a dictionary a key or its value, in a list an item. */
enum state { STATE_KEY, STATE_VALUE, STATE_ITEM };

/* What a list or dictionary is. */
enum meaning { MEANING_UNKNOWN, MEANING_MESSAGE, MEANING_ARGUMENTS, MEANING_WANT, MEANING_RESPONSE };

enum type { TYPE_STRING, TYPE_INTEGER, TYPE_LIST, TYPE_DICTIONARY };

enum key {
	KEY_UNKNOWN,
	KEY_A,
	KEY_Q,
	KEY_T,
	KEY_V,
	KEY_Y,
	KEY_RO,
	KEY_RD,
	KEY_IP,
	KEY_E,
	KEY_R,
	KEY_ID,
	KEY_TARGET,
	KEY_INFO_HASH,
	KEY_WANT,
	KEY_FLAG,
	KEY_FILTER,
	KEY_NAME,
	KEY_SEQ,
	KEY_OTHER,
	KEY_NODES,
	KEY_NODES6,
	KEY_ANSWER,
};

/* Text as a number that sorts like it. */
#define N8(s) be64(T8(s "\0\0\0\0\0\0\0\0"))

INLINE int message_key(u64 name, u32 len)
{
	if (len == 1) {
		switch (name) {
		case N8("a"):
			return KEY_A;
		case N8("q"):
			return KEY_Q;
		case N8("t"):
			return KEY_T;
		case N8("v"):
			return KEY_V;
		case N8("y"):
			return KEY_Y;
		case N8("e"):
			return KEY_E;
		case N8("r"):
			return KEY_R;
		}
	} else if (len == 2) {
		if (name == N8("ro"))
			return KEY_RO;
		if (name == N8("rd"))
			return KEY_RD;
		if (name == N8("ip"))
			return KEY_IP;
	}
	return KEY_UNKNOWN;
}

INLINE int argument_key(u64 name, u64 rest, u32 len)
{
	switch (len) {
	case 1:
		if (name == N8("k") || name == N8("v"))
			return KEY_OTHER;
		break;
	case 2:
		if (name == N8("id"))
			return KEY_ID;
		if (name == N8("bs"))
			return KEY_FLAG;
		break;
	case 3:
		if (name == N8("seq"))
			return KEY_SEQ;
		if (name == N8("cas") || name == N8("sig"))
			return KEY_OTHER;
		break;
	case 4:
		if (name == N8("want"))
			return KEY_WANT;
		if (name == N8("name"))
			return KEY_NAME;
		if (name == N8("port") || name == N8("salt") || name == N8("seed"))
			return KEY_OTHER;
		break;
	case 5:
		if (name == N8("token"))
			return KEY_OTHER;
		break;
	case 6:
		if (name == N8("target"))
			return KEY_TARGET;
		if (name == N8("noseed") || name == N8("scrape"))
			return KEY_FILTER;
		break;
	case 9:
		if (name == N8("info_has") && rest == N8("h"))
			return KEY_INFO_HASH;
		break;
	case 12:
		if (name == N8("implied_") && rest == N8("port"))
			return KEY_OTHER;
		break;
	}
	return KEY_UNKNOWN;
}

INLINE int response_key(u64 name, u32 len)
{
	switch (len) {
	case 1:
		if (name == N8("k") || name == N8("v"))
			return KEY_ANSWER;
		break;
	case 2:
		if (name == N8("id"))
			return KEY_ID;
		break;
	case 3:
		if (name == N8("seq") || name == N8("sig"))
			return KEY_ANSWER;
		break;
	case 5:
		if (name == N8("nodes"))
			return KEY_NODES;
		break;
	case 6:
		if (name == N8("nodes6"))
			return KEY_NODES6;
		if (name == N8("values"))
			return KEY_ANSWER;
		break;
	}
	return KEY_UNKNOWN;
}

INLINE int parse_key(struct scratch *s, u32 depth, u32 start, u32 len)
{
	if (len > MAX_KEY)
		return REASON_TOO_COMPLEX;
	u64 name = be64(AT64(s->datagram + start)), rest = be64(AT64(s->datagram + start + 8));
	if (len < 8)
		name &= ~(~0ULL >> (8 * len));
	if (len <= 8)
		rest = 0;
	else if (len < 16)
		rest &= ~(~0ULL >> (8 * (len - 8)));

	u64 last_name = s->level[depth].key[0], last_rest = s->level[depth].key[1];
	if (name < last_name)
		return REASON_NOT_CANONICAL;
	if (name == last_name && (rest < last_rest || (rest == last_rest && len <= s->level[depth].key_len)))
		return REASON_NOT_CANONICAL;
	s->level[depth].key[0] = name;
	s->level[depth].key[1] = rest;
	s->level[depth].key_len = len;
	s->level[depth].state = STATE_VALUE;
	s->pos = start + len;

	u32 key = KEY_UNKNOWN;
	if (s->level[depth].meaning == MEANING_MESSAGE)
		key = message_key(name, len);
	else if (s->level[depth].meaning == MEANING_ARGUMENTS)
		key = argument_key(name, rest, len);
	else if (s->level[depth].meaning == MEANING_RESPONSE)
		key = response_key(name, len);
	s->key = key;
	if (s->expect == 'q' ? key == KEY_E || key == KEY_R : key == KEY_A || key == KEY_Q)
		return REASON_NOT_QUERY;
	/* A response that has an error as well is for user space to judge. */
	if (key == KEY_ANSWER || (key == KEY_E && s->expect == 'r'))
		return REASON_HOP_ANSWER;
	if (key == KEY_OTHER)
		return REASON_OTHER_ARGUMENT;
	return GO_ON;
}

INLINE int method_of(const u8 *name, u32 len)
{
	u64 word = AT64(name);

	if (len == 4 && (u32)word == T4("ping"))
		return METHOD_PING;
	if (len == 9 && word == T8("find_nod") && AT8(name + 8) == 'e')
		return METHOD_FIND_NODE;
	if (len == 9 && word == T8("get_peer") && AT8(name + 8) == 's')
		return METHOD_GET_PEERS;
	if (len == 3 && (word & 0xffffff) == T8N("get", 3))
		return METHOD_GET;
	return METHOD_NONE;
}

/* Takes a value that has a meaning. number is an integer, or ~0 if it is negative. */
INLINE int parse_known(struct scratch *s, u32 type, u32 start, u32 len, u64 number)
{
	u32 key = s->key;

	s->present |= 1 << (key & 31);
	switch (key) {
	case KEY_A:
	case KEY_R:
		return type == TYPE_DICTIONARY ? GO_ON : REASON_BAD_ARGUMENT;
	case KEY_WANT:
	case KEY_E:
		return type == TYPE_LIST ? GO_ON : REASON_BAD_ARGUMENT;
	case KEY_RD:
		s->query.flags |= number & 1 ? FLAG_RECURSIVE : 0;
		return type == TYPE_INTEGER && number <= 1 ? GO_ON : REASON_BAD_ARGUMENT;
	case KEY_RO:
		s->query.read_only = number;
		/* fall through */
	case KEY_FLAG:
		return type == TYPE_INTEGER && number <= 1 ? GO_ON : REASON_BAD_ARGUMENT;
	case KEY_FILTER:
		s->query.flags |= number & FLAG_FILTER;
		return type == TYPE_INTEGER && number <= 1 ? GO_ON : REASON_BAD_ARGUMENT;
	case KEY_SEQ:
		s->query.flags |= FLAG_SEQ;
		s->query.seq = number;
		return type == TYPE_INTEGER && number != ~0ULL ? GO_ON : REASON_BAD_ARGUMENT;
	}
	if (type != TYPE_STRING)
		return key == KEY_T ? REASON_BAD_TRANSACTION : REASON_BAD_ARGUMENT;
	switch (key) {
	case KEY_Q:
		s->query.method = method_of(s->datagram + start, len);
		return s->query.method == METHOD_NONE ? REASON_OTHER_METHOD : GO_ON;
	case KEY_T:
		s->tid = start;
		s->query.tid_len = len;
		return len - 1 < MAX_TID ? GO_ON : REASON_BAD_TRANSACTION;
	case KEY_Y:
		return len == 1 && s->datagram[start] == s->expect ? GO_ON : REASON_NOT_QUERY;
	case KEY_ID:
		s->query.id = start;
		return len == ID_LEN ? GO_ON : REASON_BAD_ARGUMENT;
	case KEY_TARGET:
	case KEY_INFO_HASH:
		s->target = start;
		return len == ID_LEN ? GO_ON : REASON_BAD_ARGUMENT;
	case KEY_NODES:
		s->nodes = start;
		s->nodes_len = len;
		return len % NODE_LEN == 0 ? GO_ON : REASON_BAD_ARGUMENT;
	case KEY_NODES6:
		s->nodes6 = start;
		s->nodes6_len = len;
		return len % NODE6_LEN == 0 ? GO_ON : REASON_BAD_ARGUMENT;
	}
	return GO_ON;
}

INLINE int parse_want(struct scratch *s, u32 type, u32 start, u32 len)
{
	if (type != TYPE_STRING)
		return REASON_BAD_ARGUMENT;
	u16 name = AT16(s->datagram + start);
	if (len == 2 && name == T2("n4"))
		s->query.want |= WANT_IPV4;
	if (len == 2 && name == T2("n6"))
		s->query.want |= WANT_IPV6;
	return GO_ON;
}

INLINE int parse_value(struct scratch *s, u32 depth, u32 type, u32 start, u32 len, u64 number)
{
	u32 meaning = s->level[depth].meaning;
	int reason = GO_ON;

	if (s->level[depth].state == STATE_VALUE)
		s->level[depth].state = STATE_KEY;
	if (meaning == MEANING_WANT)
		reason = parse_want(s, type, start, len);
	else if (meaning != MEANING_UNKNOWN && s->key != KEY_UNKNOWN)
		reason = parse_known(s, type, start, len, number);
	if (reason != GO_ON)
		return reason;
	s->pos = start + len;
	if (type != TYPE_LIST && type != TYPE_DICTIONARY)
		return GO_ON;

	u32 inner = MEANING_UNKNOWN;
	if (meaning == MEANING_MESSAGE && s->key == KEY_A)
		inner = MEANING_ARGUMENTS;
	else if (meaning == MEANING_ARGUMENTS && s->key == KEY_WANT)
		inner = MEANING_WANT;
	else if (meaning == MEANING_MESSAGE && s->key == KEY_R)
		inner = MEANING_RESPONSE;
	if (depth >= MAX_DEPTH)
		return REASON_TOO_COMPLEX;
	depth++;
	s->depth = depth;
	s->level[depth].key[0] = 0;
	s->level[depth].key[1] = 0;
	s->level[depth].key_len = 0;
	s->level[depth].state = type == TYPE_LIST ? STATE_ITEM : STATE_KEY;
	s->level[depth].meaning = inner;
	return GO_ON;
}

/* Reads one token. Says MESSAGE_ENDS after the last. */
__attribute__((noinline)) int parse_step(struct scratch *s)
{
	if (!s)
		return REASON_MALFORMED;
	u32 depth = s->depth, pos = s->pos, end = s->len;
	if (depth > MAX_DEPTH || end > MAX_DATAGRAM || pos >= end)
		return REASON_MALFORMED;
	u8 c = s->datagram[pos++];
	u32 state = s->level[depth].state;

	if (c == 'e') {
		if (state == STATE_VALUE || !depth)
			return REASON_MALFORMED;
		s->pos = pos;
		s->depth = depth - 1;
		return depth == 1 ? MESSAGE_ENDS : GO_ON;
	}

	u32 number = c - '0';
	if (number <= 9) {
		for (int i = 0; i < 3; i++) {
			c = s->datagram[pos++];
			u32 digit = c - '0';
			if (digit > 9)
				break;
			if (!number)
				return REASON_NOT_CANONICAL;
			number = number * 10 + digit;
		}
		if (c != ':' || number > MAX_DATAGRAM || pos + number > end)
			return REASON_MALFORMED;
		if (state == STATE_KEY)
			return parse_key(s, depth, pos, number);
		return parse_value(s, depth, TYPE_STRING, pos, number, 0);
	}
	if (state == STATE_KEY)
		return REASON_MALFORMED;
	if (c == 'l')
		return parse_value(s, depth, TYPE_LIST, pos, 0, 0);
	if (c == 'd')
		return parse_value(s, depth, TYPE_DICTIONARY, pos, 0, 0);
	if (c != 'i')
		return REASON_MALFORMED;

	u32 negative = s->datagram[pos] == '-';
	pos += negative;
	u32 first = pos;
	u64 value = 0;
	for (int i = 0; i <= MAX_DIGITS; i++) {
		c = s->datagram[pos++];
		u32 digit = c - '0';
		if (digit > 9)
			break;
		value = value * 10 + digit;
	}
	u32 digits = pos - first - 1;
	if (c - '0' <= 9u)
		return REASON_TOO_COMPLEX;
	if (c != 'e' || !digits || pos > end)
		return REASON_MALFORMED;
	if (s->datagram[first] == '0' && (digits > 1 || negative))
		return REASON_NOT_CANONICAL;
	return parse_value(s, depth, TYPE_INTEGER, pos, 0, negative ? ~0ULL : value);
}

#define HAS(key) (s->present & 1 << (key))

/* Reads the message in s->datagram, of s->len bytes with its UDP header, token by token. */
INLINE int parse_message(struct scratch *s, u32 expect)
{
	if (s->datagram[UDP_LEN] != 'd')
		return REASON_MALFORMED;
	s->expect = expect;
	s->query = (struct query){};
	s->pos = UDP_LEN + 1;
	s->depth = 1;
	s->present = 0;
	s->key = KEY_UNKNOWN;
	s->level[1].key[0] = 0;
	s->level[1].key[1] = 0;
	s->level[1].key_len = 0;
	s->level[1].state = STATE_KEY;
	s->level[1].meaning = MEANING_MESSAGE;

	int reason = REASON_TOO_COMPLEX;
	for (int i = 0; i < MAX_STEPS; i++) {
		reason = parse_step(s);
		if (reason != GO_ON)
			break;
	}
	if (reason == GO_ON)
		return REASON_TOO_COMPLEX;
	if (reason != MESSAGE_ENDS)
		return reason;
	if (s->pos != s->len)
		return REASON_NOT_CANONICAL;
	if (!HAS(KEY_Y))
		return REASON_NOT_QUERY;
	return HAS(KEY_T) ? GO_ON : REASON_BAD_TRANSACTION;
}

/* Reads the query in s->datagram into s->query. */
__attribute__((noinline)) int parse_query(struct scratch *s)
{
	if (!s)
		return REASON_MALFORMED;
	int reason = parse_message(s, 'q');
	if (reason != GO_ON)
		return reason;
	if (!HAS(KEY_A) || !HAS(KEY_Q) || !HAS(KEY_ID))
		return REASON_MISSING_ARGUMENT;
	/* A query with both a target and an infohash is odd enough for user space. */
	if (HAS(KEY_TARGET) && HAS(KEY_INFO_HASH))
		return REASON_BAD_ARGUMENT;
	u32 tid = s->tid, target = s->target, id = s->query.id;
	if (tid > MAX_DATAGRAM || target > MAX_DATAGRAM || id > MAX_DATAGRAM)
		return REASON_MALFORMED;
	set_asker(&s->query, s->datagram + id);
	s->query.tid[0] = AT64(s->datagram + tid);
	s->query.tid[1] = AT64(s->datagram + tid + 8);
	s->query.tid[2] = AT64(s->datagram + tid + 16);
	if (s->query.method == METHOD_PING)
		return GO_ON;
	set_target(&s->query, s->datagram + target);
	return HAS(s->query.method == METHOD_GET_PEERS ? KEY_INFO_HASH : KEY_TARGET)
		   ? GO_ON
		   : REASON_MISSING_ARGUMENT;
}

/*
 * Reads the response in s->datagram to a query of ours: the offset of its sender's ID is left in s->query,
 * those of the contacts in s. Says REASON_HOP_ANSWER when it has more than contacts, and REASON_HOP_ERROR
 * when it is an error message.
 */
__attribute__((noinline)) int parse_response(struct scratch *s)
{
	if (!s)
		return REASON_MALFORMED;
	s->nodes_len = 0;
	s->nodes6_len = 0;
	u32 is_error = s->is_error;
	int reason = parse_message(s, is_error ? 'e' : 'r');
	if (reason != GO_ON)
		return reason;
	if (is_error ? !HAS(KEY_E) : !HAS(KEY_R) || !HAS(KEY_ID))
		return REASON_MISSING_ARGUMENT;
	u32 tid = s->tid;
	if (tid > MAX_DATAGRAM || s->query.tid_len != sizeof(u32) ||
	    AT32(s->datagram + tid) != s->transaction)
		return REASON_BAD_TRANSACTION;
	return is_error ? REASON_HOP_ERROR : GO_ON;
}

/*
 * Whether what is in s->datagram ends like the response to a query that the program has sent, or like an
 * error message, whose transaction ID is then left in s. The ends are those of nearly all:
 * 1:t4:xxxx[1:v4:xxxx]1:y1:re, or ee. All that are not for the program fail this cheap test, by the bit of
 * their transaction ID.
 */
INLINE int ends_like_ours(struct scratch *s)
{
	u32 at = s->len - 7;

	if (at > MAX_DATAGRAM || at < 2 * 9)
		return 0;
	const u8 *p = s->datagram + at;
	u16 type = AT16(p + 4);
	if (AT32(p) != T4("1:y1") || (type != T2(":r") && type != T2(":e")))
		return 0;
	s->is_error = type == T2(":e");
	if (AT32(p - 9) == T4("1:v4"))
		p -= 9;
	u32 transaction = AT32(p - 4);
	s->transaction = transaction;
	return AT32(p - 9) == T4("1:t4") && transaction & TRANSACTION_BIT;
}
