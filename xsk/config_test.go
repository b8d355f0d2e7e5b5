package xsk

import (
	"testing"

	"github.com/afxnet/afxnet/umem"
)

func TestConfigDefaults(t *testing.T) {
	c, err := Config{Interface: "eth0"}.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	if want := (RingSizes{Fill: 2048, Completion: 2048, RX: 2048, TX: 2048}); c.Rings != want {
		t.Errorf("Rings = %+v, want %+v", c.Rings, want)
	}
	if c.UMEM.Chunks != 4096+spareChunks || c.BusyTimeout != defaultBusyTimeout || c.Bind != BindAuto {
		t.Errorf("%+v", c)
	}
	c, err = Config{Rings: RingSizes{RX: 64, TX: 128}, BusyTimeout: -1}.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	if want := (RingSizes{Fill: 64, Completion: 128, RX: 64, TX: 128}); c.Rings != want || c.BusyTimeout >= 0 {
		t.Errorf("Rings = %+v, want %+v; BusyTimeout %v", c.Rings, want, c.BusyTimeout)
	}
}

func TestConfigErrors(t *testing.T) {
	region, err := umem.New(umem.Config{ChunkSize: 2048, Chunks: 4, OnHeap: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name string
		cfg  Config
		want string // empty for none
	}{
		{"smallest", Config{Rings: RingSizes{2, 2, 2, 2}}, ""},
		{"own region", Config{Region: region}, ""},
		{"budget", Config{TXBudget: 2048}, ""},
		{"fill", Config{Rings: RingSizes{Fill: 3}}, "xsk: Config.Rings.Fill: 3 descriptors: a ring holds a power of two, 2 to 1073741824"},
		{"completion", Config{Rings: RingSizes{Completion: 1}}, "xsk: Config.Rings.Completion: 1 descriptors: a ring holds a power of two, 2 to 1073741824"},
		{"rx", Config{Rings: RingSizes{RX: 100, Fill: 64}}, "xsk: Config.Rings.RX: 100 descriptors: a ring holds a power of two, 2 to 1073741824"},
		{"tx", Config{Rings: RingSizes{TX: 1 << 31, Completion: 2048}}, "xsk: Config.Rings.TX: 2147483648 descriptors: a ring holds a power of two, 2 to 1073741824"},
		{"fill above rx", Config{Rings: RingSizes{RX: 64, Fill: 128}}, "xsk: Config.Rings.RX: 64 descriptors: at least as many as Fill, 128"},
		{"tx above completion", Config{Rings: RingSizes{TX: 64, Completion: 32}}, "xsk: Config.Rings.Completion: 32 descriptors: at least as many as TX, 64"},
		{"bind", Config{Bind: 3}, "xsk: Config.Bind: bind mode 3: no such mode"},
		{"budget small", Config{TXBudget: 31}, "xsk: Config.TXBudget: 31 packets: from 32 to the TX ring's 2048"},
		{"budget large", Config{TXBudget: 2049}, "xsk: Config.TXBudget: 2049 packets: from 32 to the TX ring's 2048"},
		{"chunks", Config{UMEM: umem.Config{Chunks: 4095}}, "xsk: Config.UMEM.Chunks: 4095: the rings can hold Fill + TX = 4096 frames"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := test.cfg.withDefaults()
			if err == nil != (test.want == "") || err != nil && err.Error() != test.want {
				t.Errorf("withDefaults: %v, want %s", err, test.want)
			}
		})
	}
}

func TestBindModeString(t *testing.T) {
	for m, want := range map[BindMode]string{BindAuto: "auto", BindZeroCopy: "zero-copy", BindCopy: "copy", 9: "bind mode 9"} {
		if got := m.String(); got != want {
			t.Errorf("%d: %q, want %q", m, got, want)
		}
	}
}
