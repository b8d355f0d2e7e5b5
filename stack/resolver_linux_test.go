package stack

import (
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/afxnet/afxnet/internal/lab"
)

// resolvEnv tells a child process, which runs this binary again, the directory
// with the files that are its /etc/resolv.conf and /etc/hosts.
const resolvEnv = "AFXNET_STACK_TEST_RESOLV"

// inResolvChild runs a test again, in a child that has a mount namespace of its own
// with other files in /etc. It reports true in the child.
func inResolvChild(t *testing.T, files map[string]string) bool {
	t.Helper()
	if dir := os.Getenv(resolvEnv); dir != "" {
		for name := range files {
			if err := unix.Mount(filepath.Join(dir, name), "/etc/"+name, "", unix.MS_BIND, ""); err != nil {
				t.Fatal(os.NewSyscallError("mount", err))
			}
		}
		return true
	}
	lab.Require(t, lab.Root, lab.NetNS)
	dir := t.TempDir()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), resolvEnv+"="+dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS}
	out, err := cmd.CombinedOutput()
	if err == nil && !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		err = errors.New("the child did not run its test")
	}
	if err != nil {
		t.Errorf("%v:\n%s", err, out)
	}
	return false
}

// TestResolvConf has a resolv.conf that names the other stack.
func TestResolvConf(t *testing.T) {
	if !inResolvChild(t, map[string]string{
		"resolv.conf": "nameserver " + addrB + "\nsearch search.test other.test\noptions attempts:1\n",
		"hosts":       addrB + " static.test nobody.test\n" + addrB6 + " static.test\n",
	}) {
		return
	}
	p := newPair(t)
	ns := newNameserver(addrB, addrB6)
	ns.on(t, p.b, addrB+":53")
	for _, tc := range []struct{ network, address, peer string }{
		{"tcp", "a:53", addrB + ":53"},
		{"tcp", "first:53", addrB + ":53"},
		{"tcp", "static.test:53", addrB + ":53"},
		{"udp6", "static.test:53", "[" + addrB6 + "]:53"},
		{"udp", "nobody.test:53", addrB + ":53"},
	} {
		c, err := p.a.Dial(tc.network, tc.address)
		if err != nil {
			t.Errorf("%s: %v", tc.address, err)
			continue
		}
		if got := c.RemoteAddr().String(); got != tc.peer {
			t.Errorf("%s: connected to %s, want %s", tc.address, got, tc.peer)
		}
		c.Close()
	}
	for name, want := range map[string]int{"a.search.test": 1, "a": 0, "a.other.test": 0, "static.test": 0, "nobody.test": 0} {
		if n := ns.count("udp", name, "TypeA"); n != want {
			t.Errorf("%d queries for %s, want %d", n, name, want)
		}
	}
	_, err := p.a.Dial("tcp", "b:1")
	var dns *net.DNSError
	if !errors.As(err, &dns) || !dns.IsNotFound || dns.Name != "b" || dns.Server != addrB+":53" {
		t.Errorf("%v: want no such host", err)
	}
	if ns.count("udp", "b.search.test", "TypeA") != 1 || ns.count("udp", "b.other.test", "TypeA") != 1 || ns.count("udp", "b", "TypeA") != 1 {
		t.Errorf("queries: %v; want one for each search domain, and one without", ns.asked)
	}
}

// TestResolvConfSilent has a resolv.conf that names the other stack, and has it answer
// within a second, which it does not.
func TestResolvConfSilent(t *testing.T) {
	if !inResolvChild(t, map[string]string{"resolv.conf": "nameserver " + addrB + "\noptions timeout:1 attempts:1\n"}) {
		return
	}
	p := newPair(t)
	newNameserver(addrB, addrB6).on(t, p.b, addrB+":53")
	_, err := p.a.Dial("tcp", "silent.test.:1")
	var dns *net.DNSError
	if oe := wantOp(t, err, "dial", err); !errors.As(err, &dns) || !dns.IsTimeout || !oe.Timeout() || errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v: want a time-out of the nameserver", err)
	}
	noSockets(t, p.a)
	deadline, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	_, err = p.a.DialContext(deadline, "tcp", "silent.test.:1")
	if oe := wantOp(t, err, "dial", context.DeadlineExceeded); !oe.Timeout() {
		t.Errorf("%v: Timeout is false", err)
	}
}

// TestResolvConfLoopback has a resolv.conf as systemd-resolved makes it.
func TestResolvConfLoopback(t *testing.T) {
	if !inResolvChild(t, map[string]string{"resolv.conf": "nameserver 127.0.0.53\noptions edns0 trust-ad\n"}) {
		return
	}
	p := newPair(t)
	_, err := p.a.Dial("tcp", "both.test.:1")
	var dns *net.DNSError
	if !errors.As(err, &dns) || dns.IsNotFound || dns.Server != "127.0.0.53:53" || !strings.Contains(err.Error(), "set Config.Nameservers") {
		t.Errorf("%v: want the remedy", err)
	}
	n := newNamed(t)
	c, err := n.a.Dial("udp", "both.test.:53")
	if err != nil {
		t.Fatalf("with the remedy: %v", err)
	}
	c.Close()
	_, err = n.a.Dial("udp", "nobody.test.:53")
	if !errors.As(err, &dns) || !dns.IsNotFound || dns.Server != addrB+":53" {
		t.Errorf("%v: want no such host on the nameserver of the Config", err)
	}
}
