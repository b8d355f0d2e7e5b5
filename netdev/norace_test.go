//go:build !race && !xskdebug

package netdev

const raceEnabled = false
