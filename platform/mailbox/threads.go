package mailbox

import (
	"sync"
	"time"

	"cairn/platform/clock"
)

// Threads drives every owner by a goroutine of its own.
type Threads struct {
	clock clock.Clock
}

// NewThreads returns the production runtime.
func NewThreads(c clock.Clock) *Threads { return &Threads{clock: c} }

// Clock is the clock that was given.
func (t *Threads) Clock() clock.Clock { return t.clock }

// Spawn runs the work on a goroutine of its own.
func (t *Threads) Spawn(_ string, work func(), then func()) {
	go func() {
		work()
		if then != nil {
			then()
		}
	}()
}

func (t *Threads) drive(k task) driver {
	d := &thread{task: k, clock: t.clock, signal: make(chan struct{}, 1), done: make(chan struct{})}
	d.start.Do(func() { go d.run() })
	return d
}

// thread is the goroutine behind one owner.
type thread struct {
	task   task
	clock  clock.Clock
	start  sync.Once
	signal chan struct{} // holds one signal, so that none is lost between a step and the wait
	done   chan struct{}
}

func (d *thread) wakeUp() {
	select {
	case d.signal <- struct{}{}:
	default:
	}
}

func (d *thread) join()       { <-d.done }
func (d *thread) waits() bool { return true }

func (d *thread) run() {
	defer close(d.done)
	<-d.signal // New has finished building the mailbox
	timer := time.NewTimer(time.Hour)
	timer.Stop()
	for {
		now := d.clock.Now()
		more, wake, done := d.task.step(now)
		if done {
			return
		}
		if more {
			continue
		}
		if wake == 0 {
			<-d.signal
			continue
		}
		wait := wake - d.clock.Now().Mono
		if wait <= 0 {
			continue
		}
		timer.Reset(wait)
		select {
		case <-d.signal:
			timer.Stop()
		case <-timer.C:
		}
	}
}
