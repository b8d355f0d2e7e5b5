//go:build linux && (amd64 || arm64)

package xsk

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/afxnet/afxnet/internal/hostif"
	"github.com/afxnet/afxnet/internal/lab"
)

// check runs Check in the lab.
func check(t *testing.T, l *lab.Lab) (r Report) {
	t.Helper()
	err := l.Host.Do(func() (err error) {
		r, err = Check(lab.HostDevice)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// expectFinding wants a finding on a subject at a level that says something.
func expectFinding(t *testing.T, r Report, subject string, level Level, text, fix string) {
	t.Helper()
	for _, f := range r.About(subject) {
		if f.Level == level && strings.Contains(f.Text, text) && strings.Contains(f.Fix, fix) {
			return
		}
	}
	t.Errorf("no finding on %s at level %s with %q and fix %q among %v", subject, level, text, fix, r.About(subject))
}

// TestCheck looks at a veth in several states: what Check predicts is what Open
// and Attach then get.
func TestCheck(t *testing.T) {
	lab.Require(t, lab.NetNS, lab.XDP)
	l := lab.New(t, lab.Config{Queues: 2})
	r := check(t, l)
	t.Log(r)
	if r.Driver != "veth" || r.MTU != 1500 || r.RXQueues != 2 || r.Choice.Sockets != 2 || r.Choice.Bind != "copy" || r.Choice.MultiBuffer || r.NUMANode != -1 {
		t.Errorf("%+v", r)
	}
	if w := r.Worst(); w.rank() >= Problem.rank() {
		t.Errorf("worst is %s: %v", w, r.Findings)
	}
	if releaseAtLeast(r.Kernel, 6, 3) {
		expectFinding(t, r, SubjectZeroCopy, Note, "veth has no zero-copy", "copy mode")
		if !strings.Contains(strings.Join(r.Declares, " "), "redirect") {
			t.Errorf("declares %v", r.Declares)
		}
	}
	expectFinding(t, r, SubjectQueues, Note, "2 receive queues", "OpenAll")
	expectFinding(t, r, SubjectOffloads, Note, "checksums are partial", "ethtool -K PEER tx off")
	expectFinding(t, r, SubjectLink, OK, "up and running", "")
	expectFinding(t, r, SubjectMTU, OK, "holds 3822", "")

	set, err := openSet(l, SetConfig{})
	if err != nil {
		t.Fatal(err)
	}
	defer set.Close()
	if got := set.Program().Mode().String(); got != r.Choice.Attach || len(set.Sockets()) != r.Choice.Sockets || set.Sockets()[0].ZeroCopy() {
		t.Errorf("attached in %s mode, %d sockets, zero-copy %v, but Check said %+v", got, len(set.Sockets()), set.Sockets()[0].ZeroCopy(), r.Choice)
	}
	if err := set.Sockets()[0].ZeroCopyErr(); err == nil || r.Choice.WhyCopy == "" || !strings.Contains(err.Error(), r.Choice.WhyCopy) {
		t.Errorf("ZeroCopyErr %v, but Check said %q", err, r.Choice.WhyCopy)
	}
	expectFinding(t, check(t, l), SubjectProgram, Problem, "is there", "it is not replaced")
	if err := set.Close(); err != nil {
		t.Error(err)
	}

	if err := l.SetMTU(9000); err != nil {
		t.Fatal(err)
	}
	if r := check(t, l); releaseAtLeast(r.Kernel, 6, 6) {
		expectFinding(t, r, SubjectMTU, OK, "MTU of 9000 is met with packets over several chunks", "")
		if !r.Choice.MultiBuffer {
			t.Errorf("%+v", r.Choice)
		}
	}
	if err := l.SetCarrier(false); err != nil {
		t.Fatal(err)
	}
	lab.Eventually(t, limit, "no carrier", func() bool { return check(t, l).Worst() == Warning })
	if err := l.SetDown(); err != nil {
		t.Fatal(err)
	}
	expectFinding(t, check(t, l), SubjectLink, Problem, "down", "ip link set afx0 up")
}

// TestCheckCapabilities has a process without privileges look, which needs none.
func TestCheckCapabilities(t *testing.T) {
	lab.Require(t, lab.NetNS, lab.XDP)
	l := lab.New(t, lab.Config{})
	done := make(chan Report)
	go func() {
		var r Report
		defer func() { done <- r }()
		l.Host.Do(func() (err error) { //nolint:errcheck // an empty report tells
			lab.KeepCapabilities(t)
			r, err = Check(lab.HostDevice)
			return err
		})
	}()
	r := <-done
	expectFinding(t, r, SubjectCapabilities, Problem, "CAP_NET_RAW", "setcap cap_net_raw")
	expectFinding(t, r, SubjectCapabilities, Problem, "CAP_BPF", "CAP_NET_ADMIN")
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_MEMLOCK, &limit); err == nil && limit.Cur < 18<<20 {
		expectFinding(t, r, SubjectMemory, Problem, "RLIMIT_MEMLOCK is", "ulimit -l")
	}
}

// TestDispatcher refuses a device that libxdp has programs on, and names it.
func TestDispatcher(t *testing.T) {
	l := lab.New(t, lab.Config{})
	lab.Require(t, lab.XDP)
	attachNamed(t, l, dispatcherName, link.XDPDriverMode)
	expectFinding(t, check(t, l), SubjectProgram, Problem, `"xdp_dispatcher"`, "xdp-loader status afx0")
	p, err := loadInLab(l, AttachAuto)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	err = l.Host.Do(p.Attach)
	var op *OpError
	if !errors.As(err, &op) || !errors.Is(err, unix.EBUSY) && !errors.Is(err, unix.EEXIST) ||
		!strings.Contains(err.Error(), `"xdp_dispatcher"`) || !strings.Contains(op.Remedy, "xdp-loader unload afx0") {
		t.Errorf("%v", err)
	}
}

func TestCheckNoDevice(t *testing.T) {
	l := lab.New(t, lab.Config{})
	err := l.Host.Do(func() error {
		_, err := Check("nope0")
		return err
	})
	var op *OpError
	if !errors.As(err, &op) || !errors.Is(err, unix.ENODEV) || op.Device != "nope0" {
		t.Errorf("%v", err)
	}
}

// TestCheckBondLink has nothing against the link of a bond: sockets on it work, in
// generic mode, which another finding says.
func TestCheckBondLink(t *testing.T) {
	for _, driver := range []string{"bonding", "team"} {
		c := &checker{dev: hostif.Interface{Name: "bond0", Driver: driver, Up: true, Running: true}}
		if c.link(); c.Worst() != OK || len(c.Findings) != 1 {
			t.Errorf("%s: %v", driver, c.Findings)
		}
	}
}

// TestPredictions looks at devices that are not there: what they declare, and what
// Check makes of it.
func TestPredictions(t *testing.T) {
	native := hostif.XDPFeatures{Native: true, Redirect: true, ZeroCopySegments: 1}
	zc := native
	zc.ZeroCopy = true
	several := zc
	several.ZeroCopySegments = 8
	for _, tc := range []struct {
		name         string
		driver       string
		mtu          int
		release      string
		f            hostif.XDPFeatures
		attach, bind string
		worst        Level
		about, says  string
	}{
		{"no native", "e1000e", 1500, "6.18.0", hostif.XDPFeatures{}, "generic", "copy", Warning, SubjectProgram, "no native mode"},
		{"no zero-copy", "vmxnet3", 1500, "6.18.0", native, "native", "copy", Note, SubjectZeroCopy, "vmxnet3 has no zero-copy"},
		{"zero-copy", "ice", 1500, "6.18.0", zc, "native", "zero-copy", OK, SubjectZeroCopy, "declares zero-copy"},
		{"igb", "igb", 1500, "6.18.0", zc, "native", "zero-copy", Note, SubjectZeroCopy, "steps of 1024"},
		{"igb, full", "igb", 3046, "6.18.0", zc, "native", "zero-copy", Note, SubjectZeroCopy, "steps of 1024"},
		{"igb, cut", "igb", 3047, "6.18.0", zc, "native", "copy", Problem, SubjectZeroCopy, "hold an MTU of 3046, not 3047"},
		{"igb, refused", "igb", 3822, "6.18.0", zc, "native", "copy", Problem, SubjectProgram, "up to an MTU of 3046"},
		{"bond", "bonding", 1500, "6.18.0", zc, "generic", "copy", Warning, SubjectZeroCopy, "program in generic mode"},
		{"virtio, full", "virtio_net", 3814, "6.18.0", zc, "native", "zero-copy", Note, SubjectZeroCopy, "DMA"},
		{"virtio, cut", "virtio_net", 3815, "6.18.0", zc, "native", "copy", Note, SubjectZeroCopy, "hold an MTU of 3814, not 3815"},
		{"virtio, jumbo", "virtio_net", 3823, "6.18.0", zc, "native", "copy", Warning, SubjectZeroCopy, "one chunk for each zero-copy packet"},
		{"virtio", "virtio_net", 1500, "6.18.0", zc, "native", "zero-copy", Note, SubjectZeroCopy, "DMA"},
		{"jumbo, one buffer", "igb", 9000, "6.18.0", zc, "native", "copy", Problem, SubjectMTU, "does not have in zero-copy"},
		{"jumbo", "ice", 9000, "6.18.0", several, "native", "zero-copy", OK, SubjectMTU, "9000 is met"},
		{"jumbo, old", "ice", 9000, "6.1.0-9-amd64", several, "native", "zero-copy", Problem, SubjectMTU, "needs packets over several chunks, and Linux 6.6"},
		{"too large", "ice", 70000, "6.18.0", several, "native", "zero-copy", Problem, SubjectMTU, "more than the 69614"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := &checker{features: tc.f, dev: hostif.Interface{Name: "eth0", Driver: tc.driver, MTU: tc.mtu},
				Report: Report{MTU: tc.mtu, Kernel: tc.release}}
			c.program()
			c.mtu()
			c.zeroCopy()
			if c.Choice.Attach != tc.attach || c.Choice.Bind != tc.bind || c.Worst() != tc.worst {
				t.Errorf("worst %s: %+v", c.Worst(), c.Report)
			}
			found := false
			for _, f := range c.About(tc.about) {
				found = found || strings.Contains(f.Text, tc.says)
			}
			if !found {
				t.Errorf("nothing on %s says %q: %v", tc.about, tc.says, c.Findings)
			}
		})
	}
}

// TestNativeBar knows what drivers ask for before they take a program.
func TestNativeBar(t *testing.T) {
	for _, tc := range []struct {
		driver   string
		mtu      int
		ch       hostif.Channels
		why, fix string
	}{
		{"ena", 9001, hostif.Channels{Combined: 4, MaxCombined: 8}, "up to an MTU of 3498", "ip link set eth0 mtu 3498"},
		{"ena", 3498, hostif.Channels{Combined: 5, MaxCombined: 8}, "5 of 8 are in use", "ethtool -L eth0 combined 4"},
		{"ena", 1500, hostif.Channels{Combined: 4, MaxCombined: 8}, "", ""},
		{"ena", 1500, hostif.Channels{Combined: 1, MaxCombined: 1}, "", ""}, // nothing to halve
		{"ena", 1500, hostif.Channels{}, "", ""},
		{"igb", 3047, hostif.Channels{}, "up to an MTU of 3046", "ip link set eth0 mtu 3046"},
		{"igb", 3046, hostif.Channels{Combined: 2, MaxCombined: 2}, "", ""},
		{"ice", 9001, hostif.Channels{Combined: 8, MaxCombined: 8}, "", ""},
	} {
		dev := hostif.Interface{Name: "eth0", Driver: tc.driver, MTU: tc.mtu}
		if why, fix := nativeBar(dev, tc.ch); !strings.Contains(why, tc.why) || !strings.HasPrefix(fix, tc.fix) || (fix == "") != (tc.fix == "") || (why == "") != (tc.why == "") {
			t.Errorf("%s, MTU %d, %+v: %q, %q", tc.driver, tc.mtu, tc.ch, why, fix)
		}
		c := &checker{dev: dev, channels: tc.ch, features: hostif.XDPFeatures{Native: true, Redirect: true}}
		c.program()
		if got := c.About(SubjectProgram)[0]; !strings.HasPrefix(got.Fix, tc.fix) || (got.Level == Problem) != (tc.fix != "") {
			t.Errorf("%s, MTU %d: Check says %v", tc.driver, tc.mtu, got)
		}
	}
}

func TestRelease(t *testing.T) {
	for _, tc := range []struct {
		release      string
		major, minor int
		want         bool
	}{
		{"5.15.0-91-generic", 5, 15, true}, {"5.14.21", 5, 15, false}, {"6.1.0", 5, 15, true},
		{"6.18.44+x", 6, 6, true}, {"6.5", 6, 6, false}, {"unknown", 6, 6, true},
	} {
		if got := releaseAtLeast(tc.release, tc.major, tc.minor); got != tc.want {
			t.Errorf("%s at least %d.%d: %v", tc.release, tc.major, tc.minor, got)
		}
	}
}

// TestReportJSON holds the report's form to what programs may rely on.
func TestReportJSON(t *testing.T) {
	r := Report{Interface: "eth0", Declares: []string{}, Findings: []Finding{{Subject: SubjectMTU, Level: Warning, Text: "t", Fix: "f"}}}
	b, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"interface":"eth0"`, `"declares":[]`, `"choice":{`, `"findings":[{"subject":"mtu","level":"warning","text":"t","fix":"f"}]`} {
		if !strings.Contains(string(b), want) {
			t.Errorf("%s does not have %s", b, want)
		}
	}
	if s := r.String(); !strings.Contains(s, "warning  mtu: t\n         fix: f\n") || !strings.Contains(s, "driver unknown") {
		t.Errorf("%s", s)
	}
	if (Report{}).Worst() != OK {
		t.Error("an empty report is not ok")
	}
}
