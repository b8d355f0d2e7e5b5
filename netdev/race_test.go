//go:build race || xskdebug

package netdev

// raceEnabled says that the race detector runs, which makes pools lose things,
// or the checker of xskdebug, whose records are allocated.
const raceEnabled = true
