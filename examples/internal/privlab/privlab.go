// Package privlab is what the example without privileges has around it in a private
// network: the helper, and a client on the kernel's sockets of the other side.
package privlab

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/afxnet/afxnet/internal/lab"
	"github.com/afxnet/afxnet/xsk/handover"
)

// Run makes the network and is the helper and the client in it. The server is this
// program, started again by user nobody with the arguments that it is to have there.
func Run(ctx context.Context, args func(address netip.Prefix, helper string) []string) (err error) {
	l, err := lab.Open(lab.Config{Queues: 2})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	dir, err := os.MkdirTemp("", "unprivileged")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil { // nobody finds the socket, but cannot put another one there
		return err
	}
	path := filepath.Join(dir, "afx0.sock")
	ul, err := handover.Listen(path, 0o666)
	if err != nil {
		return err
	}
	helper, stop := context.WithCancel(ctx)
	served := make(chan error, 1)
	go func() {
		served <- l.Host.Do(func() error {
			return handover.Serve(helper, ul, handover.ServerConfig{
				Interface: lab.HostDevice,
				Users:     []uint32{lab.Nobody},
				Addresses: []netip.Prefix{netip.PrefixFrom(l.StackV4.Addr(), 32)},
				Log:       func(line string) { fmt.Println("helper:", line) },
			})
		})
	}()
	defer func() { stop(); err = errors.Join(err, <-served) }()

	server := exec.CommandContext(ctx, os.Args[0], args(l.StackV4, path)...)
	server.Stderr = os.Stderr
	out, err := server.StdoutPipe()
	if err == nil {
		err = l.Host.Do(server.Start)
	}
	if err != nil {
		return err
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err == nil {
		fmt.Println("server:", strings.TrimSpace(line))
		err = echo(ctx, l)
	}
	server.Process.Signal(os.Interrupt) //nolint:errcheck // it may have ended, and Wait says how
	return errors.Join(err, server.Wait())
}

// echo sends 4 MiB from the kernel's side, and wants them back.
func echo(ctx context.Context, l *lab.Lab) error {
	c, err := l.Peer.Dial(ctx, "tcp", net.JoinHostPort(l.StackV4.Addr().String(), "7"))
	if err != nil {
		return err
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.Close() })()
	sent := make([]byte, 4<<20)
	rand.Read(sent) //nolint:errcheck // never fails
	wrote := make(chan error, 1)
	go func() {
		_, err := c.Write(sent)
		wrote <- err
	}()
	got := make([]byte, len(sent))
	if _, err := io.ReadFull(c, got); err != nil {
		return errors.Join(err, <-wrote)
	}
	if !bytes.Equal(got, sent) {
		return errors.New("what came back is not what was sent")
	}
	fmt.Printf("client: %d MiB there and back\n", len(sent)>>20)
	return <-wrote
}
