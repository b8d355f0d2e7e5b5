package hostif

import "fmt"

// Offload tells whether an offload of an interface is on, in the network namespace that
// it was opened in, whatever the interface is called then. It is for one goroutine at a
// time.
type Offload struct {
	index       int
	feature     string
	tool        *ethtool
	bit, blocks int
}

// OpenOffload opens it for the interface with this index. errors.ErrUnsupported: the
// kernel has no such offload.
func OpenOffload(index int, feature string) (*Offload, error) {
	o := &Offload{index: index, feature: feature}
	tool, err := openEthtool()
	if err != nil {
		return nil, o.failed(err)
	}
	o.tool = tool
	name, err := tool.name(index)
	if err == nil {
		o.bit, o.blocks, err = tool.feature(name, feature)
	}
	if err != nil {
		tool.close()
		return nil, o.failed(err)
	}
	return o, nil
}

// On reads it. The error wraps unix.ENODEV if the interface is gone.
func (o *Offload) On() (bool, error) {
	name, err := o.tool.name(o.index)
	on := false
	if err == nil {
		on, err = o.tool.featureActive(name, o.blocks, o.bit)
	}
	if err != nil {
		return false, o.failed(err)
	}
	return on, nil
}

// Close closes it.
func (o *Offload) Close() { o.tool.close() }

func (o *Offload) failed(err error) error {
	return indexError(fmt.Sprintf("read offload %s", o.feature), o.index, err)
}
