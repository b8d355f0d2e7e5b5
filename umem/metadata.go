package umem

// OptionTXMetadata is XDP_TX_METADATA (6.8): in the bytes before the packet is a
// request to the kernel or the device. Package xsk sets it.
const OptionTXMetadata = 1 << 1

// MinTXMetadata is the least Config.TXMetadata in bytes: struct xsk_tx_metadata
// (linux/if_xdp.h, 24 bytes since 6.15, 16 before), and behind it 8 bytes that the
// kernel leaves alone, in which package xsk keeps what a packet is known by.
const MinTXMetadata = 32

// The kernel's rules (xdp_umem_reg in Linux net/xdp/xdp_umem.c).
const (
	maxTXMetadata   = 248 // less than 256
	txMetadataAlign = 8
)

// TXMetadata returns Config.TXMetadata in bytes.
func (r *Region) TXMetadata() int { return r.metadata }

// MaxTXFrame returns how many bytes of a packet can be sent from one chunk.
func (r *Region) MaxTXFrame() int { return r.chunkSize - r.metadata }

// CheckTX is Check for a packet to be sent: in its chunk there must also be room
// before it for TXMetadata bytes. The kernel wants that room for every packet,
// with or without a request, and stops at one that has not.
func (r *Region) CheckTX(d Desc) bool {
	return r.Check(d) && d.Addr-r.Frame(d.Addr) >= Addr(r.metadata)
}

// MetadataBefore returns the TXMetadata bytes right before a, nil if the region
// has none or they do not lie in a's chunk. Same rules as Bytes.
func (r *Region) MetadataBefore(a Addr) []byte {
	n := Addr(r.metadata)
	if n == 0 || a >= Addr(len(r.mem)) || a-r.Frame(a) < n {
		return nil
	}
	return r.mem[a-n : a : a]
}

// SetAnswer notes whether the metadata before the packet at a, in a frame of the
// caller's, will hold an answer when the frame comes back. The region must have
// TXMetadata, and the packet passed CheckTX.
func (r *Region) SetAnswer(a Addr, will bool) {
	i := r.number(a)
	r.answer[i] = 0
	if will {
		r.answer[i] = uint16(a - i*Addr(r.chunkSize)) // TXMetadata at least
	}
}

// TakeAnswer returns the metadata before the packet at a, if SetAnswer has said
// that there will be an answer, once; nil otherwise, for any a.
func (r *Region) TakeAnswer(a Addr) []byte {
	i := r.number(a)
	if i >= Addr(len(r.answer)) || r.answer[i] == 0 || Addr(r.answer[i]) != a-i*Addr(r.chunkSize) {
		return nil
	}
	r.answer[i] = 0
	return r.MetadataBefore(a)
}
