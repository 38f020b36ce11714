/* Whether the UDP checksum lets a datagram be taken for what it is. */
#pragma once

#include "csum.h"
#include "query.h"

/* Set by the loader in the variant of the program for generic mode. */
const volatile u32 generic SEC(".rodata") = 0;

INLINE u64 sum_pseudo(const struct packet *pk)
{
	return pk->addr_sum + be16(IP_PROTO_UDP) + be16(pk->len);
}

/*
 * Whether the sum in the datagram is only that of the pseudo-header: from a local sender, who left the rest
 * to hardware that a virtual link does not have. In generic mode the socket buffer remembers that, and where:
 * the reply would inherit it, and somebody on its way would overwrite two bytes of it with a checksum. One in
 * 65536 complete checksums looks the same, so what is good as such is answered there.
 */
INLINE int is_partial(const struct packet *pk)
{
	return pk->check == sum_fold(sum_pseudo(pk));
}

/* Says GO_ON when the UDP checksum lets the datagram of len bytes at udp be answered. */
INLINE int check_sum(const struct packet *pk, const void *udp, const void *end)
{
	if (!pk->check)
		return pk->v6 ? REASON_BAD_UDP_CHECKSUM : GO_ON;
	int partial = is_partial(pk);
	if (partial && !generic)
		return GO_ON;
	if (sum_fold(sum_pseudo(pk) + sum_datagram(udp, pk->len, end)) == 0xffff)
		return GO_ON;
	return partial ? REASON_PARTIAL_CHECKSUM : REASON_BAD_UDP_CHECKSUM;
}

/* The same for the datagram that was copied to s->datagram, with all of s->packet known to be right. */
INLINE int check_copy(struct scratch *s)
{
	const struct packet *pk = &s->packet;
	u32 len = s->len;
	u64 sum = sum_pseudo(pk);

	if (!pk->check)
		return pk->v6 ? REASON_BAD_UDP_CHECKSUM : GO_ON;
	int partial = is_partial(pk);
	if (partial && !generic)
		return GO_ON;
	if (len > MAX_DATAGRAM)
		return REASON_TOO_LONG;
	AT64(s->datagram + len) = 0;
	for (u32 i = 0; i < MAX_DATAGRAM; i += 8) {
		if (i >= len)
			break;
		sum += sum64(AT64(s->datagram + i));
	}
	if (sum_fold(sum) == 0xffff)
		return GO_ON;
	return partial ? REASON_PARTIAL_CHECKSUM : REASON_BAD_UDP_CHECKSUM;
}
