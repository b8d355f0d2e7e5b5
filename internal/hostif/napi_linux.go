package hostif

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// The commands and attributes of the family "netdev" about NAPIs, linux/netdev.h
// (6.8; NAPI_SET 6.13).
const (
	netdevCmdQueueGet  = 10
	netdevCmdNAPIGet   = 11
	netdevCmdNAPISet   = 14
	netdevQueueID      = 1
	netdevQueueIfindex = 2
	netdevQueueType    = 3 // 0 is RX
	netdevQueueNAPI    = 4
	netdevNAPIIfindex  = 1
	netdevNAPIID       = 2
)

// netdev asks the kernel's family "netdev" in one network namespace. Package tests
// have another one.
type netdev interface {
	// ask sends a command and returns the attributes of each answer.
	ask(cmd byte, flags int, attrs attributes) ([]map[uint16][]byte, error)
	// namespace is what no other network namespace since boot has or had.
	namespace() (uint64, error)
	close()
}

// attributes are sent with a command, in ascending order, 4 bytes each, or 8 if
// the value needs them.
type attributes map[uint16]uint64

// netdevSocket is the netdev of the kernel: a netlink socket.
type netdevSocket struct {
	sock   *nl.NetlinkSocket
	family int
}

func openNetdev() (netdev, error) {
	answer, err := genericNetlink(unix.GENL_ID_CTRL, unix.CTRL_CMD_GETFAMILY, unix.CTRL_ATTR_FAMILY_NAME, []byte(netdevFamily))
	if err != nil {
		return nil, err
	}
	id := answer[unix.CTRL_ATTR_FAMILY_ID]
	if len(id) < 2 {
		return nil, unix.ENOENT
	}
	sock, err := nl.Subscribe(unix.NETLINK_GENERIC)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(sock.SetSendTimeout(&nl.SocketTimeoutTv), sock.SetReceiveTimeout(&nl.SocketTimeoutTv)); err != nil {
		sock.Close()
		return nil, err
	}
	return &netdevSocket{sock: sock, family: int(native.Uint16(id))}, nil
}

func (n *netdevSocket) ask(cmd byte, flags int, attrs attributes) ([]map[uint16][]byte, error) {
	req := nl.NewNetlinkRequest(n.family, flags)
	req.AddData(genlHeader{cmd, 1})
	for _, typ := range slices.Sorted(maps.Keys(attrs)) {
		v := binary.NativeEndian.AppendUint64(nil, attrs[typ])
		if attrs[typ]>>32 == 0 {
			v = binary.NativeEndian.AppendUint32(nil, uint32(attrs[typ]))
		}
		req.AddData(nl.NewRtAttr(int(typ), v))
	}
	if err := n.sock.Send(req); err != nil {
		return nil, err
	}
	// The family's dumps lack NLM_F_MULTI (Linux 6.18), by which the library
	// would tell that more is to come.
	one := flags&(unix.NLM_F_DUMP|unix.NLM_F_ACK) == 0
	var answers []map[uint16][]byte
	for {
		msgs, from, err := n.sock.Receive()
		if err != nil {
			return nil, err
		}
		for _, m := range msgs {
			if from.Pid != nl.PidKernel || m.Header.Seq != req.Seq {
				continue // of an earlier command that was given up
			}
			if m.Header.Type == unix.NLMSG_ERROR || m.Header.Type == unix.NLMSG_DONE {
				return answers, netlinkError(m.Data)
			}
			parsed, err := nl.ParseRouteAttr(m.Data[min(len(m.Data), len(genlHeader{})):])
			if err != nil {
				return nil, err
			}
			a := make(map[uint16][]byte)
			for _, p := range parsed {
				a[p.Attr.Type] = p.Value
			}
			if answers = append(answers, a); one {
				return answers, nil
			}
		}
	}
}

// netlinkError reads the negative errno that NLMSG_ERROR and NLMSG_DONE begin with.
func netlinkError(b []byte) error {
	if len(b) < 4 {
		return nil
	}
	if errno := -int32(native.Uint32(b)); errno != 0 {
		return unix.Errno(errno)
	}
	return nil
}

func (n *netdevSocket) namespace() (uint64, error) {
	return NetNSOf(n.sock.GetFd())
}

func (n *netdevSocket) close() { n.sock.Close() }

// number reads an attribute of 4 or 8 bytes.
func number(b []byte) (n uint64, ok bool) {
	switch len(b) {
	case 4:
		return uint64(native.Uint32(b)), true
	case 8:
		return native.Uint64(b), true
	}
	return 0, false
}

// noNAPI says that a queue has no NAPI that can be named.
func noNAPI(why string) error { return fmt.Errorf("%s: %w", why, errors.ErrUnsupported) }

// queueNAPI returns the id of the NAPI that serves a receive queue of a device.
func queueNAPI(n netdev, index int, queue uint32) (uint32, error) {
	answers, err := n.ask(netdevCmdQueueGet, 0, attributes{netdevQueueID: uint64(queue), netdevQueueIfindex: uint64(index), netdevQueueType: 0})
	if errors.Is(err, unix.EOPNOTSUPP) {
		return 0, fmt.Errorf("%w: the kernel does not tell which NAPI serves a queue (6.8)", errOldKernel)
	}
	if err != nil {
		return 0, err
	}
	for _, a := range answers {
		if id, ok := number(a[netdevQueueNAPI]); ok && id != 0 {
			return uint32(id), nil
		}
	}
	// The driver does not say (netif_queue_set_napi), as veth: of one NAPI and
	// one queue it need not.
	queues, err := n.ask(netdevCmdQueueGet, unix.NLM_F_DUMP, attributes{netdevQueueIfindex: uint64(index)})
	if err != nil {
		return 0, err
	}
	receive := 0
	for _, a := range queues {
		if typ, ok := number(a[netdevQueueType]); ok && typ == 0 {
			receive++
		}
	}
	napis, err := n.ask(netdevCmdNAPIGet, unix.NLM_F_DUMP, attributes{netdevNAPIIfindex: uint64(index)})
	if err != nil {
		return 0, err
	}
	settable := func(a map[uint16][]byte) bool { return a[uint16(NAPIDeferHardIRQs)] != nil }
	switch {
	case len(napis) > 0 && !slices.ContainsFunc(napis, settable):
		return 0, errOldKernel
	case len(napis) == 0:
		return 0, noNAPI("the device has no NAPI, as veth without a native program")
	case len(napis) != 1 || receive != 1:
		return 0, noNAPI(fmt.Sprintf("the driver does not link its %d NAPIs to its %d receive queues (netif_queue_set_napi)", len(napis), receive))
	}
	id, ok := number(napis[0][netdevNAPIID])
	if !ok || id == 0 {
		return 0, noNAPI("the device's NAPI has no id")
	}
	return uint32(id), nil
}

// readNAPI returns every setting that the kernel tells. errors.Is(err, unix.ENOENT)
// holds if there is no such NAPI in the namespace.
func readNAPI(n netdev, id uint32) (NAPIValues, error) {
	answers, err := n.ask(netdevCmdNAPIGet, 0, attributes{netdevNAPIID: uint64(id)})
	if err != nil {
		return nil, err
	}
	values := make(NAPIValues)
	for _, a := range answers {
		for _, v := range []NAPIValue{NAPIDeferHardIRQs, NAPIGROFlushTimeout, NAPIIRQSuspendTimeout, NAPIThreaded} {
			if x, ok := number(a[uint16(v)]); ok {
				values[v] = x
			}
		}
	}
	return values, nil
}

// writeNAPI changes settings.
func writeNAPI(n netdev, id uint32, values NAPIValues) error {
	if len(values) == 0 {
		return nil
	}
	attrs := attributes{netdevNAPIID: uint64(id)}
	for v, x := range values {
		attrs[uint16(v)] = x
	}
	_, err := n.ask(netdevCmdNAPISet, unix.NLM_F_ACK, attrs)
	switch {
	case errors.Is(err, unix.EPERM):
		return fmt.Errorf("%w (needs CAP_NET_ADMIN in the initial user namespace)", err)
	case errors.Is(err, unix.EOPNOTSUPP):
		return fmt.Errorf("%w: %w", errOldKernel, err)
	case errors.Is(err, unix.ERANGE) && values[NAPIThreaded] == NAPIThreadedBusyPoll:
		return fmt.Errorf("a NAPI thread that busy polls needs Linux 6.19 or later: %w: %w", errors.ErrUnsupported, err)
	}
	return err
}
