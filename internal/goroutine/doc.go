// Package goroutine tells goroutines apart, for what one of them may have and
// others beside it may not, where a lock would say no more and cost more.
package goroutine
