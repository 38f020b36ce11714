/* What this program needs of the kernel's interface, so that no kernel header is needed to build it. */
#pragma once

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef signed int s32;
typedef signed long long s64;

#define NULL ((void *)0)
#define SEC(name) __attribute__((section(name), used))
#define INLINE static inline __attribute__((always_inline))
#define LIKELY(x) __builtin_expect(!!(x), 1)
#define UNLIKELY(x) __builtin_expect(!!(x), 0)

/* Map attributes, read by the loader from the object's type information. */
#define MAP_UINT(name, value) int(*name)[value]
#define MAP_TYPE(name, value) typeof(value) *name
#define MAP_VALUES(name, value) typeof(value) *name[]

enum map_type {
	MAP_HASH = 1,
	MAP_ARRAY = 2,
	MAP_PERCPU_ARRAY = 6,
	MAP_LRU_HASH = 9,
	MAP_LPM_TRIE = 11,
	MAP_ARRAY_OF_MAPS = 12,
	MAP_RINGBUF = 27,
};

enum map_flag { MAP_NO_PREALLOC = 1, MAP_MMAPABLE = 1 << 10 };
enum skb_flag { RECOMPUTE_CHECKSUM = 1 };
enum update_flag { UPDATE_ANY, UPDATE_NO_EXIST, UPDATE_EXIST };

enum verdict { XDP_ABORTED, XDP_DROP, XDP_PASS, XDP_TX, XDP_REDIRECT };
enum tc_verdict { TC_NEXT = -1, TC_DROP = 2 };

struct xdp_md {
	u32 data;
	u32 data_end;
	u32 data_meta;
	u32 ingress_ifindex;
	u32 rx_queue_index;
	u32 egress_ifindex;
};

/* The context of a program in the traffic control hook, as far as we read it. */
struct __sk_buff {
	u32 len;
	u32 pkt_type;
	u32 mark;
	u32 queue_mapping;
	u32 protocol;
	u32 others[14];
	u32 data;
	u32 data_end;
};

/* Helpers, by their number in the kernel's table. */
static void *(*const map_lookup)(void *map, const void *key) = (void *)1;
static long (*const map_update)(void *map, const void *key, const void *value, u64 flags) = (void *)2;
static long (*const map_delete)(void *map, const void *key) = (void *)3;
static u64 (*const ktime)(void) = (void *)5;
static u32 (*const this_cpu)(void) = (void *)8;
static long (*const skb_store_bytes)(struct __sk_buff *skb, u32 offset, const void *from, u32 len,
				     u64 flags) = (void *)9;
static long (*const clone_redirect)(struct __sk_buff *skb, u32 ifindex, u64 flags) = (void *)13;
static long (*const redirect)(u32 ifindex, u64 flags) = (void *)23;
static long (*const skb_load_bytes)(const struct __sk_buff *skb, u32 offset, void *to, u32 len) = (void *)26;
static long (*const skb_change_tail)(struct __sk_buff *skb, u32 len, u64 flags) = (void *)38;
static long (*const adjust_head)(struct xdp_md *ctx, int delta) = (void *)44;
static long (*const adjust_tail)(struct xdp_md *ctx, int delta) = (void *)65;
static u64 (*const jiffies64)(void) = (void *)118;
static void *(*const ringbuf_reserve)(void *ringbuf, u64 size, u64 flags) = (void *)131;
static void (*const ringbuf_submit)(void *data, u64 flags) = (void *)132;
static void (*const ringbuf_discard)(void *data, u64 flags) = (void *)133;
static u64 (*const ktime_coarse)(void) = (void *)160;
static long (*const check_mtu)(struct xdp_md *ctx, u32 ifindex, u32 *len, int diff, u64 flags) = (void *)163;
static long (*const load_bytes)(struct xdp_md *ctx, u32 offset, void *to, u32 size) = (void *)189;
static long (*const store_bytes)(struct xdp_md *ctx, u32 offset, const void *from, u32 size) = (void *)190;

/* Network byte order. */
#define be16(x) __builtin_bswap16(x)
#define be32(x) __builtin_bswap32(x)
#define be64(x) __builtin_bswap64(x)

/* Unaligned access, which the JITs and the interpreter of all 64-bit machines
 * that we run on allow. */
#define AT8(p) (*(u8 *)(p))
#define AT16(p) (*(u16 *)(p))
#define AT32(p) (*(u32 *)(p))
#define AT64(p) (*(u64 *)(p))

/* Hides from the compiler what it knows of a value, so that it keeps the bounds
 * check that the verifier wants to see. */
#define OPAQUE(x) asm volatile("" : "+r"(x))
