// Package repotest holds the rules of the repository that no compiler checks,
// as tests: where unsafe may be used, which package may import which, that
// every package says what it is for. It parses the module's sources and runs
// no other program.
package repotest
