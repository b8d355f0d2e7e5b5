// The kernel and wire facts that steer.c needs, so that clang alone builds it.
// Values are those of Linux include/uapi/linux/{bpf,if_ether}.h, the same on
// every little-endian machine.
#pragma once

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

#define SEC(name)   __attribute__((section(name), used))
#define INLINE      static inline __attribute__((always_inline))

// Maps are described by the types of the members of a struct, which libraries
// read from BTF: an integer n is the type "pointer to array of n".
#define MAP_UINT(member, n)   int (*member)[n]
#define MAP_TYPE(member, t)   t *member

enum {
	BPF_MAP_TYPE_HASH         = 1,
	BPF_MAP_TYPE_PERCPU_ARRAY = 6,
	BPF_MAP_TYPE_XSKMAP       = 17,
};

enum {
	XDP_PASS     = 2,
	XDP_REDIRECT = 4,
};

// Data and data_end are rewritten by the verifier into packet pointers.
struct xdp_md {
	u32 data;
	u32 data_end;
	u32 data_meta;
	u32 ingress_ifindex;
	u32 rx_queue_index;
	u32 egress_ifindex;
};

// Helpers are called by number.
static void *(*const bpf_map_lookup_elem)(void *map, const void *key) = (void *)1;
static long (*const bpf_redirect_map)(void *map, u64 index, u64 flags) = (void *)51;
static long (*const bpf_xdp_adjust_meta)(struct xdp_md *ctx, int delta) = (void *)54;

// Functions of the kernel's are called by name, which the loader looks up in its
// BTF: net/core/xdp.c, Linux 6.3, the last one 6.8. Weak: a call to one that is
// not there does not hinder loading, unless it can be reached.
#define KFUNC   __attribute__((section(".ksyms"), weak))

enum xdp_rss_hash_type { XDP_RSS_TYPE_NONE }; // a set of bits; see RXHashType in ../metadata.go

extern int bpf_xdp_metadata_rx_hash(const struct xdp_md *ctx, u32 *hash, enum xdp_rss_hash_type *type) KFUNC;
extern int bpf_xdp_metadata_rx_timestamp(const struct xdp_md *ctx, u64 *timestamp) KFUNC;
extern int bpf_xdp_metadata_rx_vlan_tag(const struct xdp_md *ctx, u16 *proto, u16 *tci) KFUNC;

// A 16-bit number from the wire, as a little-endian load sees it.
#define WIRE16(x)   ((u16)(((x) & 0xff) << 8 | ((x) >> 8 & 0xff)))

enum {
	ETHERTYPE_IPV4   = WIRE16(0x0800),
	ETHERTYPE_ARP    = WIRE16(0x0806),
	ETHERTYPE_8021Q  = WIRE16(0x8100),
	ETHERTYPE_IPV6   = WIRE16(0x86dd),
	ETHERTYPE_8021AD = WIRE16(0x88a8),
};

// Offsets in bytes from the start of an untagged Ethernet frame.
enum {
	ETH_DST  = 0,
	ETH_TYPE = 12,
	ETH_LEN  = 14,

	IPV4_VERSION_IHL = ETH_LEN + 0,
	IPV4_PROTOCOL    = ETH_LEN + 9,
	IPV4_DST         = ETH_LEN + 16,
	IPV4_LEN         = ETH_LEN + 20, // without options

	PROTOCOL_UDP = 17,

	IPV6_VERSION     = ETH_LEN + 0,
	IPV6_NEXT_HEADER = ETH_LEN + 6,
	IPV6_DST         = ETH_LEN + 24,
	IPV6_LEN         = ETH_LEN + 40, // without extension headers

	ND_TYPE   = IPV6_LEN + 0,
	ND_TARGET = IPV6_LEN + 8,
	ND_LEN    = IPV6_LEN + 24, // without options

	ARP_FORMAT  = ETH_LEN + 0, // hardware type and protocol type
	ARP_LENGTHS = ETH_LEN + 4, // of a hardware and a protocol address
	ARP_OP      = ETH_LEN + 6,
	ARP_SENDER  = ETH_LEN + 14, // sender protocol address
	ARP_TARGET  = ETH_LEN + 24, // target protocol address
	ARP_LEN     = ETH_LEN + 28,
};
