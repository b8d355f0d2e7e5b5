package main

import (
	"os"
	"testing"
)

// TestMode reads permissions as chmod does.
func TestMode(t *testing.T) {
	for s, want := range map[string]os.FileMode{"660": 0o660, "0600": 0o600, "0o666": 0o666, "0": 0} {
		if got, err := parseMode(s); got != want || err != nil {
			t.Errorf("%s: %o, %v, want %o", s, got, err, want)
		}
	}
	for _, s := range []string{"", "800", "1777", "0x1b0", "-1", "rw"} {
		if got, err := parseMode(s); err == nil {
			t.Errorf("%q: %o", s, got)
		}
	}
}
