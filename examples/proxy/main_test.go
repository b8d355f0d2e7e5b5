package main

import (
	"testing"

	"github.com/afxnet/afxnet/examples/internal/demotest"
)

func TestExample(t *testing.T) { demotest.Run(t, program) }

func TestBadWire(t *testing.T) { demotest.RunBadly(t, program) }
