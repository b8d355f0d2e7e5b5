// Command doctor says what AF_XDP can do on a network interface: what this kernel,
// driver, MTU, number of queues, offloads, limits and capabilities allow, what
// would be chosen, why not zero-copy, and the command that mends each thing.
//
//	go run ./examples/doctor eth0
//	go run ./examples/doctor -json eth0
//	go run ./examples/doctor -lab
//	go run ./examples/doctor -object steer.o
//
// It changes nothing. With -try it also attaches a program that redirects nothing
// and binds a socket to every queue for a moment, which alone proves zero-copy, and
// makes some NICs reset their link. With -lab it looks at a private network, and
// fails if what it predicts is not what a socket then gets. With -object it writes
// the steering program to a file, for an interface that has others: xdp-loader adds
// it to them, and xsk.AttachJoin uses it there. It exits with status 1 if there is
// a problem.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"

	"github.com/afxnet/afxnet/internal/lab"
	"github.com/afxnet/afxnet/xsk"
)

func main() {
	asJSON := flag.Bool("json", false, "print JSON")
	try := flag.Bool("try", false, "bind for a moment")
	useLab := flag.Bool("lab", false, "look at a private network")
	object := flag.String("object", "", "write the steering program to this file")
	flag.Parse()
	names := flag.Args()
	var err error
	switch {
	case *useLab:
		err = runLab(*asJSON)
	case *object != "":
		err = os.WriteFile(*object, xsk.ProgramObject(), 0o644)
	case len(names) == 0:
		err = errors.New("which interface?")
	}
	for _, name := range names {
		_, e := examine(name, *asJSON, *try)
		err = errors.Join(err, e)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "doctor:", err)
		os.Exit(1)
	}
}

// examine prints the report on an interface and, if it is to, what binding gives.
func examine(name string, asJSON, try bool) (*result, error) {
	report, err := xsk.Check(name)
	if err != nil {
		return nil, err
	}
	r := &result{Report: report}
	if try {
		if r.Tried, err = bind(name); err != nil {
			r.Tried = &tried{Error: err.Error()}
		}
	}
	if asJSON {
		enc := json.NewEncoder(os.Stdout)
		enc.SetIndent("", "  ")
		err = enc.Encode(r)
	} else {
		fmt.Print(report)
		if r.Tried != nil {
			fmt.Println("tried:", r.Tried)
		}
		fmt.Println()
	}
	if err == nil && (report.Worst() == xsk.Problem || r.Tried != nil && r.Tried.Error != "") {
		err = fmt.Errorf("%s: there are problems", name)
	}
	return r, err
}

type result struct {
	xsk.Report
	Tried *tried `json:"tried,omitempty"`
}

// tried is what binding to every queue gave.
type tried struct {
	Attach  string `json:"attach,omitempty"`
	Bind    string `json:"bind,omitempty"`
	WhyCopy string `json:"why_copy,omitempty"`
	Sockets int    `json:"sockets"`
	Error   string `json:"error,omitempty"`
}

func (t *tried) String() string {
	if t.Error != "" {
		return t.Error
	}
	s := fmt.Sprintf("program %s, %d sockets %s", t.Attach, t.Sockets, t.Bind)
	if t.WhyCopy != "" {
		s += " (" + t.WhyCopy + ")"
	}
	return s
}

// bind does what a program would do, and undoes it. No address is claimed, so the
// kernel goes on to receive everything.
func bind(name string) (_ *tried, err error) {
	set, err := xsk.OpenAll(xsk.SetConfig{Socket: xsk.Config{Interface: name}})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, set.Close()) }()
	t := &tried{Attach: set.Program().Mode().String(), Sockets: len(set.Sockets()), Bind: xsk.BindZeroCopy.String()}
	for _, s := range set.Sockets() {
		if !s.ZeroCopy() {
			t.Bind = xsk.BindCopy.String()
			if err := s.ZeroCopyErr(); err != nil {
				t.WhyCopy = err.Error()
			}
		}
	}
	return t, nil
}

func runLab(asJSON bool) (err error) {
	l, err := lab.Open(lab.Config{Queues: 2})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	return l.Host.Do(func() error {
		r, err := examine(lab.HostDevice, asJSON, true)
		if err != nil {
			return err
		}
		if c, t := r.Choice, r.Tried; t.Error != "" || t.Bind != c.Bind || t.Attach != c.Attach || t.Sockets != c.Sockets {
			return fmt.Errorf("predicted %+v, but got %v", c, t)
		}
		return nil
	})
}
