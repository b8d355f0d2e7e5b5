package mechanism

import (
	"flag"
	"slices"
	"testing"
)

func TestParse(t *testing.T) {
	for _, tc := range []struct {
		text string
		want []string
		ok   bool
	}{
		{"", nil, true},
		{"gro", []string{GRO}, true},
		{"fastip,gro,ackhold", []string{FastIP, GRO, ACKHold}, true},
		{"fast", nil, false},
		{"gro,", nil, false},
		{"gro, ackhold", nil, false},
	} {
		got, err := parse(tc.text)
		if (err == nil) != tc.ok || !slices.Equal(got, tc.want) {
			t.Errorf("%q: %q, %v", tc.text, got, err)
		}
	}
}

func TestFlag(t *testing.T) {
	was := off
	t.Cleanup(func() { off = was })
	if err := flag.Set("afxnet.off", "gro,ackhold"); err != nil {
		t.Fatal(err)
	}
	if Off(FastIP) || !Off(GRO) || !Off(ACKHold) {
		t.Errorf("off: %q", off)
	}
	if got := Argument(); got != "-afxnet.off=gro,ackhold" {
		t.Error(got)
	}
	if err := flag.Set("afxnet.off", "tso"); err == nil {
		t.Error("an unknown name is taken")
	}
}
