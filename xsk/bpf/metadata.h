// What a program tells the socket about a frame, right before its first byte, and
// how it gets it there. A program of a user's own can include abi.h and this file,
// or write the same 32 bytes in any other way. To call add_metadata it has to have a
// licence that is compatible with the GPL: see steer_metadata.c.
#pragma once

// Bits of metadata.valid. RXMetadataSet in ../metadata.go repeats the list.
enum {
	METADATA_HASH      = 1 << 0,
	METADATA_TIMESTAMP = 1 << 1,
	METADATA_VLAN      = 1 << 2,
};

// The order of bytes is the machine's, but for vlan_proto. What is not valid is 0.
// 32 bytes are what every kernel with metadata takes.
struct metadata {
	u64 timestamp;  // nanoseconds, by the device's clock
	u32 hash;
	u32 hash_type;  // what the hash covers: enum xdp_rss_hash_type
	u16 vlan_proto; // EtherType of the tag that the device took off, as on the wire
	u16 vlan_tci;   // the tag: priority, drop eligibility, 12 bits of VLAN
	u32 valid;      // METADATA_*
	u64 marker;     // the socket's Config.MetadataMarker
};

// Puts what is wanted of the metadata before the frame. If there is no room, or if
// the driver has put something of its own there, nothing is added, and without
// marker the socket takes nothing for it.
INLINE void add_metadata(struct xdp_md *ctx, u32 wanted, u64 marker)
{
	enum xdp_rss_hash_type hash_type = XDP_RSS_TYPE_NONE;
	u16 vlan_proto = 0, vlan_tci = 0;
	u32 hash = 0, valid = 0;
	u64 timestamp = 0;
	struct metadata *m;
	void *start;

	// An error is that the device has none for this frame. Some report a
	// timestamp of 0 instead: veth, where no device has taken one (Linux 6.18).
	if (wanted & METADATA_HASH && !bpf_xdp_metadata_rx_hash(ctx, &hash, &hash_type))
		valid |= METADATA_HASH;
	if (wanted & METADATA_TIMESTAMP && !bpf_xdp_metadata_rx_timestamp(ctx, &timestamp) && timestamp)
		valid |= METADATA_TIMESTAMP;
	if (wanted & METADATA_VLAN && !bpf_xdp_metadata_rx_vlan_tag(ctx, &vlan_proto, &vlan_tci))
		valid |= METADATA_VLAN;

	if (bpf_xdp_adjust_meta(ctx, -(int)sizeof(*m)))
		return;
	m = (void *)(long)ctx->data_meta;
	start = (void *)(long)ctx->data;
	if ((void *)(m + 1) < start)
		return;
	// Keeps the comparisons apart: one for != teaches the verifier nothing.
	__asm__ volatile("" : "+r"(start));
	if ((void *)(m + 1) > start)
		return;
	m->timestamp = timestamp;
	m->hash = hash;
	m->hash_type = hash_type;
	m->vlan_proto = vlan_proto;
	m->vlan_tci = vlan_tci;
	m->valid = valid;
	m->marker = marker;
}
