package steering

import (
	"errors"
	"fmt"

	"github.com/afxnet/afxnet/internal/hostif"
	"github.com/afxnet/afxnet/xsk"
)

// vlanOffload is the offload with which a NIC takes the VLAN tag off a received
// frame, as the kernel calls it; ethtool -k has it as rx-vlan-offload.
const vlanOffload = "rx-vlan-hw-parse"

// keepTags has the NIC leave VLAN tags in their frames, where the program sees
// them: without, a VLAN's packet to an address of the stack would pass for one of
// the untagged network. Where the driver does not let it be changed, it stays.
func keepTags(name string) (restore func() error, err error) {
	held, err := hostif.HoldOffload(name, vlanOffload, false)
	if errors.Is(err, errors.ErrUnsupported) {
		return func() error { return nil }, nil
	}
	if err != nil {
		return nil, &xsk.OpError{Op: "keep VLAN tags", Device: name, Queue: xsk.NoQueue, Err: err}
	}
	return held.Restore, nil
}

// tags watches for somebody who has the NIC take VLAN tags off again.
type tags struct {
	offload *hostif.Offload // nil if the driver does not tell
	on      bool            // as last seen
}

// openTags looks for the first time.
func (i *Interface) openTags() *tags {
	offload, err := hostif.OpenOffload(i.dev.Index, vlanOffload)
	if err != nil {
		return &tags{}
	}
	t := &tags{offload: offload}
	t.taken()
	return t
}

func (t *tags) close() {
	if t.offload != nil {
		t.offload.Close()
	}
}

// taken tells that tags are taken off, and were not at the last look.
func (t *tags) taken() bool {
	if t.offload == nil {
		return false
	}
	now, err := t.offload.On()
	if err != nil {
		return false // the interface may be gone
	}
	say := now && !t.on
	t.on = now
	return say
}

// findTags tells that the NIC takes VLAN tags off again, which others have set.
func (i *Interface) findTags(t *tags) {
	if t.taken() {
		i.find(xsk.Finding{Subject: xsk.SubjectOffloads, Level: xsk.Warning,
			Text: fmt.Sprintf("%s takes VLAN tags off again (rx-vlan-offload): a VLAN's packets to an address of the stack pass for those of the untagged network", i.dev.Name),
			Fix:  fmt.Sprintf("ethtool -K %s rxvlan off", i.dev.Name)})
	}
}
