package ensemble

import "time"

const (
	// writersMax is how many of those who wrote lately are known. More of them need not be: there is company.
	writersMax = 16
	// writerLately is how long ago a session has written that is expected to write again soon.
	writerLately = 10 * time.Millisecond
	// gatherEntriesMax and gatherBytesMax end a wait: so much is worth a flush of its own.
	gatherEntriesMax, gatherBytesMax = 256, 256 << 10
	// vainMax waits in a row that nobody joined are followed by vainPause appends without one.
	vainMax, vainPause = 3, 32
)

// gathering decides how long writes wait for others: on the leader, so that they share an append, its messages and, on every
// voter, its flush; on another box, so that they share a message to the leader, where they do not wait again. It is group
// commit with a bounded delay (ZooKeeper's flushDelay, there 0; commit_delay and commit_siblings of PostgreSQL). A flush
// costs a device and a processor the same for one write and for a hundred. A write waits only while a session that wrote a
// moment ago has none among those that are gathered: one client that writes alone, or as many as write at all, never wait.
// It is a pure rule; the owner calls it.
type gathering struct {
	delay   time.Duration // the longest wait; 0 is none
	writers [writersMax]writer
	began   time.Duration // when the first of the gathered came
	entries int
	bytes   int
	urgent  bool // something is gathered that waits for nobody
	waits   bool // a wait has begun
	joined  bool // somebody has come in it who was not there
	vain    int  // waits in a row that nobody joined
	pause   int  // appends that are still made without a wait
}

type writer struct {
	session int64 // 0: none
	at      time.Duration
	here    bool // among the gathered
}

// add notes a write of a session, 0 when it is the box's own, which is urgent. It may have waited elsewhere before.
func (g *gathering) add(now, waited time.Duration, session int64, bytes int) {
	if g.entries == 0 {
		g.began = now - waited
	}
	g.entries++
	g.bytes += bytes
	if session == 0 {
		g.urgent = true
		return
	}
	to := &g.writers[0]
	for i := range g.writers {
		w := &g.writers[i]
		if w.session == session {
			to = w
			break
		}
		if to.session != 0 && (w.session == 0 || w.at < to.at) {
			to = w
		}
	}
	g.joined = g.joined || g.waits && !(to.session == session && to.here)
	*to = writer{session: session, at: now, here: true}
}

// until is when the gathered are to be appended: now or before, or at the end of a wait, which is that of its reason too.
func (g *gathering) until(now time.Duration) time.Duration {
	if g.delay == 0 || g.urgent || g.pause > 0 || g.entries >= gatherEntriesMax || g.bytes >= gatherBytesMax {
		return now
	}
	end := min(g.began+g.delay, g.expected())
	if end <= now {
		return now
	}
	g.waits = true
	return end
}

// expected is until when one of those who wrote lately, and have nothing among the gathered, is expected to write again.
func (g *gathering) expected() (until time.Duration) {
	for i := range g.writers {
		if w := &g.writers[i]; w.session != 0 && !w.here {
			until = max(until, w.at+writerLately)
		}
	}
	return until
}

// handed begins anew: the gathered were appended, or dropped.
func (g *gathering) handed() {
	switch {
	case g.pause > 0:
		g.pause--
	case !g.waits:
	case g.joined:
		g.vain = 0
	case g.vain < vainMax-1:
		g.vain++
	default: // nobody joins: these writers wait for one another. The next wait is a trial.
		g.pause = vainPause
	}
	g.entries, g.bytes = 0, 0
	g.waits, g.joined, g.urgent = false, false, false
	for i := range g.writers {
		g.writers[i].here = false
	}
}
