package main

import (
	"bytes"
	"testing"

	"github.com/afxnet/afxnet/internal/lab"
)

// TestJumbo has a device refused whose packets would be several descriptors.
func TestJumbo(t *testing.T) {
	lab.Require(t, lab.NetNS, lab.XDP)
	l := lab.New(t, lab.Config{MTU: 9000})
	err := l.Host.Do(func() error {
		set, err := open(lab.HostDevice, l.StackV4.Addr())
		if err != nil {
			t.Log(err)
			return nil
		}
		t.Error("an MTU of 9000 is taken")
		return set.Close()
	})
	if err != nil {
		t.Error(err)
	}
}

// TestTurn sends nothing from a group's address.
func TestTurn(t *testing.T) {
	for _, tc := range []struct {
		frame, want []byte // want is nil for a frame that is not sent
	}{
		{[]byte("ABCDEFabcdef.."), nil}, // 'A' is odd: a group
		{[]byte("BCDEFGabcdef.."), []byte("abcdefBCDEFG..")},
		{[]byte("BCDEFGabcde"), nil},
	} {
		was := bytes.Clone(tc.frame)
		if sent := turn(tc.frame); sent != (tc.want != nil) {
			t.Errorf("%s: sent: %v", was, sent)
		} else if sent && !bytes.Equal(tc.frame, tc.want) {
			t.Errorf("%s: sent as %s", was, tc.frame)
		}
	}
}
