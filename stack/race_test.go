//go:build race

package stack

// raceEnabled says that the race detector runs, which makes pools lose things.
const raceEnabled = true
