// Package guest is what runs inside the virtual machine of package vmtest: a test
// binary that is the machine's first process. It mounts what it needs, loads the
// drivers, runs its tests and switches the machine off.
//
// Everywhere else its tests skip.
package guest
