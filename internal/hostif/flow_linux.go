package hostif

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// struct ethtool_rxnfc (linux/ethtool.h), in bytes: cmd, flow type, data, a struct
// ethtool_rx_flow_spec, a count of rules, their locations.
const (
	nfcDataOffset  = 8
	nfcFlowOffset  = 16
	nfcCountOffset = nfcFlowOffset + flowLen
	nfcRulesOffset = nfcCountOffset + 4
	nfcLen         = nfcRulesOffset + 4 // with padding
)

// struct ethtool_rx_flow_spec: flow type, values, more values, the masks of both, the
// queue, the location.
const (
	flowValues   = 4
	flowMoreLen  = 20
	flowUnionLen = 52
	flowMasks    = flowValues + flowUnionLen + flowMoreLen
	flowQueue    = 152
	flowLocation = 160
	flowLen      = 168
)

// Flow types, and their flags that more values count.
const (
	flowTypeTCP4  = 0x1
	flowTypeUDP4  = 0x2
	flowTypeSCTP4 = 0x3
	flowTypeIPv6  = 0x4 // added to those
	flowTypeEther = 0x12
	flowTypeMore  = 0x8000_0000 | 0x4000_0000 // FLOW_EXT, FLOW_MAC_EXT
)

// Locations of rules.
const (
	locationAny     = ^uint32(0) // the driver chooses
	locationSpecial = 1 << 31    // in nfcDataOffset: it wants to
)

// flowRule is a struct ethtool_rx_flow_spec.
type flowRule [flowLen]byte

// newFlowRule encodes a flow that Check has nothing against, for a queue.
func newFlowRule(f Flow, queue uint32) (r flowRule) {
	values, masks := r[flowValues:], r[flowMasks:]
	binary.NativeEndian.PutUint64(r[flowQueue:], uint64(queue))
	if f.EtherType != 0 { // struct ethhdr
		native.PutUint32(r[:], flowTypeEther)
		binary.BigEndian.PutUint16(values[12:], f.EtherType)
		binary.BigEndian.PutUint16(masks[12:], 0xffff)
		return r
	}
	// struct ethtool_tcpip4_spec and ethtool_tcpip6_spec: addresses, ports.
	typ := map[uint8]uint32{FlowTCP: flowTypeTCP4, FlowUDP: flowTypeUDP4, FlowSCTP: flowTypeSCTP4}[f.Protocol]
	size := 4
	if !f.ipv4() {
		typ += flowTypeIPv6
		size = 16
	}
	native.PutUint32(r[:], typ)
	for i, p := range []netip.Prefix{f.Src, f.Dst} {
		if p.IsValid() {
			copy(values[i*size:], p.Masked().Addr().AsSlice())
			for bit := range p.Bits() {
				masks[i*size+bit/8] |= 0x80 >> (bit % 8)
			}
		}
	}
	for i, port := range []uint16{f.SrcPort, f.DstPort} {
		if port != 0 {
			binary.BigEndian.PutUint16(values[2*size+2*i:], port)
			binary.BigEndian.PutUint16(masks[2*size+2*i:], 0xffff)
		}
	}
	return r
}

func (r *flowRule) kind() uint32     { return native.Uint32(r[:]) }
func (r *flowRule) queue() uint64    { return native.Uint64(r[flowQueue:]) }
func (r *flowRule) location() uint32 { return native.Uint32(r[flowLocation:]) }

// match is which packets the rule is about: its type, what of the values counts, and
// the masks.
func (r *flowRule) match() []byte {
	typ := r.kind()
	n := flowUnionLen + flowMoreLen
	if typ&flowTypeMore == 0 {
		n = flowUnionLen // the driver may not have cleared the rest
	}
	b := native.AppendUint32(nil, typ)
	for i := range n {
		b = append(b, r[flowValues+i]&r[flowMasks+i], r[flowMasks+i])
	}
	return b
}

// is tells whether two rules send the same packets to the same queue.
func (r *flowRule) is(other *flowRule) bool {
	return r.queue() == other.queue() && bytes.Equal(r.match(), other.match())
}

// flowTool asks about the rules of a device. Package tests have another one.
type flowTool interface {
	ioctl(name string, request []byte) error
	// name is what a device is called now: errors.Is(err, unix.ENODEV) holds if
	// it is gone.
	name(index int) (string, error)
	// filtering tells whether the device's rules are on, and can be.
	filtering(name string) (on, available bool, err error)
	close()
}

func openFlowTool() (flowTool, error) { return openEthtool() }

func (e *ethtool) filtering(name string) (on, available bool, err error) {
	bit, blocks, err := e.feature(name, "rx-ntuple-filter")
	if err != nil {
		return false, false, err
	}
	block, err := e.featureBlock(name, blocks, bit)
	if err != nil {
		return false, false, err
	}
	mask := uint32(1) << (bit % 32)
	return native.Uint32(block[featureActiveOffset:])&mask != 0, native.Uint32(block)&mask != 0, nil
}

// askRules makes a request about rules that has nothing but a command.
func askRules(cmd uint32, entries int) []byte {
	req := make([]byte, nfcLen+4*entries)
	native.PutUint32(req, cmd)
	native.PutUint32(req[nfcCountOffset:], uint32(entries))
	return req
}

// maxRules bounds what is allocated: more rules than any NIC has.
const maxRules = 1 << 20

// readRules returns a device's rules, and how many it has room for: 0 where the
// driver does not tell, or chooses the locations.
func readRules(tool flowTool, name string) (rules []flowRule, size int, err error) {
	count := askRules(unix.ETHTOOL_GRXCLSRLCNT, 0)
	if err := tool.ioctl(name, count); err != nil {
		return nil, 0, err
	}
	n := int(native.Uint32(count[nfcCountOffset:]))
	if n > maxRules {
		return nil, 0, fmt.Errorf("%d rules: %w", n, errors.ErrUnsupported)
	}
	all := askRules(unix.ETHTOOL_GRXCLSRLALL, room(n))
	if err := tool.ioctl(name, all); err != nil {
		return nil, 0, err
	}
	n = min(int(native.Uint32(all[nfcCountOffset:])), room(n))
	for i := range n {
		one := askRules(unix.ETHTOOL_GRXCLSRULE, 0)
		native.PutUint32(one[nfcFlowOffset+flowLocation:], native.Uint32(all[nfcRulesOffset+4*i:]))
		err := tool.ioctl(name, one)
		if errors.Is(err, unix.ENOENT) {
			continue // somebody has removed it meanwhile
		}
		if err != nil {
			return nil, 0, err
		}
		rules = append(rules, flowRule(one[nfcFlowOffset:]))
	}
	data := max(native.Uint64(count[nfcDataOffset:]), native.Uint64(all[nfcDataOffset:]))
	if data&locationSpecial != 0 {
		return rules, 0, nil
	}
	return rules, int(min(data, maxRules)), nil
}

// changeRules inserts or removes a rule, and returns its location.
func changeRules(tool flowTool, name string, cmd uint32, r *flowRule) (location uint32, err error) {
	req := askRules(cmd, 0)
	copy(req[nfcFlowOffset:], r[:])
	err = tool.ioctl(name, req)
	return native.Uint32(req[nfcFlowOffset+flowLocation:]), err
}
