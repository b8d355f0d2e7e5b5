package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/afxnet/afxnet/bench/internal/report"
	"github.com/afxnet/afxnet/bench/internal/summary"
)

// output prints the table and writes the files that were asked for. A run that
// was cut short shows what it has.
func (c *conductor) output(w io.Writer) error {
	rows := summary.Rows(c.samples)
	errs := []error{report.Table(w, c.env, rows)}
	if c.o.quick {
		fmt.Fprintf(w, "\nA quick run: figures are not for quoting. Left out: %s.\n", c.leftOut())
	}
	for _, f := range []struct {
		name  string
		write func(io.Writer, report.Environment, []summary.Row) error
	}{{c.o.json, report.JSON}, {c.o.html, report.HTML}} {
		if f.name != "" {
			errs = append(errs, writeFile(f.name, func(w io.Writer) error { return f.write(w, c.env, rows) }))
		}
	}
	if len(c.failures) > 0 {
		errs = append(errs, fmt.Errorf("%d cases failed:\n  %s", len(c.failures), strings.Join(c.failures, "\n  ")))
	}
	return errors.Join(errs...)
}

// writeFile writes a file by way of a temporary one, so that nobody reads half of it.
func writeFile(name string, write func(io.Writer) error) error {
	f, err := os.Create(name + ".tmp")
	if err != nil {
		return err
	}
	if err := errors.Join(write(f), f.Close()); err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return os.Rename(f.Name(), name)
}
