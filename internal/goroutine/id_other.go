//go:build !gc || !(amd64 || arm64)

package goroutine

// ID returns 0: goroutines are not told apart here.
func ID() uintptr { return 0 }
