package vmtest

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// initramfs is the file system that a kernel starts with, as a cpio archive in
// the "newc" format (Linux Documentation/driver-api/early-userspace). It is not
// compressed: the emulated CPU would have to undo it.
type initramfs struct {
	w   *bufio.Writer
	ino int
	err error
}

// File types and permissions in an entry, as in stat's st_mode.
const (
	modeDir  = 0o040755
	modeFile = 0o100755
	modeChar = 0o020600
)

// writeInitramfs writes a file system with init as its first program and the
// modules below /modules.
func writeInitramfs(name, init string, modules []string) (err error) {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	defer func() {
		if closeErr := f.Close(); err == nil {
			err = closeErr
		}
	}()
	c := &initramfs{w: bufio.NewWriterSize(f, 1<<20)}
	for _, d := range []string{"dev", "proc", "sys", "tmp", "modules"} {
		c.header(d, modeDir, 0)
	}
	// The first process gets it as its input and output.
	c.node("dev/console", 5, 1)
	c.file("init", init)
	for _, m := range modules {
		c.file("modules/"+filepath.Base(m), m)
	}
	c.header("TRAILER!!!", 0, 0)
	if c.err != nil {
		return fmt.Errorf("vmtest: write initramfs: %w", c.err)
	}
	return c.w.Flush()
}

// file adds a file of the host.
func (c *initramfs) file(name, from string) {
	if c.err != nil {
		return
	}
	f, err := os.Open(from)
	if err != nil {
		c.err = err
		return
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		c.err = err
		return
	}
	c.header(name, modeFile, st.Size())
	n, err := io.Copy(c.w, io.LimitReader(f, st.Size()))
	if err == nil && n != st.Size() {
		err = fmt.Errorf("%s: %d bytes of %d: %w", from, n, st.Size(), io.ErrUnexpectedEOF)
	}
	if c.err = err; err == nil {
		c.pad(int(n))
	}
}

// node adds a character device.
func (c *initramfs) node(name string, major, minor int) {
	c.entry(name, modeChar, 0, major, minor)
}

func (c *initramfs) header(name string, mode int, size int64) { c.entry(name, mode, size, 0, 0) }

// entry begins an entry: thirteen numbers of eight hexadecimal digits after a
// magic one, and the name with a zero, all to a multiple of four bytes.
func (c *initramfs) entry(name string, mode int, size int64, major, minor int) {
	if c.err != nil {
		return
	}
	c.ino++
	const magic, uid, gid, links, mtime, disk, check = "070701", 0, 0, 1, 0, 0, 0
	n, err := fmt.Fprintf(c.w, "%s%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%s\x00", magic,
		c.ino, mode, uid, gid, links, mtime, size, disk, disk, major, minor, len(name)+1, check, name)
	if c.err = err; err == nil {
		c.pad(n)
	}
}

// pad fills up after n bytes.
func (c *initramfs) pad(n int) {
	_, c.err = c.w.Write(make([]byte, -n&3))
}
