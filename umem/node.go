package umem

// Node names a NUMA node in a Config. The zero value names none.
type Node int

// OnNode is the node with this number, as in /sys/devices/system/node.
func OnNode(n int) Node { return Node(n + 1) }

// Node returns the NUMA node that the region's first page lies on. Without a NUMA
// kernel, and on other systems than Linux, errors.Is(err, errors.ErrUnsupported).
func (r *Region) Node() (number int, err error) { return nodeOf(r.mem) }

// Number returns the node's number; ok is false for the zero value.
func (n Node) Number() (number int, ok bool) { return int(n) - 1, n > 0 }
