package hostif

import (
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// fakeNIC is a device with rules for flows.
type fakeNIC struct {
	rules            map[uint32]flowRule
	size             int  // locations
	special          bool // it chooses them
	on, available    bool // the switch
	lacks            map[uint32]error
	tells            func(*flowRule) // in another way than it was told
	first            func() error    // before a rule is inserted
	gone             bool
	inserts, removed int
}

func newFakeNIC() *fakeNIC {
	return &fakeNIC{rules: make(map[uint32]flowRule), size: 4, on: true, available: true, lacks: make(map[uint32]error)}
}

func (n *fakeNIC) close() {}

func (n *fakeNIC) name(index int) (string, error) {
	if index != 7 || n.gone {
		return "", unix.ENODEV
	}
	return "eth0", nil
}

func (n *fakeNIC) filtering(string) (on, available bool, err error) { return n.on, n.available, nil }

func (n *fakeNIC) ioctl(name string, req []byte) error {
	cmd := native.Uint32(req)
	if err := n.lacks[cmd]; err != nil || name != "eth0" {
		return err
	}
	rule := flowRule(req[nfcFlowOffset:])
	switch cmd {
	case unix.ETHTOOL_GRXCLSRLCNT:
		native.PutUint32(req[nfcCountOffset:], uint32(len(n.rules)))
		if n.special {
			native.PutUint64(req[nfcDataOffset:], locationSpecial)
		}
	case unix.ETHTOOL_GRXCLSRLALL:
		if int(native.Uint32(req[nfcCountOffset:])) < len(n.rules) {
			return unix.EMSGSIZE
		}
		for i, at := range slices.Sorted(maps.Keys(n.rules)) {
			native.PutUint32(req[nfcRulesOffset+4*i:], at)
		}
		native.PutUint32(req[nfcCountOffset:], uint32(len(n.rules)))
		if !n.special {
			native.PutUint64(req[nfcDataOffset:], uint64(n.size))
		}
	case unix.ETHTOOL_GRXCLSRULE:
		r, ok := n.rules[rule.location()]
		if !ok {
			return unix.ENOENT
		}
		if n.tells != nil {
			n.tells(&r)
		}
		copy(req[nfcFlowOffset:], r[:])
	case unix.ETHTOOL_SRXCLSRLINS:
		if n.first != nil {
			if err := n.first(); err != nil {
				return err
			}
		}
		at := rule.location()
		if at == locationAny {
			if !n.special {
				return unix.EINVAL
			}
			at = 1000
		}
		native.PutUint32(rule[flowLocation:], at)
		n.rules[at] = rule
		n.inserts++
		copy(req[nfcFlowOffset:], rule[:])
	case unix.ETHTOOL_SRXCLSRLDEL:
		if _, ok := n.rules[rule.location()]; !ok {
			return unix.ENOENT
		}
		delete(n.rules, rule.location())
		n.removed++
	default:
		return fmt.Errorf("command %#x: %w", cmd, unix.EOPNOTSUPP)
	}
	return nil
}

func (n *fakeNIC) keeper(dir string) keeper {
	k := keeperOf(dir, newFakeNetdev())
	k.flows = func() (flowTool, error) { return n, nil }
	return k
}

var askedFlow = Flow{Protocol: FlowUDP, Dst: netip.MustParsePrefix("192.0.2.0/24"), DstPort: 4242}

func leftRecords(t *testing.T, k keeper, want int) {
	t.Helper()
	left, err := os.ReadDir(string(k.dir))
	if len(left) != want || err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%d records, want %d: %v, %v", len(left), want, left, err)
	}
}

// TestFlowTable goes through what drivers have and lack.
func TestFlowTable(t *testing.T) {
	full := func(n *fakeNIC) {
		for i := range uint32(4) {
			r := newFlowRule(Flow{EtherType: uint16(i + 1)}, 0)
			native.PutUint32(r[flowLocation:], i)
			n.rules[i] = r
		}
	}
	for _, tc := range []struct {
		name   string
		change func(*fakeNIC)
		at     uint32
		is     error
		says   string
	}{
		{name: "all there", at: 3},
		{"the last is taken", func(n *fakeNIC) { full(n); delete(n.rules, 1) }, 1, nil, ""},
		{"the driver chooses", func(n *fakeNIC) { n.special = true }, 1000, nil, ""},
		{"no switch", func(n *fakeNIC) { n.on, n.available = false, false }, 3, nil, ""},
		{"told with what does not count", func(n *fakeNIC) {
			n.tells = func(r *flowRule) { r[flowValues] = 9; r[flowValues+flowUnionLen] = 9; r[flowMasks+flowUnionLen] = 9 }
		}, 3, nil, ""},
		{"no rules", func(n *fakeNIC) { n.lacks[unix.ETHTOOL_GRXCLSRLCNT] = unix.EOPNOTSUPP }, 0, errors.ErrUnsupported, "the driver has none"},
		{"switched off", func(n *fakeNIC) { n.on = false }, 0, errors.ErrUnsupported, "ethtool -K eth0 ntuple on"},
		{"refused", func(n *fakeNIC) { n.lacks[unix.ETHTOOL_SRXCLSRLINS] = unix.EINVAL }, 0, errors.ErrUnsupported, "does not take this one"},
		{"no privilege", func(n *fakeNIC) { n.lacks[unix.ETHTOOL_SRXCLSRLINS] = unix.EPERM }, 0, os.ErrPermission, "CAP_NET_ADMIN"},
		{"full", full, 0, unix.ENOSPC, "all 4 are in use"},
		{"there", func(n *fakeNIC) {
			r := newFlowRule(askedFlow, 1)
			native.PutUint32(r[flowLocation:], 2)
			n.rules[2] = r
		}, 0, unix.EEXIST, "rule 2 is for the same packets, to queue 1 (ethtool -N eth0 delete 2)"},
		{"told with another mask", func(n *fakeNIC) { n.tells = func(r *flowRule) { r[flowMasks+4] = 0 } }, 0, errors.ErrUnsupported, "as it was given"},
		{"gone", func(n *fakeNIC) { n.gone = true }, 0, unix.ENODEV, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			nic := newFakeNIC()
			if tc.change != nil {
				tc.change(nic)
			}
			before := maps.Clone(nic.rules)
			k := nic.keeper(t.TempDir())
			h, err := k.addFlow(7, askedFlow, 2)
			if tc.is != nil {
				if !errors.Is(err, tc.is) || !strings.Contains(err.Error(), tc.says) {
					t.Errorf("%v, want %v and %q", err, tc.is, tc.says)
				}
			} else if err != nil {
				t.Fatal(err)
			} else {
				got := nic.rules[tc.at]
				if want := newFlowRule(askedFlow, 2); h.Location != tc.at || !got.is(&want) || len(nic.rules) != len(before)+1 {
					t.Errorf("at %d: %x", h.Location, got)
				}
				leftRecords(t, k, 1)
				if _, err := k.addFlow(7, askedFlow, 2); !errors.Is(err, unix.EBUSY) {
					t.Errorf("again: %v", err)
				}
				for range 2 {
					if err := h.Remove(); err != nil {
						t.Error(err)
					}
				}
			}
			if !maps.Equal(nic.rules, before) {
				t.Errorf("not as before: %x", nic.rules)
			}
			leftRecords(t, k, 0)
		})
	}
}

// TestFlowTakenMeanwhile has somebody else be first with the location: what is there
// then stays.
func TestFlowTakenMeanwhile(t *testing.T) {
	nic := newFakeNIC()
	nic.first = func() error {
		r := newFlowRule(Flow{Protocol: FlowUDP, Dst: askedFlow.Dst, DstPort: 1}, 2)
		native.PutUint32(r[flowLocation:], 3)
		nic.rules[3] = r
		return unix.EBUSY
	}
	k := nic.keeper(t.TempDir())
	if _, err := k.addFlow(7, askedFlow, 2); !errors.Is(err, unix.EBUSY) || len(nic.rules) != 1 {
		t.Errorf("%x, %v", nic.rules, err)
	}
	leftRecords(t, k, 0)
}

// TestRecordRewritten is a process that ends while it adds a rule's location to the
// record of a rule that is inserted: the record tells of it at every step.
func TestRecordRewritten(t *testing.T) {
	path := filepath.Join(t.TempDir(), "record")
	write := func(index, mode int) error {
		t.Helper()
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|mode, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		return (&record{f}).write(flowRecord{Boot: bootID(), Index: index})
	}
	tells := func(want int) {
		t.Helper()
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		var about flowRecord
		if err := (&record{f}).read(&about); err != nil || about.Index != want {
			t.Errorf("the record tells of %+v, %v, want index %d", about, err, want)
		}
	}
	for _, index := range []int{7, 1234567, 8} { // longer, shorter
		if err := write(index, 0); err != nil {
			t.Fatal(err)
		}
		tells(index)
	}
	// Where nothing can be written over, it is stopped before it has.
	if err := write(9, os.O_APPEND); err == nil {
		t.Fatal("written over")
	}
	tells(8)
}

// TestFlowRestoredLater is a process that ended without removing its rules.
func TestFlowRestoredLater(t *testing.T) {
	nic := newFakeNIC()
	k := nic.keeper(t.TempDir())
	abandon := func() {
		t.Helper()
		h, err := k.addFlow(7, askedFlow, 2)
		if err != nil {
			t.Fatal(err)
		}
		if err := h.record.keep(); err != nil {
			t.Fatal(err)
		}
	}
	abandon()
	other, err := k.addFlow(7, Flow{EtherType: 0x88f7}, 1) // restores, too
	if err != nil || nic.removed != 1 || len(nic.rules) != 1 {
		t.Fatalf("%d removed, %v", nic.removed, err)
	}
	abandon()
	if err := k.restoreAll(); err != nil || nic.removed != 2 || len(nic.rules) != 1 {
		t.Errorf("%d removed, %x, %v", nic.removed, nic.rules, err)
	}
	leftRecords(t, k, 1) // of who lives

	// Somebody has put another rule in its place, for other packets of the same kind.
	abandon()
	for at, r := range nic.rules {
		if r.queue() == 2 {
			r = newFlowRule(Flow{Protocol: FlowUDP, Dst: askedFlow.Dst, DstPort: 1}, 2)
			native.PutUint32(r[flowLocation:], at)
			nic.rules[at] = r
		}
	}
	if err := k.restoreAll(); err != nil || len(nic.rules) != 2 {
		t.Errorf("%x, %v", nic.rules, err)
	}
	abandon()
	nic.gone = true
	if err := errors.Join(k.restoreAll(), other.Remove()); err != nil {
		t.Errorf("the device is gone: %v", err)
	}
	leftRecords(t, k, 0)

	// Records that change nothing: half ones, and of another boot or namespace.
	nic = newFakeNIC()
	rule := newFlowRule(askedFlow, 2)
	nic.rules[0] = rule
	namespace, err := namespaceCookie()
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		boot      string
		namespace uint64
		rule      []byte
		left      int
	}{{"x", namespace, rule[:], 0}, {bootID(), namespace + 1, rule[:], 1}, {bootID(), namespace, nil, 0}, {bootID(), namespace, rule[:9], 0}} {
		k := nic.keeper(t.TempDir())
		rec, err := k.dir.lock(flowPrefix + "1")
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(rec.write(flowRecord{tc.boot, tc.namespace, 7, tc.rule, false}), rec.keep()); err != nil {
			t.Fatal(err)
		}
		if err := k.restoreAll(); err != nil || len(nic.rules) != 1 {
			t.Errorf("%+v: %x, %v", tc, nic.rules, err)
		}
		leftRecords(t, k, tc.left)
	}

	// Without a record, no rule.
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := nic.keeper(file).addFlow(7, Flow{EtherType: 1}, 1); !errors.Is(err, unix.ENOTDIR) || nic.inserts != 0 {
		t.Errorf("%d rules without a record, %v", nic.inserts, err)
	}
}

// TestRecordNamespace wants a record to name the network namespace by what no later one
// has, in which another device may have the index.
func TestRecordNamespace(t *testing.T) {
	flow, err := newFakeNIC().keeper(t.TempDir()).addFlow(7, askedFlow, 2)
	if err != nil {
		t.Fatal(err)
	}
	var about flowRecord
	tool, err := openEthtool()
	if err != nil {
		t.Fatal(err)
	}
	defer tool.close()
	want, err := NetNSOf(tool.fd)
	if err := errors.Join(err, flow.record.read(&about)); err != nil || about.Namespace != want || want == 0 {
		t.Errorf("namespace %d, want %d; %v", about.Namespace, want, err)
	}
	if err := flow.Remove(); err != nil {
		t.Error(err)
	}
}

// TestRecordNotRestored has a dead process's rule on a device that does not answer any
// more: that is no reason against settings of others, and it is removed once it does.
func TestRecordNotRestored(t *testing.T) {
	nic, kernel := newFakeNIC(), newFakeNetdev()
	k := nic.keeper(t.TempDir())
	k.open = func() (netdev, error) { return kernel, nil }
	dead, err := k.addFlow(7, askedFlow, 2)
	if err != nil {
		t.Fatal(err)
	}
	if err := dead.record.keep(); err != nil {
		t.Fatal(err)
	}
	nic.lacks[unix.ETHTOOL_SRXCLSRLDEL] = unix.EOPNOTSUPP
	if err := k.restoreAll(); !errors.Is(err, unix.EOPNOTSUPP) {
		t.Errorf("restore: %v, want EOPNOTSUPP", err)
	}
	if _, err := k.addFlow(7, askedFlow, 2); !errors.Is(err, unix.EOPNOTSUPP) {
		t.Errorf("the same rule: %v, want EOPNOTSUPP", err)
	}
	napi, err := k.set(7, 1, NAPIValues{NAPIDeferHardIRQs: 100})
	if err != nil {
		t.Fatal(err)
	}
	flow, err := k.addFlow(7, Flow{EtherType: 0x88f7}, 1)
	if err != nil {
		t.Fatal(err)
	}
	clear(nic.lacks)
	if err := errors.Join(k.restoreAll(), napi.Restore(), flow.Remove()); err != nil || len(nic.rules) != 0 {
		t.Errorf("%x, %v", nic.rules, err)
	}
	leftRecords(t, k, 0)
}

// TestFlowBytes compares with struct ethtool_rx_flow_spec as a C compiler lays it out,
// of what ethtool makes of its arguments: flow-type udp4 dst-ip 192.0.2.0 m 0.0.0.255
// dst-port 4242 action 2, and so on.
func TestFlowBytes(t *testing.T) {
	for _, tc := range []struct {
		flow         Flow
		kind         uint32
		values, mask string // of the first bytes
	}{
		{askedFlow, 2, "00000000c0000200" + "00001092", "00000000ffffff00" + "0000ffff"},
		{Flow{Protocol: FlowTCP, Src: netip.MustParsePrefix("10.1.2.3/32"), SrcPort: 80}, 1, "0a01020300000000" + "00500000", "ffffffff00000000" + "ffff0000"},
		{Flow{Protocol: FlowSCTP, Dst: netip.MustParsePrefix("0.0.0.0/0")}, 3, "000000000000000000000000", "000000000000000000000000"},
		{Flow{Protocol: FlowTCP, Dst: netip.MustParsePrefix("2001:db8:ff::/41"), DstPort: 443}, 5,
			strings.Repeat("00", 16) + "20010db800800000" + strings.Repeat("00", 8) + "000001bb",
			strings.Repeat("00", 16) + "ffffffffff800000" + strings.Repeat("00", 8) + "0000ffff"},
		{Flow{Protocol: FlowUDP, Src: netip.MustParsePrefix("::/0"), SrcPort: 53}, 6, strings.Repeat("00", 32) + "0035", strings.Repeat("00", 32) + "ffff"},
		{Flow{EtherType: 0x88f7}, 0x12, strings.Repeat("00", 12) + "88f7", strings.Repeat("00", 12) + "ffff"},
	} {
		r := newFlowRule(tc.flow, 2)
		n := len(tc.values) / 2
		if got := hex.EncodeToString(r[4:][:n]); got != tc.values {
			t.Errorf("%+v: values %s, want %s", tc.flow, got, tc.values)
		}
		if got := hex.EncodeToString(r[76:][:n]); got != tc.mask {
			t.Errorf("%+v: masks %s, want %s", tc.flow, got, tc.mask)
		}
		if r.kind() != tc.kind || native.Uint64(r[152:]) != 2 {
			t.Errorf("%+v: %x", tc.flow, r)
		}
	}
	if nfcLen != 192 || nfcCountOffset != 184 || nfcRulesOffset != 188 || flowMasks != 76 || flowQueue != 152 || flowLocation != 160 {
		t.Error("the layout of struct ethtool_rxnfc")
	}
}

// TestFlowCheck refuses what no rule can say.
func TestFlowCheck(t *testing.T) {
	v4, v6 := netip.MustParsePrefix("192.0.2.1/32"), netip.MustParsePrefix("2001:db8::1/128")
	for _, tc := range []struct {
		flow Flow
		says string
	}{
		{askedFlow, ""},
		{Flow{EtherType: 1}, ""},
		{Flow{Protocol: FlowTCP, Src: v6, Dst: v6}, ""},
		{Flow{EtherType: 1, Dst: v4}, "EtherType: not with"},
		{Flow{}, "Protocol: 0"},
		{Flow{Protocol: 1, Dst: v4}, "Protocol: 1"},
		{Flow{Protocol: FlowTCP, DstPort: 80}, "whether this is IPv4 or IPv6"},
		{Flow{Protocol: FlowTCP, Src: v4, Dst: v6}, "one is IPv4, the other IPv6"},
		{Flow{Protocol: FlowTCP, Src: netip.PrefixFrom(v4.Addr(), 33), Dst: v4}, "prefixes of IPv4 or IPv6"},
		{Flow{Protocol: FlowTCP, Dst: netip.MustParsePrefix("::ffff:192.0.2.1/128")}, "prefixes of IPv4 or IPv6"},
	} {
		err := tc.flow.Check()
		if (err == nil) != (tc.says == "") || err != nil && !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%+v: %v, want %q", tc.flow, err, tc.says)
		}
	}
}
