package stack

import (
	"context"
	"errors"
	"net"
	"testing"
)

// FuzzAddress checks what resolve makes of an address: of the family that was
// asked for, never mapped, and the same again when it is written out.
func FuzzAddress(f *testing.F) {
	for _, a := range []string{
		"10.0.0.1:80", "[fd00::1]:http", "localhost:0", ":65535", "[::ffff:1.2.3.4]:1", "[fe80::1%eth0]:7",
		"", "10.0.0.1", "[::1", "a:b:c", ":", "10.0.0.1:-1", "10.0.0.1:65536", "[::ffff:1.2.3.4%z]:1", "%:1",
	} {
		for i := range uint8(8) {
			f.Add(i, a)
		}
	}
	s := newPair(f).a
	nobody := &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		return nil, errors.New("no network")
	}}
	names := []string{"tcp", "tcp4", "tcp6", "udp", "udp4", "udp6", "unix", ""}
	f.Fuzz(func(t *testing.T, which uint8, address string) {
		n, err := parseNetwork(names[int(which)%len(names)])
		if err != nil {
			return
		}
		all, err := s.resolve(context.Background(), nobody, n, address)
		if err != nil {
			return
		}
		for _, ap := range all {
			a := ap.Addr()
			if a.IsValid() && (a.Is4In6() || !n.admits(a)) {
				t.Fatalf("%s %q: %v", n.name, address, ap)
			}
			if !a.IsValid() {
				continue
			}
			again, err := s.resolve(context.Background(), nobody, n, ap.String())
			if err != nil || again[0] != ap {
				t.Fatalf("%s %q is %v, which is %v, %v", n.name, address, ap, again, err)
			}
		}
	})
}
