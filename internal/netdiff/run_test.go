package netdiff

import (
	"fmt"
	"net/netip"
	"runtime/debug"
	"sync"
	"time"
)

// Behaviours run many at once, since most of their time they wait: this many. A
// link loses datagrams when it is full, and nobody sends them again, so those that
// send many bytes in datagrams run nearly alone, and others of UDP not together with
// connections. Connections that fill the link delay the handshakes of others.
var widths = [...]int{kindLargeDatagram: 2, kindDatagram: 12, kindBulk: 4, kindStream: 24}

// A job is one behaviour with one family.
type job struct {
	b      *behaviour
	family byte
}

func (j job) name() string { return j.b.name + "/IPv" + string(j.family) }

// jobs returns what there is to run of those behaviours that pass.
func jobs(pass func(*behaviour) bool) (all []job) {
	for i := range behaviours {
		b := &behaviours[i]
		if !pass(b) {
			continue
		}
		for _, family := range []byte("46") {
			if b.only == 0 || b.only == family {
				all = append(all, job{b, family})
			}
		}
	}
	return all
}

// runAll returns the traces of jobs on a ground, by their place.
func runAll(g *ground, all []job) [][]string {
	traces := make([][]string, len(all))
	var byKind [len(widths)][]int
	var slow sync.WaitGroup
	for i, j := range all {
		if j.b.slow {
			slow.Go(func() { traces[i] = run(g, j) })
			continue
		}
		k := j.b.kind()
		byKind[k] = append(byKind[k], i)
	}
	defer slow.Wait()
	for kind, some := range byKind {
		runSome(g, all, traces, some, widths[kind])
	}
	return traces
}

func runSome(g *ground, all []job, traces [][]string, some []int, width int) {
	next := make(chan int)
	var wg sync.WaitGroup
	for range width {
		wg.Go(func() {
			for i := range next {
				traces[i] = run(g, all[i])
			}
		})
	}
	for _, i := range some {
		next <- i
	}
	close(next)
	wg.Wait()
}

// aloneLock is held by behaviours that have something to themselves: the one port
// that is half a hole, or the names of interfaces, which package net remembers for the
// process, while in the lab there are several namespaces.
var aloneLock sync.Mutex

// run returns the trace of one job. A behaviour that hangs has its sockets closed,
// which ends it or leaves its goroutine behind; its trace says so.
func run(g *ground, j job) []string {
	if j.b.alone {
		aloneLock.Lock()
		defer aloneLock.Unlock()
	}
	near, far := &tracked{network: g.near}, &tracked{network: g.far}
	top := network(near)
	if g.mutate != nil {
		top = g.mutate(near)
	}
	i := int(j.family-'4') / 2
	e := &env{
		near: top, far: far,
		nearHost: g.nearHost[i], farHost: g.farHost[i], farHosts: g.farHost, hole: g.hole[i],
		half: g.half, nearLink: g.nearLink, farLink: g.farLink,
		family: j.family, patience: g.patience, tell: g.tell, frames: g.frames,
	}
	e.ports = make(map[place]string)
	for _, udp := range []bool{false, true} {
		e.ports[place{udp, e.hole}] = "hole"
		e.ports[place{udp, keyOf(netip.Addr{}, discardPort)}] = "discard"
	}
	e.hosts = []netip.Addr{e.hole.Addr(), netip.MustParseAddr("127.0.0.1"), netip.IPv6Loopback()}
	for _, h := range append(g.nearHost[:], g.farHost[0], g.farHost[1], g.nearLink.addr, g.farLink.addr) {
		if !h.IsValid() {
			continue // the ground has no link
		}
		e.hosts = append(e.hosts, h)
		e.texts = append(e.texts, h.String(), "host"+map[bool]string{true: "4", false: "6"}[h.Is4()])
	}
	e.texts = append(e.texts, "127.0.0.1", "host4")
	done := make(chan []string, 1)
	go func() {
		defer func() {
			p := recover()
			if why, ok := p.(stopped); ok {
				e.saw("cannot go on: %s", string(why))
			} else if p != nil {
				e.saw("panic: %v\n%s", p, debug.Stack())
			}
			done <- e.trace
		}()
		j.b.run(e)
	}()
	guard := time.NewTimer(2 * g.patience)
	defer guard.Stop()
	defer far.closeAll()
	defer near.closeAll()
	select {
	case trace := <-done:
		return trace
	case <-guard.C:
		return []string{"hangs"}
	}
}

// differ returns the first line in which two traces differ, of each.
func differ(want, got []string) (w, g string, ok bool) {
	for i := range max(len(want), len(got)) {
		w, g = "(nothing)", "(nothing)"
		if i < len(want) {
			w = want[i]
		}
		if i < len(got) {
			g = got[i]
		}
		if w != g {
			return w, g, true
		}
	}
	return "", "", false
}

// report says how a subject's trace differs.
func report(j job, w, g string) string {
	return fmt.Sprintf("%s\n\tnet:  %s\n\tours: %s", j.name(), w, g)
}
