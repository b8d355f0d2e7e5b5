//go:build linux && (amd64 || arm64)

package xsk

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/afxnet/afxnet/internal/lab"
)

// listing is the kernel's objects of ours: the ids of programs and maps under
// the names of bpf/steer.c, and of links to those programs.
type listing struct {
	programs []ebpf.ProgramID
	links    []link.ID
	maps     []ebpf.MapID
}

// listOurs walks the kernel's lists, as bpftool does. They are those of the
// whole machine: other tests' objects may be among them.
func listOurs(t *testing.T) (l listing) {
	t.Helper()
	for id, err := ebpf.ProgramGetNextID(0); err == nil; id, err = ebpf.ProgramGetNextID(id) {
		p, err := ebpf.NewProgramFromID(id)
		if err != nil {
			continue // gone meanwhile
		}
		if info, err := p.Info(); err == nil && info.Name == "afxnet_steer" {
			l.programs = append(l.programs, id)
		}
		p.Close()
	}
	for id, err := ebpf.MapGetNextID(0); err == nil; id, err = ebpf.MapGetNextID(id) {
		m, err := ebpf.NewMapFromID(id)
		if err != nil {
			continue
		}
		if info, err := m.Info(); err == nil && info.Type == ebpf.XSKMap && info.Name == "xsks" {
			l.maps = append(l.maps, id)
		}
		m.Close()
	}
	for {
		links, err := linksOf(l.programs)
		if err == nil {
			l.links = links
			return l
		}
		// A link that another test is about to make has its number already and
		// no descriptor yet (bpf_link_by_id, kernel/bpf/syscall.c).
		if !errors.Is(err, unix.EAGAIN) {
			t.Fatal(err)
		}
	}
}

// linksOf returns the links of some programs.
func linksOf(programs []ebpf.ProgramID) (ids []link.ID, err error) {
	it := new(link.Iterator)
	defer it.Close()
	for it.Next() {
		info, err := it.Link.Info()
		if err == nil && info.XDP() != nil && slices.Contains(programs, info.Program) {
			ids = append(ids, it.ID)
		}
	}
	return ids, it.Err()
}

// without returns what is in l and not in old.
func (l listing) without(old listing) listing {
	return listing{
		programs: slices.DeleteFunc(slices.Clone(l.programs), func(id ebpf.ProgramID) bool { return slices.Contains(old.programs, id) }),
		links:    slices.DeleteFunc(slices.Clone(l.links), func(id link.ID) bool { return slices.Contains(old.links, id) }),
		maps:     slices.DeleteFunc(slices.Clone(l.maps), func(id ebpf.MapID) bool { return slices.Contains(old.maps, id) }),
	}
}

// heldBy returns the programs, links and maps that a process has descriptors of.
// A link's has the program's id with it.
func heldBy(t *testing.T, pid int) (l listing) {
	t.Helper()
	dir := fmt.Sprintf("/proc/%d/fdinfo", pid)
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		text, err := os.ReadFile(filepath.Join(dir, f.Name()))
		if err != nil {
			continue // closed meanwhile
		}
		for line := range strings.Lines(string(text)) {
			name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
			id, err := strconv.ParseUint(strings.TrimSpace(value), 10, 32)
			if err != nil {
				continue
			}
			switch name {
			case "prog_id":
				l.programs = append(l.programs, ebpf.ProgramID(id))
			case "link_id":
				l.links = append(l.links, link.ID(id))
			case "map_id":
				l.maps = append(l.maps, ebpf.MapID(id))
			}
		}
	}
	return l
}

// TestKillLeavesNothing kills a process that has a program attached and a socket
// bound: its program, link and map are off the kernel's lists soon, although a process
// that it has started lives on.
func TestKillLeavesNothing(t *testing.T) {
	lab.Require(t, lab.NetNS, lab.XDP)
	l := lab.New(t, lab.Config{})
	for range 5 {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(os.Args[0], "-test.run=^TestKilled$")
		cmd.Env = append(os.Environ(), childEnv+"=killed")
		cmd.ExtraFiles = []*os.File{r}
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err == nil {
			err = l.Host.Do(cmd.Start)
		}
		r.Close()
		if err != nil {
			t.Fatal(err)
		}
		if line, err := bufio.NewReader(out).ReadString('\n'); line != "attached\n" {
			t.Fatalf("the child: %q, %v", line, err)
		}
		all := listOurs(t) // other tests' too
		during := all.without(all.without(heldBy(t, cmd.Process.Pid)))
		if len(during.programs) == 0 || len(during.links) == 0 || len(during.maps) == 0 {
			t.Fatalf("while the child lives the kernel lists %+v", during)
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		cmd.Wait() //nolint:errcheck // it was killed
		deadline := time.Now().Add(limit)
		for {
			is := listOurs(t)
			gone := during.without(is) // what is not listed any more
			if len(gone.programs) == len(during.programs) && len(gone.links) == len(during.links) && len(gone.maps) == len(during.maps) {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("%v after the kill: before it %+v, now %+v", limit, during, during.without(gone))
			}
			<-time.After(time.Millisecond)
		}
		w.Close() // ends the grandchild
	}
}

// TestKilled is the child.
func TestKilled(t *testing.T) {
	switch os.Getenv(childEnv) {
	case "killed":
	case "grandchild":
		io.Copy(io.Discard, os.Stdin) //nolint:errcheck // until the end
		return
	default:
		return // TestKillLeavesNothing runs it
	}
	err := func() error {
		p, err := LoadProgram(ProgramConfig{Interface: lab.HostDevice, Queues: 1})
		if err != nil {
			return err
		}
		if err := p.Attach(); err != nil {
			return err
		}
		s, err := Open(Config{Interface: lab.HostDevice})
		if err != nil {
			return err
		}
		gc := exec.Command(os.Args[0], "-test.run=^TestKilled$")
		gc.Env = append(os.Environ(), childEnv+"=grandchild")
		gc.Stdin = os.NewFile(3, "pipe")
		return errors.Join(p.AddSocket(0, s.FD()), gc.Start())
	}()
	if err != nil {
		fmt.Println("error:", err)
		os.Exit(1)
	}
	fmt.Println("attached")
	select {}
}
