// Package command is what the examples have in common as commands: two ways to run,
// on a real interface or with -lab in a private network, flags that go with one of
// them only, and signals that end them.
package command

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"syscall"
)

// Ways are the two ways to run an example, and the flags that go with one of them
// only. A flag that would be ignored is an error.
type Ways struct {
	Lab     func(ctx context.Context) error
	LabOnly []string

	Host     func(ctx context.Context) error
	HostOnly []string
}

// Main adds -lab to the flags, parses them, and runs the example of that name. If that
// fails, it exits the process with status 1. The context ends with the first SIGINT or
// SIGTERM; a second one ends the process at once. It is called once, by main.
func Main(name string, w Ways) {
	useLab := flag.Bool("lab", false, "make a private network, with both ends of what is shown")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	run, err := w.choose(flag.CommandLine, *useLab)
	if err == nil {
		err = run(ctx)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		os.Exit(1)
	}
}

// choose returns the way to run, or why what is on the command line does not go with it.
func (w Ways) choose(flags *flag.FlagSet, useLab bool) (func(context.Context) error, error) {
	if flags.NArg() != 0 {
		return nil, fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	run, others, why := w.Host, w.LabOnly, "goes with -lab only"
	if useLab {
		run, others, why = w.Lab, w.HostOnly, "does not go with -lab, which makes a network of its own"
	}
	var err error
	flags.Visit(func(f *flag.Flag) {
		if slices.Contains(others, f.Name) {
			err = errors.Join(err, fmt.Errorf("-%s %s", f.Name, why))
		}
	})
	return run, err
}

// Count adds a flag to the command's for a number of at least 1.
func Count(name string, value int, usage string) *int {
	c := count(value)
	flag.Var(&c, name, usage)
	return (*int)(&c)
}

type count int

func (c *count) String() string { return strconv.Itoa(int(*c)) }

func (c *count) Set(s string) error {
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 {
		return errors.New("not a number of at least 1")
	}
	*c = count(n)
	return nil
}
