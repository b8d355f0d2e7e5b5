package gvisorpeer

import (
	"errors"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip/link/fdbased"

	"github.com/afxnet/afxnet/bench/internal/peer"
	"github.com/afxnet/afxnet/internal/hostif"
)

// packetOptions are the choices of fdbased on a packet socket.
type packetOptions struct {
	dispatch   fdbased.PacketDispatchMode
	processors int  // goroutines behind the one that receives; 1: none
	gro        bool // join received segments; needs trust, or netstack drops what it joined
	trust      bool // take received checksums for right
	gsoMax     int  // bytes of a segment that the kernel cuts; 0: netstack cuts
}

// fastest is what was fastest over veth, see BenchmarkOptions. Joining is worth
// half as much again in bulk towards the peer, and works only if received
// checksums are trusted; gVisor's own container runtime trusts them as well.
var fastest = packetOptions{dispatch: fdbased.RecvMMsg, processors: 1, gro: true, trust: true, gsoMax: 65536}

// packetBuffer is the socket's receive and send buffer in bytes. gVisor's own
// container runtime asks for the same.
const packetBuffer = 4 << 20

// openPacket opens gVisor's link/fdbased on a packet socket.
func openPacket(dev hostif.Interface, cfg peer.Config) (*endpoint, error) {
	return openPacketWith(fastest)(dev, cfg)
}

func openPacketWith(o packetOptions) func(hostif.Interface, peer.Config) (*endpoint, error) {
	return func(dev hostif.Interface, cfg peer.Config) (_ *endpoint, err error) {
		fd, err := packetSocket(dev.Index, o.gsoMax != 0)
		if err != nil {
			return nil, err
		}
		ino, err := inode(fd)
		if err != nil {
			return nil, errors.Join(err, unix.Close(fd))
		}
		end := func() error {
			return errors.Join(unmapSocket(ino), os.NewSyscallError("close", unix.Close(fd)))
		}
		ep, err := fdbased.New(&fdbased.Options{
			FDs:                  []int{fd},
			MTU:                  uint32(cfg.MTU),
			EthernetHeader:       true,
			Address:              linkAddress(dev.MAC),
			GSOMaxSize:           uint32(o.gsoMax),
			PacketDispatchMode:   o.dispatch,
			GRO:                  o.gro,
			ProcessorsPerChannel: o.processors,
			InterfaceIndex:       dev.Index,
			RXChecksumOffload:    o.trust,
		})
		if err != nil {
			return nil, errors.Join(fmt.Errorf("gVisor's fdbased endpoint: %w", err), end())
		}
		e := &endpoint{info: map[string]string{
			"link":       "gvisor link/fdbased on AF_PACKET",
			"dispatch":   o.dispatch.String(),
			"processors": strconv.Itoa(o.processors),
			"gro":        strconv.FormatBool(o.gro),
			"verifies":   strconv.FormatBool(!o.trust),
			"gso_max":    strconv.Itoa(o.gsoMax),
			"mtu":        strconv.Itoa(cfg.MTU),
		}}
		e.gate.LinkEndpoint = ep
		e.stop = func() error {
			ep.Attach(nil) // waits for the goroutine
			return end()
		}
		return e, nil
	}
}

// packetSocket returns a packet socket that receives every frame of a device
// but those the kernel sends. With virtio, frames have a virtio header, by
// which the kernel completes checksums and cuts segments.
func packetSocket(index int, virtio bool) (fd int, err error) {
	fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, os.NewSyscallError("socket", err)
	}
	defer func() {
		if err != nil {
			unix.Close(fd)
		}
	}()
	options := []struct{ level, name, value int }{
		{unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, packetBuffer},
		{unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, packetBuffer},
		{unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1},
	}
	if virtio {
		options = append(options, struct{ level, name, value int }{unix.SOL_PACKET, unix.PACKET_VNET_HDR, 1})
	}
	for _, o := range options {
		if err := unix.SetsockoptInt(fd, o.level, o.name, o.value); err != nil {
			return -1, fmt.Errorf("option %d of level %d: %w", o.name, o.level, os.NewSyscallError("setsockopt", err))
		}
	}
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: networkOrder(unix.ETH_P_ALL), Ifindex: index}); err != nil {
		return -1, os.NewSyscallError("bind", err)
	}
	return fd, nil
}
