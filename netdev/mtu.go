package netdev

import (
	"github.com/afxnet/afxnet/internal/packet"
	"github.com/afxnet/afxnet/xsk"
)

// minMTU is what every IPv4 host takes in one piece (RFC 791, 3.1). IPv6 needs
// a link of 1280 (RFC 8200, 5); package stack checks that where it is used.
const minMTU = 576

// maxMTU is the largest MTU whose frames the socket and packet.Parse take.
func maxMTU(s *xsk.Socket) int { return min(s.MaxMTU(), packet.MaxFrame-ethernetLen-vlanLen) }

// MTU returns the current MTU in bytes.
func (d *Device) MTU() int { return int(d.mtu.Load()) }

// setMTU follows the interface's MTU as far as frames fit their chunks. Below
// minMTU nothing is sent: see onLink.
func (d *Device) setMTU(mtu int) {
	d.mtuMu.Lock()
	defer d.mtuMu.Unlock()
	for _, q := range d.queues {
		mtu = min(mtu, maxMTU(q.sock))
	}
	if mtu >= minMTU {
		d.linkMTU = mtu
		d.storeMTULocked()
	}
}

// askMTU is endpoint.SetMTU.
func (d *Device) askMTU(mtu int) {
	d.mtuMu.Lock()
	defer d.mtuMu.Unlock()
	if mtu < minMTU || mtu > d.linkMTU {
		return
	}
	if d.askedMTU = mtu; mtu == d.linkMTU {
		d.askedMTU = 0
	}
	d.storeMTULocked()
}

func (d *Device) storeMTULocked() {
	mtu := d.linkMTU
	if d.askedMTU != 0 {
		mtu = min(mtu, d.askedMTU)
	}
	d.mtu.Store(uint32(mtu))
}
