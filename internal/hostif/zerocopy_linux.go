package hostif

import (
	"fmt"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Generic netlink's controller, linux/genetlink.h, and its family "netdev",
// linux/netdev.h (6.3; the last attribute 6.6).
const (
	netdevFamily          = "netdev\x00"
	netdevCmdDevGet       = 1
	netdevDevIfindex      = 1
	netdevDevXDPZCMaxSegs = 4
)

// ZeroCopySegments returns how many buffers a packet of a zero-copy AF_XDP socket
// may lie in on the interface with this index: 1 if its driver has no zero-copy,
// or one buffer for each packet. Where the kernel does not say, before Linux 6.3,
// errors.Is(err, unix.ENOENT) holds.
func ZeroCopySegments(index int) (int, error) {
	fail := func(err error) (int, error) {
		return 0, fmt.Errorf("hostif: zero-copy segments, interface index %d: %w", index, err)
	}
	family, err := genericNetlink(unix.GENL_ID_CTRL, unix.CTRL_CMD_GETFAMILY,
		unix.CTRL_ATTR_FAMILY_NAME, []byte(netdevFamily), unix.CTRL_ATTR_FAMILY_ID)
	if err != nil {
		return fail(err)
	}
	if len(family) < 2 {
		return fail(unix.ENOENT)
	}
	segments, err := genericNetlink(int(native.Uint16(family)), netdevCmdDevGet,
		netdevDevIfindex, nl.Uint32Attr(uint32(index)), netdevDevXDPZCMaxSegs)
	if err != nil {
		return fail(err)
	}
	if len(segments) < 4 {
		return 1, nil
	}
	return max(1, int(native.Uint32(segments))), nil
}

// genericNetlink sends a command with one attribute to a family and returns the
// value of the wanted attribute in the answer, nil if it is not there.
func genericNetlink(family int, cmd byte, attr int, value []byte, want uint16) ([]byte, error) {
	req := nl.NewNetlinkRequest(family, 0)
	req.AddData(genlHeader{cmd, 1})
	req.AddData(nl.NewRtAttr(attr, value))
	msgs, err := req.Execute(unix.NETLINK_GENERIC, 0)
	if err != nil {
		return nil, err
	}
	for _, m := range msgs {
		attrs, err := nl.ParseRouteAttr(m[min(len(m), len(genlHeader{})):])
		if err != nil {
			return nil, err
		}
		for _, a := range attrs {
			if a.Attr.Type == want {
				return a.Value, nil
			}
		}
	}
	return nil, nil
}

// genlHeader is struct genlmsghdr: command, version, and two bytes that must be 0
// (the library's own sends what happens to lie there).
type genlHeader [4]byte

func (h genlHeader) Len() int          { return len(h) }
func (h genlHeader) Serialize() []byte { return h[:] }
