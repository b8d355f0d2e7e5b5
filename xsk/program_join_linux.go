//go:build linux && (amd64 || arm64)

package xsk

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/afxnet/afxnet/internal/hostif"
)

// ProgramObject returns the steering program as an ELF object, for whoever loads
// it with a loader of his own, as xdp-loader does beside other programs in libxdp's
// dispatcher. It has room for 256 queues and 1024 addresses of IPv4 and IPv6 each.
// ProgramConfig.Mode AttachJoin uses it where it is attached:
//
//	xdp-loader load -n afxnet_steer eth0 steer.o
//
// What it does not redirect it passes, to the dispatcher's next program.
func ProgramObject() []byte { return bytes.Clone(_SteerBytes) }

// globalsName is the map of the object's variables: interface_mac.
const globalsName = ".bss"

// joined is a steering program that somebody else has loaded and attached.
type joined struct {
	id   uint32 // of the program
	maps map[string]*ebpf.Map
	hook *hostif.Hook
	top  uint32 // what was at the hook when the program was last seen there
}

// joinProgram finds the steering program on an interface and takes hold of its
// maps, which are to be closed. Nobody else uses them until the lock is.
func joinProgram(ifindex int) (_ *joined, lock *os.File, err error) {
	state, err := readXDPState(ifindex)
	if err != nil {
		return nil, nil, err
	}
	top := max(state.native, state.generic)
	id, err := findSteer(top)
	if err != nil {
		return nil, nil, err
	}
	if lock, err = lockProgram(id); err != nil {
		return nil, nil, err
	}
	j := &joined{id: id, top: top, maps: make(map[string]*ebpf.Map)}
	if err = j.open(); err == nil {
		j.hook, err = hostif.OpenHook(ifindex)
	}
	if err != nil {
		return nil, nil, errors.Join(err, j.close(), lock.Close())
	}
	return j, lock, nil
}

// open takes hold of the maps, by the names they have in the object.
func (j *joined) open() error {
	prog, err := ebpf.NewProgramFromID(ebpf.ProgramID(j.id))
	if err != nil {
		return err
	}
	defer prog.Close()
	info, err := prog.Info()
	if err != nil {
		return err
	}
	ids, _ := info.MapIDs()
	for _, id := range ids {
		m, err := ebpf.NewMapFromID(id)
		if err != nil {
			return err
		}
		info, err := m.Info()
		if err != nil {
			return errors.Join(err, m.Close())
		}
		name := info.Name
		if strings.HasSuffix(name, globalsName) { // loaders put the object's name before it
			name = globalsName
		}
		j.maps[name] = m
	}
	for _, name := range []string{steerMapXsks, steerMapAddr4, steerMapAddr6, steerMapCounters, globalsName} {
		if j.maps[name] == nil {
			return fmt.Errorf("program %d %q has no map %q: %w", j.id, steerName, name, errors.ErrUnsupported)
		}
	}
	return nil
}

// close lets go of the maps.
func (j *joined) close() error {
	var errs []error
	for _, m := range j.maps {
		errs = append(errs, m.Close())
	}
	return errors.Join(errs...)
}

// lockProgram makes this Program the only one that uses a program's maps: a socket
// has a name in the interface's network namespace, which goes with the process.
func lockProgram(id uint32) (*os.File, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	name := fmt.Sprintf("@%s-%d", steerName, id)
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: name}); err != nil {
		unix.Close(fd)
		if errors.Is(err, unix.EADDRINUSE) {
			return nil, fmt.Errorf("another process, or Program, uses program %d: %w", id, unix.EBUSY)
		}
		return nil, os.NewSyscallError("bind", err)
	}
	return os.NewFile(uintptr(fd), name), nil
}

// loadJoined is the rest of loadProgram for a program that is there: it is not
// loaded again, but its maps are, and so is the program that Test runs. What a dead
// process left in them goes.
func (p *Program) loadJoined(spec *ebpf.CollectionSpec) (err error) {
	if p.joined, p.lock, err = joinProgram(p.ifindex); err != nil {
		return p.joinError(err)
	}
	defer func() { err = errors.Join(err, p.joined.close()) }()
	for name, size := range map[string]*int{steerMapXsks: &p.cfg.Queues, steerMapAddr4: &p.cfg.MaxAddresses} {
		*size = int(p.joined.maps[name].MaxEntries())
	}
	spec.Maps[steerMapXsks].MaxEntries = uint32(p.cfg.Queues)
	spec.Maps[steerMapAddr4].MaxEntries = uint32(p.cfg.MaxAddresses)
	spec.Maps[steerMapAddr6].MaxEntries = p.joined.maps[steerMapAddr6].MaxEntries()
	if err := spec.LoadAndAssign(&p.objs, &ebpf.CollectionOptions{MapReplacements: p.joined.maps}); err != nil {
		return p.joinError(err)
	}
	if err := p.sameProgram(); err != nil {
		return p.joinError(err)
	}
	p.id = p.joined.id
	if err := p.clearLocked(); err != nil {
		return p.joinError(err)
	}
	if err := p.objs.Globals.Put(uint32(0), wireMAC(p.cfg.MAC)); err != nil {
		return p.joinError(err)
	}
	return nil
}

// sameProgram compares what is attached with what this module would load.
func (p *Program) sameProgram() error {
	there, err := ebpf.NewProgramFromID(ebpf.ProgramID(p.joined.id))
	if err != nil {
		return err
	}
	defer there.Close()
	theirs, err := there.Info()
	if err != nil {
		return err
	}
	ours, err := p.objs.AfxnetSteer.Info()
	if err != nil {
		return err
	}
	if theirs.Tag != ours.Tag {
		return fmt.Errorf("program %d %q has the tag %s, this version's has %s: %w", p.joined.id, steerName, theirs.Tag, ours.Tag, errors.ErrUnsupported)
	}
	return nil
}

// clearLocked empties the maps that say what is redirected where.
func (p *Program) clearLocked() error {
	for _, m := range []*ebpf.Map{p.objs.Addr4, p.objs.Addr6} {
		key := make([]byte, m.KeySize())
		for {
			err := m.NextKey(nil, key)
			if errors.Is(err, ebpf.ErrKeyNotExist) {
				break
			}
			if err == nil {
				err = m.Delete(key)
			}
			if err != nil {
				return err
			}
		}
	}
	for q := range p.objs.Xsks.MaxEntries() {
		if err := p.objs.Xsks.Delete(q); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return err
		}
	}
	return nil
}

// attachJoinedLocked checks that the program still runs. libxdp may have put another
// dispatcher in the place of the first one: its programs are the same.
func (p *Program) attachJoinedLocked() error {
	state, err := readXDPState(p.ifindex)
	if err != nil {
		return p.opError("read attach mode", err)
	}
	id, err := findSteer(max(state.native, state.generic))
	if err == nil && id != p.id {
		err = fmt.Errorf("program %d was there, and program %d is now: %w", p.id, id, os.ErrNotExist)
	}
	if err != nil {
		return p.joinError(err)
	}
	p.mode = AttachNative
	if state.generic != 0 {
		p.mode = AttachGeneric
	}
	return nil
}

func (p *Program) joinError(err error) error {
	e := programError("join program", p.cfg.Interface, err).(*OpError)
	switch {
	case errors.Is(err, unix.EBUSY):
		e.Remedy = "one process at a time"
	case errors.Is(err, os.ErrNotExist), errors.Is(err, errors.ErrUnsupported):
		e.Remedy = "load it: " + fixComponent(p.cfg.Interface)
	case errors.Is(err, os.ErrPermission):
		e.Remedy = "looking for programs needs CAP_SYS_ADMIN"
	}
	return e
}
