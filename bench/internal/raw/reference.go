package raw

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/afxnet/afxnet/umem"
)

//go:embed rawc/raw.c
var referenceSource []byte

// ReferenceFrame is the longest frame in bytes that the C program receives: one
// chunk holds it.
const ReferenceFrame = chunkSize - umem.KernelHeadroom

// Reference is the compiled C program. Its methods may be called from any
// goroutine.
type Reference struct {
	path    string
	version string
}

// Compile compiles the C program in a directory, where it stays until the
// caller removes it. Where there is no compiler, or no kernel headers,
// errors.Is(err, errors.ErrUnsupported) holds and the text says what is missing.
func Compile(ctx context.Context, dir string) (*Reference, error) {
	cc, err := exec.LookPath("cc")
	if err != nil {
		return nil, fmt.Errorf("raw: compile the program in C: no cc, install a C compiler (%w): %w", err, errors.ErrUnsupported)
	}
	source := filepath.Join(dir, "raw.c")
	if err := os.WriteFile(source, referenceSource, 0o600); err != nil {
		return nil, fmt.Errorf("raw: compile the program in C: %w", err)
	}
	c := &Reference{path: filepath.Join(dir, "raw")}
	if out, err := exec.CommandContext(ctx, cc, "-O2", "-o", c.path, source).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("raw: compile the program in C: %s: %w: %s: %w", cc, err, out, errors.ErrUnsupported)
	}
	if out, err := exec.CommandContext(ctx, cc, "--version").Output(); err == nil {
		c.version, _, _ = strings.Cut(string(out), "\n")
	}
	return c, nil
}

// Compiler returns what the compiler calls itself, "" if it does not tell.
func (c *Reference) Compiler() string { return c.version }

// Mode is what a Reference does.
type Mode string

// The modes: as Port.ReceiveDrop and Port.Transmit, without Job.AckEvery.
const (
	ModeReceiveDrop Mode = "rx"
	ModeTransmit    Mode = "tx"
)
