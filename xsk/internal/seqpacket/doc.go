// Package seqpacket carries short messages with file descriptors over a Unix
// socket that keeps their borders (SOCK_SEQPACKET). Whatever the other end sends,
// it costs a bounded amount of memory and of descriptors.
package seqpacket

// The most that a message has. A longer one is an error, EMSGSIZE.
const (
	MaxMessage = 4096 // bytes
	MaxFiles   = 4    // descriptors
)
