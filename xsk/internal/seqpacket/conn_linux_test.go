package seqpacket

import (
	"errors"
	"net"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/afxnet/afxnet/internal/lab"
)

const patience = 20 * time.Second

// TestSendTogether has one goroutine wait for room to send, and another one begin to
// send that has less time: the first one keeps its own.
func TestSendTogether(t *testing.T) {
	path, msg := filepath.Join(t.TempDir(), "s"), make([]byte, MaxMessage)
	l, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: path, Net: "unixpacket"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := Dial(path, patience)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	uc, err := l.AcceptUnix()
	if err != nil {
		t.Fatal(err)
	}
	peer := New(uc)
	defer peer.Close()
	full := 0
	err = c.control(func(fd int) (err error) { // Send tells by the time alone that there is no room
		for ; err == nil; full++ {
			_, err = unix.SendmsgN(fd, msg, nil, nil, unix.MSG_DONTWAIT)
		}
		return err
	})
	if !errors.Is(err, unix.EAGAIN) {
		t.Fatal(err)
	}
	first, second := make(chan error, 1), make(chan error, 1)
	go func() { first <- c.Send(msg, patience) }()
	lab.Eventually(t, patience, "the first one waits for room", func() bool { return sending("[IO wait") })
	go func() { second <- c.Send(msg, time.Millisecond) }()
	lab.Eventually(t, patience, "the second one waits for the first", func() bool {
		return len(first) > 0 || sending("[sync.Mutex.Lock")
	})
	for range full - 1 { // the last one was not sent
		if _, _, err := peer.Receive(patience); err != nil {
			t.Fatal(err)
		}
	}
	if err := <-first; err != nil {
		t.Errorf("with the second one's time: %v", err)
	}
	<-second // it may have been too slow
}

// sending tells whether a goroutine is in Send that waits so.
func sending(how string) bool {
	buf := make([]byte, 1<<20)
	for g := range strings.SplitSeq(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
		if strings.Contains(g, how) && strings.Contains(g, "seqpacket.(*Conn).Send(") {
			return true
		}
	}
	return false
}
