package history

import (
	"fmt"
	"sync"
	"time"
)

// opsMax bounds a history: one of more operations could not be checked in a reasonable time.
const opsMax = 1 << 20

// Recorder gathers a history. All methods may be called from any goroutine. An operation is to be recorded before its
// first byte is sent, its answer after it was read and before the same client records anything else.
type Recorder struct {
	now func() time.Duration

	mu     sync.Mutex // protects what follows; now is called while it is held
	seq    int
	ops    []*Op
	events []*Event
}

// NewRecorder returns an empty one. now is a monotonic clock that all clients share.
func NewRecorder(now func() time.Duration) *Recorder { return &Recorder{now: now} }

// Token is an operation that has no answer yet. The zero Token is none: its Return does nothing.
type Token struct {
	r *Recorder
	o *Op
}

// Invoke records that an operation is about to be sent.
func (r *Recorder) Invoke(o Op) Token {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.ops) >= opsMax {
		panic(fmt.Sprintf("history: more than %d operations", opsMax))
	}
	r.seq++
	o.invoked, o.Invoked = r.seq, r.now()
	o.returned, o.Returned, o.Result = 0, 0, Result{}
	r.ops = append(r.ops, &o)
	return Token{r, &o}
}

// Return records the answer. An operation whose answer never comes is simply not returned.
func (t Token) Return(result Result) {
	if t.o == nil {
		return
	}
	t.r.mu.Lock()
	defer t.r.mu.Unlock()
	t.r.seq++
	t.o.returned, t.o.Returned, t.o.Result = t.r.seq, t.r.now(), result
}

// Observe records an event.
func (r *Recorder) Observe(e Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.events) >= opsMax {
		panic(fmt.Sprintf("history: more than %d events", opsMax))
	}
	r.seq++
	e.seq, e.At = r.seq, r.now()
	r.events = append(r.events, &e)
}

// History is a copy of what was recorded until now.
func (r *Recorder) History() *History {
	r.mu.Lock()
	defer r.mu.Unlock()
	h := &History{Ops: make([]*Op, len(r.ops)), Events: make([]*Event, len(r.events))}
	for i, o := range r.ops {
		copied := *o
		h.Ops[i] = &copied
	}
	for i, e := range r.events {
		copied := *e
		h.Events[i] = &copied
	}
	return h
}

// History is what was recorded: operations in the order in which they were asked, events in that in which they came.
type History struct {
	Ops    []*Op
	Events []*Event
}
