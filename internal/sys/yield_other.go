//go:build !linux

package sys

// YieldCPU does nothing: there is nothing to poll for here.
func YieldCPU() {}
