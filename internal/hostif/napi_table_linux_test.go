package hostif

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// fakeNetdev is a kernel with one device of two queues, whose driver links NAPIs to
// queues, if it has such commands at all.
type fakeNetdev struct {
	napis  map[uint32]NAPIValues
	links  map[uint32]uint32 // queue to NAPI
	lacks  map[byte]error    // by command
	stuck  NAPIValue         // a setting that does not take
	writes int
}

func (k *fakeNetdev) namespace() (uint64, error) { return 1, nil }
func (k *fakeNetdev) close()                     {}

func (k *fakeNetdev) ask(cmd byte, flags int, attrs attributes) (all []map[uint16][]byte, err error) {
	u32 := func(n uint32) []byte { return binary.NativeEndian.AppendUint32(nil, n) }
	if err := k.lacks[cmd]; err != nil {
		return nil, err
	}
	switch cmd {
	case netdevCmdQueueGet:
		if flags&unix.NLM_F_DUMP == unix.NLM_F_DUMP {
			return []map[uint16][]byte{{netdevQueueType: u32(0)}, {netdevQueueType: u32(0)}, {netdevQueueType: u32(1)}}, nil
		}
		a := map[uint16][]byte{netdevQueueType: u32(0)}
		if id := k.links[uint32(attrs[netdevQueueID])]; id != 0 {
			a[netdevQueueNAPI] = u32(id)
		}
		return []map[uint16][]byte{a}, nil
	case netdevCmdNAPIGet:
		if flags&unix.NLM_F_DUMP == unix.NLM_F_DUMP {
			for _, values := range k.napis {
				a := make(map[uint16][]byte)
				if x, ok := values[NAPIDeferHardIRQs]; ok {
					a[uint16(NAPIDeferHardIRQs)] = binary.NativeEndian.AppendUint64(nil, x)
				}
				all = append(all, a)
			}
			return all, nil
		}
		values, ok := k.napis[uint32(attrs[netdevNAPIID])]
		if !ok {
			return nil, unix.ENOENT
		}
		a := make(map[uint16][]byte)
		for v, x := range values {
			a[uint16(v)] = binary.NativeEndian.AppendUint64(nil, x)
		}
		return []map[uint16][]byte{a}, nil
	case netdevCmdNAPISet:
		k.writes++
		for v, x := range attrs {
			if v > netdevNAPIID && NAPIValue(v) != k.stuck {
				k.napis[uint32(attrs[netdevNAPIID])][NAPIValue(v)] = x
			}
		}
		return nil, nil
	}
	return nil, unix.EOPNOTSUPP
}

func newFakeNetdev() *fakeNetdev {
	return &fakeNetdev{
		napis: map[uint32]NAPIValues{
			300: {NAPIDeferHardIRQs: 0, NAPIGROFlushTimeout: 0, NAPIIRQSuspendTimeout: 0, NAPIThreaded: 0},
			301: {NAPIDeferHardIRQs: 1, NAPIGROFlushTimeout: 50, NAPIIRQSuspendTimeout: 0, NAPIThreaded: 0},
		},
		links: map[uint32]uint32{0: 300, 1: 301}, lacks: map[byte]error{},
	}
}

// keeperOf has no settings of a device.
func keeperOf(dir string, kernel *fakeNetdev) keeper {
	return keeper{recordDir(dir), func() (netdev, error) { return kernel, nil }, func(int) (*deviceFiles, error) {
		return nil, fmt.Errorf("no files: %w", errors.ErrUnsupported)
	}, nil, nil}
}

// TestNAPITable goes through what kernels and drivers have and lack.
func TestNAPITable(t *testing.T) {
	ask := NAPIValues{NAPIDeferHardIRQs: 100, NAPIGROFlushTimeout: 200_000}
	for _, tc := range []struct {
		name   string
		ask    NAPIValues
		change func(*fakeNetdev)
		is     error
		says   string
	}{
		{name: "all there", ask: ask},
		{name: "the same as before", ask: NAPIValues{NAPIDeferHardIRQs: 1}},
		{"no family", ask, nil, errors.ErrUnsupported, "as a whole before Linux 6.13: no files"},
		{"no queues", ask, func(k *fakeNetdev) { k.lacks[netdevCmdQueueGet] = unix.EOPNOTSUPP }, errors.ErrUnsupported, "as a whole before Linux 6.13: no files"},
		{"no settings told", ask, func(k *fakeNetdev) { clear(k.napis[301]) }, errors.ErrUnsupported, "as a whole before Linux 6.13: no files"},
		{"no thread told", NAPIValues{NAPIThreaded: 1}, func(k *fakeNetdev) { delete(k.napis[301], NAPIThreaded) }, errors.ErrUnsupported, "threaded for one NAPI needs Linux 6.17"},
		{"no setting", ask, func(k *fakeNetdev) { k.lacks[netdevCmdNAPISet] = unix.EOPNOTSUPP }, errors.ErrUnsupported, "as a whole before Linux 6.13: no files"},
		{"no busy thread", NAPIValues{NAPIThreaded: NAPIThreadedBusyPoll}, func(k *fakeNetdev) { k.lacks[netdevCmdNAPISet] = unix.ERANGE }, errors.ErrUnsupported, "6.19 or later"},
		{"no privilege", ask, func(k *fakeNetdev) { k.lacks[netdevCmdNAPISet] = unix.EPERM }, os.ErrPermission, "CAP_NET_ADMIN"},
		{"no links", ask, func(k *fakeNetdev) { clear(k.links) }, errors.ErrUnsupported, "its 2 NAPIs to its 2 receive queues"},
		{"no NAPIs", ask, func(k *fakeNetdev) { clear(k.links); clear(k.napis) }, errors.ErrUnsupported, "no NAPI"},
		{"left as it was", ask, func(k *fakeNetdev) { k.stuck = NAPIGROFlushTimeout }, errors.ErrUnsupported, "gro-flush-timeout was set to 200000, the kernel left it at 50"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			kernel := newFakeNetdev()
			keeper := keeperOf(t.TempDir(), kernel)
			if tc.name == "no family" {
				keeper.open = func() (netdev, error) { return nil, unix.ENOENT }
			}
			if tc.change != nil {
				tc.change(kernel)
			}
			h, err := keeper.set(7, 1, tc.ask)
			if tc.is == nil {
				if err != nil {
					t.Fatal(err)
				}
				for v, x := range tc.ask {
					if h.Values[v] != x || h.ID != 301 {
						t.Errorf("%v is %d on NAPI %d, want %d", v, h.Values[v], h.ID, x)
					}
				}
				if err := h.Restore(); err != nil {
					t.Error(err)
				}
			} else if !errors.Is(err, tc.is) || !strings.Contains(err.Error(), tc.says) || !strings.Contains(err.Error(), "interface index 7") {
				t.Errorf("%v, want %v and %q", err, tc.is, tc.says)
			}
			if n := kernel.napis[301]; len(n) == 4 && (n[NAPIDeferHardIRQs] != 1 || n[NAPIGROFlushTimeout] != 50) {
				t.Errorf("not as before: %v", n)
			}
			if left, err := os.ReadDir(string(keeper.dir)); len(left) != 0 || err != nil {
				t.Errorf("records: %v, %v", left, err)
			}
		})
	}
}

// TestNAPIRecords reads records that are not as a whole start of this boot wrote them:
// they change nothing, and go.
func TestNAPIRecords(t *testing.T) {
	for name, text := range map[string]string{
		"empty":        "",
		"half":         `{"Boot":"` + bootID() + `","NAPI":301,"Set":{"5":1},"Bef`,
		"no JSON":      "x",
		"another boot": `{"Boot":"x","Namespace":1,"NAPI":301,"Index":7,"Queue":1,"Before":{"5":9},"Set":{"5":1}}`,
		"not done":     `{"Boot":"` + bootID() + `","Namespace":1,"NAPI":301,"Index":7,"Queue":1,"Before":{"5":9},"Set":{"5":3}}`,
	} {
		t.Run(name, func(t *testing.T) {
			kernel := newFakeNetdev()
			keeper := keeperOf(t.TempDir(), kernel)
			if err := os.WriteFile(filepath.Join(string(keeper.dir), napiRecordName(301)), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
			if err := keeper.restoreAll(); err != nil || kernel.writes != 0 {
				t.Errorf("%d writes, %v", kernel.writes, err)
			}
			if left, _ := os.ReadDir(string(keeper.dir)); len(left) != 0 {
				t.Errorf("left: %v", left)
			}
		})
	}
	// Records that are right: of the NAPI, and of the one that was there before it.
	// In another namespace a device of the same index is not the same.
	for _, tc := range []struct {
		name, ids  string
		want, left int
	}{
		{"itself", `"Namespace":1,"NAPI":301`, 9, 0},
		{"moved with its device", `"Namespace":2,"NAPI":301`, 9, 0},
		{"come again", `"Namespace":1,"NAPI":299`, 9, 0},
		{"elsewhere", `"Namespace":2,"NAPI":299`, 1, 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			kernel := newFakeNetdev()
			keeper := keeperOf(t.TempDir(), kernel)
			text := `{"Boot":"` + bootID() + `",` + tc.ids + `,"Index":7,"Queue":1,"Before":{"5":9},"Set":{"5":1}}`
			if err := os.WriteFile(filepath.Join(string(keeper.dir), napiPrefix+"0"), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := keeper.restoreAll(); err != nil || kernel.napis[301][NAPIDeferHardIRQs] != uint64(tc.want) {
				t.Errorf("%v, %v, want %d", kernel.napis[301], err, tc.want)
			}
			if left, _ := os.ReadDir(string(keeper.dir)); len(left) != tc.left {
				t.Errorf("left: %v", left)
			}
		})
	}
}

// TestRecordDirectory makes the directory of the records one that only its owner can
// open, and so lock, and leaves others a way through those above it, where a helper's
// socket may be.
func TestRecordDirectory(t *testing.T) {
	mode := func(path string) os.FileMode {
		t.Helper()
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		return info.Mode().Perm()
	}
	plain := filepath.Join(t.TempDir(), "plain")
	if err := os.Mkdir(plain, 0o755); err != nil {
		t.Fatal(err)
	}
	run := filepath.Join(t.TempDir(), "run")
	end, err := recordDir(filepath.Join(run, "settings")).serialize()
	if err != nil {
		t.Fatal(err)
	}
	end()
	if got := mode(filepath.Join(run, "settings")); got != 0o700 {
		t.Errorf("the records' directory has mode %v", got)
	}
	if got, want := mode(run), mode(plain); got != want {
		t.Errorf("the one above has mode %v, want %v", got, want)
	}
	if above := filepath.Dir(settingsRecords); above != "/run/afxnet" {
		t.Errorf("the one above is %s", above)
	}
}

// TestNAPIRecordNotWritable sets nothing that it could not restore after a crash.
func TestNAPIRecordNotWritable(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	kernel := newFakeNetdev()
	keeper := keeperOf(file, kernel)
	if _, err := keeper.set(7, 1, NAPIValues{NAPIDeferHardIRQs: 5}); !errors.Is(err, unix.ENOTDIR) || !strings.Contains(err.Error(), "may write to") {
		t.Errorf("%v", err)
	}
	if kernel.writes != 0 {
		t.Errorf("%d writes without a record", kernel.writes)
	}
}
