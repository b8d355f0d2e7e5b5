// Package alarm waits for times of which some hundred milliseconds do not matter, in a
// process that has nothing else to do.
//
// A timer of the Go runtime costs an idle process some eight switches of threads each time:
// the runtime's monitor wakes when it is due, and looks each 20 us, while the thread
// that is to run it sleeps in epoll_wait, which counts in milliseconds (sysmon and
// findRunnable in runtime/proc.go, Go 1.26). A timer of the kernel's costs three or four.
package alarm
