package handover

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode"

	"golang.org/x/sys/unix"

	"github.com/afxnet/afxnet/internal/descriptors"
	"github.com/afxnet/afxnet/xsk"
	"github.com/afxnet/afxnet/xsk/internal/seqpacket"
)

// TestHostileProcess sends a helper what no process should: the connection ends,
// after an error that says why where the message was one, and the helper goes on,
// with no descriptor more than before.
func TestHostileProcess(t *testing.T) {
	path := serveHere(t, nil)
	before := descriptors.Open(t)
	pipe := func() []int {
		var p [2]int
		if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
			t.Fatal(err)
		}
		return p[:]
	}
	for _, tc := range []struct {
		name string
		msg  string
		fds  int
		says string // in the reply; empty is no reply
	}{
		{"no JSON", "\x00\xff\x00", 0, ""},
		{"half", `{"op":"open"`, 0, ""},
		{"two", `{"op":"open"}{"op":"open"}`, 0, ""},
		{"unknown field", `{"op":"open","uid":0}`, 0, ""},
		{"deep", strings.Repeat("[", seqpacket.MaxMessage), 0, ""},
		{"wrong type", `{"op":"open","queues":[-1]}`, 0, ""},
		{"bad address", `{"op":"claim","address":"no"}`, 0, ""},
		{"descriptors", `{"op":"open"}`, 2, ""},
		{"unknown request", `{"op":"reboot"}`, 0, "protocol error"},
		{"too early", `{"op":"claim","address":"192.0.2.1"}`, 0, `before \"open\"`},
		{"long name", `{"op":"` + strings.Repeat("\u0001", 600) + `"}`, 0, ""},
		{"another protocol", `{"op":"open","protocol":1}`, 0, "use one release"},
		{"another interface", `{"op":"open","protocol":2,"interface":"` + strings.Repeat("<", 3000) + `"}`, 0, "no such device"},
		{"no memory", `{"op":"open","protocol":2}`, 0, "no size of memory"},
		{"memory", `{"op":"open","protocol":2,"memory":{"chunks":1000000000000}}`, 0, "umem: Config.Chunks"},
		{"negative memory", `{"op":"open","protocol":2,"memory":{"chunks":64,"chunk_size":-4096}}`, 0, "umem: Config.ChunkSize"},
		{"busy polling", `{"op":"open","protocol":2,"memory":{},"busy_poll":{"time":1000}}`, 0, "busy polling is not allowed"},
		{"interface", `{"op":"open","protocol":2,"memory":{}}`, 0, "nonesuch0"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := dial(t, path)
			var fds []int
			if tc.fds > 0 {
				fds = pipe()
			}
			if err := c.Send([]byte(tc.msg), patience, fds...); err != nil {
				t.Fatal(err)
			}
			seqpacket.CloseAll(fds)
			msg, _, err := c.Receive(patience)
			if tc.says == "" {
				if err == nil {
					t.Errorf("answered %s", msg)
				}
				return
			}
			var r reply
			if err == nil {
				err = json.Unmarshal(msg, &r)
			}
			if err != nil || r.Error == nil || !strings.Contains(string(msg), tc.says) {
				t.Errorf("%s, %v: does not say %q", msg, err, tc.says)
			}
			if _, _, err := c.Receive(patience); !errors.Is(err, io.EOF) {
				t.Errorf("then: %v, want the end", err)
			}
		})
	}
	c := dial(t, path)
	raw, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: path, Net: "unixpacket"})
	if err != nil {
		t.Fatal(err)
	}
	p := pipe()
	many := make([]int, 200)
	for i := range many {
		many[i] = p[0]
	}
	if _, _, err := raw.WriteMsgUnix(make([]byte, 60000), unix.UnixRights(many...), nil); err != nil {
		t.Error(err)
	}
	if n, err := raw.Read(make([]byte, 16)); n != 0 {
		t.Errorf("60000 bytes and 200 descriptors: %d, %v", n, err)
	}
	raw.Close()
	// What ends the connection like its end does.
	if raw, err = net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: path, Net: "unixpacket"}); err != nil {
		t.Fatal(err)
	}
	if err := sendEmpty(raw, p...); err != nil {
		t.Error(err)
	}
	if n, err := raw.Read(make([]byte, 16)); n != 0 {
		t.Errorf("no bytes and 2 descriptors: %d, %v", n, err)
	}
	raw.Close()
	seqpacket.CloseAll(p)
	// It is still there for others.
	if err := c.Send([]byte(`{"op":"counters"}`), patience); err != nil {
		t.Error(err)
	}
	if _, _, err := c.Receive(patience); err != nil {
		t.Error(err)
	}
	c.Close()
	eventuallyClosed(t, before)
}

// eventuallyClosed waits until no descriptor is open that was not before.
func eventuallyClosed(t *testing.T, before descriptors.Snapshot) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		left := before.New(descriptors.Open(t))
		if len(left) == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("descriptors that are left: %v", left)
		}
		<-time.After(time.Millisecond)
	}
}

// TestCrowd has more connect than the helper serves, and say nothing: the rest is
// turned away, and those that hold a place lose it.
func TestCrowd(t *testing.T) {
	path := serveHere(t, func(s *server) { s.first = 50 * time.Millisecond })
	for range 2 * maxConns {
		c := dial(t, path)
		defer c.Close()
		defer func() {
			if _, _, err := c.Receive(patience); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("a silent connection: %v", err)
			}
		}()
	}
	lone := func() error {
		_, err := Open(Config{Path: path, Timeout: patience})
		return err
	}
	deadline := time.Now().Add(patience)
	for err := lone(); !errors.Is(err, unix.ENODEV); err = lone() {
		if time.Now().After(deadline) {
			t.Fatalf("nobody gets through any more: %v", err)
		}
	}
}

// TestHostileLog has a process try to write lines of its own into the helper's log.
func TestHostileLog(t *testing.T) {
	lines := make(chan string, 1)
	path := serveHere(t, func(s *server) { s.cfg.Log = func(line string) { lines <- line } })
	c := dial(t, path)
	msg, err := json.Marshal(request{Op: "x\nprocess 1 of user 0: has the interface\x1b[2J"})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Send(msg, patience); err != nil {
		t.Fatal(err)
	}
	select {
	case line := <-lines:
		if strings.ContainsFunc(line, unicode.IsControl) || strings.Contains(line, "has the interface") {
			t.Errorf("%q", line)
		}
	case <-time.After(patience):
		t.Error("nothing is logged")
	}
	if _, _, err := c.Receive(patience); err != nil {
		t.Error(err)
	}
}

// TestHostileHelper is what a process makes of a helper that is none.
func TestHostileHelper(t *testing.T) {
	good := `{"interface":"nonesuch0","queues":[0]}`
	for _, tc := range []struct {
		name    string
		answers []string
		fds     int // with the last one
		is      error
		says    string
	}{
		{"ends at once", nil, 0, unix.ECONNRESET, "the helper has ended"},
		{"hangs", []string{"hang"}, 0, os.ErrDeadlineExceeded, "no answer"},
		{"no JSON", []string{"\x01\x02"}, 0, errUnknown, "not understood"},
		{"empty", []string{`{}`}, 0, errUnknown, "0 queues"},
		{"queues", []string{`{"interface":"i","queues":[` + strings.Repeat("1,", maxQueues) + `1]}`}, 0, errUnknown, "257 queues"},
		{"unasked descriptors", []string{good}, 1, errUnknown, "1 descriptors"},
		{"error", []string{`{"error":{"op":"bind","text":"no","errno":13}}`}, 0, os.ErrPermission, "the helper: no"},
		{"error without number", []string{`{"error":{"op":"bind","text":"no"}}`}, 0, nil, "the helper: no"},
		{"no socket", []string{good, `{}`}, 0, errUnknown, "0 descriptors"},
		{"three", []string{good, `{}`}, 3, errUnknown, "3 descriptors"},
		{"no AF_XDP socket", []string{good, `{}`}, 2, unix.ENOTSOCK, "take socket"},
		{"ends late", []string{good}, 0, unix.ECONNRESET, "the helper has ended"},
		{"two answers", []string{good + "\n" + good}, 0, errUnknown, "behind its end"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			before := descriptors.Open(t)
			path := filepath.Join(t.TempDir(), "s")
			l, err := Listen(path, 0o600)
			if err != nil {
				t.Fatal(err)
			}
			l.SetDeadline(time.Now().Add(patience)) //nolint:errcheck // a listener takes deadlines
			done := make(chan error, 1)
			go func() { done <- beHostile(l, tc.answers, tc.fds) }()
			timeout := patience
			if tc.is == os.ErrDeadlineExceeded {
				timeout = 5 * time.Second // for the request to be sent, too
			}
			set, err := Open(Config{Path: path, Timeout: timeout, Socket: xsk.Config{BusyTimeout: -1}})
			if err == nil {
				set.Close()
			}
			if tc.is != nil && !errors.Is(err, tc.is) || !strings.Contains(fmt.Sprint(err), tc.says) {
				t.Errorf("%v: not %v, or does not say %q", err, tc.is, tc.says)
			}
			if err := <-done; err != nil { // it may accept when Open has given up
				t.Error(err)
			}
			l.Close()
			eventuallyClosed(t, before)
		})
	}
}

// TestOpenContext ends a context while a helper does not answer, and begins with one
// that has ended: nothing stays open.
func TestOpenContext(t *testing.T) {
	before := descriptors.Open(t)
	path := filepath.Join(t.TempDir(), "s")
	l, err := Listen(path, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	l.SetDeadline(time.Now().Add(patience)) //nolint:errcheck // a listener takes deadlines
	ctx, cancel := context.WithCancelCause(t.Context())
	asked := make(chan error, 1)
	go func() {
		c, err := l.AcceptUnix()
		if err == nil {
			defer c.Close()
			_, err = c.Read(make([]byte, 1024))
			cancel(io.ErrUnexpectedEOF)
			c.Read(make([]byte, 1)) //nolint:errcheck // until the other end hangs up
		}
		asked <- err
	}()
	for range 2 {
		set, err := OpenContext(ctx, Config{Path: path, Timeout: patience})
		if err == nil {
			set.Close()
		}
		if !errors.Is(err, context.Canceled) || !errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("opened with a context that ended: %v", err)
		}
	}
	if err := <-asked; err != nil {
		t.Error(err)
	}
	l.Close()
	eventuallyClosed(t, before)
}

// TestUnasked has the helper speak when nobody asked: its next answer would be taken
// for that of another request.
func TestUnasked(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l, err := Listen(path, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	s := &Set{conn: dial(t, path), timeout: patience, replies: make(chan received, 1), done: make(chan struct{})}
	go s.read()
	uc, err := l.AcceptUnix()
	if err != nil {
		t.Fatal(err)
	}
	defer uc.Close()
	if _, err := uc.Write([]byte(`{"interface":"afx0","queues":[0]}`)); err != nil {
		t.Fatal(err)
	}
	select {
	case <-s.Done():
	case <-time.After(patience):
		t.Fatal("the connection goes on")
	}
	if err := s.Err(); !errors.Is(err, errUnknown) || !strings.Contains(err.Error(), "an answer to nothing") {
		t.Error(err)
	}
	if err := s.AddAddress(netip.MustParseAddr("192.0.2.1")); !errors.Is(err, errUnknown) {
		t.Errorf("afterwards: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// beHostile gives the next answer to each request, and then ends.
func beHostile(l *net.UnixListener, answers []string, fds int) error {
	uc, err := l.AcceptUnix()
	if err != nil {
		return err
	}
	c := seqpacket.New(uc)
	defer c.Close()
	null, err := os.Open(os.DevNull)
	if err != nil {
		return err
	}
	defer null.Close()
	for i, a := range answers {
		if _, _, err := c.Receive(patience); err != nil {
			return err
		}
		if a == "hang" {
			c.Receive(patience) //nolint:errcheck // until the process gives up
			return nil
		}
		var send []int
		for range fds {
			if i == len(answers)-1 {
				send = append(send, int(null.Fd()))
			}
		}
		if err := c.Send([]byte(a), patience, send...); err != nil {
			return err
		}
	}
	c.Receive(patience) //nolint:errcheck // the next request, that it was not cut off by the end
	return nil
}

// TestListen replaces what a helper has left that was killed, and nothing else.
func TestListen(t *testing.T) {
	dir := t.TempDir()
	stale := filepath.Join(dir, "stale")
	l, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: stale, Net: "unixpacket"})
	if err != nil {
		t.Fatal(err)
	}
	if l2, err := Listen(stale, 0o600); !errors.Is(err, unix.EADDRINUSE) {
		t.Errorf("a helper's that lives: %v, %v", l2, err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
	if l, err = Listen(stale, 0o600); err != nil {
		t.Error(err)
	} else {
		l.Close()
	}
	file, empty, link := filepath.Join(dir, "file"), filepath.Join(dir, "empty"), filepath.Join(dir, "link")
	if err := errors.Join(os.WriteFile(file, []byte("x"), 0o600), os.Mkdir(empty, 0o700), os.Symlink(file, link)); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{file, empty, link} {
		if l, err := Listen(path, 0o600); !errors.Is(err, unix.EADDRINUSE) {
			t.Errorf("%s: %v, %v", path, l, err)
		}
		if _, err := os.Lstat(path); err != nil {
			t.Error(err)
		}
	}
}

// FuzzDecode reads messages of both kinds, and writes what it has read.
func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"op":"open","protocol":2,"queues":[0,1],"memory":{"chunks":64}}`))
	f.Add([]byte(`{"error":{"op":"x","text":"y","errno":13},"counters":{"RedirectIPv4":7}}`))
	f.Fuzz(func(t *testing.T, msg []byte) {
		if r, err := decode[request](msg); err == nil {
			again, err := encode(r)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := decode[request](again); err != nil {
				t.Fatalf("%s: %v", again, err)
			}
		}
		if r, err := decode[reply](msg); err == nil {
			if r.Error != nil {
				r.Error = failureOf(r.Error.Op, errors.New(r.Error.Text))
			}
			if again, err := encode(r); err != nil || r.Error != nil && r.Counters == nil && len(again) > seqpacket.MaxMessage {
				t.Fatalf("%d bytes, %v", len(again), err)
			}
		}
	})
}

func TestConfigErrors(t *testing.T) {
	for _, tc := range []struct {
		cfg  Config
		says string
	}{
		{Config{}, "Config.Path"},
		{Config{Path: "x", Socket: xsk.Config{Queue: 1}}, "Config.Socket"},
		{Config{Path: "x", Timeout: -1}, "Config.Timeout"},
		{Config{Path: "x", Queues: make([]uint32, maxQueues+1)}, "Config.Queues"},
		{Config{Path: "x", Queues: []uint32{}}, "Config.Queues: empty"},
		{Config{Path: "x", Socket: xsk.Config{Rings: xsk.RingSizes{RX: 3}}}, "Rings.Fill"},
	} {
		if _, err := Open(tc.cfg); err == nil || !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%v does not name %s", err, tc.says)
		}
	}
	if _, err := Open(Config{Path: filepath.Join(t.TempDir(), "none")}); !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), "afxnet-handover -socket") {
		t.Errorf("no helper: %v", err)
	}
	for _, tc := range []struct {
		cfg  ServerConfig
		says string
	}{
		{ServerConfig{}, "Interface"},
		{ServerConfig{Interface: "x"}, "Users"},
		{ServerConfig{Interface: "x", Users: []uint32{0}, MaxMemory: -1}, "MaxMemory"},
	} {
		l, err := Listen(filepath.Join(t.TempDir(), "s"), 0o600)
		if err != nil {
			t.Fatal(err)
		}
		if err := Serve(t.Context(), l, tc.cfg); err == nil || !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%v does not name %s", err, tc.says)
		}
	}
}
