//go:build !(linux && (amd64 || arm64))

package xsk

// Filter is an XDP program of the user's own. There is none on this system: OpenFilter
// and TakeFilter return an error that wraps errors.ErrUnsupported.
type Filter struct{}

// OpenFilter is for Linux on amd64 and arm64.
func OpenFilter(string) (*Filter, error) { return nil, noBPF("open pinned program") }

// TakeFilter is for Linux on amd64 and arm64.
func TakeFilter(int) (*Filter, error) { return nil, noBPF("take program over") }

func (*Filter) Test([]byte, Arrival) (Action, []byte, error) { return 0, nil, noBPF("test program") }
func (*Filter) Close() error                                 { return nil }
