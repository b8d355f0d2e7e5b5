package netdev

import "github.com/afxnet/afxnet/internal/packet"

// onlyACKs tells whether the last batch, of n frames, had nothing but
// acknowledgements without data. Whoever waits to write more can wait a little
// longer for them; and that a writer has to poll on after the first of them is no
// sign that they were for somebody else. Precondition: pollMu held.
func (q *queue) onlyACKs(n int) bool {
	for i := range n {
		if info := &q.infos[i]; !info.Kind.IsTCP() || info.Flags != packet.ACK || info.PayloadLen() != 0 {
			return false
		}
	}
	return true
}
