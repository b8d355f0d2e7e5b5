package hostif

import (
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Hook tells which XDP program an interface has, of the network namespace that it
// was opened in, whichever the caller's thread is in by then.
type Hook struct {
	index  int
	handle *netlink.Handle
}

// OpenHook opens the hook of the interface with this index.
func OpenHook(index int) (*Hook, error) {
	handle, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, indexError("open hook", index, err)
	}
	return &Hook{index, handle}, nil
}

// Read returns the program that is there now. If the interface is gone,
// errors.Is(err, unix.ENODEV) holds.
func (h *Hook) Read() (XDP, error) {
	link, err := h.handle.LinkByIndex(h.index)
	if err != nil {
		return XDP{}, indexError("read XDP program", h.index, err)
	}
	return xdpOf(link.Attrs()), nil
}

// Close closes the hook. It must not be in use.
func (h *Hook) Close() { h.handle.Close() }

func xdpOf(attrs *netlink.LinkAttrs) XDP {
	if attrs.Xdp == nil {
		return XDP{}
	}
	return XDP{ID: attrs.Xdp.ProgId, Mode: XDPMode(attrs.Xdp.AttachMode)}
}
