package inmemory

import (
	"bytes"
	"encoding/binary"
	"sync"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// A watcher looks at every packet that crosses.
type watcher struct {
	t       testing.TB
	mu      sync.Mutex
	packets int
	longest int // bytes of IP packet
}

// packet checks the length and the checksums of an IPv4 packet.
func (w *watcher) packet(b []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.packets++
	w.longest = max(w.longest, len(b))
	ip := header.IPv4(b)
	if !ip.IsValid(len(b)) || int(ip.TotalLength()) != len(b) || !ip.IsChecksumValid() {
		w.t.Errorf("IPv4 header of a packet of %d bytes: % x", len(b), b[:min(len(b), 40)])
		return
	}
	tcp := header.TCP(ip.Payload())
	sum := checksum.Checksum(tcp.Payload(), 0)
	if !tcp.IsChecksumValid(ip.SourceAddress(), ip.DestinationAddress(), sum, uint16(len(tcp.Payload()))) {
		w.t.Errorf("TCP checksum of a packet of %d bytes is wrong", len(b))
	}
}

// Write takes the pcap file of a wire.Tap, a record or the header at a time.
func (w *watcher) Write(p []byte) (int, error) {
	const fileHeader, recordHeader, ethernet = 24, 16, 14
	b := p
	if bytes.HasPrefix(b, []byte{0xd4, 0xc3, 0xb2, 0xa1}) || bytes.HasPrefix(b, []byte{0x4d, 0x3c, 0xb2, 0xa1}) {
		b = b[fileHeader:]
	}
	for len(b) > 0 {
		captured, length := binary.LittleEndian.Uint32(b[8:]), binary.LittleEndian.Uint32(b[12:])
		frame := b[recordHeader : recordHeader+int(captured)]
		if captured != length || len(frame) > 1514 {
			w.t.Errorf("a frame of %d bytes, %d captured", length, captured)
		}
		if binary.BigEndian.Uint16(frame[12:]) == uint16(header.IPv4ProtocolNumber) {
			w.packet(frame[ethernet:])
		}
		b = b[recordHeader+int(captured):]
	}
	return len(p), nil
}

// TestFrames checks all that crosses during both loads.
func TestFrames(t *testing.T) {
	for _, kind := range Kinds {
		t.Run(kind, func(t *testing.T) {
			for load, run := range map[string]func(*session, *Result, time.Duration) error{"bulk": bulk, "rr": rr} {
				l, err := newLink(kind)
				if err != nil {
					skipUnsupported(t, err)
					t.Fatal(err)
				}
				w := &watcher{t: t}
				stop := func() error { return nil }
				switch l := l.(type) {
				case *theirs:
					l.watch = w.packet
				case *ours:
					if stop, err = l.Wire.Tap(w); err != nil {
						t.Fatal(err)
					}
				}
				r := Result{Kind: kind, Load: load, Size: 4000}
				if err := runOver(t.Context(), l, run, &r, short); err != nil {
					t.Error(err)
				}
				if err := stop(); err != nil {
					t.Error(err)
				}
				frames := l.Frames()
				if err := l.Close(); err != nil {
					t.Error(err)
				}
				// netstack leaves room for all TCP options in every segment. The
				// count is right but for ARP before and the goodbyes after it.
				const fullSegment = mtu - 40
				if w.longest < fullSegment || w.longest > mtu || uint64(w.packets)+10 < frames {
					t.Errorf("%s: %d packets of at most %d bytes, %d frames", load, w.packets, w.longest, frames)
				}
			}
		})
	}
}
