package handover

import (
	"github.com/afxnet/afxnet/internal/steering"
	"github.com/afxnet/afxnet/xsk"
)

// findings are those about the interface while a process has it.
func (s *server) findings() <-chan xsk.Finding {
	if s.granted == nil {
		return nil
	}
	return s.granted.steer.Findings()
}

// pass passes a finding on to the process.
func (s *server) pass(f xsk.Finding) {
	s.log(s.granted.conn, f.Text, nil)
	s.push(s.granted, reply{Finding: &f}, func() {})
}

// push sends a process what it has not asked for, in the order of the calls, and does
// then what comes after.
func (s *server) push(g *grant, r reply, after func()) {
	last, sent := g.pushed, make(chan struct{})
	g.pushed = sent
	s.workers.Go(func() {
		defer close(sent)
		if last != nil {
			<-last
		}
		if msg, err := encode(r); err == nil {
			g.conn.Send(msg, sendTimeout) //nolint:errcheck // it may have ended
		}
		after()
	})
}

// programLost is closed when somebody has taken the program off the interface.
func (s *server) programLost() <-chan struct{} {
	if s.granted == nil || s.granted.lost {
		return nil
	}
	return s.granted.steer.Done()
}

// endLost tells the process that it gets no more packets, and why, and ends its
// connection.
func (s *server) endLost() {
	g := s.granted
	g.lost = true
	err := g.steer.Err()
	steering.Drain(s.findings, s.pass) // what was found before
	s.log(g.conn, "has lost the program", err)
	s.push(g, reply{Error: lostOf(err)}, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.conns[g.conn] {
			g.conn.End()
		}
	})
}
