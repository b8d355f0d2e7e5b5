package floor

import "sync/atomic"

// event is something that is counted.
type event uint8

const (
	framesIn     event = iota // received
	framesOut                 // queued to send
	bytesIn                   // with the Ethernet header
	bytesOut                  //
	batches                   // receptions of one frame or more
	arpReplies                // ARP requests answered
	ndReplies                 // neighbour solicitations answered
	udpEchoes                 // datagrams, or fragments of datagrams
	tcpAccepted               // SYN answered, retransmitted ones too
	tcpEchoes                 // segments with data
	tcpDuplicate              // segments with data that the client had back already
	tcpFins                   // FIN answered, with data or without
	tcpAcks                   // ACKs answered by an ACK: probes, and ends of long requests
	tcpSilent                 // ACKs that need no answer
	tcpTaken                  // segments with data to the sink or the source
	tcpAhead                  // segments to the sink behind a gap
	tcpSent                   // segments with data from the source
	tcpAgain                  // times that the source was not answered and began anew
	tcpResets                 // RST from the client
	badFrames                 // headers that contradict themselves
	otherFrames               // nothing that is answered here
	unsent                    // replies given up because the device took nothing
	events
)

var eventNames = [events]string{
	framesIn: "frames_in", framesOut: "frames_out", bytesIn: "bytes_in", bytesOut: "bytes_out",
	batches: "batches", arpReplies: "arp_replies", ndReplies: "nd_replies", udpEchoes: "udp_echoes",
	tcpAccepted: "tcp_accepted", tcpEchoes: "tcp_echoes", tcpDuplicate: "tcp_duplicates", tcpFins: "tcp_fins",
	tcpAcks: "tcp_acks_answered", tcpSilent: "tcp_acks_silent", tcpResets: "tcp_resets",
	tcpTaken: "tcp_taken", tcpAhead: "tcp_ahead", tcpSent: "tcp_sent", tcpAgain: "tcp_timeouts",
	badFrames: "bad_frames", otherFrames: "other_frames", unsent: "unsent",
}

// tally counts without atomics on the queue's goroutine, which publishes it
// after each batch.
type tally [events]uint64

// totals is what others read.
type totals [events]atomic.Uint64

// publish moves what t has counted to the totals.
func (t *tally) publish(to *totals) {
	for i, n := range t {
		if n != 0 {
			to[i].Add(n)
			t[i] = 0
		}
	}
}
