package stack

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/afxnet/afxnet/internal/raced"
)

// TestResolvConfOptions has what resolv.conf says of the order of questions, and has
// it and the hosts file change. Time is the bubble's: nobody waits.
func TestResolvConfOptions(t *testing.T) {
	const options = "search test\noptions ndots:2 rotate timeout:1 attempts:2\n"
	if !inResolvChild(t, map[string]string{
		"resolv.conf": "nameserver " + addrB + "\nnameserver " + addrB6 + "\n" + options,
		"hosts":       addrB + " static.test\n",
	}) {
		return
	}
	raced.Bubble(t, func(t *testing.T) {
		ow := newOverWire(t, overWireOptions{bubble: true})
		servers := [2]*nameserver{newNameserver(addrB, addrB6), newNameserver(addrB, addrB6)}
		servers[0].on(t, ow.s[1], addrB+":53")
		servers[1].on(t, ow.s[1], "["+addrB6+"]:53")
		asked := func(name string) (n [2]int) {
			for i, ns := range servers {
				n[i] = ns.count("udp", name, "TypeA")
			}
			return n
		}
		finds := func(name string, want string) {
			t.Helper()
			got, err := ow.s[0].lookup(t.Context(), ow.s[0].Resolver(), '4', name)
			if err != nil || !slices.Equal(got, []netip.Addr{netip.MustParseAddr(want)}) {
				t.Errorf("%s: %v, %v, want %s", name, got, err, want)
			}
		}

		// One dot is less than ndots: the search domain is tried first.
		finds("a.search", addrB)
		if n, m := asked("a.search.test"), asked("a.search"); n[0]+n[1] != 1 || m != [2]int{} {
			t.Errorf("%v queries with the search domain and %v without: want 1 and none", n, m)
		}
		// They take turns.
		for range 4 {
			finds("four.test.", addrB)
		}
		if n := asked("four.test"); n != [2]int{2, 2} {
			t.Errorf("%v queries with rotate, want 2 of each", n)
		}
		// Each is asked attempts times, and each time for so long.
		start := time.Now()
		_, err := ow.s[0].Dial("tcp4", "silent.test.:1")
		if dns, ok := errors.AsType[*net.DNSError](err); !ok || !dns.IsTimeout {
			t.Errorf("%v: want a time-out of the nameservers", err)
		}
		if n, took := asked("silent.test"), time.Since(start); n != [2]int{2, 2} || took != 4*time.Second {
			t.Errorf("%v queries in %v: want 2 of each in 4s", n, took)
		}

		// The files are read again when they have changed.
		finds("static.test.", addrB)
		change := func(file, text string) {
			t.Helper()
			if err := os.WriteFile("/etc/"+file, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		change("hosts", "10.9.8.7 static.test moved.test\n")
		change("resolv.conf", "nameserver "+addrB6+"\n"+options)
		time.Sleep(6 * time.Second) // package net looks every 5
		finds("static.test.", "10.9.8.7")
		finds("moved.test.", "10.9.8.7")
		for range 2 {
			finds("both.test.", addrB)
		}
		if n := asked("both.test"); n != [2]int{0, 2} {
			t.Errorf("%v queries after the first nameserver is gone from resolv.conf, want 0 and 2", n)
		}
	})
}
