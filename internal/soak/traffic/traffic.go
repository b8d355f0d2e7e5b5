// Package traffic is what tests and the soak run send over a connection, checked
// byte for byte: bulk data with a digest, messages that come back, and the
// services that send them back. It does not care whose connection it is.
package traffic

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strconv"
	"syscall"
	"time"
)

// digest is what a sender wrote, or a receiver read.
type digest = [sha256.Size]byte

// write writes n random bytes, in pieces of random lengths, and returns their
// digest.
func write(c io.Writer, seed uint64, n int) (digest, error) {
	var key [32]byte
	copy(key[:], strconv.FormatUint(seed, 10))
	random := rand.NewChaCha8(key)
	sizes := rand.New(rand.NewPCG(seed, 0))
	h := sha256.New()
	buf := make([]byte, 256<<10)
	for n > 0 {
		b := buf[:min(n, 1+sizes.IntN(len(buf)))]
		random.Read(b) //nolint:errcheck // never fails
		h.Write(b)
		if _, err := c.Write(b); err != nil {
			return digest{}, err
		}
		n -= len(b)
	}
	return digest(h.Sum(nil)), nil
}

// Read reads n bytes and returns their digest.
func Read(c io.Reader, n int) (digest, error) {
	h := sha256.New()
	got, err := io.CopyBuffer(struct{ io.Writer }{h}, struct{ io.Reader }{io.LimitReader(c, int64(n))}, make([]byte, 256<<10))
	if err == nil && got != int64(n) {
		err = fmt.Errorf("%d bytes of %d: %w", got, n, io.ErrUnexpectedEOF)
	}
	return digest(h.Sum(nil)), err
}

// Transfer sends n bytes from one end of a connection to the other.
func Transfer(from, to net.Conn, seed uint64, n int) error {
	type result struct {
		sum digest
		err error
	}
	sent := make(chan result, 1)
	go func() {
		sum, err := write(from, seed, n)
		sent <- result{sum, err}
	}()
	got, err := Read(to, n)
	if err != nil {
		// Or the writer would wait for a reader that is gone.
		from.SetWriteDeadline(time.Now()) //nolint:errcheck // the read error is the test's
	}
	w := <-sent
	if err := errors.Join(err, w.err); err != nil {
		return err
	}
	if got != w.sum {
		return errors.New("the bytes read are not those written")
	}
	return nil
}

// EchoTCP answers on every connection of a listener with what it reads.
func EchoTCP(ln net.Listener) {
	for {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			buf := make([]byte, 64<<10)
			for {
				n, err := c.Read(buf)
				if n > 0 {
					if _, err := c.Write(buf[:n]); err != nil {
						return
					}
				}
				if err != nil {
					return
				}
			}
		}()
	}
}

// EchoUDP sends every datagram back.
func EchoUDP(p net.PacketConn) {
	buf := make([]byte, 64<<10)
	for {
		n, from, err := p.ReadFrom(buf)
		if err == nil {
			_, err = p.WriteTo(buf[:n], from)
		}
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if errors.Is(err, syscall.ENETDOWN) {
			return
		}
	}
}

// Exchange sends msg and wants it back.
func Exchange(c net.Conn, msg []byte, within time.Duration) error {
	if err := c.SetDeadline(time.Now().Add(within)); err != nil {
		return err
	}
	if _, err := c.Write(msg); err != nil {
		return err
	}
	back := make([]byte, max(len(msg), 1))
	if c.LocalAddr().Network() == "tcp" {
		if _, err := io.ReadFull(c, back[:len(msg)]); err != nil {
			return err
		}
	} else {
		back = make([]byte, 64<<10)
		n, err := c.Read(back)
		if err != nil {
			return err
		}
		back = back[:n]
	}
	if !bytes.Equal(back[:len(msg)], msg) || len(back) > max(len(msg), 1) {
		return fmt.Errorf("%s: %d bytes came back changed", c.LocalAddr().Network(), len(msg))
	}
	return nil
}
