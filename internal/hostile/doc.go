// Package hostile makes Ethernet frames that no honest peer would send, for
// tests and long runs against a stack with established flows. The same seed and
// the same flows give the same frames.
//
// A [Generator] is an attacker who knows more than one off the path does: the
// addresses, ports and sequence numbers of the flows, of both directions. About two thirds of its
// frames are segments and datagrams in good form, checksums included, for an
// established flow; the rest goes wrong at every layer below, and tries the
// stack's tables: fragments, neighbours, half-open connections.
//
// # What is left out
//
// There are segments that TCP cannot tell from the peer's, and after which a
// flow may rightly be broken. The generator does not make them, so that a flow
// must survive all it does make:
//
//   - data, or a FIN, in the receive window that acknowledges what the peer could
//     have acknowledged: a number between that of the oldest byte that can be on
//     its way and that of the next byte to be sent (RFC 5961, 5.2). Who guesses
//     both numbers has all that TCP asks for;
//   - a reset with exactly the next sequence number, but for flows with
//     [Flow.Sacrifice], where it says so in [Frame.Reset].
//
// UDP has no such defence: its datagrams are as good as the peer's, and whoever
// verifies a UDP flow has to tell by their contents.
package hostile
