package command

import (
	"context"
	"errors"
	"flag"
	"io"
	"testing"
)

// TestWays has each flag on the way that it goes with, and nothing ignored.
func TestWays(t *testing.T) {
	inLab, onHost := errors.New("in a lab"), errors.New("on the host")
	for _, tc := range []struct {
		args []string
		want error // nil: refused
	}{
		{nil, onHost},
		{[]string{"-i", "eth0", "-size", "1"}, onHost},
		{[]string{"-lab"}, inLab},
		{[]string{"-lab", "-n", "2", "-size", "1"}, inLab},
		{[]string{"-n", "2", "-lab=true"}, inLab},
		{[]string{"-lab=false", "-i", "eth0"}, onHost},
		{[]string{"-lab", "-i", "eth0"}, nil},
		{[]string{"-i", "", "-lab"}, nil}, // given, if empty
		{[]string{"-n", "2"}, nil},
		{[]string{"-i", "eth0", "-n", "2"}, nil},
		{[]string{"-lab", "eth0"}, nil},
		{[]string{"eth0"}, nil},
	} {
		flags := flag.NewFlagSet("", flag.ContinueOnError)
		useLab := flags.Bool("lab", false, "")
		flags.String("i", "", "")
		flags.Int("n", 1, "")
		flags.Int("size", 1, "")
		if err := flags.Parse(tc.args); err != nil {
			t.Fatal(err)
		}
		run, err := Ways{
			Lab: func(context.Context) error { return inLab }, LabOnly: []string{"n"},
			Host: func(context.Context) error { return onHost }, HostOnly: []string{"i"},
		}.choose(flags, *useLab)
		switch {
		case tc.want == nil && err == nil, tc.want != nil && err != nil:
			t.Errorf("%q: %v", tc.args, err)
		case err == nil && run(t.Context()) != tc.want:
			t.Errorf("%q: want %v", tc.args, tc.want)
		}
	}
}

// TestCount has numbers that are no count refused.
func TestCount(t *testing.T) {
	for _, tc := range []struct {
		text string
		want int // 0: refused
	}{{"1", 1}, {"20000", 20000}, {"0", 0}, {"-1", 0}, {"", 0}, {"1x", 0}, {"99999999999999999999", 0}} {
		flags := flag.NewFlagSet("", flag.ContinueOnError)
		flags.SetOutput(io.Discard)
		c := count(7)
		flags.Var(&c, "n", "")
		err := flags.Parse([]string{"-n", tc.text})
		if (err == nil) != (tc.want != 0) || err == nil && int(c) != tc.want || err != nil && c != 7 {
			t.Errorf("%q: got %v, %v", tc.text, c, err)
		}
	}
}
