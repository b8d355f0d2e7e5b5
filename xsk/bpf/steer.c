// Steering: which frames leave the kernel for an AF_XDP socket.
//
// "Own address" mode: the user's stack has IP addresses that the host does not
// have. Frames for those addresses are redirected to the socket of the queue
// they arrived on; every other frame goes on to the kernel. XDP can not give a
// frame to both.
//
// The rule for doubt: a frame is redirected only if every byte the decision
// rests on is there and means what the decision takes it to mean. Anything
// else is the kernel's. Lengths, checksums, options and extension headers that
// do not take part in the decision are for the stack to check.

#include "abi.h"

// What is done to a frame that leaves the kernel, and the licence: steer_metadata.c
// has others.
#ifndef REDIRECTED
#define REDIRECTED(ctx)   ((void)0)
#define LICENCE           "Apache-2.0"
#endif

// Each frame gets exactly one verdict, which is its index in counters.
// Verdict in ../steer.go repeats the list.
enum verdict {
	REDIRECT_IPV4,    // to an own IPv4 address, any protocol, or UDP to a group; fragments too
	REDIRECT_IPV6,    // to an own IPv6 address, any protocol, fragments too, or UDP to a group
	REDIRECT_ARP,     // ARP about an own address, answers to its probe too
	REDIRECT_ND,      // multicast neighbour discovery about an own address
	PASS_NO_SOCKET,   // one of the above, on a queue without a socket
	PASS_NO_ADDRESS,  // IP, ARP or neighbour discovery, not about an own address
	PASS_FOREIGN_MAC, // unicast to another station: the interface is promiscuous
	PASS_MULTICAST,   // broadcast and multicast
	PASS_VLAN,        // 802.1Q or 802.1ad tag
	PASS_ETHERTYPE,   // neither IP nor ARP
	PASS_MALFORMED,   // truncated, or a header that contradicts itself
	VERDICTS,
};

// Value bits of the address maps. ADDR_OWN claims all traffic of an address, and of
// a multicast group UDP.
enum {
	ADDR_OWN = 1 << 0,
};

struct ipv6_addr {
	u64 half[2]; // as on the wire
};

// Sizes of xsks, addr4 and addr6 are set at load; these are for whoever loads the
// object with another loader.
struct {
	MAP_UINT(type, BPF_MAP_TYPE_XSKMAP);
	MAP_UINT(max_entries, 256);
	MAP_TYPE(key, u32); // receive queue
	MAP_TYPE(value, u32);
} xsks SEC(".maps");

struct {
	MAP_UINT(type, BPF_MAP_TYPE_HASH);
	MAP_UINT(max_entries, 1024);
	MAP_TYPE(key, u32); // as on the wire
	MAP_TYPE(value, u32);
} addr4 SEC(".maps");

struct {
	MAP_UINT(type, BPF_MAP_TYPE_HASH);
	MAP_UINT(max_entries, 1024);
	MAP_TYPE(key, struct ipv6_addr);
	MAP_TYPE(value, u32);
} addr6 SEC(".maps");

struct {
	MAP_UINT(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	MAP_UINT(max_entries, VERDICTS);
	MAP_TYPE(key, u32); // enum verdict
	MAP_TYPE(value, u64); // frames
} counters SEC(".maps");

// The interface's MAC address, first byte lowest, top 16 bits zero. One word,
// so that a change is seen whole.
volatile u64 interface_mac;

struct frame {
	const void *start, *end;
};

INLINE int has(struct frame f, int len) { return f.start + len <= f.end; }

// Loads in host order, for comparison with constants in wire order.
INLINE u8 load8(struct frame f, int off) { return *(const u8 *)(f.start + off); }
INLINE u16 load16(struct frame f, int off) { return *(const u16 *)(f.start + off); }
INLINE u32 load32(struct frame f, int off) { return *(const u32 *)(f.start + off); }
INLINE u64 load64(struct frame f, int off) { return *(const u64 *)(f.start + off); }

INLINE int own_ipv4(struct frame f, int off)
{
	u32 addr = load32(f, off);
	u32 *flags = bpf_map_lookup_elem(&addr4, &addr);
	return flags && (*flags & ADDR_OWN);
}

INLINE int own_ipv6(struct frame f, int off)
{
	struct ipv6_addr addr = {{load64(f, off), load64(f, off + 8)}};
	u32 *flags = bpf_map_lookup_elem(&addr6, &addr);
	return flags && (*flags & ADDR_OWN);
}

// The verdict on a frame that has the wrong destination MAC address for its
// protocol. Bit 0 of the first byte marks a group address.
INLINE enum verdict not_for_us(u64 mac)
{
	return mac & 1 ? PASS_MULTICAST : PASS_FOREIGN_MAC;
}

// Requests come to the broadcast or to our MAC address, replies to ours, and
// announcements to broadcast. Others' probes have no sender protocol address
// and are not special here. The answer to our own probe (RFC 5227, 2.1.1) has
// no target protocol address: there the sender decides, who has the address.
INLINE enum verdict classify_arp(struct frame f, u64 mac)
{
	if (mac != interface_mac && mac != 0xffffffffffff)
		return not_for_us(mac);
	if (!has(f, ARP_LEN))
		return PASS_MALFORMED;
	if (load32(f, ARP_FORMAT) != (WIRE16(1) | (u32)ETHERTYPE_IPV4 << 16) ||
	    load16(f, ARP_LENGTHS) != WIRE16(6 << 8 | 4))
		return PASS_MALFORMED;
	if (load16(f, ARP_OP) != WIRE16(1) && load16(f, ARP_OP) != WIRE16(2))
		return PASS_MALFORMED;
	if (load32(f, ARP_TARGET) == 0)
		return own_ipv4(f, ARP_SENDER) ? REDIRECT_ARP : PASS_NO_ADDRESS;
	return own_ipv4(f, ARP_TARGET) ? REDIRECT_ARP : PASS_NO_ADDRESS;
}

// Of what is sent to a group only UDP can leave the kernel: IGMP and routing
// protocols do not. Fragments have the protocol of their packet.
INLINE enum verdict classify_ipv4(struct frame f, u64 mac)
{
	int unicast = mac == interface_mac;

	if (!unicast && (mac & 0x80ffffff) != 0x5e0001)
		return not_for_us(mac);
	if (!has(f, IPV4_LEN))
		return PASS_MALFORMED;
	// Version 4 and at least five words of header: 0x45 to 0x4f. With any
	// other value nobody knows where a destination address would be.
	if ((u8)(load8(f, IPV4_VERSION_IHL) - 0x45) > 0x0a)
		return PASS_MALFORMED;
	// As with IPv6 the frame may be a unicast one if the packet is not, but not
	// the other way round.
	if (load8(f, IPV4_DST) >> 4 == 0xe)
		return load8(f, IPV4_PROTOCOL) == PROTOCOL_UDP && own_ipv4(f, IPV4_DST) ? REDIRECT_IPV4 : PASS_MULTICAST;
	if (!unicast)
		return PASS_MULTICAST;
	return own_ipv4(f, IPV4_DST) ? REDIRECT_IPV4 : PASS_NO_ADDRESS;
}

// Multicast is the kernel's, but for UDP to a group that was joined, and for
// neighbour solicitations and advertisements whose target is an own address: the
// host does not have that address and has nothing to say about it. Solicitations
// come to the solicited-node group, also the probes of a node that wants our
// address; advertisements to all nodes are the answer to our own probe. An
// extension header before UDP or ICMPv6 is not looked behind.
INLINE enum verdict classify_ipv6_multicast(struct frame f)
{
	if (load8(f, IPV6_NEXT_HEADER) == PROTOCOL_UDP)
		return own_ipv6(f, IPV6_DST) ? REDIRECT_IPV6 : PASS_MULTICAST;
	if (load16(f, IPV6_DST) != WIRE16(0xff02) || load8(f, IPV6_NEXT_HEADER) != 58)
		return PASS_MULTICAST;
	if (!has(f, ND_TYPE + 1))
		return PASS_MALFORMED;
	if (load8(f, ND_TYPE) != 135 && load8(f, ND_TYPE) != 136)
		return PASS_MULTICAST;
	if (!has(f, ND_LEN))
		return PASS_MALFORMED;
	return own_ipv6(f, ND_TARGET) ? REDIRECT_ND : PASS_NO_ADDRESS;
}

INLINE enum verdict classify_ipv6(struct frame f, u64 mac)
{
	int unicast = mac == interface_mac;

	if (!unicast && (u16)mac != 0x3333)
		return not_for_us(mac);
	if (!has(f, IPV6_LEN) || load8(f, IPV6_VERSION) >> 4 != 6)
		return PASS_MALFORMED;
	// A multicast packet may come in a unicast frame (RFC 6085), a unicast
	// packet must not come in a multicast one.
	if (load8(f, IPV6_DST) == 0xff)
		return classify_ipv6_multicast(f);
	if (!unicast)
		return PASS_MULTICAST;
	return own_ipv6(f, IPV6_DST) ? REDIRECT_IPV6 : PASS_NO_ADDRESS;
}

// A driver that strips the VLAN tag before XDP makes a tagged frame look
// untagged, and nothing here could tell: whoever attaches this program turns
// the interface's rx-vlan-offload off first.
INLINE enum verdict classify(const struct xdp_md *ctx)
{
	struct frame f = {(void *)(long)ctx->data, (void *)(long)ctx->data_end};
	u64 mac;

	if (!has(f, ETH_LEN))
		return PASS_MALFORMED;
	mac = load32(f, ETH_DST) | (u64)load16(f, ETH_DST + 4) << 32;
	switch (load16(f, ETH_TYPE)) {
	case ETHERTYPE_IPV4:
		return classify_ipv4(f, mac);
	case ETHERTYPE_IPV6:
		return classify_ipv6(f, mac);
	case ETHERTYPE_ARP:
		return classify_arp(f, mac);
	case ETHERTYPE_8021Q:
	case ETHERTYPE_8021AD:
		return PASS_VLAN;
	}
	return PASS_ETHERTYPE;
}

// Frags: a packet over several buffers comes too, and only its first one is
// between data and data_end. A header that does not end there is cut short.
SEC("xdp.frags") int afxnet_steer(struct xdp_md *ctx)
{
	u32 v = classify(ctx);
	long action = XDP_PASS;
	u64 *frames;

	if (v <= REDIRECT_ND) {
		action = bpf_redirect_map(&xsks, ctx->rx_queue_index, XDP_PASS);
		if (action != XDP_REDIRECT)
			v = PASS_NO_SOCKET;
		else
			REDIRECTED(ctx);
	}
	// Per CPU, and XDP does not nest on one: no atomic add.
	frames = bpf_map_lookup_elem(&counters, &v);
	if (frames)
		*frames += 1;
	return action;
}

// Never attached: run on a test frame it returns the verdict itself, without
// touching sockets or counters.
SEC("xdp.frags") enum verdict afxnet_verdict(struct xdp_md *ctx)
{
	return classify(ctx);
}

// The helpers used are open to every licence.
char program_licence[] SEC("license") = LICENCE;
