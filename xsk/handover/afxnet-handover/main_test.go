package main

import (
	"os"
	"testing"
)

// TestMemory takes no number that would mean another.
func TestMemory(t *testing.T) {
	for s, want := range map[string]int64{"1": 1 << 20, "256": 256 << 20, "8796093022207": 8796093022207 << 20} {
		if got, err := parseMiB(s); got != want || err != nil {
			t.Errorf("%s: %d, %v, want %d", s, got, err, want)
		}
	}
	for _, s := range []string{"", "0", "-1", "8796093022208", "17592186044416", "1g"} {
		if got, err := parseMiB(s); err == nil {
			t.Errorf("%q: %d", s, got)
		}
	}
}

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
