package steering

import (
	"testing"

	"github.com/afxnet/afxnet/internal/hostif"
	"github.com/afxnet/afxnet/internal/lab"
	"github.com/afxnet/afxnet/xsk"
)

// TestLabFollowAgain has the program not take an address of the interface, and take the
// next one: nothing is wrong then.
func TestLabFollowAgain(t *testing.T) {
	lab.Require(t, lab.NetNS, lab.XDP)
	l := lab.New(t, lab.Config{})
	dev, err := l.Host.Interface()
	if err != nil {
		t.Fatal(err)
	}
	var i *Interface
	err = l.Host.Do(func() error {
		i, err = Attach(dev, xsk.AttachAuto)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, mac := range []string{"\x01\x00\x5e\x00\x00\x01", string(dev.MAC)} {
		i.follow(hostif.Event{Change: hostif.ChangeMAC, State: hostif.State{Present: true, MAC: mac}})
	}
	if err := l.Host.Do(i.Close); err != nil {
		t.Errorf("Close: %v", err)
	}
}
