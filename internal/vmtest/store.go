package vmtest

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// store is the directory in which kernels and the emulator are kept. Each is a
// directory with a file of digests, and gets its name when it is complete.
type store struct{ dir string }

// digests is the file with the SHA-256 of every other one in a directory, as
// sha256sum writes it.
const digests = "SHA256SUMS"

// openStore makes the store in the user's cache directory.
func openStore() (*store, error) {
	base, err := os.UserCacheDir()
	if err != nil {
		return nil, fmt.Errorf("vmtest: no place for kernels: %w", err)
	}
	s := &store{filepath.Join(base, "afxnet", "vmtest")}
	return s, os.MkdirAll(s.dir, 0o755)
}

// get returns the directory with this name, if it is there and as it was put.
func (s *store) get(name string) (dir string, ok bool, err error) {
	dir = filepath.Join(s.dir, name)
	sums, err := os.Open(filepath.Join(dir, digests))
	if errors.Is(err, fs.ErrNotExist) {
		return dir, false, nil
	}
	if err != nil {
		return dir, false, err
	}
	defer sums.Close()
	lines := bufio.NewScanner(sums)
	for lines.Scan() {
		want, file, _ := strings.Cut(lines.Text(), "  ")
		got, err := digest(filepath.Join(dir, file))
		if err == nil && got != want {
			err = fmt.Errorf("SHA-256 is %s, was %s", got, want)
		}
		if err != nil {
			return dir, false, fmt.Errorf("vmtest: %s has changed: remove it: %w", dir, err)
		}
	}
	return dir, true, lines.Err()
}

// put has fill make the contents of a directory, in a temporary one, and keeps
// it under the name that fill returns. Another process may do the same at the
// time: the first one wins.
func (s *store) put(ctx context.Context, fill func(ctx context.Context, tmp, dir string) (name string, err error)) (dir string, err error) {
	tmp, err := os.MkdirTemp(s.dir, "tmp-")
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(tmp)) }()
	content := filepath.Join(tmp, "content")
	if err := os.Mkdir(content, 0o755); err != nil {
		return "", err
	}
	name, err := fill(ctx, tmp, content)
	if err != nil {
		return "", err
	}
	if err := sum(content); err != nil {
		return "", err
	}
	dir, ok, err := s.get(name)
	if err != nil || ok {
		return dir, err
	}
	return dir, os.Rename(content, dir)
}

// sum writes the file of digests.
func sum(dir string) error {
	var sums strings.Builder
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		d, err := digest(path)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		fmt.Fprintf(&sums, "%s  %s\n", d, rel)
		return err
	})
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, digests), []byte(sums.String()), 0o644)
}

func digest(file string) (string, error) {
	f, err := os.Open(file)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	_, err = io.Copy(h, f)
	return hex.EncodeToString(h.Sum(nil)), err
}
