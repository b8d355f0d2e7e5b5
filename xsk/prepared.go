package xsk

import (
	"errors"

	"github.com/afxnet/afxnet/umem"
)

// Prepared is an AF_XDP socket that one process makes, with the privileges that
// takes ([Prepare]), for another one to open without (Config.Prepared): the rest of
// Open needs none. Package xsk/handover carries it from the one to the other. It
// keeps the network namespace that it was made in.
type Prepared struct {
	// FD is the socket's descriptor, which is not bound to a queue. Who opens it
	// takes it over: a Prepared is for one Open, successful or not.
	FD int

	// Registered says that the socket has its packet memory, which is that of
	// Config.Region: both map the same file (umem.Config.File).
	Registered bool

	// BusyPoll says that the socket has the options of Config.BusyPoll, which
	// Open does not set then.
	BusyPoll bool

	taken bool // by an Open
}

var (
	errPreparedRegion = errors.New("xsk: Config.Prepared: memory is registered: Config.Region has to be that, and Config.Shared nil")
	errPreparedFD     = errors.New("xsk: Config.Prepared.FD: negative")
)

func (c Config) checkPrepared() error {
	switch {
	case c.Prepared == nil:
		return nil
	case c.Prepared.FD < 0:
		return errPreparedFD
	case c.Prepared.Registered && (c.Region == nil || c.Shared != nil):
		return errPreparedRegion
	}
	return nil
}

func (p *Prepared) registered() bool { return p != nil && p.Registered }
func (p *Prepared) busyPolls() bool  { return p != nil && p.BusyPoll }

// Memory returns the packet memory that Open makes for a socket without Region and
// Shared, for who makes the region himself: UMEM, with as many chunks as the rings can
// use if it says nothing. The error names the field and the rule.
func (c Config) Memory() (umem.Config, error) {
	c.Prepared, c.Region, c.Shared = nil, nil, nil
	c, err := c.withDefaults()
	return c.UMEM, err
}
