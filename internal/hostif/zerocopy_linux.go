package hostif

import (
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
	f, err := ReadXDPFeatures(index)
	return f.ZeroCopySegments, err
}

// genericNetlink sends a command with one attribute to a family and returns the
// attributes of the answer.
func genericNetlink(family int, cmd byte, attr int, value []byte) (map[uint16][]byte, error) {
	req := nl.NewNetlinkRequest(family, 0)
	req.AddData(genlHeader{cmd, 1})
	req.AddData(nl.NewRtAttr(attr, value))
	msgs, err := req.Execute(unix.NETLINK_GENERIC, 0)
	if err != nil {
		return nil, err
	}
	answer := make(map[uint16][]byte)
	for _, m := range msgs {
		attrs, err := nl.ParseRouteAttr(m[min(len(m), len(genlHeader{})):])
		if err != nil {
			return nil, err
		}
		for _, a := range attrs {
			answer[a.Attr.Type] = a.Value
		}
	}
	return answer, nil
}

// genlHeader is struct genlmsghdr: command, version, and two bytes that must be 0
// (the library's own sends what happens to lie there).
type genlHeader [4]byte

func (h genlHeader) Len() int          { return len(h) }
func (h genlHeader) Serialize() []byte { return h[:] }
