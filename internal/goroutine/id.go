//go:build gc && (amd64 || arm64)

package goroutine

// ID returns a number that no other goroutine has while the one that calls lives,
// or 0 if that is not known. It is where the runtime keeps its record of the
// goroutine, which does not move; another goroutine may have it afterwards.
func ID() uintptr
