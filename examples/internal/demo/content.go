package demo

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
)

// Content returns n pseudo-random bytes, the same for equal seeds: not to be
// compressed, and different everywhere.
func Content(seed byte, n int64) io.Reader {
	return io.LimitReader(rand.NewChaCha8([32]byte{seed}), n)
}

// Bytes returns Content as a slice.
func Bytes(seed byte, n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{seed}).Read(b) //nolint:errcheck // never fails
	return b
}

// Check reads r to its end and compares it with Content, byte for byte.
func Check(r io.Reader, seed byte, n int64) error {
	want, got, expected := rand.NewChaCha8([32]byte{seed}), make([]byte, 32<<10), make([]byte, 32<<10)
	var at int64
	for {
		m, err := r.Read(got)
		want.Read(expected[:m]) //nolint:errcheck // never fails
		if !bytes.Equal(got[:m], expected[:m]) {
			return fmt.Errorf("changed on the way between bytes %d and %d", at, at+int64(m))
		}
		switch at += int64(m); {
		case errors.Is(err, io.EOF) && at == n:
			return nil
		case errors.Is(err, io.EOF):
			return fmt.Errorf("%d bytes, want %d", at, n)
		case err != nil:
			return fmt.Errorf("after %d bytes: %w", at, err)
		}
	}
}
