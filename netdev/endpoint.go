package netdev

import (
	"errors"
	"sync/atomic"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	gstack "gvisor.dev/gvisor/pkg/tcpip/stack"
)

// endpoint is the Device as a netstack link endpoint. It is a type of its own
// because netstack's Close is a different one: it comes when the NIC is removed,
// under netstack's locks, and must not wait.
type endpoint struct {
	d   *Device
	mac atomic.Pointer[tcpip.LinkAddress]
}

var (
	_ gstack.LinkEndpoint = (*endpoint)(nil)
	_ gstack.GSOEndpoint  = (*endpoint)(nil)
)

func (e *endpoint) init(d *Device) {
	e.d = d
	e.setMAC(string(d.link.MAC))
}

// setMAC follows the interface's address: connections go on with it, as the kernel's
// do. It reports whether it is another one.
func (e *endpoint) setMAC(mac string) bool {
	a := tcpip.LinkAddress(mac)
	if old := e.mac.Load(); len(a) != 6 || old != nil && *old == a {
		return false
	}
	e.mac.Store(&a)
	return true
}

func (e *endpoint) MTU() uint32                             { return e.d.mtu.Load() }
func (e *endpoint) MaxHeaderLength() uint16                 { return ethernetLen }
func (e *endpoint) LinkAddress() tcpip.LinkAddress          { return *e.mac.Load() }
func (e *endpoint) ARPHardwareType() header.ARPHardwareType { return header.ARPHardwareEther }

// SetMTU takes a smaller MTU than the interface has now; a larger one is ignored, as
// the frames would not fit. It outlives changes of the interface's, below which it
// does not count, until it is set to the interface's own.
func (e *endpoint) SetMTU(mtu uint32) { e.d.askMTU(int(mtu)) }

// SetLinkAddress does nothing: the address is the interface's.
func (e *endpoint) SetLinkAddress(tcpip.LinkAddress) {}

// Capabilities does not claim checksum offload in either direction. Receive:
// the NIC layer would take it for every packet, fragments included; see
// [Verified]. Transmit: UDP would leave the field empty in datagrams that are
// then fragmented, where no link can repair it. TCP checksums are the cutter's
// all the same, because of HostGSO.
func (e *endpoint) Capabilities() gstack.LinkEndpointCapabilities {
	return gstack.CapabilityResolutionRequired
}

// GSOMaxSize is the largest IP packet that netstack may hand over, in bytes: see
// [GSOSize]. This one is for IPv4 and for frames in which netstack leaves room for
// all TCP options.
func (e *endpoint) GSOMaxSize() uint32 {
	return uint32(GSOSize(int(e.MTU()) - header.IPv4MinimumSize - header.TCPHeaderMaximumSize))
}

// SupportedGSO asks for large segments: the transmit path cuts them.
func (e *endpoint) SupportedGSO() gstack.SupportedGSO { return gstack.HostGSOSupported }

// Attach starts the pollers with the first dispatcher; nil detaches. It comes
// under netstack's locks, which a poller may want, so it does not wait.
func (e *endpoint) Attach(nd gstack.NetworkDispatcher) {
	if nd == nil {
		e.d.dispatcher.Store(nil)
		return
	}
	e.d.dispatcher.Store(&nd)
	e.d.start()
}

func (e *endpoint) IsAttached() bool { return e.d.dispatcher.Load() != nil }

// Wait returns when the pollers have ended, after Device.Close; at once if the
// device is not closing, since netstack waits for endpoints it shares.
func (e *endpoint) Wait() {
	if e.d.closing.Load() {
		e.d.workers.Wait()
	}
}

// Close does nothing: Device.Close frees what the device holds.
func (e *endpoint) Close() {}

// SetOnCloseAction does nothing: closing the endpoint ends no network device.
func (e *endpoint) SetOnCloseAction(func()) {}

// AddHeader writes the Ethernet header.
func (e *endpoint) AddHeader(pkt *gstack.PacketBuffer) {
	h := header.Ethernet(pkt.LinkHeader().Push(ethernetLen))
	h.Encode(&header.EthernetFields{
		SrcAddr: *e.mac.Load(), // routes keep that of when they were made
		DstAddr: pkt.EgressRoute.RemoteLinkAddress,
		Type:    pkt.NetworkProtocolNumber,
	})
}

// ParseHeader takes the Ethernet header off a packet.
func (e *endpoint) ParseHeader(pkt *gstack.PacketBuffer) bool {
	_, ok := pkt.LinkHeader().Consume(ethernetLen)
	return ok
}

// WritePackets queues packets for sending.
func (e *endpoint) WritePackets(pkts gstack.PacketBufferList) (int, tcpip.Error) {
	for i, pkt := range pkts.AsSlice() {
		if err := e.d.write(pkt); err != nil {
			return i, err
		}
	}
	return pkts.Len(), nil
}

// qdisc is the Device as a netstack queueing discipline.
type qdisc Device

func (q *qdisc) WritePacket(pkt *gstack.PacketBuffer) tcpip.Error { return (*Device)(q).write(pkt) }

func (q *qdisc) Close() {}

// write hands a packet to one of the queues. A flow always takes the same one,
// so that it is not reordered.
func (d *Device) write(pkt *gstack.PacketBuffer) tcpip.Error {
	down := d.down.Load()
	if down != nil && !errors.Is(*down, ErrNoCarrier) || d.closing.Load() {
		return &tcpip.ErrNetworkUnreachable{}
	}
	q := d.senders[0]
	if n := uint32(len(d.senders)); n > 1 {
		q = d.senders[pkt.Hash%n]
	}
	if down != nil {
		q.tx.st.droppedDown.Add(1)
		return nil
	}
	q.tx.write(pkt)
	return nil
}
