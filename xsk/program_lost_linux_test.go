//go:build linux && (amd64 || arm64)

package xsk

import (
	"errors"
	"os"
	"strings"
	"testing"

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
