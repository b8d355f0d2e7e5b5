package steering

import (
	"slices"
	"sync"

	"github.com/afxnet/afxnet/xsk"
)

const (
	// mailboxReady is how many findings can be received without another call of Ready.
	mailboxReady = 16

	// mailboxRoom is how many different ones wait behind these; what comes then is
	// dropped. They come one by one, of what administrators do: it is for a process that
	// never receives any.
	mailboxRoom = 1024
)

// Mailbox holds findings until somebody receives them, in their order. One that waits
// already is not put there again. Its methods may be called from any goroutine.
type Mailbox struct {
	ready chan xsk.Finding

	mu      sync.Mutex // a leaf
	waiting []xsk.Finding
}

// NewMailbox makes an empty one.
func NewMailbox() *Mailbox { return &Mailbox{ready: make(chan xsk.Finding, mailboxReady)} }

// Put adds a finding. It does not block.
func (m *Mailbox) Put(f xsk.Finding) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !slices.Contains(m.waiting, f) && len(m.waiting) < mailboxRoom {
		m.waiting = append(m.waiting, f)
	}
	m.fillLocked()
}

// Ready is where to receive the next finding. It has to be called for each: the channel
// holds some, and the call moves others up.
func (m *Mailbox) Ready() <-chan xsk.Finding {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.fillLocked()
	return m.ready
}

func (m *Mailbox) fillLocked() {
	for len(m.waiting) > 0 {
		select {
		case m.ready <- m.waiting[0]:
			m.waiting = slices.Delete(m.waiting, 0, 1)
		default:
			return
		}
	}
}

// Drain calls each for what can be received now, where findings is as Mailbox.Ready.
func Drain(findings func() <-chan xsk.Finding, each func(xsk.Finding)) {
	for {
		select {
		case f := <-findings():
			each(f)
		default:
			return
		}
	}
}
