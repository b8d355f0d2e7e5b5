package xsk

import (
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/afxnet/afxnet/internal/hostif"
)

// registration says where a socket's packet memory and rings come from.
type registration struct {
	with *Socket // whose UMEM is used; nil to register it
	own  bool    // a fill and a completion ring of its own
}

// registrationLocked finds it for the next socket of sh, and its queue. Where the
// fill and completion ring are another socket's, it puts their sizes into n.
func (sh *Shared) registrationLocked(k *kernelSocket, dev hostif.Interface, queue uint32, n *RingSizes) (key poolKey, from registration, err error) {
	key = poolKey{ifindex: dev.Index, queue: queue}
	if key.netns, err = hostif.NetNSOf(k.sock.FD()); err != nil {
		return key, from, err
	}
	if len(sh.pools) == 0 {
		return key, registration{own: true}, nil
	}
	p := sh.poolLocked(key)
	if p == nil {
		return key, registration{own: true, with: sh.pools[0].socks[0]}, nil
	}
	n.Fill, n.Completion = p.fill.Len(), p.comp.Len()
	if n.RX < n.Fill {
		return key, from, fmt.Errorf("Config.Rings.RX: %d descriptors: at least as many as the queue's fill ring has, %d: %w", n.RX, n.Fill, unix.EINVAL)
	}
	return key, registration{with: p.socks[0]}, nil
}

// sharingRemedy is what to do if a bind with another socket's UMEM is refused.
func sharingRemedy(with *Socket) string {
	mode := "copy"
	if with.ZeroCopy() {
		mode = "zero-copy"
	}
	return fmt.Sprintf("the UMEM is bound in %s mode on %s queue %d, and this queue cannot be, or not with its chunk size: "+
		"open the first socket of Config.Shared with BindCopy, which works everywhere", mode, with.device, with.queue)
}
