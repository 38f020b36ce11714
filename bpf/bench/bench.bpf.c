//go:build ignore

// SPDX-License-Identifier: (GPL-2.0 OR BSD-3-Clause)
/* The two programs of the benchmark's rig: the bare reflector that everything
 * is compared with, and the filter that hands replies to the generator. */
typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

#define SEC(name) __attribute__((section(name), used))
#define __uint(name, val) int(*name)[val]

enum { BPF_MAP_TYPE_XSKMAP = 17 };
enum { XDP_PASS = 2, XDP_TX = 3 };

struct xdp_md {
	u32 data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex;
};

static long (*const bpf_redirect_map)(void *map, u64 key, u64 flags) = (void *)51;

struct {
	__uint(type, BPF_MAP_TYPE_XSKMAP);
	__uint(key_size, 4);
	__uint(value_size, 4);
	__uint(max_entries, 1);
} sockets SEC(".maps");

/* An IPv4 datagram without options, as the generator sends it. */
struct frame {
	u16 dst[3], src[3], ethertype;
	u8 version_ihl, tos;
	u16 len, id, frag;
	u8 ttl, protocol;
	u16 sum;
	u32 saddr, daddr;
	u16 sport, dport, ulen, usum;
} __attribute__((packed));

/* The generator's own ports: 0x9c00 to 0x9fff, in network order. */
#define IS_GENERATOR(port) (((port) & 0xfc) == 0x9c)
#define DHT_PORT 0xe11a /* 6881 in network order */

static inline struct frame *datagram(struct xdp_md *ctx)
{
	struct frame *f = (void *)(long)ctx->data;

	if ((void *)(f + 1) > (void *)(long)ctx->data_end)
		return 0;
	if (f->ethertype != 0x0008 || f->version_ihl != 0x45 || f->protocol != 17)
		return 0;
	return f;
}

/* Sends every datagram for the DHT port back as it came. */
SEC("xdp")
int reflect(struct xdp_md *ctx)
{
	struct frame *f = datagram(ctx);

	if (!f || f->dport != DHT_PORT)
		return XDP_PASS;
#pragma unroll
	for (int i = 0; i < 3; i++) {
		u16 mac = f->dst[i];
		f->dst[i] = f->src[i];
		f->src[i] = mac;
	}
	u32 addr = f->saddr;
	f->saddr = f->daddr;
	f->daddr = addr;
	u16 port = f->sport;
	f->sport = f->dport;
	f->dport = port;
	return XDP_TX;
}

/* One of IPv6, without extension headers. */
struct frame6 {
	u16 dst[3], src[3], ethertype;
	u32 flow;
	u16 len;
	u8 next, hops;
	u8 saddr[16], daddr[16];
	u16 sport, dport, ulen, usum;
} __attribute__((packed));

static inline int is_reply(struct xdp_md *ctx)
{
	struct frame *f = datagram(ctx);
	struct frame6 *f6 = (void *)(long)ctx->data;

	if (f)
		return IS_GENERATOR(f->dport);
	return (void *)(f6 + 1) <= (void *)(long)ctx->data_end && f6->ethertype == 0xdd86 && f6->next == 17 &&
	       IS_GENERATOR(f6->dport);
}

/* Redirects replies to the generator's AF_XDP socket. */
SEC("xdp")
int collect(struct xdp_md *ctx)
{
	if (!is_reply(ctx))
		return XDP_PASS;
	return bpf_redirect_map(&sockets, 0, XDP_PASS);
}

char _license[] SEC("license") = "Dual BSD/GPL";
