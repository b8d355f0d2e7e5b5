package main

import (
	"os"
	"testing"

	"github.com/afxnet/afxnet/examples/internal/demotest"
)

func TestMain(m *testing.M) {
	*size = 4 << 20
	os.Exit(m.Run())
}

func TestExample(t *testing.T) { demotest.Run(t, program) }

func TestBadWire(t *testing.T) { demotest.RunBadly(t, program) }
