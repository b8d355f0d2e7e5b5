package stack

import (
	"bytes"
	"encoding/binary"
	"io"
	"math/rand/v2"
	"net/netip"
	"sync"
	"testing"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	gstack "gvisor.dev/gvisor/pkg/tcpip/stack"
)

// exchangeAll sends something over TCP and UDP, IPv4 and IPv6, both ways.
func exchangeAll(t *testing.T, ow *overWire) {
	t.Helper()
	for i, host := range []string{addrB, addrB6} {
		c, s := ow.tcpPair(t, host)
		var wg sync.WaitGroup
		wg.Go(func() { io.Copy(s, s) }) //nolint:errcheck // ends with the connection
		msg := bytes.Repeat([]byte("both ways "), 10_000)
		wg.Go(func() { c.Write(msg) }) //nolint:errcheck // Read tells
		got := make([]byte, len(msg))
		if _, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, msg) {
			t.Fatalf("%s: TCP: %v", host, err)
		}
		c.Close()
		s.Close()
		wg.Wait()

		network := [2]string{"udp4", "udp6"}[i]
		srv := listenUDP(t, ow.s[1], network, ":53")
		cli := listenUDP(t, ow.s[0], network, ":0")
		to := netip.AddrPortFrom(netip.MustParseAddr(host), 53)
		for _, n := range []int{1, 2, 3, 10, 20, 30, 100, 200, 300, 1400, 5000} {
			if _, err := cli.WriteToUDPAddrPort(msg[:n], to); err != nil {
				t.Fatal(err)
			}
			m, from, err := srv.ReadFromUDPAddrPort(got)
			if err != nil || m != n {
				t.Fatalf("%s: UDP: %d bytes of %d, %v", host, m, n, err)
			}
			if _, err := srv.WriteToUDPAddrPort(got[:m], from); err != nil {
				t.Fatal(err)
			}
			if m, _, err = cli.ReadFromUDPAddrPort(got); err != nil || !bytes.Equal(got[:m], msg[:n]) {
				t.Fatalf("%s: UDP came back as %d bytes, %v", host, m, err)
			}
		}
		cli.Close()
		srv.Close()
	}
}

// TestFastIP sees that plain packets take the short way, and that it can be
// switched off before and while it is used.
func TestFastIP(t *testing.T) {
	t.Run("on", func(t *testing.T) {
		ow := newOverWire(t, overWireOptions{chosen: true})
		exchangeAll(t, ow)
		for i, s := range ow.s {
			// The ten short datagrams at least: how many packets TCP's bytes are in
			// depends on how fast they come.
			if st := s.Stats(); st.FastReceived < 20 || st.FastSent < 20 {
				t.Errorf("stack %d: %+v", i, st)
			}
		}
		// The long datagrams came in fragments, which do not.
		ip := ow.s[1].ns.Stats().IP
		if slow := ip.PacketsReceived.Value(); slow < 8 {
			t.Errorf("%d packets went through netstack's IP layer", slow)
		}
		fast := ow.s[1].Stats()
		was := ip.PacketsDelivered.Value()
		if ow.s[1].Netstack() != ow.s[1].ns || ow.s[1].Netstack() == nil {
			t.Error("Netstack returns another")
		}
		if got := ip.PacketsDelivered.Value(); got < was+fast.FastReceived {
			t.Errorf("netstack has delivered %d packets, and before %d besides %d", got, was, fast.FastReceived)
		}
		// What was on the short way then comes to its end: the last ACKs may be.
		ow.s[1].dev.Audit() // takes the poll lock
		ow.s[1].fast.inline.close()
		ow.s[1].ns.Pause() // waits for netstack's goroutines
		ow.s[1].ns.Resume()
		last := ow.s[1].Stats()
		exchangeAll(t, ow)
		if now := ow.s[1].Stats(); now.FastReceived != last.FastReceived || now.FastSent != last.FastSent {
			t.Errorf("after Netstack: %+v, then %+v", last, now)
		}
	})
	t.Run("off", func(t *testing.T) {
		o := overWireOptions{chosen: true}
		o.config[0].NoFastIP, o.config[1].NoFastIP = true, true
		ow := newOverWire(t, o)
		exchangeAll(t, ow)
		for i, s := range ow.s {
			if st := s.Stats(); st.FastReceived != 0 || st.FastSent != 0 {
				t.Errorf("stack %d: %+v", i, st)
			}
		}
	})
}

func TestHeaderChecksum(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 10_000 {
		var h [header.IPv4MinimumSize]byte
		for i := 0; i < len(h); i += 4 {
			v := random.Uint32()
			if random.IntN(4) == 0 {
				v = [2]uint32{0, 0xffffffff}[random.IntN(2)]
			}
			binary.BigEndian.PutUint32(h[i:], v)
		}
		h[0], h[10], h[11] = 0x45, 0, 0
		want := ^header.IPv4(h[:]).CalculateChecksum()
		if got := headerChecksum(&h); got != want {
			t.Fatalf("%x: %#x, want %#x", h, got, want)
		}
	}
}

func TestPlainSource(t *testing.T) {
	var f fastIP
	f.add(netip.MustParsePrefix("10.0.0.1/24"))
	f.add(netip.MustParsePrefix("192.0.2.4/31"))
	f.add(netip.MustParsePrefix("198.51.100.7/32"))
	f.add(netip.MustParsePrefix("fd00::1/64"))
	f.add(netip.MustParsePrefix("fe80::1/64"))
	o := f.own.Load()
	for a, want := range map[string]bool{
		"10.0.0.2": true, "10.0.1.255": true, "192.0.2.5": true, "198.51.100.8": true, "169.254.1.1": true, "1.0.0.0": true, "223.255.255.255": true,
		"10.0.0.1": false, "10.0.0.255": false, "192.0.2.4": false, "198.51.100.7": false,
		"0.0.0.0": false, "0.1.2.3": false, "127.0.0.1": false, "127.255.0.1": false, "224.0.0.1": false, "240.0.0.1": false, "255.255.255.255": false,
		"fd00::2": true, "fe80::2": true, "2001:db8::": true,
		"fd00::1": false, "fe80::1": false, "::": false, "::1": false, "::ffff:10.0.0.2": false, "ff02::1": false,
	} {
		ip := netip.MustParseAddr(a)
		var got bool
		if ip.Is4() {
			b := ip.As4()
			got = o.plainSource4(binary.BigEndian.Uint32(b[:]))
		} else {
			got = o.plainSource6(ip.As16())
		}
		if got != want {
			t.Errorf("%s: %t", a, got)
		}
	}
}

// TestFastIPLeaves gives the short way packets that are not its own, as a link
// could that looks at less than a Device does.
func TestFastIPLeaves(t *testing.T) {
	p := newPairWith(t, pairOptions{verified: true, a: testConfig(addrA, addrA6), b: testConfig(addrB, addrB6)})
	listenUDP(t, p.a, "udp", ":53")
	own := new(fastIP)
	own.guard = new(guard)
	own.attach(p.a.ns)
	for _, pre := range p.a.cfg.Addresses {
		own.add(pre)
	}
	for i, v4 := range []bool{true, false} {
		length, whole := 2, datagram4(1, make([]byte, 40), false)[0]
		if !v4 {
			length, whole = 4, datagram6(1, make([]byte, 40), false)[0]
		}
		type edited struct {
			name string
			edit func(b []byte) []byte
			want bool
		}
		cases := []edited{
			{"plain", func(b []byte) []byte { return b }, true},
			{"bytes behind the packet", func(b []byte) []byte { return append(b, 0, 0) }, false},
			{"longer than it is", func(b []byte) []byte { b[length+1]++; return b }, false},
			{"shorter than it is", func(b []byte) []byte { b[length+1]--; return b }, false},
			{"cut", func(b []byte) []byte { return b[:len(b)-8-40] }, false},
			{"another version", func(b []byte) []byte { b[0] ^= 0xf0; return b }, false},
		}
		if v4 {
			cases = append(cases,
				edited{"first fragment", func(b []byte) []byte { b[6] |= 0x20; return b }, false},
				edited{"later fragment", func(b []byte) []byte { b[7] |= 1; return b }, false})
		}
		for _, tc := range cases {
			b := tc.edit(bytes.Clone(whole))
			pkt := gstack.NewPacketBuffer(gstack.PacketBufferOptions{Payload: buffer.MakeWithData(b)})
			receive := []func(*gstack.PacketBuffer) bool{own.receive4, own.receive6}[i]
			if got := receive(pkt); got != tc.want {
				t.Errorf("IPv4 %t, %s: taken: %t", v4, tc.name, got)
			}
			if !tc.want && pkt.Data().Size() != len(b) {
				t.Errorf("IPv4 %t, %s: left with %d bytes of %d", v4, tc.name, pkt.Data().Size(), len(b))
			}
			pkt.DecRef()
		}
	}
}
