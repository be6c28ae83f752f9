package mailbox

import (
	"time"

	"cairn/platform/clock"
)

// Group is the owners and works of one simulated process under a Scheduler. They live by a clock of their own, whose
// monotonic time must be the Scheduler's, and can be held still together. It is a Runtime.
type Group struct {
	s      *Scheduler
	clock  clock.Clock
	paused bool
	// Delay is how long a work waits before it may run, for a slow disk; nil is what the Scheduler does.
	Delay func(name string) time.Duration
}

// Group returns a new one.
func (s *Scheduler) Group(c clock.Clock) *Group { return &Group{s: s, clock: c} }

// Clock is the clock that was given.
func (g *Group) Clock() clock.Clock { return g.clock }

// Spawn queues the work as the Scheduler's own Spawn does.
func (g *Group) Spawn(name string, run func(), then func()) {
	delay := g.s.delay()
	if g.Delay != nil {
		delay += g.Delay(name)
	}
	g.s.enqueue(work{name: name, run: run, then: then, at: g.s.clock.Now().Mono + delay, group: g})
}

// Pause holds all of the group still, as a stopped process, or lets it go on. What arrives meanwhile waits, and what is due
// is late. Closing a mailbox steps its owner all the same.
func (g *Group) Pause(on bool) { g.paused = on }

func (g *Group) drive(t task) driver { return g.s.add(t, g) }
