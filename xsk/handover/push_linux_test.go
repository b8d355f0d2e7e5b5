package handover

import (
	"fmt"
	"path/filepath"
	"testing"

	"github.com/afxnet/afxnet/xsk"
	"github.com/afxnet/afxnet/xsk/internal/seqpacket"
)

// TestPassInOrder has findings follow each other at once: the process hears of them in
// their order.
func TestPassInOrder(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l, err := Listen(path, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c := dial(t, path)
	uc, err := l.AcceptUnix()
	if err != nil {
		t.Fatal(err)
	}
	defer uc.Close()
	s := hereServer(t, nil)
	s.logger = newLogger(func(string) {})
	defer s.logger.end(t.Context())
	defer s.workers.Wait()
	s.granted = &grant{conn: &conn{Conn: seqpacket.New(uc)}}
	const many = 50
	for i := range many {
		s.pass(xsk.Finding{Level: xsk.Warning, Text: fmt.Sprint(i)})
	}
	for i := range many {
		msg, _, err := c.Receive(patience)
		if err != nil {
			t.Fatal(err)
		}
		if r, err := decode[reply](msg); err != nil || r.Finding == nil || r.Finding.Text != fmt.Sprint(i) {
			t.Fatalf("finding %d: %s, %v", i, msg, err)
		}
	}
}
