package deviceplugin

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/afxnet/afxnet/internal/descriptors"
	"github.com/afxnet/afxnet/xsk"
)

const patience = 20 * time.Second

// plugin answers one connection as the plugin does (internal/udsserver and
// internal/uds of redhat-et/afxdp-plugins-for-kubernetes, b4a5035): requests of 64
// bytes, one descriptor, words with commas between, spaces ignored; the socket goes
// with the connection.
type plugin struct {
	path    string
	pod     string
	devices map[string]int // maps by device
}

func (p plugin) listen(t *testing.T) *net.UnixListener {
	t.Helper()
	l, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: p.path, Net: "unixpacket"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// start serves until the connection ends.
func (p plugin) start(t *testing.T) (done chan error) {
	l := p.listen(t)
	done = make(chan error, 1)
	go func() { done <- p.serve(l) }()
	return done
}

func (p plugin) serve(l *net.UnixListener) error {
	c, err := l.AcceptUnix()
	if err != nil {
		return err
	}
	defer l.Close() // and removes the file
	defer c.Close()
	connected := false
	for {
		buf, control := make([]byte, maxMessage), make([]byte, unix.CmsgSpace(4))
		n, oobn, _, _, err := c.ReadMsgUnix(buf, control)
		if err != nil || n == 0 {
			return err
		}
		fd := -1
		if msgs, err := unix.ParseSocketControlMessage(control[:oobn]); err != nil {
			return err
		} else if len(msgs) == 1 {
			fds, err := unix.ParseUnixRights(&msgs[0])
			if err != nil {
				return err
			}
			fd = fds[0]
			defer unix.Close(fd)
		}
		words := strings.Split(strings.ReplaceAll(string(buf[:n]), " ", ""), ",")
		answer, with := "/nak", -1
		switch {
		case !connected:
			if answer = "/host_nak"; len(words) == 2 && words[0] == "/connect" && words[1] == p.pod {
				answer, connected = "/host_ok", true
			}
		case words[0] == "/version":
			answer = "0.1"
		case words[0] == "/xsk_map_fd" && len(words) == 2:
			answer = "/fd_nak"
			if m, ok := p.devices[words[1]]; ok {
				answer, with = "/fd_ack", m
			}
		case words[0] == "/config_busy_poll" && len(words) == 3:
			answer = "/config_busy_poll_nak"
			if busyPoll(fd, words[1], words[2]) == nil {
				answer = "/config_busy_poll_ack"
			}
		case words[0] == "/fin":
			answer, connected = "/fin_ack", false
		}
		var rights []byte
		if with >= 0 {
			rights = unix.UnixRights(with)
		}
		if _, _, err := c.WriteMsgUnix([]byte(answer), rights, nil); err != nil {
			return err
		}
		if !connected {
			return nil
		}
	}
}

// busyPoll sets the three options, in the plugin's order.
func busyPoll(fd int, timeout, budget string) error {
	us, err := strconv.Atoi(timeout)
	packets, budgetErr := strconv.Atoi(budget)
	return errors.Join(err, budgetErr,
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PREFER_BUSY_POLL, 1),
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_BUSY_POLL, us),
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_BUSY_POLL_BUDGET, packets))
}

// TestProtocol walks through the requests that need no privileges.
func TestProtocol(t *testing.T) {
	p := plugin{path: filepath.Join(t.TempDir(), "afxdp.sock"), pod: "pod-0"}
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	p.devices = map[string]int{"eth1": int(null.Fd())}
	done := p.start(t)
	c, err := Dial(Config{Path: p.path, Pod: p.pod})
	if err != nil {
		t.Fatal(err)
	}
	if v, err := c.Version(); v != Version || err != nil {
		t.Errorf("version %q, %v", v, err)
	}
	before := descriptors.Open(t)
	if m, err := c.Map("eth1"); err == nil { // /dev/null is no map
		m.Close()
		t.Error("/dev/null is taken for a map")
	}
	if left := before.New(descriptors.Open(t)); len(left) > 0 {
		t.Errorf("descriptors that are left: %v", left)
	}
	if _, err := c.Map("eth2"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("another's device: %v", err)
	}
	if _, err := c.Map("a,b"); !errors.Is(err, unix.EPROTO) { // /nak
		t.Errorf("two words: %v", err)
	}
	if err := c.BusyPoll(int(null.Fd()), xsk.BusyPoll{Time: time.Microsecond}); !errors.Is(err, unix.EPERM) {
		t.Errorf("busy polling of /dev/null: %v", err)
	}
	if err := c.BusyPoll(int(null.Fd()), xsk.BusyPoll{}); !errors.Is(err, unix.EINVAL) {
		t.Errorf("busy polling for no time: %v", err)
	}
	for _, b := range []xsk.BusyPoll{
		{Time: 1500 * time.Nanosecond}, {Time: 2 * time.Second},
		{Time: time.Microsecond, Budget: -1}, {Time: time.Microsecond, Budget: 1 << 16},
	} {
		if err := c.BusyPoll(int(null.Fd()), b); !errors.Is(err, unix.EINVAL) {
			t.Errorf("busy polling with %+v: %v", b, err)
		}
	}
	if err := c.BusyPoll(-1, xsk.BusyPoll{Time: time.Microsecond}); !errors.Is(err, unix.EBADF) {
		t.Errorf("busy polling of nothing: %v", err)
	}
	if _, err := c.Map(strings.Repeat("x", 60)); !errors.Is(err, unix.EMSGSIZE) {
		t.Errorf("a long name: %v", err)
	}
	if err := errors.Join(c.Close(), c.Close()); err != nil {
		t.Error(err)
	}
	if _, err := c.Version(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	// It accepts one connection only.
	if _, err := Dial(Config{Path: p.path, Pod: p.pod}); !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), "one connection") {
		t.Errorf("a second connection: %v", err)
	}
}

func TestDialErrors(t *testing.T) {
	p := plugin{path: filepath.Join(t.TempDir(), "afxdp.sock"), pod: "pod-0"}
	done := p.start(t)
	if _, err := Dial(Config{Path: p.path, Pod: "pod-1"}); !errors.Is(err, unix.EACCES) || !strings.Contains(fmt.Sprint(err), `/host_nak to pod "pod-1"`) {
		t.Errorf("another pod: %v", err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	for _, tc := range []struct {
		cfg  Config
		says string
	}{
		{Config{}, "Config.Device"},
		{Config{Device: "../x"}, "Config.Device"},
		{Config{Device: "x", Pod: "a, b"}, "Config.Pod"},
		{Config{Device: "x", Pod: strings.Repeat("p", 55)}, "Config.Pod"},
		{Config{Device: "x", Timeout: -1}, "Config.Timeout"},
	} {
		if _, err := Dial(tc.cfg); err == nil || !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%v does not name %s", err, tc.says)
		}
	}
	if _, err := (Config{Device: "x", Pod: strings.Repeat("p", 54)}).withDefaults(nil); err != nil {
		t.Error(err)
	}
	cfg, err := Config{Device: "eth1"}.withDefaults(func() (string, error) { return "pod-0", nil })
	if err != nil || cfg.Path != "/tmp/afxdp_dp/eth1/afxdp.sock" || cfg.Pod != "pod-0" {
		t.Errorf("%+v, %v", cfg, err)
	}
	if _, err := (Config{Device: "eth1"}).withDefaults(func() (string, error) { return "", os.ErrPermission }); !errors.Is(err, os.ErrPermission) {
		t.Errorf("no host name: %v", err)
	}
}

// TestHostilePlugin answers what no plugin does.
func TestHostilePlugin(t *testing.T) {
	for _, tc := range []struct {
		name   string
		answer string // to the second request; empty ends the connection, "hang" does neither
		fds    int
		is     error
	}{
		{"ends", "", 0, unix.ECONNRESET},
		{"hangs", "hang", 0, os.ErrDeadlineExceeded},
		{"long", strings.Repeat("x", 5000), 0, unix.EMSGSIZE},
		{"unknown", "/what", 0, unix.EPROTO},
		{"another's", "/host_ok", 0, unix.EPROTO},
		{"no descriptor", "/fd_ack", 0, unix.EPROTO},
		{"two descriptors", "/fd_ack", 2, unix.EPROTO},
		{"ten descriptors", "/fd_ack", 10, unix.EMSGSIZE},
		{"descriptor for nothing", "/fd_nak", 1, unix.EPROTO},
		{"error", "/error", 0, unix.EPROTO},
	} {
		t.Run(tc.name, func(t *testing.T) {
			before := descriptors.Open(t)
			p := plugin{path: filepath.Join(t.TempDir(), "afxdp.sock")}
			l := p.listen(t)
			done := make(chan error, 1)
			go func() { done <- beHostile(l, tc.answer, tc.fds) }()
			c, err := Dial(Config{Path: p.path, Pod: "p", Timeout: patience})
			if err != nil {
				t.Fatal(err)
			}
			if tc.is == os.ErrDeadlineExceeded {
				c.cfg.Timeout = 100 * time.Millisecond // for the answer that does not come
			}
			if m, err := c.Map("eth1"); !errors.Is(err, tc.is) {
				t.Errorf("%v, %v: not %v", m, err, tc.is)
			}
			c.Close() //nolint:errcheck // the connection may have ended
			if err := <-done; err != nil {
				t.Error(err)
			}
			l.Close()
			if left := before.New(descriptors.Open(t)); len(left) > 0 {
				t.Errorf("descriptors that are left: %v", left)
			}
		})
	}
}

// TestCloseTwice closes from several goroutines at once, and again: the plugin hears of it
// once, and all have the same error: none, or that of a plugin which is gone.
func TestCloseTwice(t *testing.T) {
	for _, gone := range []bool{false, true} {
		l := plugin{path: filepath.Join(t.TempDir(), "afxdp.sock")}.listen(t)
		heard := make(chan int, 1)
		go func() {
			c, err := l.AcceptUnix()
			if err != nil {
				heard <- 0
				return
			}
			defer c.Close()
			buf := make([]byte, maxMessage)
			c.Read(buf)                 //nolint:errcheck // Dial fails then
			c.Write([]byte("/host_ok")) //nolint:errcheck // likewise
			n := 0
			for {
				if got, err := c.Read(buf); err != nil || string(buf[:got]) != "/fin" {
					break
				}
				if n++; gone {
					break
				}
				c.Write([]byte("/fin_ack")) //nolint:errcheck // Close fails then
			}
			heard <- n
		}()
		c, err := Dial(Config{Path: l.Addr().String(), Pod: "pod-0"})
		if err != nil {
			t.Fatal(err)
		}
		const many = 8
		results := make(chan error, many)
		for range many {
			go func() { results <- c.Close() }()
		}
		for range many {
			if err := <-results; errors.Is(err, unix.ECONNRESET) != gone || (err != nil) != gone {
				t.Errorf("plugin gone %v: %v", gone, err)
			}
		}
		if err := c.Close(); (err != nil) != gone {
			t.Errorf("plugin gone %v, again: %v", gone, err)
		}
		if n := <-heard; n != 1 {
			t.Errorf("plugin gone %v: it hears of it %d times", gone, n)
		}
	}
}

// beHostile lets a pod in, and gives this answer to what it asks for then.
func beHostile(l *net.UnixListener, answer string, fds int) error {
	c, err := l.AcceptUnix()
	if err != nil {
		return err
	}
	defer c.Close()
	read := func() { c.Read(make([]byte, maxMessage)) } //nolint:errcheck // the other side's test fails
	read()
	if _, err := c.Write([]byte("/host_ok")); err != nil {
		return err
	}
	read()
	switch answer {
	case "":
		return nil
	case "hang":
		read() // until the client gives up
		return nil
	}
	all := make([]int, fds)
	for i := range all {
		all[i] = 2
	}
	var rights []byte
	if fds > 0 {
		rights = unix.UnixRights(all...)
	}
	_, _, err = c.WriteMsgUnix([]byte(answer), rights, nil)
	return err
}
