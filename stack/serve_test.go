package stack

import (
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"syscall"
	"testing"
)

// A lines is a writer that tells of each line.
type lines chan string

func (w lines) Write(b []byte) (int, error) {
	select {
	case w <- string(b):
	default:
	}
	return len(b), nil
}

// TestServeAcrossLinkLoss has a server live through a link that is set down, and end
// when the device is gone.
func TestServeAcrossLinkLoss(t *testing.T) {
	p := newPair(t)
	l, err := p.a.Listen("tcp", ":80")
	if err != nil {
		t.Fatal(err)
	}
	errs, served := make(lines, 1), make(chan error, 1)
	srv := &http.Server{
		Handler:  http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "here") }), //nolint:errcheck // the client tells
		ErrorLog: log.New(errs, "", 0),
	}
	go func() { served <- srv.Serve(l) }()
	tr := &http.Transport{DialContext: p.b.DialContext}
	defer tr.CloseIdleConnections()

	p.a.linkDown(fmt.Errorf("eth0 is down: %w", syscall.ENETDOWN))
	select {
	case <-errs: // Serve has met it
	case err := <-served:
		t.Fatalf("Serve: %v", err)
	}
	p.a.linkUp()
	resp, err := (&http.Client{Transport: tr}).Get("http://" + addrA)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	if string(body) != "here" || err != nil {
		t.Errorf("%q, %v", body, err)
	}

	p.a.linkDown(errors.Join(syscall.ENETDOWN, syscall.ENODEV))
	if err := <-served; !errors.Is(err, syscall.ENODEV) {
		t.Errorf("Serve: %v, want ENODEV", err)
	}
}
