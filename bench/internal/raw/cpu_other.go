//go:build !linux

package raw

import "time"

// threadCPU is not known here.
func threadCPU() time.Duration { return 0 }
