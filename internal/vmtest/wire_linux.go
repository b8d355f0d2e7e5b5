package vmtest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/afxnet/afxnet/internal/vmtest/wiring"
)

// tether ends the emulator with this process, or with the thread that starts it.
func tether(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}

// newTap makes a wire with several queues on our side, for which QEMU wants a
// tap. The tap lies in a network namespace of its own; what the guest sends comes
// out of it to a packet socket, and this process carries it to QEMU's other end,
// a pair of Unix sockets, and back.
func newTap(queues, fd int) (_ *wire, err error) {
	w := &wire{}
	var ours []*os.File // this process's ends
	w.close = sync.OnceValue(func() error {
		var errs []error
		for _, f := range append(ours, w.files...) {
			errs = append(errs, f.Close())
		}
		return errors.Join(errs...)
	})
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("vmtest: make a tap: %w", err), w.close())
		}
	}()
	err = alone(func() error {
		name := ""
		for range queues {
			tap, err := os.OpenFile("/dev/net/tun", os.O_RDWR, 0)
			if err != nil {
				return err
			}
			w.files = append(w.files, tap)
			if name, err = addQueue(tap, name); err != nil {
				return err
			}
		}
		packets, err := openPackets(name)
		if err == nil {
			ours = append(ours, packets)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socketpair", err)
	}
	w.files = append(w.files, os.NewFile(uintptr(pair[0]), "qemu"))
	if err := unix.SetNonblock(pair[1], true); err != nil {
		return nil, err
	}
	ours = append(ours, os.NewFile(uintptr(pair[1]), "wire"))
	out := &direction{name: "from our side", from: ours[0], to: ours[1]}
	back := &direction{name: "to our side", from: ours[1], to: ours[0]}
	go out.carry()
	go back.carry()
	w.tell = func() string { return fmt.Sprintf("wire of %d queues: %v; %v", queues, out, back) }

	fds := make([]string, queues)
	for i := range fds {
		fds[i] = fmt.Sprint(fd + i)
	}
	w.netdev[wiring.Ours] = "tap,vhost=off,fds=" + strings.Join(fds, ":")
	w.netdev[wiring.Peer] = fmt.Sprintf("dgram,local.type=fd,local.str=%d", fd+queues)
	// The socket cannot carry what an offload leaves undone. An interrupt for
	// each ring, one for the control queue, one for changes of configuration.
	w.device = fmt.Sprintf(",mq=on,vectors=%d,csum=off,guest_csum=off,gso=off,"+
		"host_tso4=off,host_tso6=off,host_ecn=off,host_ufo=off,guest_tso4=off,guest_tso6=off,guest_ecn=off,guest_ufo=off", 2*queues+2)
	return w, nil
}

// alone runs f in a new network namespace, on a thread that ends with it.
func alone(f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // for good
		err := os.NewSyscallError("unshare", unix.Unshare(unix.CLONE_NEWNET))
		if err == nil {
			err = f()
		}
		done <- err
	}()
	return <-done
}

// addQueue makes an open /dev/net/tun a queue of the tap with this name, or of a
// new one, and returns the name.
func addQueue(tap *os.File, name string) (string, error) {
	ifr, err := unix.NewIfreq(name)
	if err != nil {
		return "", err
	}
	ifr.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR | unix.IFF_MULTI_QUEUE)
	if err := unix.IoctlIfreq(int(tap.Fd()), unix.TUNSETIFF, ifr); err != nil {
		return "", os.NewSyscallError("ioctl TUNSETIFF", err)
	}
	return ifr.Name(), nil
}

// tapMTU is the largest MTU of the guest's devices, and of the wire.
const tapMTU = 9000

// openPackets opens a socket for all frames that come out of an interface of the
// calling thread's namespace, and sets the interface up, without a word of the
// kernel's own on it.
func openPackets(name string) (*os.File, error) {
	const quiet = "/proc/sys/net/ipv6/conf/all/disable_ipv6"
	if err := os.WriteFile(quiet, []byte("1"), 0); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	f := os.NewFile(uintptr(fd), "packets")
	fail := func(call string, err error) (*os.File, error) {
		return nil, errors.Join(os.NewSyscallError(call, err), f.Close())
	}
	ifr, err := unix.NewIfreq(name)
	if err != nil {
		return fail("ifreq", err)
	}
	if err := unix.IoctlIfreq(fd, unix.SIOCGIFINDEX, ifr); err != nil {
		return fail("ioctl SIOCGIFINDEX", err)
	}
	index := int(ifr.Uint32())
	ifr.SetUint32(tapMTU)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFMTU, ifr); err != nil {
		return fail("ioctl SIOCSIFMTU", err)
	}
	ifr.SetUint16(unix.IFF_UP)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, ifr); err != nil {
		return fail("ioctl SIOCSIFFLAGS", err)
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1); err != nil {
		return fail("setsockopt", err)
	}
	const all = unix.ETH_P_ALL<<8&0xff00 | unix.ETH_P_ALL>>8 // network byte order
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: index}); err != nil {
		return fail("bind", err)
	}
	return f, nil
}

// A direction carries frames one way.
type direction struct {
	name         string
	from, to     *os.File
	frames, lost atomic.Uint64
	trouble      atomic.Pointer[error] // the last that was not the interface's going down
}

// carry copies frames until from is closed. One that cannot be delivered is lost,
// as on any wire. No other error ends it, or the guest would be cut off for good:
// the interface may be down for a while.
func (d *direction) carry() {
	frame := make([]byte, 64<<10)
	for {
		n, err := d.from.Read(frame)
		switch {
		case errors.Is(err, os.ErrClosed):
			return
		case err != nil:
			if !errors.Is(err, unix.ENETDOWN) && !errors.Is(err, unix.ENOBUFS) {
				d.trouble.Store(&err)
			}
			time.Sleep(time.Millisecond) // it may be there for long
			continue
		}
		d.frames.Add(1)
		if _, err := d.to.Write(frame[:n]); err != nil {
			d.lost.Add(1)
			d.trouble.Store(&err)
		}
	}
}

func (d *direction) String() string {
	s := fmt.Sprintf("%s: %d frames, %d lost", d.name, d.frames.Load(), d.lost.Load())
	if err := d.trouble.Load(); err != nil {
		s += fmt.Sprintf(", %v", *err)
	}
	return s
}
