package guest

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/afxnet/afxnet/internal/lab"
	"github.com/afxnet/afxnet/internal/soak/traffic"
	"github.com/afxnet/afxnet/netdev"
	"github.com/afxnet/afxnet/stack"
	"github.com/afxnet/afxnet/umem"
)

// bulk is how many bytes go each way over a connection. The machine manages some
// megabytes a second.
const bulk = 4 << 20

// TestStack runs TCP, UDP and HTTP between a stack on zero-copy sockets and the
// peer's kernel, with packet memory of each queue's own and with one region for all.
func TestStack(t *testing.T) {
	eachDevice(t, func(t *testing.T, g *ground) {
		serveKernel(t, g)
		for name, open := range map[string]func(*testing.T) *stack.Stack{
			"umem=own":    func(t *testing.T) *stack.Stack { return g.stack(t, zeroCopy()) },
			"umem=shared": g.sharingStack,
		} {
			t.Run(name, func(t *testing.T) {
				s := open(t)
				serve(t, s)
				for _, f := range g.families() {
					t.Run(f.name, func(t *testing.T) { traffics(t, g, s, f) })
					for range flows {
						reach(t, g, f.stack)
					}
				}
				conserved(t, s)
				st, err := s.Device().Stats()
				if err != nil {
					t.Fatal(err)
				}
				for _, q := range st.Queues {
					if q.RXDelivered == 0 || q.TXFrames == 0 {
						t.Errorf("queue %d had no traffic", q.Queue)
					}
				}
			})
		}
	})
}

// traffics runs each kind of traffic in one family.
func traffics(t *testing.T, g *ground, s *stack.Stack, f family) {
	dials := []struct {
		name string
		dial func(ctx context.Context, network, address string) (net.Conn, error)
		to   netip.Addr
	}{{"to the stack", g.Peer.Dial, f.stack}, {"from the stack", s.DialContext, f.peer}}
	for _, d := range dials {
		t.Run("TCP "+d.name, func(t *testing.T) {
			if err := bulkEcho(t.Context(), d.dial, hostPort(d.to, echoPort), bulk); err != nil {
				t.Error(err)
			}
		})
		t.Run("UDP "+d.name, func(t *testing.T) {
			c, err := d.dial(t.Context(), "udp", hostPort(d.to, echoPort))
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			for _, size := range []int{1, 18, 512, 1452, 1472, 1473, 8000, 40000} {
				if err := traffic.Exchange(c, randomBytes(size), patience); err != nil {
					t.Errorf("%d bytes: %v", size, err)
				}
			}
		})
		t.Run("HTTP "+d.name, func(t *testing.T) {
			if err := get(t.Context(), d.dial, "http://"+hostPort(d.to, httpPort)+"/"); err != nil {
				t.Error(err)
			}
		})
	}
}

type dialer = func(ctx context.Context, network, address string) (net.Conn, error)

// bulkEcho sends n bytes to an echo service and wants them back, by their
// SHA-256.
func bulkEcho(ctx context.Context, dial dialer, address string, n int) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	c, err := dial(ctx, "tcp", address)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(2 * time.Minute)); err != nil {
		return err
	}
	return traffic.Transfer(c, c, 1, n)
}

// httpPort and httpBody are where HTTP is served and how many bytes come.
const (
	httpPort = 80
	httpBody = 300_000
)

// body is what is served.
var body = sync.OnceValue(func() []byte { return randomBytes(httpBody) })

// get fetches the body five times, over one connection.
func get(ctx context.Context, dial dialer, url string) error {
	transport := &http.Transport{DialContext: dial}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, Timeout: 2 * patience}
	for range 5 {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		resp, err := client.Do(req)
		if err != nil {
			return err
		}
		got, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil {
			return err
		}
		if resp.StatusCode != http.StatusOK || sha256.Sum256(got) != sha256.Sum256(body()) {
			return fmt.Errorf("status %s, %d bytes, want the %d that were served", resp.Status, len(got), len(body()))
		}
	}
	return nil
}

// services offers TCP and UDP echo and HTTP.
func services(t *testing.T, listen func(network, address string) (net.Listener, error), packet func(network, address string) (net.PacketConn, error), host string) {
	t.Helper()
	echo, err1 := listen("tcp", fmt.Sprintf("%s:%d", host, echoPort))
	udp, err2 := packet("udp", fmt.Sprintf("%s:%d", host, echoPort))
	web, err3 := listen("tcp", fmt.Sprintf("%s:%d", host, httpPort))
	if err := errors.Join(err1, err2, err3); err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Write(body()) //nolint:errcheck // the client tells
	})}
	t.Cleanup(func() { echo.Close(); udp.Close(); server.Close() })
	go traffic.EchoTCP(echo)
	go traffic.EchoUDP(udp)
	go server.Serve(web) //nolint:errcheck // ends when it is closed
}

func serve(t *testing.T, s *stack.Stack) {
	t.Helper()
	services(t, s.Listen, s.ListenPacket, "")
}

// serveKernel does so on kernel sockets of the peer.
func serveKernel(t *testing.T, g *ground) {
	t.Helper()
	for _, a := range []netip.Addr{g.Peer.V4.Addr(), g.Peer.V6.Addr()} {
		host := a.String()
		if a.Is6() {
			host = "[" + host + "]"
		}
		services(t, g.Peer.Listen, g.Peer.ListenPacket, host)
	}
}

// conserved wants every frame back where it belongs, and no packet dropped
// without need.
func conserved(t *testing.T, s *stack.Stack) {
	t.Helper()
	d := s.Device()
	// One look serves both: a moment later the stack may send something again.
	var audit []umem.Audit
	lab.Eventually(t, patience, "the frames in flight", func() bool {
		audit = d.Audit()
		for _, q := range audit {
			if q.TX != 0 || q.Held != 0 {
				return false
			}
		}
		return true
	})
	for i, q := range audit {
		if q.Free+q.Fill != q.Chunks() || q.Chunks() == 0 {
			t.Errorf("queue %d: %+v: frames are held with no traffic", i, q)
		}
	}
	st, err := d.Stats()
	if err != nil {
		t.Error(err)
	}
	t.Logf("steering: %+v", st.Steering)
	for _, q := range st.Queues {
		t.Logf("queue %d: %+v", q.Queue, q)
		if k := q.Socket; k.RXBadDescs+k.TXStrays+k.Kernel.RXInvalidDescs+k.Kernel.TXInvalidDescs != 0 {
			t.Errorf("queue %d: bad descriptors", q.Queue)
		}
	}
}

func randomBytes(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rand.Uint32())
	}
	return b
}

// runStack is a child process: a stack that echoes until it is killed.
func runStack() error { return echoOn(zeroCopy()) }

// echoOn is that stack, on zero-copy sockets.
func echoOn(cfg netdev.Config) error {
	g := &ground{Lab: &lab.Lab{
		StackV4: netip.MustParsePrefix("10.77.0.1/24"),
		StackV6: netip.MustParsePrefix("fd77::1/64"),
	}}
	s, err := stack.Open(g.stackConfig(cfg))
	if err != nil {
		return err
	}
	if info := s.Device().Info(); !info.ZeroCopy {
		return fmt.Errorf("%+v", info)
	}
	ln, err := s.Listen("tcp", fmt.Sprintf(":%d", echoPort))
	if err != nil {
		return err
	}
	fmt.Println("ready")
	traffic.EchoTCP(ln)
	return errors.New("the listener ended")
}
