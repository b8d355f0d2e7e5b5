package packet

// Reason says why a frame was dropped or could not be cut; OK is none.
type Reason uint8

// Reasons of Parse: the frame contradicts itself.
const (
	OK                  Reason = iota
	TooShort                   // the frame, or what IP says of it, ends before a fixed header does
	TooLong                    // more than MaxFrame bytes
	BadVersion                 // EtherType and IP version disagree
	BadIPv4HeaderLength        // below 20 bytes or past the frame
	BadTotalLength             // IPv4 total or IPv6 payload length past the frame or below the header
	BadTCPDataOffset           // below 20 bytes or past the packet
	BadUDPLength               // below 8 bytes or past the packet

	// Reasons of Verify: the frame was damaged on its way.
	BadIPv4Checksum
	BadTCPChecksum
	BadUDPChecksum
	MissingUDPChecksum // zero over IPv6, where there must be one (RFC 8200, 8.1)

	// Reasons of Verify: the sender has left the sum to a network card that was
	// not there, and AcceptPartial is not set. Nothing was damaged.
	PartialTCPChecksum
	PartialUDPChecksum

	// Reasons of Cutter.Init: the caller's headers and payload do not fit.
	BadHeader // not the headers of one TCP segment at the given offsets
	BadMSS    // negative

	Reasons // the number of reasons, for arrays of counters
)

var reasonNames = [Reasons]string{
	OK:                  "ok",
	TooShort:            "too short",
	TooLong:             "too long",
	BadVersion:          "bad IP version",
	BadIPv4HeaderLength: "bad IPv4 header length",
	BadTotalLength:      "bad IP total length",
	BadTCPDataOffset:    "bad TCP data offset",
	BadUDPLength:        "bad UDP length",
	BadIPv4Checksum:     "bad IPv4 checksum",
	BadTCPChecksum:      "bad TCP checksum",
	BadUDPChecksum:      "bad UDP checksum",
	MissingUDPChecksum:  "missing UDP checksum",
	PartialTCPChecksum:  "partial TCP checksum, see AcceptPartialChecksums",
	PartialUDPChecksum:  "partial UDP checksum, see AcceptPartialChecksums",
	BadHeader:           "bad header",
	BadMSS:              "bad MSS",
}

// String returns a short name in lower case, fit for a counter's label.
func (r Reason) String() string {
	if r < Reasons {
		return reasonNames[r]
	}
	return "unknown reason"
}
