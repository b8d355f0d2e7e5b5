package handover

import (
	"fmt"
	"sync"
	"testing"
	"time"
)

// TestLogFlood has somebody who may not have the interface connect again and again.
func TestLogFlood(t *testing.T) {
	var mu sync.Mutex
	var lines []string
	path, end := serve(t, func(s *server) {
		s.cfg.Users = []uint32{s.cfg.Users[0] + 1}
		s.cfg.Log = func(line string) {
			mu.Lock()
			defer mu.Unlock()
			lines = append(lines, line)
		}
	})
	const times = logLines + 50
	for range times {
		c := dial(t, path)
		served(t, c)
		c.Close()
	}
	end()
	mu.Lock()
	defer mu.Unlock()
	want := fmt.Sprintf("users that may not have the interface: lines left out: %d", times-logLines)
	if len(lines) != logLines+1 || lines[logLines] != want {
		t.Errorf("%d lines, then %q, want %d and %q", len(lines)-1, lines[len(lines)-1], logLines, want)
	}
}

// TestLogBlocks has a log that takes no line.
func TestLogBlocks(t *testing.T) {
	taken, release := make(chan string, 1000), make(chan struct{})
	path, end := serve(t, func(s *server) {
		s.end = 10 * time.Millisecond
		s.cfg.Log = func(line string) {
			taken <- line
			<-release
		}
	})
	for range 2 * maxConns {
		c := dial(t, path)
		served(t, c)
		c.Close()
	}
	<-taken // and no other before Serve has returned
	end()
	close(release)
	if len(taken) != 0 {
		t.Errorf("%d more lines are logged, after Serve has returned", len(taken))
	}
}
