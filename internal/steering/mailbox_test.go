package steering

import (
	"fmt"
	"testing"

	"github.com/afxnet/afxnet/xsk"
)

// TestMailbox has more findings than the channel holds, some of them twice, before
// anybody receives one: none is lost, and the order stays.
func TestMailbox(t *testing.T) {
	m := NewMailbox()
	const many = 10 * mailboxReady
	for i := range many {
		m.Put(xsk.Finding{Text: fmt.Sprint(i)})
		if i >= mailboxReady { // it waits
			m.Put(xsk.Finding{Text: fmt.Sprint(i)})
		}
	}
	n := 0
	Drain(m.Ready, func(f xsk.Finding) {
		if f.Text != fmt.Sprint(n) {
			t.Errorf("finding %d: %v", n, f)
		}
		n++
	})
	if n != many {
		t.Errorf("%d of %d findings", n, many)
	}
	for i := range 2 * mailboxRoom { // nobody receives
		m.Put(xsk.Finding{Text: fmt.Sprint(i)})
	}
	if len(m.waiting) != mailboxRoom {
		t.Errorf("%d wait, want %d", len(m.waiting), mailboxRoom)
	}
}
