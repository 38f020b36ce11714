/* SipHash-2-4 (Aumasson, Bernstein 2012) of an address, for the write token, and of three words. */
#pragma once

#include "kernel.h"

#define ROTATE(x, bits) ((x) << (bits) | (x) >> (64 - (bits)))
#define SIP_ROUND()                                                                                          \
	do {                                                                                                 \
		v0 += v1, v1 = ROTATE(v1, 13), v1 ^= v0, v0 = ROTATE(v0, 32);                                \
		v2 += v3, v3 = ROTATE(v3, 16), v3 ^= v2;                                                     \
		v0 += v3, v3 = ROTATE(v3, 21), v3 ^= v0;                                                     \
		v2 += v1, v1 = ROTATE(v1, 17), v1 ^= v2, v2 = ROTATE(v2, 32);                                \
	} while (0)

/* Hashes the 4 bytes in the upper half of addr[1], or all 16. state is the state after taking in the key. */
INLINE u64 siphash(const u64 *state, const u64 *addr, int v6)
{
	u64 v0 = state[0], v1 = state[1], v2 = state[2], v3 = state[3];
	u64 last = 4ULL << 56 | addr[1] >> 32;

	if (v6) {
#pragma unroll
		for (int i = 0; i < 2; i++) {
			u64 m = addr[i];
			v3 ^= m;
			SIP_ROUND();
			SIP_ROUND();
			v0 ^= m;
		}
		last = 16ULL << 56;
	}
	v3 ^= last;
	SIP_ROUND();
	SIP_ROUND();
	v0 ^= last;
	v2 ^= 0xff;
	SIP_ROUND();
	SIP_ROUND();
	SIP_ROUND();
	SIP_ROUND();
	return v0 ^ v1 ^ v2 ^ v3;
}

/* Hashes three words. */
INLINE u64 siphash_words(const u64 *state, u64 a, u64 b, u64 c)
{
	u64 v0 = state[0], v1 = state[1], v2 = state[2], v3 = state[3];

	for (int i = 0; i < 4; i++) {
		u64 m = i == 0 ? a : i == 1 ? b : i == 2 ? c : 24ULL << 56;
		v3 ^= m;
		SIP_ROUND();
		SIP_ROUND();
		v0 ^= m;
	}
	v2 ^= 0xff;
	for (int i = 0; i < 4; i++)
		SIP_ROUND();
	return v0 ^ v1 ^ v2 ^ v3;
}
