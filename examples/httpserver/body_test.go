package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"github.com/afxnet/afxnet/examples/internal/demo"
	"github.com/afxnet/afxnet/examples/internal/demotest"
	"github.com/afxnet/afxnet/internal/raced"
)

// TestLargeUpload sends bodies of a known length and in chunks, both over
// HTTP/1 and HTTP/2.
func TestLargeUpload(t *testing.T) {
	length := int64(raced.Few(8<<20, 1<<20))
	demotest.Each(t, func(ctx context.Context, t *testing.T, pair demo.Pair) {
		for _, secure := range []bool{false, true} {
			s := start(t, pair, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				want := int64(length)
				if r.URL.Path == "/chunks" {
					want = -1
				}
				if err := demo.Check(r.Body, 1, length); err != nil || r.ContentLength != want {
					http.Error(w, fmt.Sprintf("length %d, %v", r.ContentLength, err), http.StatusBadRequest)
				}
			}), secure)
			s.must(ctx, t, http.StatusOK, http.MethodPut, "/chunks", demo.Content(1, length))
			req, err := http.NewRequestWithContext(ctx, http.MethodPut, s.url+"/length", demo.Content(1, length))
			if err != nil {
				t.Fatal(err)
			}
			req.ContentLength = length
			resp, err := s.client.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			if resp.Body.Close(); resp.StatusCode != http.StatusOK {
				t.Error(resp.Status)
			}
		}
	})
}

// TestFile serves a file, which package net has the kernel send, whole and in
// ranges.
func TestFile(t *testing.T) {
	const length = 3<<20 + 7
	name := filepath.Join(t.TempDir(), "content")
	text := demo.Bytes(1, length)
	if err := os.WriteFile(name, text, 0o600); err != nil {
		t.Fatal(err)
	}
	demotest.Each(t, func(ctx context.Context, t *testing.T, pair demo.Pair) {
		s := start(t, pair, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { http.ServeFile(w, r, name) }), false)
		resp := s.must(ctx, t, http.StatusOK, http.MethodGet, "/", nil)
		if err := demo.Check(resp.Body, 1, length); err != nil {
			t.Error(err)
		}
		for _, r := range [][2]int{{0, 0}, {1, 100000}, {length / 2, length - 1}} {
			resp := s.must(ctx, t, http.StatusPartialContent, http.MethodGet, "/", nil, "Range", fmt.Sprintf("bytes=%d-%d", r[0], r[1]))
			got, err := io.ReadAll(resp.Body)
			if err != nil || !bytes.Equal(got, text[r[0]:r[1]+1]) {
				t.Errorf("bytes %v: %d bytes, %v", r, len(got), err)
			}
		}
	})
}

// TestStream has client and server take turns within one request, and a trailer
// at its end.
func TestStream(t *testing.T) {
	const turns = 200
	demotest.Each(t, func(ctx context.Context, t *testing.T, pair demo.Pair) {
		for _, secure := range []bool{false, true} {
			s := start(t, pair, http.HandlerFunc(turn), secure)
			r, w := io.Pipe()
			resp := s.must(ctx, t, http.StatusOK, http.MethodPost, "/", r)
			for i := range turns {
				var back [1]byte
				if _, err := w.Write([]byte{byte(i)}); err != nil {
					t.Fatal(err)
				}
				if _, err := io.ReadFull(resp.Body, back[:]); err != nil || back[0] != byte(i) {
					t.Fatalf("turn %d: %d, %v", i, back[0], err)
				}
			}
			w.Close()
			if n, err := resp.Body.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
				t.Errorf("at the end: %d bytes, %v", n, err)
			}
			if got := resp.Trailer.Get("Turns"); got != fmt.Sprint(turns) {
				t.Errorf("trailer: %q", got)
			}
		}
	})
}

// turn sends each byte back as soon as it comes.
func turn(w http.ResponseWriter, r *http.Request) {
	c := http.NewResponseController(w)
	w.Header().Set("Trailer", "Turns")
	if err := errors.Join(c.EnableFullDuplex(), c.Flush()); err != nil && r.ProtoMajor == 1 {
		return
	}
	var b [1]byte
	n := 0
	for ; ; n++ {
		if _, err := io.ReadFull(r.Body, b[:]); err != nil {
			break
		}
		if _, err := w.Write(b[:]); err != nil || c.Flush() != nil {
			return
		}
	}
	w.Header().Set("Turns", fmt.Sprint(n))
}
