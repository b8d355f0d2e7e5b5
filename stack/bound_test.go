package stack

import (
	"net"
	"testing"
)

// TestDialBound dials many times from an address of the stack, which two of
// netstack's interfaces have: it is always the link's that is used.
func TestDialBound(t *testing.T) {
	ow := newOverWire(t, overWireOptions{})
	for _, tc := range []struct{ from, to string }{{addrA, addrB}, {addrA6, addrB6}} {
		l, err := ow.s[1].Listen("tcp", net.JoinHostPort(tc.to, "0"))
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		d := Dialer{Stack: ow.s[0], LocalAddr: &net.TCPAddr{IP: net.ParseIP(tc.from)}}
		for range 40 { // netstack looks through the interfaces in no order
			c, err := d.Dial("tcp", l.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			c.Close()
		}
	}
}
