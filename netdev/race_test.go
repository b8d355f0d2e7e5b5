//go:build race

package netdev

// raceEnabled says that the race detector runs, which makes pools lose things.
const raceEnabled = true
