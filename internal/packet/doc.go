// Package packet holds what netdev does to the bytes of frames: parsing,
// checksums, merging received TCP segments (GRO) and cutting large ones to send
// (TSO). It is pure computation on slices: no system calls, no goroutines, no
// allocation after a GRO has been made, and nothing of netstack.
//
//	receive   frame -> Parse -> Verify -> GRO.Add ... -> GRO.Heads, Next, Patch
//	transmit  headers + payload slices -> Cutter.Init -> Next, Next, ... -> frames
//
// # What is trusted
//
// Bytes of a frame are never trusted. A frame is dropped, for a named [Reason],
// only if every correct stack would drop it. What is merely unusual (VLAN tags,
// fragments, source routes, destination options, unknown protocols) gets a
// [Kind] that says nothing was verified, and is left to netstack.
//
// Calls are trusted: an [Info] must be the one that Parse filled in for the
// frame it is used with, unchanged. A wrong pair may panic, but stays within
// the slices that were passed.
//
// # Who owns the slices
//
//	value            reads or keeps     until
//	Parse, Verify    reads the frame    return
//	GRO.Add          keeps the headers  Reset, at least: the frames of a batch must
//	                                    not return to the fill ring before that
//	GRO.Patch        writes a copy      return; never the frame itself
//	Cutter.Init      keeps the headers  the last Next, which drops them; neither
//	                 and the parts      may change meanwhile
//	Cutter.Next      writes dst         return
//
// Only the data flow of slices is described here: nothing in this package is
// safe for concurrent use, and one GRO and one Cutter belong to one owner of a
// queue.
//
// # Sums
//
// A partial sum is a uint32 that counts big-endian 16-bit words and is not
// folded, so that header fields can be added to it with +. Sum and CopySum add
// at most 0xffff per call; tens of thousands of them fit before a Fold is due.
//
// On amd64 with AVX2 long sums are vector code, about three times as fast as
// what the compiler makes of add-with-carry; the build tag purego leaves it out.
// The race detector does not see the bytes that vector code reads and writes.
package packet
