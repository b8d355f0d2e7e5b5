//go:build race

package raced

// Enabled says that the race detector runs.
const Enabled = true
