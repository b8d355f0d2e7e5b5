//go:build !xskdebug

package umem

// debug is the frame checker of the build tag xskdebug; without it, nothing.
type debug struct{}

func (debug) init(*Region)        {}
func (debug) enter(*Region, Addr) {}
func (debug) leave(*Region, Addr) {}
func (debug) stray(*Region, Addr) {}
