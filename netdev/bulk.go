package netdev

// BeginBulk and EndBulk enclose the call of netstack by which a goroutine sends
// much at once, such as a long write. What it sends leaves as one burst, and then
// the goroutine takes the acknowledgements that have come.
//
// Otherwise each segment that netstack makes would be a burst of its own, and the
// acknowledgements of a writer that never waits would be the poller's, which is
// woken on another processor to send what they let go: the two then wait for each
// other's locks, netstack's and the kernel's.
//
// Between the two the caller must not wait, and at EndBulk it must hold no lock
// that the delivery of a packet takes.
func (d *Device) BeginBulk() { d.BeginBurst() }

// BeginBurst and EndBurst are BeginBulk and EndBulk without polling: the caller may
// hold any lock.
func (d *Device) BeginBurst() {
	for _, q := range d.queues {
		q.tx.gather()
	}
}

// EndBurst sends what was written since BeginBurst.
func (d *Device) EndBurst() {
	for _, q := range d.queues {
		q.tx.release()
	}
}

// EndBulk sends what was written since BeginBulk, and polls.
func (d *Device) EndBulk() {
	for _, q := range d.queues {
		q.tx.release()
		if d.cfg.Poll == PollAdaptive {
			q.pollInPassing()
		}
	}
}

// pollInPassing is C1 to C3 for a goroutine that is not going to sleep: it takes
// what there is, unless somebody else polls. If that was acknowledgements only,
// it leaves arming to the minder, for it will be back. While callers have to arm,
// all is left to the poller, which is armed.
func (q *queue) pollInPassing() {
	if !q.pollMu.TryLock() {
		return
	}
	if q.dead || !q.late && (q.rx.Empty() || !q.mayArmLate() || q.sock.Disarm() != nil) {
		q.unlock()
		return
	}
	q.late, q.came, q.polled = false, true, true
	acks := true
	for range pollBudget {
		n := q.poll()
		if n == 0 {
			break
		}
		acks = acks && q.onlyACKs(n)
	}
	q.leaveTo(acks && q.mayArmLate())
}
