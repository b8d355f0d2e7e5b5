//go:build linux && (amd64 || arm64)

package xsk

import (
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf/link"

	"github.com/afxnet/afxnet/internal/lab"
)

// TestProgramLost takes the program off in each of the ways that the kernel tells
// nobody of.
func TestProgramLost(t *testing.T) {
	for _, tc := range []struct {
		name string
		mode AttachMode
		take func(*testing.T, *lab.Lab, *Program) error
		want string
	}{
		{"native, detached", AttachNative, func(t *testing.T, l *lab.Lab, p *Program) error { return l.DetachProgram() }, "detached"},
		{"generic, detached", AttachGeneric, func(t *testing.T, l *lab.Lab, p *Program) error { return l.DetachProgram() }, "detached"},
		{"another program in its link", AttachNative, func(t *testing.T, l *lab.Lab, p *Program) error {
			info, err := p.link.Info()
			if err != nil {
				return err
			}
			theirs, err := link.NewFromID(info.ID)
			if err != nil {
				return err
			}
			defer theirs.Close()
			return theirs.Update(p.objs.AfxnetVerdict)
		}, `"afxnet_verdict"`},
		{"interface deleted", AttachNative, func(t *testing.T, l *lab.Lab, p *Program) error { return l.Delete() }, "detached"},
		{"joined, detached", AttachJoin, func(t *testing.T, l *lab.Lab, p *Program) error { return l.DetachProgram() }, "no program is there"},
		{"joined, replaced by one of another name", AttachJoin, func(t *testing.T, l *lab.Lab, p *Program) error {
			err := l.DetachProgram()
			attachProgram(t, l, p.objs.AfxnetVerdict, link.XDPDriverMode)
			return err
		}, `"afxnet_verdict"`},
		{"joined, replaced by its like", AttachJoin, func(t *testing.T, l *lab.Lab, p *Program) error {
			err := l.DetachProgram()
			attachObject(t, l, nil)
			return err
		}, "was there"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l := lab.New(t, lab.Config{})
			lab.Require(t, lab.XDP)
			if tc.mode == AttachJoin {
				attachObject(t, l, nil)
			}
			p, err := loadInLab(l, tc.mode)
			if err != nil {
				t.Fatal(err)
			}
			defer p.Close()
			if err := p.Lost(); err != nil {
				t.Errorf("before Attach: %v", err)
			}
			if err := l.Host.Do(p.Attach); err != nil {
				t.Fatal(err)
			}
			if err := p.Lost(); err != nil {
				t.Errorf("after Attach: %v", err)
			}
			if err := tc.take(t, l, p); err != nil {
				t.Fatal(err)
			}
			err = p.Lost()
			if !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), tc.want) || !strings.Contains(err.Error(), l.Host.Device) {
				t.Errorf("got %v, want one with %q", err, tc.want)
			}
			t.Log(err)
			if err := p.Close(); err != nil {
				t.Error(err)
			}
			if err := p.Lost(); err != nil {
				t.Errorf("after Close: %v", err)
			}
		})
	}
}

// waitingLink is a bpf_link that the kernel does not tell of until told, as while
// somebody changes an interface.
type waitingLink struct {
	link.Link
	asked, tell chan struct{}
}

func (l waitingLink) Info() (*link.Info, error) {
	close(l.asked)
	<-l.tell
	return l.Link.Info()
}

// TestProgramLostWaits uses a program while Lost waits for the kernel.
func TestProgramLostWaits(t *testing.T) {
	l := lab.New(t, lab.Config{})
	lab.Require(t, lab.XDP)
	p, err := loadInLab(l, AttachAuto)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if err := l.Host.Do(p.Attach); err != nil {
		t.Fatal(err)
	}
	waiting := waitingLink{p.link, make(chan struct{}), make(chan struct{})}
	p.link = waiting
	lost, used := make(chan error, 1), make(chan error, 1)
	go func() { lost <- p.Lost() }()
	<-waiting.asked
	go func() {
		_, err := p.Counters()
		used <- err
	}()
	select {
	case err := <-used:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(20 * time.Second):
		t.Error("Counters waits for Lost")
	}
	close(waiting.tell)
	if err := <-lost; err != nil {
		t.Error(err)
	}
}
