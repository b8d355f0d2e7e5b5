//go:build race

package stack_test

// raceEnabled says that the race detector runs, which makes all this ten times
// slower.
const raceEnabled = true
