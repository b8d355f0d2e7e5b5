//go:build !race && !xskdebug

package stack

const raceEnabled = false
