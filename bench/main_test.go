package main

import (
	"os"
	"testing"

	"github.com/afxnet/afxnet/bench/internal/role"
)

// TestMain lets the test binary be the processes that a conductor starts.
func TestMain(m *testing.M) {
	if role.Main() {
		return
	}
	os.Exit(m.Run())
}
