package zkserver

import "sync"

// gate bounds what all connections together have in flight in the ensemble, so that its own maxima are never reached by
// clients: a reader waits here instead of being refused, and its socket is not read meanwhile.
type gate struct {
	mu       sync.Mutex // protects the fields below; nothing is called while it is held
	cond     *sync.Cond
	count    int
	bytes    int64
	countMax int
	bytesMax int64
	waiting  int
	closed   bool
}

func newGate(countMax int, bytesMax int64) *gate {
	g := &gate{countMax: max(countMax, 1), bytesMax: bytesMax}
	g.cond = sync.NewCond(&g.mu)
	return g
}

// enter waits for room. One that is alone always fits. It reports whether it had to wait, and false for ok when the
// server closes.
func (g *gate) enter(bytes int64) (waited, ok bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for !g.closed && g.count > 0 && (g.count >= g.countMax || g.bytes+bytes > g.bytesMax) {
		waited = true
		g.waiting++
		g.cond.Wait()
		g.waiting--
	}
	if g.closed {
		return waited, false
	}
	g.count++
	g.bytes += bytes
	return waited, true
}

func (g *gate) leave(bytes int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.count--
	g.bytes -= bytes
	if g.waiting > 0 {
		g.cond.Broadcast()
	}
}

func (g *gate) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = true
	g.cond.Broadcast()
}
